"""The loop IR: a nest of counted loops around statements, as data that renderers read.

An expression is one operation on scalars. Equal expressions of a body are one object (hash-consing), so a body is a DAG and
common subexpressions are free. `loops` says on which loops an expression depends: what depends on outer loops alone is
computed outside the inner ones. Nothing here is changed after it was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


class Expr:
    """A scalar value.

    op: "load", "const", "loop", or an operation: see `symbol.Writer`. args: its operands. dtype: NumPy's name of its type.
    detail: the `Access` of a load, the number of a const, the loop's position of a loop. loops: positions of the loops that it depends on.
    """

    __slots__ = ("args", "detail", "dtype", "loops", "op")

    def __init__(self, op: str, args: tuple[Expr, ...], dtype: str, detail: Any):
        self.op, self.args, self.dtype, self.detail = op, args, dtype, detail
        own = detail.loops if op == "load" else frozenset((detail,)) if op == "loop" else frozenset()
        self.loops: frozenset[int] = own.union(*(a.loops for a in args))


@dataclass(frozen=True)
class Access:
    """An element of an array: number `sum(strides[k] * loop k) + sum(rows)` from its start, counted in elements.

    array: its number in the kernel. strides: one for each loop of the nest. rows: (index, stride) pairs for what is
    not affine: gathered rows, and images of a padded last vector.
    """

    array: int
    strides: tuple[int, ...]
    rows: tuple[tuple[Expr, int], ...] = ()

    @property
    def loops(self) -> frozenset[int]:
        affine = frozenset(k for k, stride in enumerate(self.strides) if stride)
        return affine.union(*(row.loops for row, _ in self.rows))


class Body:
    """Where the expressions of one nest are made: equal ones once."""

    def __init__(self) -> None:
        self._made: dict[tuple, Expr] = {}

    def expr(self, op: str, args: tuple[Expr, ...], dtype: Any, detail: Any = None) -> Expr:
        name = np.dtype(dtype).name
        key = (op, tuple(map(id, args)), name, repr(detail) if op == "const" else detail)  # repr: -0.0 is not 0.0, NaN is itself
        if key not in self._made:
            self._made[key] = Expr(op, args, name, detail)
        return self._made[key]

    def const(self, value: Any, dtype: Any) -> Expr:
        return self.expr("const", (), dtype, value)

    def load(self, access: Access, dtype: Any) -> Expr:
        return self.expr("load", (), dtype, access)

    def loop(self, position: int) -> Expr:
        return self.expr("loop", (), np.int64, position)


@dataclass(frozen=True)
class Store:
    """Write a value to an element. All values of a nest's round are computed before anything is written."""

    access: Access
    value: Expr


@dataclass(frozen=True)
class Reduce:
    """Combine the value into an element, which starts as `start`; divisor: what the result is divided by at last.

    combine: "add", "maximum" or "minimum" ("or", "and" of booleans).
    """

    access: Access
    value: Expr
    combine: str
    start: Any
    divisor: int = 1


@dataclass(frozen=True)
class LoopNest:
    """Loops over `counts`, outermost first.

    shared: the position of a loop of which each thread runs a range, or None. notes: the calls that it came from, for people.
    """

    counts: tuple[int, ...]
    stores: tuple[Store, ...]
    reductions: tuple[Reduce, ...]
    notes: tuple[str, ...] = ()
    shared: int | None = None

    @property
    def results(self) -> tuple[Store | Reduce, ...]:
        return (*self.stores, *self.reductions)

    def registers(self, reduction: Reduce) -> int | None:
        """From which loop on the reduction runs in a register: all loops from there on are reduced, none before. None: in memory."""
        kept = [k in reduction.access.loops for k in range(len(self.counts))]
        first = kept.index(False) if False in kept else len(kept)
        return first if not any(kept[first:]) else None


@dataclass(frozen=True)
class Array:
    """An array of a kernel. dtype: NumPy's name. written: whether the kernel writes it."""

    dtype: str
    written: bool = False


@dataclass(frozen=True)
class LoopKernel:
    """Nests that run one after the other over the same arrays, as one function. arrays: number -> array."""

    arrays: dict[int, Array]
    nests: tuple[LoopNest, ...]
