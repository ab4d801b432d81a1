"""From a fused kernel to loop nests: where an element of each value lies, which loops there are, and what is in their bodies.

Every access is affine in the loops, so neighbouring loops that all arrays run through in one go become one: a nest over
contiguous arrays is a single loop, whatever the shape. Length-1 axes need no loop. Values in lanes (see `graph.Value`) have the
loops [vectors, axes ..., lane].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from mulgil.compile.graph import Node, Value
from mulgil.compile.loop.ir import Access, Array, Expr, LoopKernel, LoopNest, Reduce, Store
from mulgil.compile.loop.lower import called
from mulgil.compile.loop.symbol import Symbol, Writer
from mulgil.compile.passes.fuse import Kernel, Nest, is_gather, is_reduction, memory
from mulgil.errors import TraceError

Layout = Callable[[Value], tuple[int, ...] | None]  # the strides in bytes of the memory of a value; None for C order


def build(kernel: Kernel, placed: set[int], layout: Layout) -> tuple[LoopKernel, list[Value]]:
    """The loops of a kernel, and the values whose memory its arrays are, in order.

    placed: ids of the values that `passes.memory` gave a buffer; the others stay in registers.
    """
    builder = KernelBuilder(placed, layout)
    nests = tuple(builder.nest(nest) for nest in kernel.nests)
    written = {s.access.array for nest in nests for s in nest.results}
    used = sorted(written | {a.array for nest in nests for a in loads(nest)})
    arrays = {number: Array(builder.homes[number].dtype.name, number in written) for number in used}
    return LoopKernel(arrays, nests), [builder.homes[number] for number in used]


def loads(nest: LoopNest) -> list[Access]:
    """What a nest reads."""
    found: list[Access] = []
    seen: set[int] = set()
    todo = [s.value for s in nest.results] + [row for s in nest.results for row, _ in s.access.rows]
    while todo:
        e = todo.pop()
        if id(e) not in seen:
            seen.add(id(e))
            if e.op == "load":
                found.append(e.detail)
                todo += [row for row, _ in e.detail.rows]
            todo += e.args
    return found


def split(kernel: LoopKernel) -> int | None:
    """The loop whose rounds threads can share: the outermost one with nothing to combine across its rounds.

    The innermost of several stays whole: it is what vectors go along.
    """
    if len(kernel.nests) != 1:
        return None
    nest = kernel.nests[0]
    candidates = range(max(1, len(nest.counts) - 1)) if nest.counts else ()
    return next((k for k in candidates if nest.counts[k] > 1 and all(r.access.strides[k] for r in nest.reductions)), None)


def shared(kernel: LoopKernel, loop: int) -> LoopKernel:
    """The same kernel as one share of it: it runs a range of the loop."""
    return replace(kernel, nests=(replace(kernel.nests[0], shared=loop),))


class KernelBuilder:
    """Numbers the arrays of a kernel while its nests are built."""

    def __init__(self, placed: set[int], layout: Layout):
        self.placed, self.layout = placed, layout
        self.homes: list[Value] = []
        self._numbers: dict[int, int] = {}

    def number(self, value: Value) -> int:
        home = memory(value)
        if id(home) not in self._numbers:
            self._numbers[id(home)] = len(self.homes)
            self.homes.append(home)
        return self._numbers[id(home)]

    def nest(self, nest: Nest) -> LoopNest:
        return NestBuilder(self, nest).build()


class NestBuilder:
    """Builds one nest: axes first (a loop for each, with the strides of all values), then merged loops, then the body."""

    def __init__(self, kernel: KernelBuilder, nest: Nest):
        self.kernel, self.nodes, self.shape = kernel, nest.nodes, nest.shape
        values = [v for node in nest.nodes for v in (*node.reads(), *node.writes())]
        self.lanes = next((v.lanes for v in values if v.lanes), 0)
        self.axes = (-(-self.shape[0] // self.lanes), *self.shape[1:], self.lanes) if self.lanes else self.shape
        self.padded = bool(self.lanes and self.shape[0] % self.lanes)
        self.writer = Writer()
        self.symbols: dict[int, Symbol] = {}
        self.raw = self._all_strides()
        self.groups = self._merged()
        self.counts = tuple(prod(self.axes[k] for k in group) for group in self.groups)

    def build(self) -> LoopNest:
        stores: list[Store] = []
        reductions: list[Reduce] = []
        for node in self.nodes:
            if is_reduction(node):
                reductions.append(self._reduce(node))
            else:
                (self._gather if is_gather(node) else self._call)(node)
                made = [v for v in node.writes() if node.op.inplace or id(v) in self.kernel.placed]
                stores += [Store(self.access(v), self._real(self.symbols[id(v)], 0).expr) for v in made]
        return LoopNest(self.counts, tuple(stores), tuple(reductions), tuple(map(str, self.nodes)))

    # ---- where elements lie

    def _all_strides(self) -> dict[Any, tuple[int, ...]]:
        """Id of a value -> its stride for each axis loop, of everything that the nest may touch in memory.

        Of an array whose rows are gathered: (id, "rows") -> the strides within a row.
        """
        found: dict[Any, tuple[int, ...]] = {}
        for node in self.nodes:
            if is_reduction(node):
                value = node.outputs[0]
                found[id(value)] = self._axis_strides(kept_shape(node), c_strides(kept_shape(node)), 0)
            if is_gather(node):
                x, value = node.inputs[0], node.outputs[0]
                found[id(x), "rows"] = 0, *self._memory_strides(x)[1:]
                found.setdefault(id(value), self._strides_of(value))  # type: ignore[arg-type]
                continue
            for v in (*node.reads(), *node.writes()):
                found.setdefault(id(v), self._strides_of(v))
        return found

    def _memory_strides(self, value: Value) -> tuple[int, ...]:
        """The strides of a value's memory, in elements."""
        given = self.kernel.layout(memory(value))
        return c_strides(value.shape) if given is None else tuple(_elements(n, value.dtype) for n in given)

    def _strides_of(self, value: Value) -> tuple[int, ...]:
        if value.lanes:
            return c_strides(self.axes)
        return self._axis_strides(value.shape, self._memory_strides(value), len(self.shape) - len(value.shape))

    def _axis_strides(self, shape: tuple[int, ...], strides: tuple[int, ...], lead: int) -> tuple[int, ...]:
        """A stride for each axis loop; in lanes the first axis runs along vectors and lanes."""
        own = [0] * lead + [stride if n != 1 else 0 for n, stride in zip(shape, strides, strict=True)]
        if not self.lanes:
            return tuple(own)
        return (0, *own[1:], 0) if self.padded else (own[0] * self.lanes, *own[1:], own[0])

    def _merged(self) -> list[list[int]]:
        """The axes as groups, each of which is one loop."""
        apart = self.padded or any(is_gather(node) for node in self.nodes)  # the first axis is then not affine
        by_image = self.padded and any(is_reduction(node) and kept_shape(node)[0] != 1 for node in self.nodes)
        lane = len(self.axes) - 1 if by_image else None  # a result for each image: its other axes are summed, the lanes are not
        groups: list[list[int]] = []
        for k, n in enumerate(self.axes):
            if n == 1 and not (self.lanes and k == len(self.axes) - 1):
                continue
            together = groups and not (apart and groups[-1] == [0]) and k != lane
            if together and all(s[groups[-1][-1]] == s[k] * n for s in self.raw.values()):
                groups[-1].append(k)
            else:
                groups.append([k])
        return groups

    def access(self, value: Value) -> Access:
        by_image = self.padded and not value.lanes and len(value.shape) == len(self.shape) and value.shape[0] != 1
        rows = self._row(self._memory_strides(value)[0]) if by_image else ()
        return Access(self.kernel.number(value), self._strides(id(value)), rows)

    def _strides(self, key: Any) -> tuple[int, ...]:
        """A stride for each loop."""
        return tuple(self.raw[key][group[-1]] for group in self.groups)

    def _row(self, stride: int) -> tuple[tuple[Expr, int], ...]:
        """In lanes with padding: the image, and the last one for those that do not exist."""
        last = self.writer.constant(self.shape[0] - 1, np.int64)
        return ((self.writer.minimum(self._image(), last).expr, stride),)  # type: ignore[attr-defined]

    def _loop(self, axis: int) -> Symbol:
        """Where the loops are along an axis that has a loop of its own, or is the last of one."""
        for position, group in enumerate(self.groups):
            if group[-1] == axis:
                symbol = Symbol(self.writer, self.writer.body.loop(position))
                return symbol if group == [axis] else symbol & (self.axes[axis] - 1)  # lanes are a power of two
        return self.writer.constant(0, np.int64)

    def _image(self) -> Symbol:
        """In lanes: the number of the image."""
        return self._loop(0) * self.lanes + self._loop(len(self.axes) - 1)

    def _real(self, x: Symbol, otherwise: Any) -> Symbol:
        """x for an image that exists, `otherwise` for padding."""
        if not self.padded:
            return x
        return self.writer.where(self._image() < self.shape[0], x, self.writer.constant(otherwise, x.dtype))

    # ---- the body

    def symbol(self, operand: Any) -> Any:
        """The Symbol of a value that the body reads, loading it if no call of this nest made it."""
        if not isinstance(operand, Value):
            return operand
        if id(operand) not in self.symbols:
            self.symbols[id(operand)] = Symbol(self.writer, self.writer.body.load(self.access(operand), operand.dtype))
        return self.symbols[id(operand)]

    def _gather(self, node: Node) -> None:
        x, numbers = node.inputs
        along = tuple(int(group == [0]) for group in self.groups)  # the numbers are contiguous
        row = Symbol(self.writer, self.writer.body.load(Access(self.kernel.number(numbers), along), numbers.dtype))
        row = self.writer.where(row < 0, row + x.shape[0], row)
        access = Access(self.kernel.number(x), self._strides((id(x), "rows")), ((row.expr, self._memory_strides(x)[0]),))
        self.symbols[id(node.outputs[0])] = Symbol(self.writer, self.writer.body.load(access, x.dtype))

    def _call(self, node: Node) -> None:
        self.symbols.update(called(self.writer, node, self.symbol))

    def _reduce(self, node: Node) -> Reduce:
        value = node.outputs[0]
        assert value is not None
        x = self.writer.cast(self.symbol(node.inputs[0]), value.dtype)
        combine, start = combination(node.op.combine, value.dtype)
        divisor = node.op.count(self.shape) if node.op.averages else 1  # type: ignore[attr-defined]
        kept = kept_shape(node)
        rows = self._row(c_strides(kept)[0]) if self.padded and kept[0] != 1 else ()
        if rows and divisor != 1:  # the last image is met several times, and would be divided as often
            x, divisor = x / divisor, 1
        access = Access(self.kernel.number(value), self._strides(id(value)), rows)
        return Reduce(access, self._real(x, start).expr, combine, start, divisor)


def combination(combine: str, dtype: np.dtype) -> tuple[str, Any]:
    """How a reduction combines elements of a dtype, and what it starts with."""
    if combine == "add":
        return combine, 0
    largest = combine == "maximum"
    if dtype.kind == "b":
        return ("or", False) if largest else ("and", True)
    if dtype.kind == "f":
        return combine, -np.inf if largest else np.inf
    return combine, int(np.iinfo(dtype).min if largest else np.iinfo(dtype).max)


def kept_shape(node: Node) -> tuple[int, ...]:
    """The shape of a reduction's result with the reduced axes kept as 1."""
    shape = node.inputs[0].shape
    axes = node.op.axes(shape)  # type: ignore[attr-defined]
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of an array in C order."""
    return tuple(prod(shape[d + 1 :]) for d in range(len(shape)))


def _elements(nbytes: int, dtype: np.dtype) -> int:
    if nbytes % dtype.itemsize:
        raise TraceError("compile: an array's strides must be whole elements", f"{nbytes} bytes of {dtype}", "copy it first: x.copy()")
    return nbytes // dtype.itemsize
