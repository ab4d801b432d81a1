"""What the steps of a plan have to do: arithmetic operations, and bytes that come and go."""

from __future__ import annotations

from math import prod
from typing import Any

from mulgil.compile.graph import Node, Value
from mulgil.compile.kernels.descend import Descend
from mulgil.compile.kernels.op import KernelOp
from mulgil.compile.passes.fuse import Kernel, iteration_shape, memory
from mulgil.ops.conv import Conv2d
from mulgil.ops.linalg import MatMul


def nodes_of(step: Any) -> list[Node]:
    return step.nodes if isinstance(step, Kernel) else [step]


def operations(step: Any) -> int:
    """Products and sums of matrix products and convolutions; of loops, one for each call and element."""
    return sum(map(arithmetic, nodes_of(step)))


def arithmetic(node: Node) -> int:
    """The operations of one call."""
    if node.op.kind is MatMul and node.phase == "forward":
        return 2 * prod(node.outputs[0].shape) * node.inputs[0].shape[-1]  # type: ignore[union-attr]
    if isinstance(node.op, Descend):
        return 2 * prod(node.inputs[0].shape) * node.inputs[1].shape[1]
    if isinstance(node.op, KernelOp):
        return node.op.launch(node).operations
    if node.op.kind is Conv2d:
        return 2 * prod(node.writes()[0].shape) * prod(node.inputs[1].shape[1:]) if node.phase == "forward" else 0
    return prod(iteration_shape(node)) if node.op.elementwise else sum(prod(v.shape) for v in node.writes())


def traffic(step: Any) -> int:
    """Bytes of the arrays that come into a step and go out of it."""
    nodes = nodes_of(step)
    made = {id(v) for node in nodes for v in node.writes()}
    read: dict[int, Value] = {id(memory(v)): v for node in nodes for v in node.reads() if id(v) not in made}
    return sum(v.nbytes for v in read.values()) + sum(v.nbytes for v in step_outputs(step))


def step_outputs(step: Any) -> list[Value]:
    """What a step leaves for others: in a kernel, the values that nothing later in it replaces or that keep no register."""
    if not isinstance(step, Kernel):
        return step.writes()
    inside = {id(v) for node in step.nodes for v in node.reads()}
    return [v for node in step.nodes for v in node.writes() if node.op.inplace or id(v) not in inside]
