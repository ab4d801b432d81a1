"""From a kernel's nests to the Python source that Numba compiles. `program.source` shows it."""

from __future__ import annotations

from math import prod
from typing import Any

from mulgil.compile.graph import Value
from mulgil.compile.loops import PAD, FlatLoops, LaneLoops, Loops, RowLoops
from mulgil.compile.passes.fuse import Kernel, Nest, is_gather, is_reduction, memory


class KernelSource:
    """Writes one kernel.

    placed: ids of the values that `passes.memory` gave a buffer; the others stay in registers. contiguous: whether the memory of
    a value is. After `text()`, `arguments` are the values whose arrays the function takes, in order, and `items` are the rounds
    of the loop that threads can share, if the kernel has one nest and such a loop.
    """

    def __init__(self, kernel: Kernel, placed: set[int], contiguous: Any):
        self.kernel, self.placed, self.contiguous = kernel, placed, contiguous
        self.arguments: list[Value] = []
        self.items = 0
        self._names: dict[int, str] = {}

    def text(self, name: str, share: bool = False) -> str:
        """The function's source. share: it takes one more argument, the first: [start, stop) of the items that it is to do."""
        body: list[str] = []
        for nest in self.kernel.nests:
            body += self._nest(nest, share)
        names = ["share"] * share + [self._names[id(v)] for v in self.arguments]
        return "\n".join([f"def {name}({', '.join(names)}):", *(PAD + line for line in body)]) + "\n"

    def array(self, value: Value) -> str:
        """The name of the argument that holds `value`."""
        home = memory(value)
        if id(home) not in self._names:
            self._names[id(home)] = f"a{len(self.arguments)}"
            self.arguments.append(home)
        return self._names[id(home)]

    def _nest(self, nest: Nest, share: bool) -> list[str]:
        comments = [f"# {node}" for node in nest.nodes]
        gathers = [node for node in nest.nodes if is_gather(node)]
        memories = [v for node in nest.nodes for v in (*(node.reads() if node not in gathers else ()), *node.writes())]
        reductions = [node for node in nest.nodes if is_reduction(node)]
        lanes = next((v.lanes for v in memories if v.lanes), 0)
        registers = {id(v) for node in nest.nodes for v in node.writes() if not node.op.inplace} - self.placed
        rows = all(id(v) in registers or self.contiguous(memory(v)) for v in memories if prod(v.shape) != 1)
        flat = len(nest.shape) > 1 and rows and all(v.shape == nest.shape or prod(v.shape) == 1 for v in memories)
        kind = LaneLoops if lanes else RowLoops if flat and gathers else FlatLoops if flat else Loops
        loops = kind(self, nest, lanes)
        split = loops.split(reductions) if len(self.kernel.nests) == 1 else None
        self.items = 0 if split is None else loops.loops[split].count
        before, body, after = loops.write(reductions, split if share else None)
        lines = [*comments, *before]
        for depth, loop in enumerate(loops.loops):
            if depth == len(loops.loops) - 1:
                lines += [PAD * depth + line for line in loops.sums_start]
            rounds = loops.our_share if share and depth == split else loop.count
            lines.append(f"{PAD * depth}for {loop.name} in range({rounds}):")
        lines += [PAD * len(loops.loops) + line for line in body]
        lines += [PAD * max(0, len(loops.loops) - 1) + line for line in loops.sums_end]
        return lines + after
