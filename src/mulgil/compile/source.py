"""From a kernel's nests to the Python source that Numba compiles. `program.source` shows it."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from mulgil.compile.graph import Node, Value
from mulgil.compile.lower import SHORT, Symbol, Writer
from mulgil.compile.passes.fuse import Kernel, Nest, is_reduction, memory
from mulgil.ops import reduce
from mulgil.ops.elementwise import Fill
from mulgil.ops.function import Context

PAD = "    "


class KernelSource:
    """Writes one kernel.

    placed: ids of the values that `passes.memory` gave a buffer; the others stay in registers. contiguous: whether the memory of
    a value is. After `text()`, `arguments` are the values whose arrays the function takes, in order.
    """

    def __init__(self, kernel: Kernel, placed: set[int], contiguous: Any):
        self.kernel, self.placed, self.contiguous = kernel, placed, contiguous
        self.arguments: list[Value] = []
        self._names: dict[int, str] = {}

    def text(self, name: str) -> str:
        """The function's source."""
        body: list[str] = []
        for nest in self.kernel.nests:
            body += self._nest(nest)
        lines = [f"def {name}({', '.join(self._names[id(v)] for v in self.arguments)}):", *(PAD + line for line in body)]
        return "\n".join(lines) + "\n"

    def array(self, value: Value) -> str:
        """The name of the argument that holds `value`."""
        home = memory(value)
        if id(home) not in self._names:
            self._names[id(home)] = f"a{len(self.arguments)}"
            self.arguments.append(home)
        return self._names[id(home)]

    def _nest(self, nest: Nest) -> list[str]:
        comments = [f"# {node}" for node in nest.nodes]
        memories = [v for node in nest.nodes for v in (*node.reads(), *node.writes())]
        reductions = [node for node in nest.nodes if is_reduction(node)]
        flat = len(nest.shape) > 1 and all((v.shape == nest.shape and self.contiguous(memory(v))) or prod(v.shape) == 1 for v in memories)
        shape = (prod(nest.shape),) if flat else nest.shape
        batch_last = not flat and any(v.lanes and v.shape == shape for v in memories)
        order = [*range(1, len(shape)), 0] if batch_last else [*range(len(shape))]  # of the memory: the last runs along it
        loops = _Loops(self, nest, shape, flat, order[-1] if order else -1)
        before, body, after = loops.write(reductions)
        lines = [*comments, *before]
        for depth, axis in enumerate(order):
            if depth == len(shape) - 1:
                lines += [PAD * depth + line for line in loops.sums_start]
            lines.append(f"{PAD * depth}for i{axis} in range({shape[axis]}):")
        lines += [PAD * len(shape) + line for line in body]
        lines += [PAD * max(0, len(shape) - 1) + line for line in loops.sums_end]
        return lines + after


class _Loops:
    """One nest's lines."""

    def __init__(self, source: KernelSource, nest: Nest, shape: tuple[int, ...], flat: bool, innermost: int):
        self.source, self.nest, self.shape, self.flat, self.innermost = source, nest, shape, flat, innermost
        self.head: list[str] = []  # before the loops: flattened arrays, and scalars, which are read once
        self.sums_start: list[str] = []  # around the innermost loop: sums along it
        self.sums_end: list[str] = []
        self.writer = Writer()
        self.symbols: dict[int, Symbol] = {}
        self._heads: dict[str, str] = {}

    def write(self, reductions: list[Node]) -> tuple[list[str], list[str], list[str]]:
        stores: list[str] = []
        after: list[str] = []
        for node in self.nest.nodes:
            if node in reductions:
                after += self._reduce(node, stores)
            else:
                self._call(node)
                made = [v for v in node.writes() if node.op.inplace or id(v) in self.source.placed]
                stores += [f"{self.place(v)} = {self.symbols[id(v)].name}" for v in made]
        starts = [line for node in reductions for line in self._start(node)]
        return [*self.head, *starts], [*self.writer.lines, *stores], after

    # ---- elements

    def place(self, value: Value, shape: tuple[int, ...] | None = None) -> str:
        """`a3[i0, i1]`: where the element of `value` is. shape: the value's shape with kept axes, for the result of a reduction."""
        name = self.source.array(value)
        if shape is None:
            shape = value.shape
            if self.flat and prod(shape) > 1:
                self._flatten(name, value)
                return f"{name}_[i0]"
            if not shape or (prod(shape) == 1 and (self.flat or prod(self.shape) > 1)):
                return f"{name}[{', '.join('0' for _ in shape) or '()'}]"
        lead = len(self.shape) - len(shape)
        indices = [f"i{lead + d}" if n != 1 or self.shape[lead + d] == 1 else "0" for d, n in enumerate(shape)]
        return f"{name}[{', '.join(indices) or '()'}]"

    def _flatten(self, name: str, value: Value) -> None:
        line = f"{name}_ = flat({name})"
        if line not in self.head:
            self.head.append(line)

    def symbol(self, operand: Any) -> Any:
        """The Symbol of a value that the body reads, loading it if no call of this nest made it."""
        if not isinstance(operand, Value):
            return operand
        if id(operand) not in self.symbols:
            place = self.place(operand)
            if prod(operand.shape) == 1 and "i" not in place.partition("[")[2]:
                if place not in self._heads:
                    self._heads[place] = f"s{len(self._heads)}"
                    self.head.append(f"{self._heads[place]} = {place}")
                self.symbols[id(operand)] = Symbol(self.writer, self._heads[place], operand.dtype)
            else:
                self.symbols[id(operand)] = self.writer.emit(place, operand.dtype)
        return self.symbols[id(operand)]

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
            indices = [f"i{d}" for d in range(len(kept)) if d not in axes]
        else:
            indices = [("0" if d in axes else f"i{d}") for d in range(lead, len(kept))]
        return f"{name}[{', '.join(indices) or '()'}]"

    def _start(self, node: Node) -> list[str]:
        value = node.outputs[0]
        assert value is not None
        return [f"{self.source.array(value)}[...] = {self._neutral(node, value.dtype)}"]

    @staticmethod
    def _neutral(node: Node, dtype: np.dtype) -> str:
        start = "-np.inf" if isinstance(node.op, reduce.Max) else "np.inf" if isinstance(node.op, reduce.Min) else "0"
        return f"{SHORT[dtype.name]}({start})"

    def _reduce(self, node: Node, stores: list[str]) -> list[str]:
        """The lines for a reduction: along the innermost loop into a local name, else straight into the result."""
        value = node.outputs[0]
        assert value is not None
        x = self.symbol(node.inputs[0]).name
        axes, _ = self._kept(node)
        place = f"{self.source.array(value)}[{', '.join('0' for _ in value.shape) or '()'}]" if self.flat else self._result_place(node)
        if self.flat or self.innermost in axes:
            local = f"sum_{self.source.array(value)}"
            self.sums_start.append(f"{local} = {self._neutral(node, value.dtype)}")
            stores.append(self._update(node, local, x))
            self.sums_end.append(self._update(node, place, local))
        else:
            stores.append(self._update(node, place, x))
        if isinstance(node.op, reduce.Mean):
            name, size = self.source.array(value), prod(value.shape)
            scale = Writer.literal(1 / node.op.count(node.inputs[0].shape), value.dtype)
            return [f"{name}_ = flat({name})", f"for i in range({size}):", f"{PAD}{name}_[i] *= {scale}"]
        return []

    @staticmethod
    def _update(node: Node, target: str, x: str) -> str:
        if isinstance(node.op, (reduce.Max, reduce.Min)):
            return f"{target} = {'max' if isinstance(node.op, reduce.Max) else 'min'}({target}, {x})"
        return f"{target} += {x}"
