"""Matrix products that take along what follows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import prod
from typing import Any

from mulgil.compile.cost import arithmetic
from mulgil.compile.graph import Graph, Node, Value
from mulgil.compile.kernels.conv_few import FEW
from mulgil.compile.kernels.dense_few import DenseFew
from mulgil.compile.kernels.descend import Descend
from mulgil.compile.kernels.product import Product, supported
from mulgil.native.blas import gemm
from mulgil.ops.elementwise import Add
from mulgil.ops.linalg import MatMul
from mulgil.ops.mathematics import ReLU
from mulgil.ops.shape import Transpose
from mulgil.ops.update import SGD

LARGE = 1_500_000  # operations: where no product has so many, none is worth threads, and nothing is compiled
SMALL = 1 << 17  # operations: below, the library's call is as quick
WORTH = 1 << 15  # elements: for less, adding in BLAS takes longer than it saves


def descents(graph: Graph) -> Graph:
    """Plain gradient descent along a product is one call: the gradient of a linear layer's weight is never written."""
    readers = _readers(graph)
    bases = {id(v.base) for v in graph.values() if v.base is not None}
    products = {id(node.outputs[0]): node for node in graph.nodes if _adds_well(node)}
    nodes: list[Node] = []
    for node in graph.nodes:
        plain = isinstance(node.op, SGD) and node.op.kind is SGD and not node.op.momentum
        product = products.get(id(node.inputs[1])) if plain else None
        gradient = node.inputs[1] if product else None
        if product is None or len(readers[id(gradient)]) != 1 or id(gradient) in bases or not _is_row_major(node.inputs[0]):
            nodes.append(node)
            continue
        if _overwritten(nodes[nodes.index(product) :], product.reads()):
            nodes.append(node)
            continue
        nodes.remove(product)
        parameter, _, lr = node.inputs
        op = Descend(node.op.weight_decay)  # type: ignore[attr-defined]
        nodes.append(replace(node, op=op, inputs=(parameter, *product.inputs, lr), saved=()))
    return Graph(graph.inputs, graph.results, nodes).check()


def large_products(graph: Graph) -> Graph:
    """Where a product is worth threads, products become calls of the plan's own kernels, with the bias, ReLU or descent after them."""
    if all(arithmetic(node) < LARGE for node in graph.nodes if _factors(node)):
        return graph
    turned = _turned(graph)

    def chosen(node: Node) -> tuple[Product, Value, Value] | None:
        factors = _factors(node)
        if not factors or arithmetic(node) < SMALL:
            return None
        a, b = (turned.get(id(v), v) for v in factors)
        op = Product(id(factors[0]) in turned, id(factors[1]) in turned, decay=getattr(node.op, "decay", None))
        real = a.dtype == b.dtype and a.dtype.char in "fd"
        return (op, a, b) if real and supported(op, a, b) and _stored(a) and _stored(b) else None

    return _replaced(graph, chosen)


def predictions(graph: Graph) -> Graph:
    """Linear layers of a few samples, where nobody asks for gradients, are one call with bias and ReLU."""
    if any(node.phase == "backward" or node.op.inplace for node in graph.nodes):
        return graph
    turned = _turned(graph)

    def chosen(node: Node) -> tuple[DenseFew, Value, Value] | None:
        weight = turned.get(id(node.inputs[1])) if node.op.kind is MatMul else None
        return (DenseFew(), node.inputs[0], weight) if weight is not None and _is_dense(node, weight) else None

    return _replaced(graph, chosen)


def _replaced(graph: Graph, chosen: Callable[[Node], tuple[Any, Value, Value] | None]) -> Graph:
    """The graph with other calls for products. chosen: the op and the factors for a call, None to leave it.

    Bias and ReLU after a product become part of the call.
    """
    readers = _readers(graph)
    nodes: list[Node] = []
    merged: dict[int, Node | None] = {}  # id of a call that is now part of another -> what stands in its place
    for i, node in enumerate(graph.nodes):
        if id(node) in merged:
            nodes += [n for n in [merged[id(node)]] if n is not None]
            continue
        found = chosen(node)
        if found is None:
            nodes.append(node)
            continue
        op, a, b = found
        if isinstance(node.op, Descend):
            nodes.append(replace(node, op=op, inputs=(node.inputs[0], a, b, node.inputs[3])))
            continue
        add = _next(readers, node, Add)
        add = add if add is not None and _is_bias(add.inputs[1], node.outputs[0]) else None
        relu = _next(readers, add or node, ReLU)
        last = relu or add or node
        if _overwritten(graph.nodes[i : graph.nodes.index(last)], (a, b)):
            nodes.append(node)  # it must see the factors as they are now
            continue
        call = replace(last, op=replace(op, relu=relu is not None), inputs=(a, b, *([add.inputs[1]] if add else [])), saved=())
        merged.update((id(n), call if n is last else None) for n in (add, relu) if n is not None)
        nodes += [call] if last is node else []  # else later, where the bias is known too
    return Graph(graph.inputs, graph.results, nodes).check()


def _overwritten(nodes: Iterable[Node], values: Iterable[Value]) -> bool:
    """Whether one of these calls writes the memory of a value in place."""
    roots = {id(v.root) for v in values}
    return any(id(v.root) in roots for node in nodes if node.op.inplace for v in node.writes())


def _is_row_major(v: Value) -> bool:
    """Whether the value is state that lies in C order; a later version of it lies where the first does."""
    while v.updates and v.base is not None:
        v = v.base
    return v.kind == "state" and v.array.flags.c_contiguous


def _readers(graph: Graph) -> dict[int, list[Node | None]]:
    """Id of a value -> the calls that read it; None for the caller."""
    readers: dict[int, list[Node | None]] = {id(v): [None] for v in graph.results}
    for node in graph.nodes:
        for v in node.reads():
            readers.setdefault(id(v), []).append(node)
    return readers


def _turned(graph: Graph) -> dict[int, Value]:
    """Id of a transposed matrix -> the matrix."""
    return {id(node.outputs[0]): node.inputs[0] for node in graph.nodes if node.op.kind is Transpose and node.phase == "forward"}


def _next(readers: dict[int, list[Node | None]], node: Node, kind: type) -> Node | None:
    """The one call that reads what this one makes, if it is of that kind."""
    found = readers.get(id(node.outputs[0]), [])
    after = found[0] if len(found) == 1 else None
    fits = after is not None and after.op.kind is kind and after.phase == "forward" and after.inputs[0] is node.outputs[0]
    return after if fits else None


def _factors(node: Node) -> tuple[Value, ...]:
    """The two matrices of a product; nothing for another call."""
    found = node.inputs[:2] if node.op.kind is MatMul else node.inputs[1:3] if node.op.kind is Descend else ()
    matrices = node.phase == "forward" and all(isinstance(v, Value) and len(v.shape) == 2 for v in found)
    return tuple(found) if matrices else ()


def _adds_well(node: Node) -> bool:
    """Whether BLAS can add the product to what is there, and does it quicker than a loop."""
    factors = _factors(node)
    if not factors:
        return False
    (a, b), y = factors, node.outputs[0]
    same = y is not None and a.dtype == b.dtype == y.dtype and y.dtype.char in "fd"
    return same and min(*a.shape, *b.shape) > 1 and prod(y.shape) >= WORTH and gemm(y.dtype.char) is not None  # type: ignore[union-attr]


def _is_dense(node: Node, weight: Value) -> bool:
    x = node.inputs[0]
    plain = isinstance(x, Value) and len(x.shape) == 2 and x.shape[0] <= FEW and x.dtype == weight.dtype
    return plain and weight.dtype.char in "fd" and weight.kind == "state" and weight.array.flags.c_contiguous and bool(prod(weight.shape))


def _is_bias(v: Value, y: Value | None) -> bool:
    return isinstance(v, Value) and y is not None and v.shape == y.shape[1:] and v.dtype == y.dtype


def _stored(v: Value) -> bool:
    """Whether the value lies in C order: what kernels and products write does, and so does what they are given."""
    return not v.lanes and (v.root.kind not in ("state", "constant") or v.root.array.flags.c_contiguous)
