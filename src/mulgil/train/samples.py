"""Whatever holds samples (a data set, a loader, arrays, batches), read in batches and found again by number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import to_device
from mulgil.data import DataLoader, TensorDataset
from mulgil.data.sampler import RandomSampler, SequentialSampler
from mulgil.errors import OptionError
from mulgil.train.batch import as_input
from mulgil.train.feed import EVAL_BATCH
from mulgil.train.inputs import class_names


class Samples:
    """Samples in a fixed order, numbered from 0.

    data: a data set; a loader, whose data set is read in order and whole, whatever it shuffles or drops (one with a sampler of its
    own: as the sampler says); inputs X; a tuple (X, y) of arrays or Tensors; or another iterable of batches.
    classes: names by class number that the data set has, or None.
    """

    def __init__(self, data: Any, batch_size: int = EVAL_BATCH):
        if isinstance(batch_size, bool) or int(batch_size) < 1:
            raise OptionError("batch_size must be at least 1", repr(batch_size))
        self.collate, self.order = None, None
        if isinstance(data, DataLoader):
            self.collate, batch_size = data.collate_fn, data.batch_size or batch_size
            if data.batch_sampler is not None and not isinstance(data.sampler, (RandomSampler, SequentialSampler)):
                self.order = list(data.sampler)
            data = data.dataset
        elif isinstance(data, (Tensor, np.ndarray)):
            data = TensorDataset(as_input(data))
        elif isinstance(data, tuple):
            data = TensorDataset(*map(as_input, data[:1]), *data[1:])
        elif not hasattr(data, "__getitem__") and iter(data) is data:
            raise OptionError("the data must be readable more than once", type(data).__name__, "a data set, a loader, (X, y), or list(it)")
        self.data, self.batch_size = data, int(batch_size)
        self.classes = class_names_of(data)

    def batches(self) -> Iterator[tuple[Any, np.ndarray | None]]:
        """(inputs, targets) in order; targets as an array on the CPU, None where there are none."""
        return map(split, self._loader(self.order) if hasattr(self.data, "__getitem__") else self.data)

    def fetch(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The inputs of the samples numbered `rows`, in that order, stacked on the CPU."""
        rows = [int(row) for row in rows]
        if hasattr(self.data, "__getitem__"):
            wanted = rows if self.order is None else [self.order[row] for row in rows]
            parts = [on_cpu(split(batch)[0]) for batch in self._loader(wanted)]
            return np.concatenate(parts)
        found: dict[int, np.ndarray] = {}
        start = 0
        for inputs, _ in self.batches():
            found |= {row: on_cpu(inputs[row - start]) for row in rows if start <= row < start + len(inputs)}
            start += len(inputs)
        return np.stack([found[row] for row in rows])

    def _loader(self, order: list[int] | None) -> DataLoader:
        return DataLoader(self.data, self.batch_size, sampler=order, collate_fn=self.collate)


def split(batch: Any) -> tuple[Any, np.ndarray | None]:
    """(inputs, targets) of what a loader gives for a batch."""
    if not isinstance(batch, (tuple, list)):
        return batch, None
    if len(batch) > 2:
        raise OptionError("a batch must be (inputs, targets)", f"{len(batch)} parts", "give the model one input, and pass collate_fn=...")
    return batch[0], on_cpu(batch[1]) if len(batch) == 2 else None


def on_cpu(values: Any) -> np.ndarray:
    """A Tensor or array as a NumPy array."""
    return to_device(values.array, "cpu") if isinstance(values, Tensor) else np.asarray(values)


def class_names_of(data: Any) -> list[str] | None:
    """The class names of a data set, or of the one inside a Subset."""
    while not hasattr(data, "classes") and hasattr(data, "dataset"):
        data = data.dataset
    names = getattr(data, "classes", None)
    return class_names(names) if names else None
