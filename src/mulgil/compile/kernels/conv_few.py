"""Convolution of a few images, too few to fill a vector: here a vector holds neighbouring output channels of one image.

Images stay in C order. The weights are first turned so that the output channels lie side by side; each element of the image
then meets a vector of weights. No gradient is asked for: this is for predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from mulgil.compile.graph import Node
from mulgil.compile.kernels.op import KernelOp, Launch, Text
from mulgil.compile.kernels.vector import lanes_for, machine
from mulgil.ops.conv import Conv2d
from mulgil.ops.window import Pair

FEW = 4  # images; more fill the vectors of the other kernels


@dataclass(frozen=True)
class ConvFew(KernelOp):
    """x, weight, [bias] -> y: convolution, then ReLU, then max-pooling over `pool` (windows that never overlap); all in C order."""

    conv: Conv2d
    relu: bool = False
    pool: Pair | None = None

    def launch(self, node: Node) -> Launch:
        (x, weight, *bias), y = node.inputs, node.outputs[0]
        assert y is not None
        (ph, pw), (outs, ins, kh, kw) = self.conv.padding, weight.shape
        lanes = lanes_for(x.dtype, outs)
        wide = 2 if outs > lanes else 1  # vectors of channels that are done at once
        th, tw = self.pool or (1, 1)
        tile = min(y.shape[3], max(1, machine()[1] * 3 // 4 // (th * tw * wide)))
        high, across = x.shape[2] + 2 * ph, x.shape[3] + 2 * pw
        blocks, taps = -(-outs // (wide * lanes)), ins * kh * kw
        parts = {"weights": blocks * taps * wide * lanes, "biases": blocks * wide * lanes, "tile": tile * wide * lanes}
        parts["padded"] = ins * high * across if ph or pw else 0
        sizes = {"ins": ins, "outs": outs, "H": high, "W": across, "P": y.shape[2], "Q": y.shape[3], "taps": taps, "blocks": blocks}
        for name in parts:
            sizes[f"at_{name}"] = sum(list(parts.values())[: list(parts).index(name)])
        body = few_text(self, (kh, kw), wide, tile, x.shape[2:] if ph or pw else None, bool(bias))
        arguments = {"x": x, "w": weight} | ({"b": bias[0]} if bias else {}) | {"y": y}
        operations = 2 * taps * prod(y.shape) * th * tw
        return Launch(body, arguments, sizes, x.shape[0], operations, sum(parts.values()), vectors=(x.dtype, lanes))


def few_text(op: ConvFew, kernel: Pair, wide: int, tile: int, inner: Pair | None, bias: bool) -> Text:
    """inner: the image's own height and width, where a border is put around it."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw), (th, tw) = kernel, op.conv.stride, op.conv.padding, op.conv.dilation, op.pool or (1, 1)
    t, each = Text(), range(wide)
    t.open("for o in range(outs):")
    t(f"block, lane = o // ({wide} * LANES), o % ({wide} * LANES)")
    t.open("for k in range(taps):")
    t(f"scratch[at_weights + (block * taps + k) * {wide} * LANES + lane] = w[o * taps + k]")
    t.close()
    if bias:
        t("scratch[at_biases + o] = b[o]")
    t.close()
    t.open("for n in range(share[0], share[1]):")
    if inner:
        t.open("for c in range(ins):", f"for row in range({inner[0]}):", f"for column in range({inner[1]}):")
        here = f"(c * {inner[0]} + row) * {inner[1]} + column"
        t(f"scratch[at_padded + (c * H + row + {ph}) * W + column + {pw}] = x[n * ins * {prod(inner)} + {here}]")
        t.close(3)
    image, first = ("scratch", "at_padded") if inner else ("x", "n * ins * H * W")
    t.open("for block in range(blocks):", "for p in range(P):", f"for step in range({'(Q + ' + str(tile - 1) + ') // ' + str(tile)}):")
    t(f"left = min(step * {tile}, Q - {tile})")
    sums = [(u, v, e) for u in range(th) for v in range(tile * tw) for e in each]
    t(*(f"s{u}_{v}_{e} = load(scratch, at_biases + (block * {wide} + {e}) * LANES)" for u, v, e in sums))
    t.open("for c in range(ins):", f"for i in range({kh}):")
    t(f"k = at_weights + (block * taps + (c * {kh} + i) * {kw}) * {wide} * LANES")
    t(*(f"at{u} = {first} + (c * H + (p * {th} + {u}) * {sh} + i * {dh}) * W + left * {tw * sw}" for u in range(th)))
    for j in range(kw):
        t(*(f"w{e} = load(scratch, k + {j * wide + e} * LANES)" for e in each))
        for u in range(th):
            for v in range(tile * tw):
                t(f"v = broadcast({image}, at{u} + {v * sw + j * dw})", *(f"s{u}_{v}_{e} = fma(v, w{e}, s{u}_{v}_{e})" for e in each))
    t.close(2)
    for q in range(tile):
        for e in each:
            window = [f"s{u}_{q * tw + v}_{e}" for u in range(th) for v in range(tw)]
            t(f"m = {window[0]}", *(f"m = beats({s}, m, {s}, m)" for s in window[1:]))
            t("m = greater(zero(), m, zero(), m)" if op.relu else "", f"store(scratch, at_tile + {q * wide + e} * LANES, m)")
    t.open(f"for lane in range(min({wide} * LANES, outs - block * {wide} * LANES)):", f"for q in range({tile}):")
    place = f"((n * outs + block * {wide} * LANES + lane) * P + p) * Q + left + q"
    t(f"y[{place}] = scratch[at_tile + q * {wide} * LANES + lane]")
    return t
