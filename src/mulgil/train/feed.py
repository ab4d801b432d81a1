"""Where a trainer's batches come from: loaders, data sets and arrays alike, an epoch that can be left and entered in its middle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import Generator
from mulgil.data import Assembly, DataLoader, Dataset, TensorDataset, default_collate
from mulgil.errors import OptionError
from mulgil.train.batch import as_input
from mulgil.typing import SupportsArray

TRAIN_BATCH = 100
EVAL_BATCH = 500  # large enough to be quick, small enough for the caches and for little memory

# a loader, a data set, (inputs, targets), inputs alone, or anything that yields batches
Batches: TypeAlias = DataLoader[Any] | Dataset[Any] | tuple[SupportsArray, SupportsArray] | SupportsArray | Iterable[Any]
Batch = tuple[list[int] | None, Any]  # the indices of its samples in the data set, where they are known, and what the loader gave


def as_batches(data: Any, batch_size: int, shuffle: bool = False) -> Any:
    """Something that yields batches: a loader stays itself; data sets, (inputs, targets) and single arrays get one.

    Raises OptionError for what cannot be iterated over.
    """
    if isinstance(data, DataLoader):
        return data
    if isinstance(data, Dataset):
        return DataLoader(data, batch_size=batch_size, shuffle=shuffle)
    if isinstance(data, (Tensor, np.ndarray)):
        return DataLoader(TensorDataset(as_input(data)), batch_size=batch_size, shuffle=shuffle)
    if isinstance(data, tuple) and len(data) > 1 and all(hasattr(part, "shape") for part in data):
        return DataLoader(TensorDataset(*map(as_input, data)), batch_size=batch_size, shuffle=shuffle)
    if isinstance(data, Mapping) and data and all(hasattr(part, "shape") for part in data.values()):
        return DataLoader(NamedTensors(data), batch_size=batch_size, shuffle=shuffle)
    if not isinstance(data, Iterable):
        rule = "data must be a loader, a data set, or arrays (inputs, targets)"
        raise OptionError(rule, type(data).__name__, "DataLoader(dataset, batch_size=100)")
    return data


class NamedTensors(Dataset):
    """Arrays of equal length by name; sample i is a dict of the i-th rows."""

    def __init__(self, arrays: Mapping[str, Any]):
        self.names, self.rows = list(arrays), TensorDataset(*map(as_input, arrays.values()))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> dict[str, Any]:
        return dict(zip(self.names, self.rows[index], strict=True))

    def fetch(self, indices: Sequence[int]) -> dict[str, Any]:
        return dict(zip(self.names, self.rows.fetch(indices), strict=True))


class Feed:
    """The batches of one epoch after another, with a position that can be saved.

    Of a `DataLoader` the epoch's order is drawn at its start; the position is that order and the number of batches done. Any
    other iterable is iterated over anew, past the batches that were done: exact if it yields the same ones again.
    """

    def __init__(self, batches: Any):
        self.source = batches
        self.order: list[list[int]] | None = None

    @cached_property
    def assembly(self) -> Assembly | None:
        """The batches as tensor operations on their indices, where the source allows it and has inputs and targets."""
        plain = self.has_order and self.source.collate_fn in (None, default_collate)
        assembly = Assembly.of(self.source.dataset) if plain else None
        return assembly if assembly is not None and len(assembly.tensors) > 1 else None

    def fetch(self, indices: list[int]) -> Any:
        """The batch of these samples."""
        return self.source.fetch(indices)

    @property
    def has_order(self) -> bool:
        """Whether the source can be asked for single batches."""
        return isinstance(self.source, DataLoader) and self.source.batch_sampler is not None

    def new_epoch(self) -> None:
        """Draw the order of an epoch."""
        self.order = self.source.order() if self.has_order else None

    def __len__(self) -> int:
        """The batches of the epoch; 0 if nobody knows."""
        if self.order is not None:
            return len(self.order)
        return len(self.source) if hasattr(self.source, "__len__") else 0

    def batches(self, done: int = 0, assembled: bool = False) -> Iterator[Batch]:
        """The epoch's batches after the first `done`. assembled: indices alone, whose batch the step puts together with `assembly`."""
        if self.order is None:
            return ((None, batch) for batch in islice(iter(self.source), done, None))
        return ((indices, None if assembled else self.fetch(indices)) for indices in self.order[done:])

    def generators(self) -> dict[str, Generator]:
        """The random generators that belong to the source, other than mulgil's own."""
        found = {}
        for name in ("", "sampler", "batch_sampler"):
            owner = getattr(self.source, name, None) if name else self.source
            if isinstance(getattr(owner, "generator", None), Generator):
                found[name or "loader"] = owner.generator  # type: ignore[union-attr]
        return found

    def state_dict(self, within: bool = True) -> dict[str, Any]:
        """The order of the epoch; empty where there is none, or not `within` an epoch, because the next one draws its own."""
        order = (self.order or []) if within else []
        flat = np.array([index for batch in order for index in batch], np.int64)
        return {"indices": flat, "sizes": np.array([len(batch) for batch in order], np.int64)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on in the epoch whose order `state_dict()` gave."""
        flat, sizes = (np.asarray(state[name], np.int64) for name in ("indices", "sizes"))
        if flat.size and self.has_order and not 0 <= flat.min() <= flat.max() < len(self.source.dataset):
            rule = f"an order must be of the {len(self.source.dataset):,} samples that there are"
            raise OptionError(rule, f"{flat.min()} to {flat.max()}")
        ends = np.cumsum(sizes)
        self.order = [flat[end - size : end].tolist() for end, size in zip(ends, sizes, strict=True)] if self.has_order else None
