"""Elementwise functions of one variable: exponentials, roots, circular functions, activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mulgil.ops.elementwise import Elementwise, Smooth, select


class Exp(Smooth):
    """e ** x."""

    def forward(self, ctx, x):
        y = ctx.xp.exp(x)
        ctx.save(y)
        return y

    def backward(self, ctx, gy):
        (y,) = ctx.saved
        return gy * y


class Log(Smooth):
    """The natural logarithm; -inf at 0 and nan below, as in NumPy."""

    def forward(self, ctx, x):
        ctx.save(x)
        return ctx.xp.log(x)

    def backward(self, ctx, gy):
        (x,) = ctx.saved
        return gy / x


class Log1p(Smooth):
    """log(1 + x), accurate near 0."""

    def forward(self, ctx, x):
        ctx.save(x)
        return ctx.xp.log1p(x)

    def backward(self, ctx, gy):
        (x,) = ctx.saved
        return gy / (1 + x)


class Sqrt(Smooth):
    """The square root; its gradient at 0 is infinite."""

    def forward(self, ctx, x):
        y = ctx.xp.sqrt(x)
        ctx.save(y)
        return y

    def backward(self, ctx, gy):
        (y,) = ctx.saved
        return gy / (2 * y)


def exponent_limit(dtype: Any) -> float:
    """The largest x whose exponential this dtype holds."""
    return 709.0 if dtype == "float64" else 88.0


class Sin(Smooth):
    """sin x, x in radians."""

    def forward(self, ctx, x):
        ctx.save(x)
        return ctx.xp.sin(x)

    def backward(self, ctx, gy):
        (x,) = ctx.saved
        return gy * ctx.xp.cos(x)


class Cos(Smooth):
    """cos x, x in radians."""

    def forward(self, ctx, x):
        ctx.save(x)
        return ctx.xp.cos(x)

    def backward(self, ctx, gy):
        (x,) = ctx.saved
        return -gy * ctx.xp.sin(x)


class Step(Elementwise):
    """A function whose values are constant between jumps: its gradient is 0 wherever it exists."""

    def backward(self, ctx, gy):
        return ctx.xp.zeros_like(gy)


class Sign(Step):
    """-1, 0 or 1."""

    def forward(self, ctx, x):
        return ctx.xp.sign(x) if x.dtype.kind != "b" else x.copy()


class Floor(Step):
    """The largest integer at most x."""

    def forward(self, ctx, x):
        return ctx.xp.floor(x)


class Ceil(Step):
    """The smallest integer at least x."""

    def forward(self, ctx, x):
        return ctx.xp.ceil(x)


class Trunc(Step):
    """x without its fraction."""

    def forward(self, ctx, x):
        return ctx.xp.trunc(x)


class Round(Step):
    """The integer nearest to x; of two, the even one."""

    def forward(self, ctx, x):
        return ctx.xp.rint(x) if x.dtype.kind == "f" else x.copy()


class IsNan(Elementwise):
    """Whether x is not a number. No gradient."""

    def forward(self, ctx, x):
        return ctx.xp.isnan(x)


class IsInf(Elementwise):
    """Whether x is infinite, of either sign. No gradient."""

    def forward(self, ctx, x):
        return ctx.xp.isinf(x)


class IsFinite(Elementwise):
    """Whether x is a number and finite. No gradient."""

    def forward(self, ctx, x):
        return ctx.xp.isfinite(x)


class Abs(Elementwise):
    """|x|; the gradient at 0 is 0."""

    def forward(self, ctx, x):
        ctx.save(x)
        return abs(x)

    def backward(self, ctx, gy):
        (x,) = ctx.saved
        return gy * ctx.xp.sign(x)


class Tanh(Smooth):
    """The hyperbolic tangent."""

    def forward(self, ctx, x):
        y = ctx.xp.tanh(x)
        ctx.save(y)
        return y

    def backward(self, ctx, gy):
        (y,) = ctx.saved
        return gy * (1 - y * y)


class Sigmoid(Smooth):
    """1 / (1 + exp(-x)). Nothing overflows: below -88 (-709 in float64) the result stays there, at 6e-39 (1e-308)."""

    def forward(self, ctx, x):
        y = 1 / (1 + ctx.xp.exp(ctx.xp.minimum(-x, exponent_limit(x.dtype))))
        ctx.save(y)
        return y

    def backward(self, ctx, gy):
        (y,) = ctx.saved
        return gy * (y * (1 - y))


class ReLU(Elementwise):
    """max(x, 0); the gradient at 0 is 0. Source: Nair and Hinton, ICML 2010."""

    def forward(self, ctx, x):
        y = ctx.xp.maximum(x, 0)
        ctx.save(y)
        return y

    def backward(self, ctx, gy):
        (y,) = ctx.saved
        return select(ctx.xp, y > 0, gy)


@dataclass(frozen=True)
class LeakyReLU(Elementwise):
    """x where x > 0, else slope * x. Source: Maas et al., ICML 2013."""

    slope: float = 0.01

    def forward(self, ctx, x):
        ctx.save(x)
        return ctx.xp.maximum(x, 0) + self.slope * ctx.xp.minimum(x, 0)

    def backward(self, ctx, gy):
        (x,) = ctx.saved
        return select(ctx.xp, x > 0, gy) + self.slope * select(ctx.xp, ~(x > 0), gy)
