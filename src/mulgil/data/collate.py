"""From a list of samples to a batch."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import xp_of
from mulgil.errors import DTypeError, ShapeError, describe
from mulgil.ops.shape import Concatenate

__all__ = ["default_collate"]


def default_collate(samples: Sequence[Any]) -> Any:
    """Samples of equal form, stacked along a new first axis (PyTorch's `default_collate`).

    Tensors and arrays become a Tensor [N, ...] of their dtype, ints an int64 Tensor [N], floats a float64 one, bools a bool one;
    strings stay a list. Tuples and lists of these become a list of batches, dicts a dict, named tuples a named tuple.

    Raises:
        ShapeError: samples of different shapes or lengths.
        DTypeError: a kind of sample that cannot be stacked, such as a PIL image or None.

    Example:
        >>> default_collate([(np.zeros(3), 1), (np.ones(3), 2)])[1].tolist()
        [1, 2]
    """
    first = samples[0]
    if isinstance(first, Tensor):
        if any(x.requires_grad for x in samples):  # the gradient goes back through the batch
            return Concatenate(0)(*(x.unsqueeze(0) for x in samples))
        return Tensor(_stack([x.array for x in samples]))
    if isinstance(first, (np.ndarray, np.generic)) or xp_of(first) is not np:
        return Tensor(_stack(list(samples)))
    if isinstance(first, (str, bytes)):
        return list(samples)
    if isinstance(first, numbers.Real):
        return Tensor(np.array(samples, {bool: np.bool_, int: np.int64}.get(type(first), np.float64)))
    if isinstance(first, Mapping):
        return {key: default_collate([x[key] for x in samples]) for key in first}
    if isinstance(first, Sequence):
        if any(len(x) != len(first) for x in samples):
            got = f"samples of {' and '.join(str(n) for n in sorted({len(x) for x in samples}))} parts"
            raise ShapeError("DataLoader: the samples of a batch must have equally many parts", got, "pad them, or pass collate_fn=...")
        columns = [default_collate(column) for column in zip(*samples, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else columns
    raise DTypeError(
        "DataLoader: a sample must be made of Tensors, arrays, numbers, strings, tuples, lists or dicts",
        type(first).__name__,
        "put transforms.ToTensor() at the end of the transform, or pass collate_fn=...",
    )


def _stack(arrays: list[Any]) -> Any:
    first, xp = arrays[0], xp_of(arrays[0])
    if any(x.shape != first.shape for x in arrays):
        other = next(x for x in arrays if x.shape != first.shape)
        raise ShapeError(
            "DataLoader: the samples of a batch must have one shape",
            describe(first=first, another=other),
            "bring them to one size with transforms.Resize((h, w)) or Pad, or pass collate_fn=...",
        )
    if first.ndim == 0:
        return xp.stack(arrays)
    return xp.concatenate(arrays).reshape(len(arrays), *first.shape)  # much quicker than stack for many small arrays
