"""Elementwise functions of one variable: exponentials, roots, circular functions, activations."""

from __future__ import annotations

from dataclasses import dataclass

from mulgil.ops.elementwise import Elementwise, Smooth


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


class Sign(Elementwise):
    """-1, 0 or 1. No gradient: it is 0 wherever it exists."""

    def forward(self, ctx, x):
        return ctx.xp.sign(x)

    def backward(self, ctx, gy):
        return None


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
    """1 / (1 + exp(-x)). Nothing overflows: below -88 the result stays at sigmoid(-88) = 6e-39."""

    def forward(self, ctx, x):
        y = 1 / (1 + ctx.xp.exp(ctx.xp.minimum(-x, 88.0)))
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
        return gy * (y > 0)


@dataclass(frozen=True)
class LeakyReLU(Elementwise):
    """x where x > 0, else slope * x. Source: Maas et al., ICML 2013."""

    slope: float = 0.01

    def forward(self, ctx, x):
        ctx.save(x)
        return ctx.xp.maximum(x, 0) + self.slope * ctx.xp.minimum(x, 0)

    def backward(self, ctx, gy):
        (x,) = ctx.saved
        return gy * (x > 0) + self.slope * gy * (x <= 0)
