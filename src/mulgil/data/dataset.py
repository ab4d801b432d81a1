"""Data sets: things with a length whose i-th item is a sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import Generator, default_generator, xp_of
from mulgil.data.collate import default_collate
from mulgil.errors import OptionError, ShapeError, describe
from mulgil.typing import ArrayLike, Index, Items, T_co

T = TypeVar("T")

__all__ = ["Dataset", "Subset", "TensorDataset", "random_split"]


class Dataset(Generic[T_co]):
    """Base of data sets: define `__len__` and `__getitem__(i)`, which returns the i-th sample, for example (image, label).

    `fetch(indices)` returns a batch, as the loader hands it out. It has a default that goes sample by sample; a data set that
    can gather many samples at once defines its own, with the same result.

    Example:
        >>> class Squares(Dataset):
        ...     def __len__(self): return 10
        ...     def __getitem__(self, i): return i, i * i
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__getitem__" in vars(cls) and "fetch" not in vars(cls):
            cls.fetch = Dataset.fetch  # type: ignore[method-assign]  # a new meaning for a sample must not keep the old batches

    if TYPE_CHECKING:

        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[T_co]: ...  # Python's own, until IndexError

    def __getitem__(self, index: int) -> T_co:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(self, index)")

    def fetch(self, indices: Sequence[int]) -> Any:
        """The batch of the samples at `indices`: `default_collate([self[i] for i in indices])`."""
        return default_collate([self[i] for i in indices])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Tensors (or arrays) of equal length; sample i is (t0[i], t1[i], ...).

    Raises:
        ShapeError: lengths that differ, or an array without axes.
    """

    def __init__(self, *tensors: ArrayLike):
        if not tensors:
            raise OptionError("TensorDataset: at least one Tensor is needed", "none", "TensorDataset(images, labels)")
        self.tensors: tuple[Tensor, ...] = tuple(
            t if isinstance(t, Tensor) else Tensor(np.asarray(t) if xp_of(t) is np else t) for t in tensors
        )
        if any(t.ndim == 0 or t.shape[0] != self.tensors[0].shape[0] for t in self.tensors):
            got = describe(**{f"t{i}": t for i, t in enumerate(self.tensors)})
            raise ShapeError("TensorDataset: all Tensors must have the same length along axis 0", got, "one row a sample, in every Tensor")

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def __getitem__(self, index: Index) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def fetch(self, indices: Sequence[int]) -> list[Tensor]:
        """Rows gathered in one step for each Tensor."""
        return [t[np.asarray(indices)] if t.requires_grad else Tensor(take(t.array, indices)) for t in self.tensors]


class Subset(Dataset[T_co]):
    """The samples of `dataset` at `indices`, in that order.

    Raises:
        OptionError: an index outside the data set, or a mask of bools instead of indices.
    """

    def __init__(self, dataset: Items[T_co], indices: Sequence[int]):
        self.dataset, self.indices = dataset, indices
        self._rows = np.asarray(indices)
        if self._rows.size == 0:
            self._rows = np.zeros(0, np.int64)
        if self._rows.ndim != 1 or self._rows.dtype.kind not in "iu":
            raise OptionError(
                "Subset: indices must be a sequence of whole numbers",
                describe(indices=self._rows),
                "numpy.flatnonzero(mask) turns a mask into indices",
            )
        if self._rows.size and not -len(dataset) <= self._rows.min() <= self._rows.max() < len(dataset):
            got = f"indices from {self._rows.min()} to {self._rows.max()}"
            raise OptionError(f"Subset: indices must lie within the {len(dataset)} samples of the data set", got, "count from 0")

    @property
    def rows(self) -> np.ndarray:
        """The indices as an array."""
        return self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> T_co:
        return self.dataset[int(self._rows[index])]

    def fetch(self, indices: Sequence[int]) -> Any:
        """The underlying data set's batch."""
        rows = self._rows[np.asarray(indices, np.int64)].tolist()
        return self.dataset.fetch(rows) if isinstance(self.dataset, Dataset) else default_collate([self.dataset[i] for i in rows])


def random_split(dataset: Items[T], lengths: Sequence[int | float], generator: Generator | None = None) -> list[Subset[T]]:
    """Cut a data set into parts at random, without overlap.

    Args:
        lengths: how many samples each part gets; they sum to len(dataset). Or fractions that sum to 1; what rounding leaves
            over goes to the parts in turn.
        generator: default `mulgil`'s, so that `manual_seed` makes the split repeatable.

    Raises:
        OptionError: lengths that do not sum up, or negative ones.

    Example:
        >>> train, validation = random_split(range(10), [0.8, 0.2])
        >>> len(train), len(validation)
        (8, 2)
    """
    total = len(dataset)
    counts: list[Any] = list(lengths)
    if any(n < 0 for n in counts):
        raise OptionError("random_split: no length may be negative", repr(counts), "random_split(dataset, [0.8, 0.2])")
    if math.isclose(sum(counts), 1) and sum(counts) <= 1 + 1e-9 and (total != 1 or any(isinstance(n, float) for n in counts)):
        counts = [math.floor(total * part) for part in counts]
        for i in range(total - sum(counts)):
            counts[i % len(counts)] += 1
    if sum(counts) != total:
        hint = f"the last one can be {total} - {sum(counts[:-1])}; or give fractions that sum to 1"
        raise OptionError(
            f"random_split: the lengths must sum to the {total} samples of the data set", f"{list(lengths)}, sum {sum(counts)}", hint
        )
    order = (generator or default_generator).numpy.permutation(total)
    ends = np.cumsum(counts)
    return [Subset(dataset, order[end - n : end].tolist()) for n, end in zip(counts, ends, strict=True)]


def take(array: Any, indices: Sequence[int]) -> Any:
    """A fresh array of the rows at `indices`; quicker than fancy indexing."""
    xp = xp_of(array)
    return xp.take(array, xp.asarray(indices, dtype=np.int64), axis=0)
