"""Matrix products."""

from __future__ import annotations

from dataclasses import dataclass

from mulgil.errors import ShapeError, describe
from mulgil.ops.function import Function


@dataclass(frozen=True)
class MatMul(Function):
    """a @ b for vectors, matrices and stacks of matrices, with NumPy's rules.

    a: [..., n, k] or [k].  b: [..., k, m] or [k].  Leading axes broadcast.
    Gradients: ga = gy b^T, gb = a^T gy.
    """

    promotes = True
    composed = ("backward",)

    def forward(self, ctx, a, b):
        if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
            raise ShapeError(
                "matmul: the last axis of a must equal the last but one of b",
                describe(a=a, b=b),
                "transpose one of them: b.T, or b.transpose(-1, -2)",
            )
        ctx.save(a, b)
        return a @ b

    def backward(self, ctx, gy):
        a, b = ctx.saved
        xp = ctx.xp
        if a.ndim == 1:  # a row: the engine sums the axis of length 1 away again
            gy = gy[..., None, :] if b.ndim > 1 else gy[None, None]
        elif b.ndim == 1:
            gy = gy[..., None]
        a2 = a[None] if a.ndim == 1 else a
        b2 = b[:, None] if b.ndim == 1 else b
        ga = gy @ xp.swapaxes(b2, -1, -2) if ctx.needs[0] else None
        gb = xp.swapaxes(a2, -1, -2) @ gy if ctx.needs[1] else None
        return ga, gb[..., 0] if gb is not None and b.ndim == 1 else gb


@dataclass(frozen=True)
class Affine(Function):
    """A linear layer in one op: y = x weight^T + bias.

    x: [..., in].  weight: [out, in].  bias: [out], may be left out.  Returns y[..., out].
    Gradients: gx = gy weight, gweight = gy^T x, gbias = gy summed over the leading axes.
    """

    composed = ("forward", "backward")

    def forward(self, ctx, x, weight, *bias):
        ctx.save(x, weight)
        y = x @ weight.T
        if bias:
            y += bias[0]
        return y

    def backward(self, ctx, gy):
        x, weight = ctx.saved
        gx = gy @ weight if ctx.needs[0] else None
        rows = gy.reshape(-1, weight.shape[0])
        gweight = rows.T @ x.reshape(-1, weight.shape[1]) if ctx.needs[1] else None
        return (gx, gweight, rows.sum(axis=0)) if len(ctx.needs) == 3 else (gx, gweight)
