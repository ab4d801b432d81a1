"""The loops of one nest as lines of Python: which ones there are, where an element of each value lies, how sums run."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from mulgil.compile.graph import Node, Value
from mulgil.compile.lower import SHORT, Symbol, Writer
from mulgil.compile.passes.fuse import Nest, is_gather, is_reduction
from mulgil.ops import reduce
from mulgil.ops.elementwise import Fill
from mulgil.ops.function import Context

if TYPE_CHECKING:
    from mulgil.compile.source import KernelSource

PAD = "    "


@dataclass(frozen=True)
class Loop:
    """name: of its variable. axis: what it runs along, if that is one axis of the nest and nothing else."""

    name: str
    count: int
    axis: int | None = None


class Loops:
    """One nest's lines: a loop for each axis."""

    flat = False
    our_share = "share[0], share[1]"  # the range of a loop that threads share

    def __init__(self, source: KernelSource, nest: Nest, lanes: int):
        self.source, self.nest, self.shape, self.lanes = source, nest, nest.shape, lanes
        self.head: list[str] = []  # before the loops: flattened arrays, and scalars, which are read once
        self.sums_start: list[str] = []  # around the innermost loop: sums along it
        self.sums_end: list[str] = []
        self.writer = Writer()
        self.symbols: dict[int, Symbol] = {}
        self._heads: dict[str, str] = {}
        self.loops = [Loop(f"i{axis}", n, axis) for axis, n in enumerate(self.shape)]
        self.innermost = len(self.shape) - 1  # the axis that the innermost loop runs along
        self.shared: int | None = None

    def split(self, reductions: list[Node]) -> int | None:
        """The outermost loop whose rounds have nothing to do with each other. The innermost stays whole: it is what vectors go along."""
        for k, loop in enumerate(self.loops if self.flat else self.loops[:-1]):
            if loop.count > 1 and all(self._apart(node, loop.axis) for node in reductions):
                return k
        return None

    def _apart(self, node: Node, axis: int | None) -> bool:
        """Whether the result of a reduction falls into one piece for each place along the axis."""
        axes, kept = self._kept(node)
        return axis is not None and axis not in axes and prod(kept[:axis]) == 1

    def write(self, reductions: list[Node], shared: int | None) -> tuple[list[str], list[str], list[str]]:
        """Lines before the loops, in them, and after. shared: the loop of which this is only a share."""
        self.shared = shared
        along = None if shared is None else self.loops[shared].axis
        stores: list[str] = []
        after: list[str] = []
        for node in self.nest.nodes:
            if node in reductions:
                after += self._reduce(node, stores, along)
            else:
                (self._gather if is_gather(node) else self._call)(node)
                made = [v for v in node.writes() if node.op.inplace or id(v) in self.source.placed]
                stores += [f"{self.place(v)} = {self.real(self.symbols[id(v)].name, '0', v.dtype)}" for v in made]
        starts = [line for node in reductions for line in self._over_result(node, f"= {self._neutral(node)}", along)]
        return [*self.head, *starts], [*self.writer.lines, *stores], after

    @property
    def part(self) -> str:
        """What of a flattened array the loops see."""
        return ""

    def axis(self, d: int) -> str:
        """Where the loops are along axis d."""
        return f"i{d}"

    def real(self, x: str, otherwise: str, dtype: np.dtype) -> str:
        """x for an element that exists, `otherwise` for padding."""
        return x

    # ---- elements

    def place(self, value: Value) -> str:
        """`a3[i0, i1]`: where the element of `value` is."""
        name = self.source.array(value)
        shape = value.shape
        if not shape or (prod(shape) == 1 and (self.flat or prod(self.shape) > 1)):
            return f"{name}[{', '.join('0' for _ in shape) or '()'}]"
        lead = len(self.shape) - len(shape)
        indices = [self.axis(lead + d) if n != 1 or self.shape[lead + d] == 1 else "0" for d, n in enumerate(shape)]
        return f"{name}[{', '.join(indices) or '()'}]"

    def _flattened(self, value: Value) -> str:
        """The name of the array of a value as one row."""
        name = self.source.array(value)
        line = f"{name}_ = flat({name}){self.part}"
        if line not in self.head:
            self.head.append(line)
        return f"{name}_"

    def symbol(self, operand: Any) -> Any:
        """The Symbol of a value that the body reads, loading it if no call of this nest made it."""
        if not isinstance(operand, Value):
            return operand
        if id(operand) not in self.symbols:
            place = self.place(operand)
            if prod(operand.shape) == 1 and not set("inr") & set(place.partition("[")[2]):
                if place not in self._heads:
                    self._heads[place] = f"s{len(self._heads)}"
                    self.head.append(f"{self._heads[place]} = {place}")
                self.symbols[id(operand)] = Symbol(self.writer, self._heads[place], operand.dtype)
            else:
                self.symbols[id(operand)] = self.writer.emit(place, operand.dtype)
        return self.symbols[id(operand)]

    def _gather(self, node: Node) -> None:
        x, rows = node.inputs
        row = f"{self.source.array(rows)}[{self.axis(0)}]"
        value = node.outputs[0]
        assert value is not None
        self.symbols[id(value)] = self.writer.emit(self.row_element(x, row), value.dtype)

    def row_element(self, x: Value, row: str) -> str:
        """The element of x in that row, at the loops' other places."""
        return f"{self.source.array(x)}[{', '.join([row, *(self.axis(d) for d in range(1, len(self.shape)))])}]"

    def _call(self, node: Node) -> None:
        ctx = Context(self.writer, node.needs, static=node.static)  # type: ignore[arg-type]
        if node.phase == "backward":
            ctx.saved = tuple(map(self.symbol, node.saved))
        if isinstance(node.op, Fill):  # looks at shape and dtype alone
            inputs = [Symbol(self.writer, "", node.inputs[0].dtype)]
        else:
            inputs = [self.symbol(v) for v in node.inputs]
        if node.op.inplace and inputs[0].dtype.kind == "f" and node.inputs[0].shape:
            inputs = [s.astype(inputs[0].dtype) if v.shape == () else s for v, s in zip(node.inputs, inputs, strict=True)]
        results = getattr(node.op, node.phase)(ctx, *inputs)
        results = results if isinstance(results, tuple) else (results,)
        for value, result in zip(node.outputs, results, strict=True):
            if value is not None:
                self.symbols[id(value)] = self._as_symbol(result, value.dtype)
        if node.phase == "forward":
            for value, kept in zip(node.saved, ctx.saved, strict=False):
                if isinstance(value, Value) and id(value) not in self.symbols:
                    self.symbols[id(value)] = kept

    def _as_symbol(self, result: Any, dtype: np.dtype) -> Symbol:
        if not isinstance(result, Symbol):
            return self.writer.emit(self.writer.literal(result, dtype), dtype)
        return result if result.dtype == dtype else self.writer.cast(result, dtype)

    # ---- reductions

    def _kept(self, node: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes that a reduction sums over, and the shape of its result with those axes kept as 1."""
        shape = node.inputs[0].shape
        if isinstance(node.op, reduce.Reduction):
            axes = node.op.axes(shape)
        else:  # SumTo
            target = node.outputs[0].shape  # type: ignore[union-attr]
            lead = len(shape) - len(target)
            axes = tuple(i for i, n in enumerate(shape) if i < lead or target[i - lead] == 1)
        return axes, tuple(1 if i in axes else n for i, n in enumerate(shape))

    def _result_place(self, node: Node) -> str:
        """Where the running result of this element is; the result's own shape decides which axes it has."""
        axes, kept = self._kept(node)
        value = node.outputs[0]
        assert value is not None
        name = self.source.array(value)
        dropped = len(value.shape) < len(kept)
        lead = len(kept) - len(value.shape)
        if isinstance(node.op, reduce.Reduction) and dropped:
            indices = [self.axis(d) for d in range(len(kept)) if d not in axes]
        else:
            indices = [("0" if d in axes else self.axis(d)) for d in range(lead, len(kept))]
        return f"{name}[{', '.join(indices) or '()'}]"

    def _over_result(self, node: Node, change: str, along: int | None) -> list[str]:
        """Lines that change each element of a reduction's result, or of the share of it that is ours."""
        value = node.outputs[0]
        assert value is not None
        name, rounds = self.source.array(value), str(prod(value.shape))
        if along is not None:
            each = prod(self._kept(node)[1][along + 1 :])
            rounds = f"share[0] * {each}, share[1] * {each}"
        return [f"{name}_ = flat({name})", f"for i in range({rounds}):", f"{PAD}{name}_[i] {change}"]

    @staticmethod
    def _neutral(node: Node) -> str:
        return f"{SHORT[node.outputs[0].dtype.name]}({_start_of(node)})"  # type: ignore[union-attr]

    def _reduce(self, node: Node, stores: list[str], along: int | None) -> list[str]:
        """The lines for a reduction: along the innermost loop into a local name, else straight into the result."""
        value = node.outputs[0]
        assert value is not None
        x = self.real(self.symbol(node.inputs[0]).name, _start_of(node), node.inputs[0].dtype)
        axes, _ = self._kept(node)
        place = f"{self.source.array(value)}[{', '.join('0' for _ in value.shape) or '()'}]" if self.flat else self._result_place(node)
        if self.flat or self.innermost in axes:
            local = f"sum_{self.source.array(value)}"
            self.sums_start.append(f"{local} = {self._neutral(node)}")
            stores.append(self._update(node, local, x))
            self.sums_end.append(self._update(node, place, local))
        else:
            stores.append(self._update(node, place, x))
        if isinstance(node.op, reduce.Mean):
            scale = Writer.literal(1 / node.op.count(node.inputs[0].shape), value.dtype)
            return self._over_result(node, f"*= {scale}", along)
        return []

    @staticmethod
    def _update(node: Node, target: str, x: str) -> str:
        if isinstance(node.op, (reduce.Max, reduce.Min)):
            return f"{target} = {'max' if isinstance(node.op, reduce.Max) else 'min'}({target}, {x})"
        return f"{target} += {x}"


class FlatLoops(Loops):
    """One loop over all elements, where every array is contiguous and of the nest's shape, or a single number."""

    flat = True
    our_share = "share[1] - share[0]"  # of arrays that begin with it: an index that counts from 0 is known not to be negative

    @property
    def part(self) -> str:
        return "" if self.shared is None else "[share[0] : share[1]]"

    def __init__(self, source: KernelSource, nest: Nest, lanes: int):
        super().__init__(source, nest, lanes)
        self.shape = (prod(nest.shape),)
        self.loops, self.innermost = [Loop("i0", prod(nest.shape), 0)], 0

    def place(self, value: Value) -> str:
        return super().place(value) if prod(value.shape) == 1 else f"{self._flattened(value)}[i0]"


class RowLoops(Loops):
    """Rows, and one loop over each: where rows of something else are gathered, and all arrays are contiguous or single numbers."""

    def __init__(self, source: KernelSource, nest: Nest, lanes: int):
        super().__init__(source, nest, lanes)
        self.run = prod(nest.shape[1:])
        self.loops, self.innermost = [Loop("i0", nest.shape[0], 0), Loop("r", self.run)], -1

    def place(self, value: Value) -> str:
        if prod(value.shape) == 1:
            return super().place(value)
        return f"{self._flattened(value)}[i0 * {self.run} + r]"

    def row_element(self, x: Value, row: str) -> str:
        name = self._flattened(x)
        self.sums_start += [f"start = {row} % {x.shape[0]} * {self.run}", f"row_of_{name} = {name}[start : start + {self.run}]"]
        return f"row_of_{name}[r]"


class LaneLoops(Loops):
    """Values in lanes: vectors of images, then the axes that some array in C order depends on, then one run over all the rest."""

    def __init__(self, source: KernelSource, nest: Nest, lanes: int):
        super().__init__(source, nest, lanes)
        shapes = [s for node in nest.nodes for s in self._smaller(node)]
        rank = len(self.shape)
        used = [d for d in range(1, rank) for s in shapes if d - rank + len(s) >= 0 and s[d - rank + len(s)] != 1]
        outer, vectors = max(used, default=0), -(-self.shape[0] // lanes)
        run = prod(self.shape[outer + 1 :]) * lanes
        self.loops = [Loop("n", vectors), *(Loop(f"i{d}", self.shape[d], d) for d in range(1, outer + 1)), Loop("r", run)]
        at = "n"
        for d in range(1, outer + 1):
            at = f"({at} * {self.shape[d]} + i{d})"
        self.sums_start.append(f"at = {at} * {run}")
        self.innermost = 0

    def _smaller(self, node: Node) -> list[tuple[int, ...]]:
        """The shapes of what a call reads and writes in C order, with all their axes."""
        operands = [v.shape for v in node.reads() if not v.lanes]
        return [*operands, self._kept(node)[1]] if is_reduction(node) else operands

    def axis(self, d: int) -> str:
        return f"i{d}" if d else f"min(n * {self.lanes} + (r & {self.lanes - 1}), {self.shape[0] - 1})"

    def place(self, value: Value) -> str:
        return f"{self.source.array(value)}[at + r]" if value.lanes else super().place(value)

    def real(self, x: str, otherwise: str, dtype: np.dtype) -> str:
        if self.shape[0] % self.lanes == 0:
            return x
        blank = "False" if dtype == np.bool_ else f"{SHORT[dtype.name]}({otherwise})"
        return f"{x} if n * {self.lanes} + (r & {self.lanes - 1}) < {self.shape[0]} else {blank}"


def _start_of(node: Node) -> str:
    """The result of a reduction over nothing."""
    return "-np.inf" if isinstance(node.op, reduce.Max) else "np.inf" if isinstance(node.op, reduce.Min) else "0"
