"""Names for what functions take, as in `numpy.typing`: `ArrayLike`, `DTypeLike`, `DeviceLike`, `Axis`, `Index`.

For annotations alone; nothing here is computed with.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike as DTypeLike

from mulgil.backend import device

T_co = TypeVar("T_co", covariant=True)


class SupportsArray(Protocol):
    """What `np.asarray` makes an array of: Tensors, arrays, NumPy's scalars, other libraries' tensors."""

    def __array__(self) -> np.ndarray: ...


class Nested(Protocol[T_co]):
    """A sequence that is not text: text contains no other objects than text."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> T_co: ...
    def __contains__(self, x: object, /) -> bool: ...


class Items(Protocol[T_co]):
    """What a loader reads: a data set with a length, whose i-th item is a sample."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> T_co: ...


ArrayLike: TypeAlias = "SupportsArray | float | Nested[ArrayLike]"  # a Tensor, an array, a number, nested sequences of numbers
Stackable: TypeAlias = SupportsArray | float  # a sample, or a part of one, that becomes a row of a batch
MaybeNone: TypeAlias = Any  # `Parameter | MaybeNone`: None in cases that the program knows of, so that no checker insists on a test
DeviceLike: TypeAlias = device | str
Axis: TypeAlias = int | Sequence[int] | None
Pair: TypeAlias = int | Sequence[int]  # one number for both, or (height, width)
Key: TypeAlias = int | slice | EllipsisType | SupportsArray | Nested[int] | None
Index: TypeAlias = Key | tuple[Key, ...]
