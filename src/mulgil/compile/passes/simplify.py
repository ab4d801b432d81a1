"""Passes that leave less to do: constants, common subexpressions, dead code.

They ask ops what they are. A call that is not pure is never shared, made in advance or left out, and keeps its place among its kind.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import is_dataclass, replace
from math import prod
from typing import Any

import numpy as np

from mulgil.compile.graph import Graph, Node, Value, replaced
from mulgil.compile.marks import Constant
from mulgil.ops.function import Function
from mulgil.ops.shape import Reshape, Transpose

LARGEST = 1 << 12  # elements of a constant that is folded or compared: larger ones are not worth the memory


def identity(op: Function) -> Hashable:
    """What an op is told apart from others by: one object, or equal frozen dataclasses of one class, or an op of mulgil's without settings.

    A dataclass counts 1, 1.0 and True as equal, 0.0 and -0.0 too; its fields' text does not.
    """
    kind: Any = type(op)
    if is_dataclass(op) and kind.__dataclass_params__.frozen and kind.__eq__ is not object.__eq__:
        try:
            hash(op)
        except TypeError:
            return id(op)
        return kind, op, repr(list(vars(op).values()))
    return kind if op.pure and op.kind is kind and not vars(op) and kind.__module__.startswith("mulgil.") else id(op)


def share_common(graph: Graph) -> Graph:
    """A call that was made before with the same inputs is not made again: its outputs are the earlier ones.

    Forward and backward of softmax and cross-entropy, each written to stand alone, share their exponentials this way. Equal
    constants are one; reshaping to the same shape is nothing, and so is transposing twice.
    """
    same: dict[int, Value] = {}
    earlier: dict[tuple, Node] = {}
    constants: dict[tuple, Value] = {}
    turned: dict[int, Value] = {}  # id of a transposed matrix -> the matrix
    written = graph.written()
    nodes = []

    for v in graph.values():
        if v.kind == "constant" and v.array.size <= LARGEST:
            first = constants.setdefault((v.shape, v.dtype, v.array.tobytes()), v)
            if first is not v:
                same[id(v)] = first
    for node in graph.nodes:
        node = node.given(same)
        out = node.outputs[0] if len(node.outputs) == 1 else None
        if out is not None and node.op.kind is Reshape and node.phase == "forward" and out.shape == node.inputs[0].shape:
            same[id(out)] = node.inputs[0]
            continue
        if out is not None and node.op.kind is Transpose and node.phase == "forward" and len(out.shape) == 2:
            turned[id(out)] = node.inputs[0]
            if id(node.inputs[0]) in turned:  # twice is not at all
                same[id(out)] = turned[id(node.inputs[0])]
                continue
        own = any(v.base is None and id(v) in written for v in node.writes())  # memory that is written later must be its own
        operands = node.inputs if node.phase == "forward" else (*node.inputs, None, *node.saved)
        values = tuple(id(v) if isinstance(v, Value) else (type(v), repr(v)) for v in operands)
        key = (identity(node.op), node.phase, node.needs, repr(node.static), values)
        before = earlier.setdefault(key, node) if node.op.pure and not node.op.inplace and not own else node
        if before is not node and len(before.writes()) == len(node.writes()):
            same.update((id(v), f) for v, f in zip(node.writes(), before.writes(), strict=True))
        else:
            nodes.append(node)
    return Graph(graph.inputs, [replaced(v, same) for v in graph.results], nodes).check()


def fold_constants(graph: Graph) -> Graph:
    """A pure call on constants alone is made now; so is one that looks at the shapes of its operands only."""
    nodes: list[Node] = []
    known: dict[int, Value] = {}
    written = graph.written()
    for node in graph.nodes:
        node = node.given(known)
        made = node.writes()
        fixed = node.op.shape_only or all(not isinstance(v, Value) or v.kind == "constant" for v in (*node.inputs, *node.saved))
        foldable = fixed and node.op.pure and not node.op.inplace and len(made) == 1 and id(made[0].root) not in written
        if not foldable or made[0].base is not None or (prod(made[0].shape) > LARGEST and node.op.kind is not Constant):
            nodes.append(node)
            continue
        operands = node.inputs if node.phase == "forward" else (*node.inputs, *node.saved)
        arrays = [np.empty(v.shape, v.dtype) if node.op.shape_only else v.array for v in operands if isinstance(v, Value)]
        given = iter(arrays)
        result = node.run(*(next(given) if isinstance(v, Value) else v for v in operands))[0]
        known[id(made[0])] = replace(made[0], kind="constant", array=np.ascontiguousarray(result).reshape(made[0].shape))
    return Graph(graph.inputs, [replaced(v, known) for v in graph.results], nodes).check()


def draw_first(graph: Graph) -> Graph:
    """Draws and options come first, in their order: what they are given need not exist, and the loops that they part may become one."""
    head: list[Node] = []
    rest: list[Node] = []
    touched: set[int] = set()  # ids of roots that a call read or wrote which keeps its place
    free = True
    for node in graph.nodes:
        waits = not node.op.shape_only and any(v.root.kind == "temp" or id(v.root) in touched for v in node.reads())
        if free and node.op.early and not waits:
            head.append(replace(node, inputs=tuple(map(_blank, node.inputs))) if node.op.shape_only else node)
            continue
        free = free and node.op.pure
        touched |= {id(v.root) for v in (*node.reads(), *node.writes())}
        rest.append(node)
    return Graph(graph.inputs, graph.results, [*head, *rest]).check()


def _blank(operand: Any) -> Any:
    """Something of the operand's shape and dtype."""
    if not isinstance(operand, Value):
        return operand
    blank = np.broadcast_to(np.zeros((), operand.dtype), operand.shape)
    return Value(f"blank_{operand.name}", operand.shape, operand.dtype, "constant", blank)


def drop_dead(graph: Graph) -> Graph:
    """Pure calls whose outputs nobody reads are left out. What is written into state or arguments is always read: by the next step."""
    live = {id(v) for v in graph.results}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        writes = node.writes()
        lasts = node.op.inplace and any(v.root.kind != "temp" for v in writes)
        if lasts or not node.op.pure or node.op.raises or any(id(v) in live for v in writes):
            kept.append(node)
            live.update(id(v) for v in node.reads())
    return Graph(graph.inputs, graph.results, kept[::-1]).check()
