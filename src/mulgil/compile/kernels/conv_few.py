"""Convolution of a few images, too few to fill a vector: here a vector holds neighbouring columns of one row.

Images stay in C order. Each is first copied with its border, its rows and columns sorted by their remainder for the stride: then
the windows of neighbouring columns are neighbours. No gradient is asked for: this is for predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from mulgil.compile.graph import Node
from mulgil.compile.kernels.op import KernelOp, Launch, Text
from mulgil.native.vector import lanes_for, machine
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
        (sh, sw), (ph, pw), (th, tw) = self.conv.stride, self.conv.padding, self.pool or (1, 1)
        count, ins, h, w = x.shape
        outs, (high, across) = weight.shape[0], (-(-(h + 2 * ph) // sh), -(-(w + 2 * pw) // sw))
        columns = y.shape[3] * tw
        lanes = lanes_for(x.dtype, columns)
        wide = max(1, min(4 // th, columns // lanes))
        wide -= wide % tw if wide > 1 else 0
        blocks = -(-outs * th * wide // (machine()[1] * 3 // 4))
        sizes = {"count": count, "ins": ins, "outs": outs, "H": h, "W": w, "high": high, "across": across}
        sizes |= {"P": y.shape[2], "Q": y.shape[3], "steps": max(1, -(-columns // (wide * lanes)))}
        body = few_text(self, weight.shape[2:], wide, -(-outs // blocks), bool(bias))
        arguments = {"x": x, "w": weight} | ({"b": bias[0]} if bias else {}) | {"y": y}
        operations = 2 * prod(weight.shape[1:]) * prod(y.shape) * th * tw
        scratch = ins * sh * sw * high * across + (wide + 1) * lanes  # vectors at the end reach beyond the image
        return Launch(body, arguments, sizes, blocks * y.shape[2], operations, scratch, vectors=(x.dtype, lanes))


def takes_pool(window: Pair) -> bool:
    """Whether max-pooling over the window can be part of the call."""
    return window[0] <= 4 and window[1] <= 2


def few_text(op: ConvFew, kernel: Pair, wide: int, block: int, bias: bool) -> Text:
    """wide: vectors of columns, and block: channels of the result, that are done at once."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw), (th, tw) = kernel, op.conv.stride, op.conv.padding, op.conv.dilation, op.pool or (1, 1)
    t = Text("for n in range(count):", "for c in range(ins):", "for h in range(H):")
    t(f"row = ((c * {sh} + (h + {ph}) % {sh}) * {sw} * high + (h + {ph}) // {sh}) * across")
    t.open("for q in range(W):")
    t(f"scratch[row + (q + {pw}) % {sw} * high * across + (q + {pw}) // {sw}] = x[((n * ins + c) * H + h) * W + q]")
    t.close(3)
    t.open("for item in range(share[0], share[1]):")
    t(f"o, p = min(item // P * {block}, outs - {block}), item % P")
    t.open("for step in range(steps):")
    t(f"left = max(0, min(step * {wide} * LANES, Q * {tw} - {wide} * LANES))")
    sums = [(r, u, v) for r in range(block) for u in range(th) for v in range(wide)]
    t(*(f"s{r}_{u}_{v} = {f'broadcast(b, o + {r})' if bias else 'zero()'}" for r, u, v in sums))
    t.open("for c in range(ins):", f"for i in range({kh}):")
    t(f"k = ((o * ins + c) * {kh} + i) * {kw}")
    here = f"((c * {sh} + i * {dh} % {sh}) * {sw} * high + p * {th} + i * {dh} // {sh}) * across + left"
    t(f"at = {here}")
    for j in range(kw):
        tap = f"{j * dw % sw} * high * across + {j * dw // sw}"
        t(*(f"x{u}_{v} = load(scratch, at + {tap} + {u} * across + {v} * LANES)" for u in range(th) for v in range(wide)))
        for r in range(block):
            t(f"weight = broadcast(w, k + {r} * ins * {kh * kw} + {j})")
            t(*(f"s{r}_{u}_{v} = fma(weight, x{u}_{v}, s{r}_{u}_{v})" for u in range(th) for v in range(wide)))
    t.close(2)
    for r in range(block):
        for v in range(0, wide, tw):
            _finish(t, op, [[f"s{r}_{u}_{z}" if z < wide else "zero()" for u in range(th)] for z in range(v, v + tw)])
            t(f"column = left // {tw} + {v // tw} * LANES")
            t(f"store_first(y, ((n * outs + o + {r}) * P + p) * Q + column, m, Q - column)")
    return t


def _finish(t: Text, op: ConvFew, columns: list[list[str]]) -> None:
    """m: the pooled vector of so many vectors' columns, each with the sums of its rows."""
    for z, rows in enumerate(columns):
        t(f"m{z} = {rows[0]}", *(f"m{z} = beats({s}, m{z}, {s}, m{z})" for s in rows[1:]))
    if len(columns) == 1:
        t("m = m0")
    else:
        t("even, odd = evens(m0, m1), odds(m0, m1)", "m = beats(odd, even, odd, even)")
    t("m = greater(zero(), m, zero(), m)" if op.relu else "")
