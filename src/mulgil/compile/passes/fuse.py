"""Fusion: which calls become one kernel, and which loops of a kernel become one loop.

A step of the plan is a kernel (lowered calls), or one call that runs as it stands (a matrix product, a convolution). A call
joins the earliest kernel that comes after everything it needs, also past steps in between. In a kernel, a `Nest` is one set
of loops: calls over the same shape share it, so what one makes and the other reads stays in a register.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from mulgil.compile.graph import Graph, Node, Value
from mulgil.compile.loop.lower import loopable, lowers
from mulgil.ops import shape

LARGE = 1 << 18  # elements that are worth a kernel, and threads, of their own


@dataclass(eq=False)
class Nest:
    """Loops over `shape`, with the calls in their body. in_lanes: whether their values are, or in C order."""

    shape: tuple[int, ...]
    in_lanes: bool = False
    nodes: list[Node] = field(default_factory=list)


@dataclass(eq=False)
class Kernel:
    """Nests that run one after the other, as one compiled function."""

    nests: list[Nest] = field(default_factory=list)

    @property
    def nodes(self) -> list[Node]:
        return [node for nest in self.nests for node in nest.nodes]


Step = Kernel | Node


def is_reduction(node: Node) -> bool:
    return bool(node.op.combine) and node.phase == "forward"


def is_view(node: Node) -> bool:
    """Whether the call only gives memory another shape."""
    return node.op.view and node.op.pure and node.outputs[0] is not None and node.outputs[0].base is not None and not node.op.inplace


def is_gather(node: Node) -> bool:
    """Whether the call takes rows of an array that stays where it is, such as a data set's images, by numbers that are an argument."""
    if not isinstance(node.op, shape.Index) or node.op.kind is not shape.Index or node.op.key != (shape.SLOT,) or node.phase != "forward":
        return False
    x, rows = node.inputs
    stays = x.kind in ("state", "constant") and x.array.flags.c_contiguous and loopable(x)
    return stays and rows.kind == "input" and len(rows.shape) == 1 and rows.dtype == np.int64 and x.shape[0] > 0


def can_lower(node: Node) -> bool:
    """Whether the call can be the body of a loop."""
    if is_gather(node):
        return True
    if is_reduction(node):
        return all(map(loopable, (*node.reads(), *node.writes())))
    return node.op.elementwise and bool(node.reads()) and lowers(node)


def iteration_shape(node: Node) -> tuple[int, ...]:
    """What the loops of a lowered call run over."""
    if is_reduction(node):
        return node.inputs[0].shape
    if is_gather(node):
        return node.outputs[0].shape  # type: ignore[union-attr]
    return np.broadcast_shapes(*(v.shape for v in (*node.reads(), *node.writes())))


def memory(value: Value) -> Value:
    """The value under whose name a kernel is given this memory: versions of updated state are one, views are their own."""
    while value.updates and value.base is not None and (value.base.shape, value.base.dtype) == (value.shape, value.dtype):
        value = value.base
    return value


class Fuser:
    """Places the nodes of a graph, in their order, into steps."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.views: dict[int, list[Node]] = {}  # views to be taken after step i; -1: before all
        self.step_of: dict[int, int] = {}  # id of a value -> the step that makes it
        self.waiting: list[Node] = []  # repeated calls, for the next one
        self.readers: dict[int, int] = {}  # id of a root -> the last step that reads it
        self.guard = 0  # the step that may end the call: what is updated after it must not move before it
        self.nest_of: dict[int, tuple[int, bool]] = {}  # id of a value -> its nest in that step, and whether it is reduced there

    def place(self, node: Node) -> None:
        if is_view(node):
            self._view(node)
        elif node.again:
            self.waiting.append(node)
        else:
            self._place([*self.waiting, node])
            self.waiting = []

    def _place(self, group: list[Node]) -> None:
        """Bring calls into one step and one nest: the last, before it the repeated calls that it reads."""
        node = group[-1]
        earliest = max((self.step_of.get(key, 0) for n in group for v in n.reads() for key in (id(v), id(v.root))), default=0)
        if node.op.inplace:
            earliest = max([earliest, self.guard, *(self.readers.get(id(v.root), 0) for v in node.writes())])
        if not can_lower(node):
            self.steps.append(node)
            at = len(self.steps) - 1
            self.guard = at if node.op.raises or not node.op.pure else self.guard
        else:
            at = next((i for i in range(earliest, len(self.steps)) if self._joins(i, group)), len(self.steps))
            if at == len(self.steps):
                self.steps.append(Kernel())
            self._into_nest(at, group)
        for v in (v for n in group for v in n.writes()):
            self.step_of[id(v)] = at
            self.step_of[id(v.root)] = max(at, self.step_of.get(id(v.root), 0))
        for v in (v for n in group for v in n.reads()):
            self.readers[id(v.root)] = max(at, self.readers.get(id(v.root), 0))

    def _view(self, node: Node) -> None:
        """A view stands right behind what makes its memory, where it is in nobody's way."""
        source, view = node.inputs[0], node.outputs[0]
        at = max((self.step_of[key] for key in (id(source), id(source.root)) if key in self.step_of), default=-1)
        self.views.setdefault(at, []).append(node)
        if at >= 0:
            self.step_of[id(view)] = at

    def _joins(self, i: int, group: list[Node]) -> bool:
        """Whether step i is a kernel that the calls may enter: no memory may reach a kernel under two names if it is written there."""
        step = self.steps[i]
        if not isinstance(step, Kernel):
            return False
        names: dict[int, set[int]] = {}
        for n in (*step.nodes, *group):
            for v in (*n.reads(), *n.writes()):
                names.setdefault(id(v.root), set()).add(id(memory(v)))
        written = {id(v.root) for n in (*step.nodes, *group) for v in n.writes()}
        return all(len(names[key]) == 1 for key in written)

    def _into_nest(self, at: int, group: list[Node]) -> None:
        kernel, node = self.steps[at], group[-1]
        assert isinstance(kernel, Kernel)
        loops = iteration_shape(node)
        first = 0
        for v in (v for n in group for v in n.reads()):
            if self.step_of.get(id(v)) == at and id(v) in self.nest_of:
                made_in, reduced = self.nest_of[id(v)]
                first = max(first, made_in + (reduced or v.shape != loops))
        if node.op.inplace:  # what reads the old value comes before
            roots = {id(v.root) for v in node.writes()}
            for i, nest in enumerate(kernel.nests):
                for other in nest.nodes:
                    shapes = [v.shape for v in (*other.reads(), *other.writes()) if id(v.root) in roots]
                    first = max(first, i + any(s != loops for s in shapes)) if shapes else first
        in_lanes = any(v.lanes for v in (*node.reads(), *node.writes()))
        alike = (i for i, nest in enumerate(kernel.nests) if i >= first and (nest.shape, nest.in_lanes) == (loops, in_lanes))
        at_nest = next(alike, len(kernel.nests))
        if at_nest == len(kernel.nests):
            kernel.nests.append(Nest(loops, in_lanes))
        kernel.nests[at_nest].nodes += group
        for n in group:
            self.nest_of.update((id(v), (at_nest, is_reduction(n))) for v in n.writes())


def fuse(graph: Graph) -> list[Step]:
    """The steps of the plan, in order. Views are among them as single nodes."""
    fuser = Fuser()
    for node in graph.nodes:
        fuser.place(node)
    steps: list[Step] = [*fuser.views.get(-1, [])]
    for i, step in enumerate(fuser.steps):
        steps += [*apart(step), *fuser.views.get(i, [])]
    return steps


def apart(step: Step) -> list[Step]:
    """Large nests stand alone, so that threads can share them; the small ones between stay together."""
    if not isinstance(step, Kernel):
        return [step]
    kernels: list[Kernel] = []
    for nest in step.nests:
        large = prod(nest.shape) >= LARGE
        if not kernels or large or prod(kernels[-1].nests[0].shape) >= LARGE:
            kernels.append(Kernel())
        kernels[-1].nests.append(nest)
    return [*kernels]
