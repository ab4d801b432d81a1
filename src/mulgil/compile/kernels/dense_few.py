"""A linear layer for a few samples, with what follows it: there the weights are read once, and the calls around them count."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from mulgil.compile.graph import Node
from mulgil.compile.kernels.op import KernelOp, Launch, Text
from mulgil.native.vector import lanes_for

BLOCK = 4  # rows of the weight that are read side by side: several streams come quicker than one


@dataclass(frozen=True)
class DenseFew(KernelOp):
    """x[n, k], weight[m, k], [bias[m]] -> y[n, m] = x weight^T + bias, then ReLU; all in C order."""

    relu: bool = False

    def launch(self, node: Node) -> Launch:
        (x, weight, *bias), y = node.inputs, node.outputs[0]
        assert y is not None
        (count, length), rows = x.shape, weight.shape[0]
        lanes = lanes_for(x.dtype, length)
        block = min(BLOCK, rows)
        sizes = {"count": count, "length": length, "rows": rows}
        sizes |= {"vectors": length // lanes * lanes, "pairs": length // (2 * lanes) * 2 * lanes}
        arguments = {"x": x, "w": weight} | ({"b": bias[0]} if bias else {}) | {"y": y}
        body = dense_text(block, bool(bias), self.relu)
        return Launch(body, arguments, sizes, -(-rows // block), 2 * prod(y.shape) * length, vectors=(x.dtype, lanes))


def dense_text(block: int, bias: bool, relu: bool) -> Text:
    each = range(block)
    t = Text("for item in range(share[0], share[1]):", "for n in range(count):")
    t(f"o = min(item * {block}, rows - {block})", "row, sample = o * length, n * length")
    t(*(f"s{c}, z{c} = zero(), zero()" for c in each))
    t.open("for k in range(0, pairs, 2 * LANES):")
    t("u, v = load(x, sample + k), load(x, sample + k + LANES)")
    t(*(f"s{c}, z{c} = {_more(c, 's', 'u', 'k')}, {_more(c, 'z', 'v', 'k + LANES')}" for c in each))
    t.close()
    t.open("for k in range(pairs, vectors, LANES):")
    t("u = load(x, sample + k)", *(f"s{c} = {_more(c, 's', 'u', 'k')}" for c in each))
    t.close()
    for c in each:
        t(f"s = total(add(s{c}, z{c}))")
        t.open("for k in range(vectors, length):")
        t(f"s += w[row + {c} * length + k] * x[sample + k]")
        t.close()
        t(f"s += b[o + {c}]" if bias else "", f"y[n * rows + o + {c}] = {'real(0) if s <= 0 else s' if relu else 's'}")  # keeps NaN
    return t


def _more(row: int, sums: str, x: str, k: str) -> str:
    return f"fma(load(w, row + {row} * length + {k}), {x}, {sums}{row})"
