"""DataLoader: a data set, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypedDict, Unpack, overload

from mulgil.autograd import Tensor
from mulgil.backend import Generator
from mulgil.data.collate import default_collate
from mulgil.data.dataset import Dataset
from mulgil.data.sampler import BatchSampler, RandomSampler, SequentialSampler, check_generator
from mulgil.errors import OptionError
from mulgil.names import guide
from mulgil.options import check_count
from mulgil.typing import Items, Stackable, T_co

__all__ = ["DataLoader"]


class Unknown:
    """No data set has such items."""


class Options(TypedDict, total=False):
    """The arguments of `DataLoader` that do not decide what a batch is."""

    pin_memory: bool
    drop_last: bool
    timeout: float
    worker_init_fn: Callable[[int], None] | None
    multiprocessing_context: Any
    generator: Generator | None
    prefetch_factor: int | None
    persistent_workers: bool


class DataLoader(Generic[T_co]):
    """Iterate over a data set in batches; each `for` loop is an epoch, in a new order where `shuffle` is set.

    Images in memory, those of `mulgil.data.datasets`, are gathered and transformed a batch at a time; other data sets sample
    by sample. Either way a batch is what `default_collate` makes of the samples, and it is the caller's own: no later batch
    writes into it.

    Args:
        dataset: anything with a length and `dataset[i]`.
        batch_size: samples in a batch, default 1; None hands out single samples.
        shuffle: a random order in each epoch; default False.
        sampler: the order, as an iterable of indices; instead of `shuffle`.
        batch_sampler: the batches, as an iterable of lists of indices; instead of the four other options.
        num_workers: taken for compatibility and not needed: the work is done in this process.
        collate_fn: makes a batch of a list of samples; default `default_collate`.
        pin_memory: taken for compatibility, without effect.
        drop_last: leave out a last batch that is shorter; default False.
        timeout, worker_init_fn, multiprocessing_context, prefetch_factor, persistent_workers: taken for compatibility.
        generator: where the random order comes from; default mulgil's, so that `manual_seed` makes it repeatable.

    Raises:
        OptionError: options out of their range, or that exclude each other.

    Example:
        >>> loader = DataLoader(range(10), batch_size=4, drop_last=True)
        >>> [batch.tolist() for batch in loader], len(loader)
        ([[0, 1, 2, 3], [4, 5, 6, 7]], 2)
    """

    if not TYPE_CHECKING:  # a checker would take any name for known
        __getattr__ = guide("DataLoader")

    @overload
    def __init__(
        self,
        dataset: Items[T_co],
        batch_size: int = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0,
        collate_fn: None = None,
        **options: Unpack[Options],
    ) -> None: ...
    @overload  # whose batches only the caller knows
    def __init__(
        self: DataLoader[Any],
        dataset: Items[Any],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0,
        *,
        collate_fn: Callable[[Any], Any],
        **options: Unpack[Options],
    ) -> None: ...
    @overload  # single samples
    def __init__(
        self: DataLoader[Any],
        dataset: Items[Any],
        batch_size: None,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: None = None,
        num_workers: int = 0,
        **options: Unpack[Options],
    ) -> None: ...
    def __init__(
        self,
        dataset: Items[T_co],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
    ):
        _check_dataset(dataset)
        _check_options(batch_size, shuffle, sampler, batch_sampler, drop_last, collate_fn)
        check_generator("DataLoader", generator)
        self.dataset, self.collate_fn, self.generator = dataset, collate_fn, generator
        self.num_workers, self.pin_memory, self.timeout = num_workers, pin_memory, timeout
        if sampler is None:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_sampler is None and batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
            self.batch_size: int | None = int(batch_size)
        else:
            self.batch_size = None
        self.sampler, self.batch_sampler, self.drop_last = sampler, batch_sampler, drop_last

    def __len__(self) -> int:
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]

    # What `default_collate` makes of a data set's items. The first form is there for items of which nothing is known: the type
    # Any fits every form, and the first that fits is taken.
    @overload
    def __iter__(self: DataLoader[Unknown]) -> Iterator[Any]: ...
    @overload
    def __iter__(self: DataLoader[Stackable]) -> Iterator[Tensor]: ...
    @overload
    def __iter__(self: DataLoader[tuple[Stackable, ...] | list[Stackable]]) -> Iterator[list[Tensor]]: ...
    @overload
    def __iter__(self: DataLoader[Mapping[str, Stackable]]) -> Iterator[dict[str, Tensor]]: ...
    @overload
    def __iter__(self: DataLoader[str]) -> Iterator[list[str]]: ...
    @overload
    def __iter__(self) -> Iterator[Any]: ...
    def __iter__(self) -> Iterator[Any]:
        if self.batch_sampler is None:
            return (self._single(i) for i in self.sampler)
        return (self.fetch(indices) for indices in self.batch_sampler)

    def order(self) -> list[list[int]]:
        """The indices of each batch of a new epoch, drawn now; `fetch` makes the batches. Together they do what iterating does.

        Raises OptionError for a loader of single samples, which has no batches.
        """
        if self.batch_sampler is None:
            raise OptionError("DataLoader.order: there must be batches", "batch_size=None", "give a batch_size")
        return [list(indices) for indices in self.batch_sampler]

    def fetch(self, indices: list[int]) -> Any:
        """The batch of the samples at `indices`."""
        if self.collate_fn in (None, default_collate) and isinstance(self.dataset, Dataset):
            return self.dataset.fetch(indices)
        return (self.collate_fn or default_collate)([self.dataset[i] for i in indices])

    def _single(self, index: int) -> Any:
        return self.collate_fn(self.dataset[index]) if self.collate_fn else self.dataset[index]

    def __repr__(self) -> str:
        name = getattr(self.dataset, "title", None) or type(self.dataset).__name__
        return f"DataLoader({name}, {len(self.dataset)} samples, batch_size={self.batch_size}, {len(self)} batches)"


def _check_dataset(dataset: Any) -> None:
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        hint = "give it __len__ and __getitem__, or put what it yields into a list"
        raise OptionError("DataLoader: a data set has a length and items: len(dataset), dataset[i]", type(dataset).__name__, hint)


def _check_options(batch_size: Any, shuffle: Any, sampler: Any, batch_sampler: Any, drop_last: bool, collate_fn: Any) -> None:
    if sampler is not None and shuffle:
        raise OptionError("DataLoader: sampler and shuffle exclude each other", "both", "a sampler decides the order: leave out shuffle")
    if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
        got = f"batch_size={batch_size}, shuffle={shuffle}, sampler={sampler}, drop_last={drop_last}"
        raise OptionError("DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last", got, "leave them out")
    if batch_size is None and drop_last:
        raise OptionError("DataLoader: drop_last needs batches", "batch_size=None", "give a batch_size")
    if shuffle not in (None, True, False):
        raise OptionError("DataLoader: shuffle must be True or False", repr(shuffle), "DataLoader(dataset, batch_size=100, shuffle=True)")
    if collate_fn is not None and not callable(collate_fn):
        raise OptionError("DataLoader: collate_fn must be a function of a list of samples", repr(collate_fn), "leave it out")
    check_count("DataLoader: batch_size", batch_size, optional=True)
