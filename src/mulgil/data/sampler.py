"""Samplers: in which order a loader visits a data set. Each is something to iterate over that yields indices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any, Generic

import numpy as np

from mulgil.backend import Generator, default_generator
from mulgil.errors import OptionError
from mulgil.options import check_count
from mulgil.typing import T_co

__all__ = ["BatchSampler", "RandomSampler", "Sampler", "SequentialSampler", "SubsetRandomSampler", "WeightedRandomSampler"]


class Sampler(Generic[T_co]):
    """Base of samplers: define `__iter__`, which yields indices, and `__len__`."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__(self)")


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ..."""

    def __init__(self, data_source: Sized):
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """A new random order each time it is iterated over.

    Args:
        replacement: draw each index anew, so that some come twice; default False.
        num_samples: how many indices; default the length of the data set.
        generator: where the order comes from; default mulgil's, which `manual_seed` seeds.
    """

    def __init__(self, data_source: Sized, replacement: bool = False, num_samples: int | None = None, generator: Generator | None = None):
        check_count("RandomSampler: num_samples", num_samples, optional=True)
        check_generator("RandomSampler", generator)
        self.data_source, self.replacement, self.generator = data_source, replacement, generator
        self._num_samples = num_samples

    def __len__(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        random, total, left = (self.generator or default_generator).numpy, len(self.data_source), len(self)
        if self.replacement:
            yield from random.integers(total, size=left).tolist()
            return
        while left > 0 and total:
            yield from random.permutation(total)[:left].tolist()
            left -= total


class SubsetRandomSampler(Sampler[int]):
    """The given indices in a random order."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None):
        check_generator("SubsetRandomSampler", generator)
        self.indices, self.generator = indices, generator

    def __iter__(self) -> Iterator[int]:
        order = (self.generator or default_generator).numpy.permutation(len(self.indices))
        return (self.indices[i] for i in order.tolist())

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """`num_samples` indices, index i with a probability proportional to weights[i]: a way to balance classes.

    Raises:
        OptionError: negative weights, none positive, or without replacement fewer positive ones than `num_samples`.
    """

    def __init__(self, weights: Sequence[float], num_samples: int, replacement: bool = True, generator: Generator | None = None):
        check_count("WeightedRandomSampler: num_samples", num_samples)
        check_generator("WeightedRandomSampler", generator)
        self.weights = np.asarray(weights, np.float64)
        if self.weights.ndim != 1 or not np.isfinite(self.weights).all() or (self.weights < 0).any() or not self.weights.sum() > 0:
            raise OptionError(
                "WeightedRandomSampler: weights must be one finite number >= 0 a sample, not all 0",
                repr(weights),
                "1 / count of the sample's class",
            )
        positive = int((self.weights > 0).sum())
        if not replacement and positive < num_samples:
            got = f"num_samples={num_samples}, {positive} weights above 0"
            raise OptionError("WeightedRandomSampler: without replacement each index comes once at most", got, "replacement=True")
        self.num_samples, self.replacement, self.generator = num_samples, replacement, generator

    def __iter__(self) -> Iterator[int]:
        random = (self.generator or default_generator).numpy
        chance = self.weights / self.weights.sum()
        return iter(random.choice(len(chance), self.num_samples, self.replacement, chance).tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` indices of another sampler; the last, shorter one is left out with `drop_last`."""

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool = False):
        check_count("BatchSampler: batch_size", batch_size)
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        count = len(self.sampler)  # type: ignore[arg-type]
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)


def check_generator(who: str, generator: Any) -> None:
    """Raise `OptionError` unless `generator` is a `mulgil.Generator` or None."""
    if generator is not None and not isinstance(generator, Generator):
        raise OptionError(f"{who}: generator must be a mulgil Generator", type(generator).__name__, "mulgil.Generator().manual_seed(0)")
