"""Recomputation: a large value that costs an operation an element, made from one large value, is made anew wherever it is read.

The centred and the normalised input of batch norm are read in forward and twice in backward, each time in another kernel. To
make them again takes no more reading than to fetch them, and saves writing them and the memory.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from mulgil.compile.graph import Graph, Node, Value
from mulgil.compile.passes.fuse import can_lower, is_reduction, iteration_shape
from mulgil.ops import elementwise, mathematics

LARGE = 1 << 18  # elements: more than a core's own cache holds
CHEAP = (elementwise.Add, elementwise.Sub, elementwise.Mul, elementwise.Neg, mathematics.ReLU)


def recompute(graph: Graph) -> Graph:
    """The graph with such values made once for each reader; the first ones are left for `drop_dead`."""
    remake = Remake(graph)
    for i, node in enumerate(graph.nodes):
        remake.visit(i, node)
    return Graph(graph.inputs, graph.results, remake.nodes).check()


class Remake:
    """One pass over the nodes, in order."""

    def __init__(self, graph: Graph):
        self.nodes: list[Node] = []
        self._made_by: dict[int, Node] = {}  # id of a value -> the cheap call that makes it
        self._stored = {id(v) for v in graph.results}  # ids of values that need memory anyway
        self._until: dict[int, int] = {}  # id of a root -> the last place where every value in it is still what it was
        for node in graph.nodes:
            if not can_lower(node) or node.op.inplace:
                self._stored |= {id(v) for v in node.reads()}
        for i, node in reversed([*enumerate(graph.nodes)]):
            for v in node.writes() if node.op.inplace else ():
                self._until[id(v.root)] = i
        self._count = 0

    def visit(self, at: int, node: Node) -> None:
        if can_lower(node):
            made: dict[int, Value] = {}
            shape = iteration_shape(node)
            if self._is_cheap(node):
                self._made_by[id(node.outputs[0])] = node  # as it reads the first ones: its own are its own
            targets = [node.inputs[i] for i in node.op.inplace]
            reads = [v for v in node.reads() if v.shape == shape and not any(v is t for t in targets)]
            node = node.given({id(v): self._again(v, at, made) for v in reads})
        self.nodes.append(node)

    def _is_cheap(self, node: Node) -> bool:
        """Whether the call may be repeated: one large operand, the others small."""
        value, *others = node.writes() or (None,)
        if value is None or others or node.op.inplace or is_reduction(node) or node.op.kind not in CHEAP or node.phase != "forward":
            return False
        size = prod(value.shape)
        sizes = [prod(v.shape) for v in {id(v): v for v in node.reads()}.values()]
        fits = sizes.count(size) == 1 and all(n == size or 16 * n <= size for n in sizes)
        return fits and size >= LARGE and id(value) not in self._stored

    def _again(self, value: Value, at: int, made: dict[int, Value]) -> Value:
        """The value, made anew for the call at `at`, if that gives the same."""
        node = self._made_by.get(id(value))
        if node is None or any(self._until.get(id(v.root), at) < at for v in node.reads()):
            return value
        if id(value) not in made:
            self._count += 1
            made[id(value)] = replace(value, name=f"{value.name}_{self._count}")
            again = node.given({id(v): self._again(v, at, made) for v in node.reads()})
            self.nodes.append(replace(again, outputs=(made[id(value)],), saved=(), again=True))
        return made[id(value)]
