"""Matrix products that take along what follows them."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from mulgil.compile.graph import Graph, Node, Value
from mulgil.compile.kernels.blas import Descend, gemm
from mulgil.ops.linalg import MatMul
from mulgil.ops.update import SGD

WORTH = 1 << 15  # elements: for less, adding in BLAS takes longer than it saves


def descents(graph: Graph) -> Graph:
    """Plain gradient descent along a product is one call: the gradient of a linear layer's weight is never written."""
    readers: dict[int, int] = {}
    for v in (*graph.results, *(v for node in graph.nodes for v in node.reads())):
        readers[id(v)] = readers.get(id(v), 0) + 1
    bases = {id(v.base) for v in graph.values() if v.base is not None}
    products = {id(node.outputs[0]): node for node in graph.nodes if _is_product(node)}
    nodes: list[Node] = []
    for node in graph.nodes:
        product = products.get(id(node.inputs[1])) if isinstance(node.op, SGD) and not node.op.momentum else None
        gradient = node.inputs[1] if product else None
        if product is None or readers[id(gradient)] != 1 or id(gradient) in bases or not node.inputs[0].array.flags.c_contiguous:
            nodes.append(node)
            continue
        nodes.remove(product)
        parameter, _, lr = node.inputs
        op = Descend(node.op.weight_decay)  # type: ignore[attr-defined]
        nodes.append(replace(node, op=op, inputs=(parameter, *product.inputs, lr), saved=()))
    return Graph(graph.inputs, graph.results, nodes).check()


def _is_product(node: Node) -> bool:
    matrices = all(isinstance(v, Value) and len(v.shape) == 2 for v in node.inputs)
    if not isinstance(node.op, MatMul) or node.phase != "forward" or not matrices:
        return False
    (a, b), y = node.inputs, node.outputs[0]
    same = y is not None and a.dtype == b.dtype == y.dtype and y.dtype.char in "fd"
    return same and min(*a.shape, *b.shape) > 1 and prod(y.shape) >= WORTH and gemm(y.dtype.char) is not None  # type: ignore[union-attr]
