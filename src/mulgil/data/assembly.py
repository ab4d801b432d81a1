"""A data set's batches as tensor operations on the images in memory, so that a compiled step can put its own batch together."""

from __future__ import annotations

from typing import Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.data.dataset import Subset, TensorDataset
from mulgil.data.datasets.images import ImageDataset
from mulgil.data.transforms import Flatten, Normalize, Pad, ToTensor
from mulgil.data.transforms.base import opened


class Assembly:
    """indices -> (inputs, targets): what `dataset.fetch(indices)` gives, by tensor operations on arrays that stay where they are.

    In a compiled step gathering, converting and normalising are one loop: list the assembly in `state` and pass indices. Make it
    with `Assembly.of(dataset)`. Takes indices[batch] int64.

    Example:
        >>> assembly = Assembly.of(train_set)                                 # doctest: +SKIP
        >>> @mulgil.compile(state=[model, optimizer, assembly])               # doctest: +SKIP
        ... def train_step(indices):
        ...     x, t = assembly(indices)
    """

    def __init__(self, tensors: tuple[Tensor, ...], steps: list[Any]):
        self.tensors, self.steps = tensors, steps

    @classmethod
    def of(cls, dataset: Any) -> Assembly | None:
        """That of images in memory, of a TensorDataset, or of a Subset of these.

        None for others, for transforms that draw or that tensor operations cannot do, and for targets that are transformed.
        """
        if type(dataset) is Subset:
            whole = cls.of(dataset.dataset)
            return whole and cls(tuple(Tensor(t.array[dataset.rows]) for t in whole.tensors), whole.steps)
        if type(dataset) is TensorDataset and not any(t.requires_grad for t in dataset.tensors):
            return cls(dataset.tensors, [])
        usual = isinstance(dataset, ImageDataset) and type(dataset).__getitem__ is ImageDataset.__getitem__
        if not usual or type(dataset).fetch is not ImageDataset.fetch or dataset.target_transform is not None:
            return None
        prepared = _prepared(dataset.data.array[:, None], opened(dataset.transform))
        return prepared and cls((Tensor(prepared[0]), dataset.targets), prepared[1])

    def __call__(self, indices: Tensor) -> tuple[Tensor, ...]:
        first, *others = (t[indices] for t in self.tensors)
        for step in self.steps:
            first = step.on_tensor(first)
        return first, *others


def _prepared(images: np.ndarray, steps: list[Any]) -> tuple[np.ndarray, list[Any]] | None:
    """The images [N, 1, H, W], with borders of black added beforehand, and the steps that are left; None if one is of another kind."""
    left: list[Any] = []
    for step in steps:
        black = type(step) is Pad and step.padding_mode == "constant" and step.fill == 0
        if black and all(type(s) is ToTensor for s in left):  # black is 0 before the conversion and after it
            images = np.ascontiguousarray(step.batch(images))
        elif type(step) in (ToTensor, Flatten) or (type(step) is Normalize and not step.inplace and step.single):
            left.append(step)
        else:
            return None
    return images, left
