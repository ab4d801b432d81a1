"""Batch normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from mulgil.ops.function import Function


@dataclass(frozen=True)
class BatchNorm(Function):
    """Each channel brought to mean 0 and variance 1 over the batch, then scaled and shifted.

    x: [N, C, ...].  weight, bias: [C].  Returns y of x's shape, and the batch's mean[C] and biased variance[C].
    Source: Ioffe and Szegedy, ICML 2015.
    """

    eps: float = 1e-5
    composed = ("forward", "backward")
    takes_none = True

    def forward(self, ctx, x, weight, bias):
        axes = _all_but_channels(x)
        mean = x.mean(axis=axes)
        centred = x - _column(mean, x)
        var = (centred * centred).mean(axis=axes)
        ctx.save(x, weight, mean, var)
        centred *= _column(weight / ctx.xp.sqrt(var + self.eps), x)
        centred += _column(bias, x)
        return centred, mean, var

    def backward(self, ctx, gy, gmean, gvar):
        x, weight, mean, var = ctx.saved
        axes, n = _all_but_channels(x), prod(x.shape) // x.shape[1]
        gx = gweight = gbias = None
        if gy is not None:
            root = 1 / ctx.xp.sqrt(var + self.eps)
            xhat = (x - _column(mean, x)) * _column(root, x)
            gweight, gbias = (gy * xhat).sum(axis=axes), gy.sum(axis=axes)
            inner = gy - _column(gbias / n, x) - xhat * _column(gweight / n, x)
            gx = inner * _column(weight * root, x)
        if gmean is not None:
            gx = _plus(gx, ctx.xp.broadcast_to(_column(gmean / n, x), x.shape))
        if gvar is not None:
            gx = _plus(gx, (x - _column(mean, x)) * _column(2 * gvar / n, x))
        return gx, gweight, gbias


@dataclass(frozen=True)
class BatchNormInference(Function):
    """Batch normalisation with given statistics: (x - mean) / sqrt(var + eps) * weight + bias.

    x: [N, C, ...].  weight, bias, mean, var: [C]; no gradient to mean and var.
    """

    eps: float = 1e-5
    composed = ("forward", "backward")

    def forward(self, ctx, x, weight, bias, mean, var):
        ctx.save(x, weight, mean, var)
        factor = weight / ctx.xp.sqrt(var + self.eps)
        return x * _column(factor, x) + _column(bias - mean * factor, x)

    def backward(self, ctx, gy):
        x, weight, mean, var = ctx.saved
        axes = _all_but_channels(x)
        root = 1 / ctx.xp.sqrt(var + self.eps)
        xhat = (x - _column(mean, x)) * _column(root, x)
        return gy * _column(weight * root, x), (gy * xhat).sum(axis=axes), gy.sum(axis=axes), None, None


def _all_but_channels(x: Any) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _plus(total: Any, more: Any) -> Any:
    return more if total is None else total + more


def _column(v: Any, x: Any) -> Any:
    """v[C] shaped to broadcast over x[N, C, ...]."""
    return v.reshape(1, -1, *(1 for _ in x.shape[2:]))
