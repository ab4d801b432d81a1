"""Patterns: convolutions and max-pools, alone or as convolution + bias + ReLU + max-pool, become calls of kernels.

The values that such a call makes lie in lanes (see `Value`), and loops over them make more of these; what else a call reads is
brought into the order that it needs.
Backward follows: the gradient of pooling and ReLU together is one call, and where only the weight's gradient is wanted (a
first layer) it is part of that one. What the kernels do not cover stays as it was.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mulgil.compile.graph import Graph, Node, Value
from mulgil.compile.kernels import conv, pool
from mulgil.compile.kernels.conv_few import FEW, ConvFew, takes_pool
from mulgil.compile.kernels.op import FromLanes, ToLanes
from mulgil.compile.passes.fuse import can_lower, is_reduction, iteration_shape
from mulgil.native.vector import lanes_for
from mulgil.ops.conv import Conv2d
from mulgil.ops.mathematics import ReLU
from mulgil.ops.pool import AvgPool2d, MaxPool2d


def convolutions(graph: Graph) -> Graph:
    """The graph with the calls that have kernels in place of those that they stand for."""
    if not any(node.op.kind in (Conv2d, MaxPool2d) for node in graph.nodes):
        return graph
    graph = graph.copied()  # whose values are told here where they lie
    patterns = Patterns(graph)
    patterns.rewrite()
    results = [patterns.in_order(v) for v in graph.results]
    return Graph(graph.inputs, results, patterns.nodes).check()


class Patterns:
    """One pass over the nodes, in order."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.nodes: list[Node] = []
        self.readers: dict[int, list[Node | None]] = {}  # id of a value -> who reads it; None: the caller
        for node in graph.nodes:
            for v in node.reads():
                self.readers.setdefault(id(v), []).append(node)
        for v in graph.results:
            self.readers.setdefault(id(v), []).append(None)
        self.bases = {id(v.base) for v in graph.values() if v.base is not None}
        self._turned: dict[tuple[int, int], Value] = {}  # id of a value, lanes -> the same value so
        self._done: set[int] = set()  # ids of nodes that an earlier one has taken along
        self._folded: set[int] = set()  # ids of ReLU's outputs that exist only inside a ConvForward
        self._pooled: dict[int, Node] = {}  # id of a gradient -> the MaxPoolBackward call that makes it
        self._count = 0

    def rewrite(self) -> None:
        for node in self.graph.nodes:
            if id(node) in self._done:
                continue
            rewrite = REWRITES.get((node.op.kind, node.phase))
            if rewrite is None or not rewrite(self, node):
                self._follow(node)

    def _follow(self, node: Node) -> None:
        """A call that stays as it is: loops over values in lanes make more of them; anything else wants C order."""
        shape = iteration_shape(node) if can_lower(node) else None
        lanes = {v.lanes if v.shape == shape else -1 for v in node.reads() if v.lanes}
        made = [] if is_reduction(node) else [v for v in node.writes() if v.kind == "temp" and v.base is None]
        stays = len(lanes) == 1 and -1 not in lanes and not node.op.inplace and all(v.shape == shape for v in made)

        def turned(v: Value) -> Value:
            if not stays:
                return self.in_order(v)
            return self.in_lanes(v, *lanes) if v.shape == shape and v.dtype.kind == "f" else v

        now = {id(v): turned(v) for v in node.reads()}
        for v in node.writes():
            v.base = now.get(id(v.base), v.base)
        node = node.given(now)
        for v in made if stays else ():
            v.lanes = min(lanes)
        self.nodes.append(node)

    # ---- forward

    def _conv_forward(self, node: Node) -> bool:
        x, weight, *_ = node.inputs
        y = node.outputs[0]
        if not isinstance(x, Value) or not conv.supported(node.op, weight) or x.dtype != weight.dtype or not np.prod(y.shape):  # type: ignore
            return False
        relu = self._only(y, ReLU)
        last = relu.outputs[0] if relu else y
        pooling = self._only(last, MaxPool2d, beside=self._relu_gradients(last) if relu else [])
        window, few = None, self._is_few(node)
        if pooling is not None and few and not takes_pool(pooling.op.kernel):  # type: ignore[attr-defined]
            pooling = None
        if pooling is not None and pool.disjoint(pooling.op) and pool.supported(pooling.op) and self._pools_gradient(last, pooling, relu):  # type: ignore
            window = pooling.op.kernel  # type: ignore[attr-defined]
            self._folded.add(id(last))
            last = pooling.outputs[0]
        if few:
            self._emit(node, ConvFew(node.op, relu is not None, window), (self.in_order(x), *node.inputs[1:]), (last,), 0)  # type: ignore[arg-type]
        else:
            op = conv.ConvForward(node.op, relu is not None, window)  # type: ignore[arg-type]
            x = self.in_lanes(x)
            self._emit(node, op, (x, *node.inputs[1:]), (last, self._wanted_winner(pooling) if window else None), x.lanes)
        self._done.update(id(n) for n in (relu, pooling if window else None) if n is not None)
        return True

    def _is_few(self, node: Node) -> bool:
        """Whether these are predictions for a few images."""
        gradients = any(n.phase == "backward" for n in self.graph.nodes)
        return node.inputs[0].shape[0] <= FEW and node.op.groups == 1 and not gradients  # type: ignore[attr-defined]

    def _max_pool_forward(self, node: Node) -> bool:
        x = node.inputs[0]
        if not pool.supported(node.op) or x.dtype.name not in ("float32", "float64") or not np.prod(node.outputs[0].shape):  # type: ignore
            return False
        x = self.in_lanes(x)
        self._emit(node, pool.MaxPoolForward(node.op), (x,), (node.outputs[0], self._wanted_winner(node)), x.lanes)
        return True

    def _avg_pool_forward(self, node: Node) -> bool:
        x, y = node.inputs[0], node.outputs[0]
        if not x.lanes or not pool.supported(node.op) or not np.prod(y.shape):  # type: ignore
            return False  # nothing is brought into lanes for a few sums
        self._emit(node, pool.AvgPoolForward(node.op), (x,), (y,), x.lanes)
        return True

    # ---- backward

    def _avg_pool_backward(self, node: Node) -> bool:
        op: Any = pool.AvgPoolBackward(node.op)
        gy, gx = node.inputs[0], node.outputs[0]
        if not any(isinstance(n.op, pool.AvgPoolForward) and n.op.pool == op.pool and n.inputs[0].shape == gx.shape for n in self.nodes):  # type: ignore
            return False
        gy = self.in_lanes(gy)
        self._emit(node, op, (gy,), (gx,), gy.lanes)
        return True

    def _max_pool_backward(self, node: Node) -> bool:
        gy, winner = node.inputs[0], node.saved[0]
        if not winner.lanes or gy.dtype.name not in ("float32", "float64"):
            return False
        gx = node.outputs[0]
        relu = self._only(gx, ReLU, "backward")
        if relu is not None and id(relu.saved[0]) in self._folded:  # the winner is 255 where ReLU passes nothing
            gx = relu.outputs[0]
            self._done.add(id(relu))
        gy = self.in_lanes(gy)
        self._emit(node, pool.MaxPoolBackward(node.op), (gy, winner), (gx,), gy.lanes)
        self._pooled[id(gx)] = self.nodes[-1]
        return True

    def _relu_backward(self, node: Node) -> bool:
        g, y = node.inputs[0], node.saved[0]
        if not y.lanes or g.shape != y.shape or g.dtype != y.dtype:
            return False
        maker = next((n for n in self.nodes if any(v is g for v in n.outputs[:1])), None)
        if maker is not None and isinstance(maker.op, conv.ConvInputGradient) and self._only(g, ReLU, "backward") is node:
            self.nodes.remove(maker)
            self._emit(node, maker.op, (*maker.inputs, y), node.outputs, y.lanes)
            return True
        return False

    def _conv_backward(self, node: Node) -> bool:
        g, (x, weight) = node.inputs[0], node.saved
        if not conv.supported(node.op, weight) or not g.dtype == x.dtype == weight.dtype or not np.prod(g.shape):  # type: ignore
            return False
        settings: Any = node.op
        gx, gweight, *gbias = node.outputs
        gb = gbias[0] if gbias and id(gbias[0]) in self.readers else None
        if gx is not None and id(gx) in self.readers:
            g = self.in_lanes(g)
            self._emit(node, conv.ConvInputGradient(settings), (g, weight), (gx,), g.lanes)
        if gweight is None and gb is not None:
            gweight = self._new(weight.shape, weight.dtype, 0)
        if gweight is not None:
            self._weight_gradient(node, x, g, (gweight, gb))
        return True

    def _weight_gradient(self, node: Node, x: Value, g: Value, outputs: tuple[Value | None, ...]) -> None:
        settings: Any = node.op
        pooled: Any = self._pooled.get(id(g))
        x = self.in_lanes(x)
        wanted = node.outputs[0] is not None and id(node.outputs[0]) in self.readers
        if pooled and not wanted and pool.disjoint(pooled.op.pool) and all(n is node for n in self.readers.get(id(g), [])):
            op, inputs = conv.ConvWeightGradient(settings, pooled.op.pool.kernel), (x, *pooled.inputs)
            self.nodes.remove(pooled)
        else:
            op, inputs = conv.ConvWeightGradient(settings), (x, self.in_lanes(g))
        self.nodes.append(Node(op, "forward", inputs, outputs, (), (), None, node.where))

    # ---- helpers

    def _only(self, value: Any, kind: type, phase: str = "forward", beside: list[Node] | None = None) -> Node | None:
        """The one reader of the value, if it is a call of this kind (other readers may be in `beside`) and nobody has a view of it."""
        readers = [n for n in self.readers.get(id(value), []) if n is None or not any(n is b for b in beside or [])]
        if len(readers) != 1 or readers[0] is None or id(value) in self.bases:
            return None
        node = readers[0]
        return node if node.op.kind is kind and node.phase == phase and node.inputs[0] is value else None

    def _relu_gradients(self, y: Any) -> list[Node]:
        """The backward calls of the ReLU that made y."""
        readers = [n for n in self.readers.get(id(y), []) if n is not None]
        return [n for n in readers if n.op.kind is ReLU and n.phase == "backward" and n.saved[0] is y]

    def _pools_gradient(self, y: Any, pooling: Node, relu: Node | None) -> bool:
        """Whether every gradient of the ReLU comes from the pooling after it, so that y itself is never needed."""
        winner = pooling.saved[0]
        pools = [n for n in self.graph.nodes if n.phase == "backward" and n.op.kind is MaxPool2d]
        makers = {id(v): n for n in pools for v in n.outputs}
        for gradient in self._relu_gradients(y) if relu else []:
            maker = makers.get(id(gradient.inputs[0]))
            if maker is None or maker.saved[0] is not winner or self._only(maker.outputs[0], ReLU, "backward") is not gradient:
                return False
        readers = self.readers.get(id(winner), [])
        return all(n is not None and n.op.kind is MaxPool2d and n.phase == "backward" for n in readers)

    def _wanted_winner(self, pooling: Any) -> Value | None:
        winner = pooling.saved[0]
        return winner if id(winner) in self.readers else None

    def in_lanes(self, value: Value, lanes: int = 0) -> Value:
        """The value in lanes: itself, or a copy that is made here."""
        lanes = lanes or value.lanes or lanes_for(value.dtype, value.shape[0])
        return value if value.lanes == lanes else self._turn(self.in_order(value), ToLanes(), lanes)

    def in_order(self, value: Value) -> Value:
        """The value in C order: itself, or a copy that is made here."""
        return self._turn(value, FromLanes(), 0) if value.lanes else value

    def _turn(self, value: Value, op: Any, lanes: int) -> Value:
        key = id(value), lanes
        if key not in self._turned:
            self._turned[key] = self._new(value.shape, value.dtype, lanes)
            self.nodes.append(Node(op, "forward", (value,), (self._turned[key],), (), (), None))
        return self._turned[key]

    def _new(self, shape: tuple[int, ...], dtype: Any, lanes: int) -> Value:
        self._count += 1
        return Value(f"m{self._count}", shape, dtype, "temp", lanes=lanes)

    def _emit(self, node: Node, op: Any, inputs: tuple, outputs: tuple, lanes: int) -> None:
        for v in outputs:
            if v is not None:
                v.lanes = lanes
        self.nodes.append(replace(node, op=op, phase="forward", inputs=inputs, outputs=outputs, saved=(), needs=(), static=None))


REWRITES = {
    (Conv2d, "forward"): Patterns._conv_forward,
    (Conv2d, "backward"): Patterns._conv_backward,
    (MaxPool2d, "forward"): Patterns._max_pool_forward,
    (MaxPool2d, "backward"): Patterns._max_pool_backward,
    (AvgPool2d, "forward"): Patterns._avg_pool_forward,
    (AvgPool2d, "backward"): Patterns._avg_pool_backward,
    (ReLU, "backward"): Patterns._relu_backward,
}
