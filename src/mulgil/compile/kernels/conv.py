"""Convolutions as calls of kernels: the output, with what follows it, and the two gradients."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from mulgil.compile.graph import Node, Value
from mulgil.compile.kernels.conv_text import Filter, Finish, forward_text, input_gradient_text, tile, weight_gradient_text
from mulgil.compile.kernels.op import KernelOp, Launch, image_sizes
from mulgil.native.vector import machine
from mulgil.ops.conv import Conv2d
from mulgil.ops.window import Pair

STRIP = 20_000  # bytes of gradient that stay in the first cache while the filter's rows go over them
LARGE = 1 << 20  # bytes of one vector of images: more do not stay in the second cache
LARGEST = 11  # taps of a filter's row that a kernel spells out


@dataclass(frozen=True)
class ConvForward(KernelOp):
    """x, weight, [bias] -> y and, if pooled, the winner: convolution, then ReLU, then max-pooling over `pool` (windows that never overlap).

    The winner is uint8, 255 where ReLU cut the maximum off: then no gradient passes.
    """

    conv: Conv2d
    relu: bool = False
    pool: Pair | None = None

    def launch(self, node: Node) -> Launch:
        (x, weight, *bias), (y, winner) = node.inputs, node.outputs
        assert y is not None
        sizes = conv_sizes(self.conv, x, weight, y)
        th, tw = self.pool or (1, 0)
        block, tw = tile(sizes["outs"], sizes["Q"], rows=th, fixed=tw)
        finish = Finish(bool(bias), self.relu, self.pool is not None, winner is not None)
        body = forward_text(filter_of(self.conv, weight), block, (th, tw), finish)
        sizes |= {"count": x.shape[0], "tiles": sizes["Q"] if self.pool else -(-sizes["Q"] // tw), "blocks": weight.shape[0] // block}
        arguments = {"x": x, "w": weight, "b": bias[0] if bias else None, "y": y, "winner": winner}
        operations = 2 * prod(weight.shape[1:]) * prod(y.shape) * prod(self.pool or (1, 1))
        given = {name: v for name, v in arguments.items() if v is not None}
        return Launch(body, given, sizes, x.vectors * sizes["blocks"] * sizes["P"], operations)


@dataclass(frozen=True)
class ConvInputGradient(KernelOp):
    """g, weight, [y] -> gx. With y, the output of a ReLU: what passes through it."""

    conv: Conv2d

    def launch(self, node: Node) -> Launch:
        (g, weight, *y), gx = node.inputs, node.outputs[0]
        assert gx is not None
        sizes = conv_sizes(self.conv, gx, weight, g)
        block, wide = tile(sizes["ins"], sizes["W"], reserved=weight.shape[3])
        wide = max(1, wide // self.conv.stride[1]) * self.conv.stride[1]
        sizes |= {"tiles": -(-sizes["W"] // wide), "blocks": gx.shape[1] // block}
        body = input_gradient_text(filter_of(self.conv, weight), block, wide, bool(y))
        operations = 2 * prod(weight.shape[1:]) * prod(g.shape)
        arguments = {"g": g, "w": weight, "gx": gx} | ({"y": y[0]} if y else {})
        return Launch(body, arguments, sizes, gx.vectors * sizes["blocks"] * sizes["H"], operations)


@dataclass(frozen=True)
class ConvWeightGradient(KernelOp):
    """x, g, [winner] -> gw and, where it is wanted, gb. With `pool`, g and the winner are those after pooling."""

    conv: Conv2d
    pool: Pair | None = None

    def launch(self, node: Node) -> Launch:
        (x, g, *winner), (gw, gb) = node.inputs, node.outputs
        assert gw is not None
        sizes = conv_sizes(self.conv, x, gw, g)
        most = max(1, (machine()[1] - 2) // gw.shape[3] - 1)  # registers for the sums, a row of x, and one more
        if g.nbytes // g.shape[1] * most > 2 * LARGE:  # the block's gradients are read once for each input channel
            most = min(most, 5)
        block = max(b for b in range(1, min(most, 16) + 1) if sizes["outs"] % b == 0)
        body = weight_gradient_text(filter_of(self.conv, gw), block, self.pool, gb is not None)
        arguments = {"x": x, "g": g, "winner": winner[0] if winner else None, "gw": gw, "gb": gb}
        given = {name: v for name, v in arguments.items() if v is not None}
        windows = prod(self.pool or (1, 1))
        row = windows * block * sizes["Q"] * x.lanes
        sizes["strip"] = max(1, STRIP // (row * x.dtype.itemsize))
        sizes["strip_rows"] = min(sizes["strip"], sizes["P"]) * row if self.pool else 0
        operations = 2 * prod(gw.shape[1:]) * prod(g.shape) * windows
        items, sums = gw.shape[0] // block * sizes["ins"], prod(gw.shape[2:]) * block * x.lanes
        return Launch(body, given, sizes, items, operations, sizes["strip_rows"], sums)


def conv_sizes(conv: Conv2d, x: Value, weight: Value, y: Value) -> dict[str, int]:
    """What the kernels call the sizes of a convolution from x to y."""
    large = int(max(prod(x.shape[1:]), prod(y.shape[1:])) * x.lanes * x.dtype.itemsize > LARGE)
    return {
        **image_sizes(x),
        "large": large,
        "P": y.shape[2],
        "Q": y.shape[3],
        "ins": weight.shape[1],
        "outs": weight.shape[0] // conv.groups,
    }


def filter_of(conv: Conv2d, weight: Value) -> Filter:
    return Filter((weight.shape[2], weight.shape[3]), conv.stride, conv.padding, conv.dilation)


def supported(conv: Conv2d, weight: Value) -> bool:
    """Whether the kernels here can do it: wide filters would be long texts, and run as NumPy."""
    return weight.shape[3] <= LARGEST and weight.dtype.name in ("float32", "float64") and not weight.lanes
