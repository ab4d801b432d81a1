"""Passes that leave less to do: constants, common subexpressions, dead code."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from mulgil.compile.graph import Graph, Node, Value
from mulgil.ops.elementwise import Fill
from mulgil.ops.random import Keep
from mulgil.ops.shape import Reshape, Transpose

LARGEST = 1 << 12  # elements of a constant that is folded or compared: larger ones are not worth the memory


def share_common(graph: Graph) -> Graph:
    """A call that was made before with the same inputs is not made again: its outputs are the earlier ones.

    Forward and backward of softmax and cross-entropy, each written to stand alone, share their exponentials this way. Equal
    constants are one; reshaping to the same shape is nothing, and so is transposing twice.
    """
    same: dict[int, Value] = {}
    earlier: dict[tuple, Node] = {}
    constants: dict[tuple, Value] = {}
    turned: dict[int, Value] = {}  # id of a transposed matrix -> the matrix
    nodes = []

    def now(operand: Any) -> Any:
        return same.get(id(operand), operand)

    for v in graph.values():
        if v.kind == "constant" and v.array.size <= LARGEST:
            same[id(v)] = constants.setdefault((v.shape, v.dtype, v.array.tobytes()), v)
    for node in graph.nodes:
        node = node.given(same)
        if isinstance(node.op, Reshape) and node.phase == "forward" and node.outputs[0] and node.outputs[0].shape == node.inputs[0].shape:
            same[id(node.outputs[0])] = node.inputs[0]
            continue
        if isinstance(node.op, Transpose) and node.phase == "forward" and len(node.inputs[0].shape) == 2:
            turned[id(node.outputs[0])] = node.inputs[0]
            if id(node.inputs[0]) in turned:  # twice is not at all
                same[id(node.outputs[0])] = turned[id(node.inputs[0])]
                continue
        pure = not node.op.inplace and not isinstance(node.op, Keep)
        operands = node.inputs if node.phase == "forward" else (*node.inputs, None, *node.saved)
        key = (type(node.op), repr(node.op), node.phase, node.needs, tuple(id(v) if isinstance(v, Value) else repr(v) for v in operands))
        first = earlier.setdefault(key, node) if pure else node
        if first is not node and len(first.writes()) == len(node.writes()):
            same.update((id(v), f) for v, f in zip(node.writes(), first.writes(), strict=True))
        else:
            nodes.append(node)
        if node.op.inplace:  # what lay in this memory is gone
            gone = {id(v.root) for v in node.writes()}
            earlier = {k: n for k, n in earlier.items() if not any(id(v.root) in gone for v in n.writes())}
    return Graph(graph.inputs, [now(v) for v in graph.results], nodes).check()


def fold_constants(graph: Graph) -> Graph:
    """A call on constants alone is made now; and what a `Fill` gives depends on the shape of its operand only.

    So does what a `Keep` draws: it comes first, and what it is given need not exist.
    """
    nodes: list[Node] = []
    draws: list[Node] = []
    for node in graph.nodes:
        if isinstance(node.op, Keep):
            x = node.inputs[0]
            blank = np.broadcast_to(np.zeros((), x.dtype), x.shape)
            draws.append(replace(node, inputs=(Value(f"blank{len(draws)}", x.shape, x.dtype, "constant", blank),)))
            continue
        known = isinstance(node.op, Fill) or all(not isinstance(v, Value) or v.kind == "constant" for v in (*node.inputs, *node.saved))
        made = node.writes()
        if len(made) != 1 or not known or node.op.inplace or prod(made[0].shape) > LARGEST:
            nodes.append(node)
            continue
        value = made[0]
        operands = node.inputs if node.phase == "forward" else (*node.inputs, *node.saved)
        arrays = [np.empty(v.shape, v.dtype) if isinstance(node.op, Fill) else getattr(v, "array", v) for v in operands]
        value.kind, value.base, value.array = "constant", None, np.ascontiguousarray(node.run(*arrays)[0]).reshape(value.shape)
    return Graph(graph.inputs, graph.results, [*draws, *nodes]).check()


def drop_dead(graph: Graph) -> Graph:
    """Calls whose outputs nobody reads are left out. What is written into state is always read: by the next step."""
    live = {id(v) for v in graph.results}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        writes = node.writes()
        if any(id(v) in live or (v.root.kind == "state" and node.op.inplace) for v in writes):
            kept.append(node)
            live.update(id(v) for v in node.reads())
    return Graph(graph.inputs, graph.results, kept[::-1]).check()
