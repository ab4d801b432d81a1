"""Elementwise ops: arithmetic, comparisons, exponentials and their kin. One text each, for arrays, symbols and Tensors.

Shapes broadcast as NumPy's do; a gradient has the broadcast shape here and the engine sums it back. Masks are multiplied in
rather than chosen by `where`, which is ten times slower in NumPy (a branch an element).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from mulgil.ops.function import Function


class Elementwise(Function):
    """An op that treats each element alone."""

    elementwise = True


class Arithmetic(Elementwise):
    """An elementwise op of several inputs, which are brought to one dtype first."""

    promotes = True


class Smooth(Elementwise):
    """An elementwise op with real values: integers are cast to the default dtype first."""

    floating = True


class Add(Arithmetic):
    """a + b."""

    def forward(self, ctx, a, b):
        return a + b

    def backward(self, ctx, gy):
        return gy, gy


class Sub(Arithmetic):
    """a - b."""

    def forward(self, ctx, a, b):
        return a - b

    def backward(self, ctx, gy):
        return gy, -gy if ctx.needs[1] else None


class Mul(Arithmetic):
    """a * b."""

    def forward(self, ctx, a, b):
        ctx.save(a, b)
        return a * b

    def backward(self, ctx, gy):
        a, b = ctx.saved
        return gy * b if ctx.needs[0] else None, gy * a if ctx.needs[1] else None


class Div(Arithmetic, Smooth):
    """a / b."""

    def forward(self, ctx, a, b):
        ctx.save(a, b)
        return a / b

    def backward(self, ctx, gy):
        a, b = ctx.saved
        ga = gy / b
        return ga, -ga * a / b if ctx.needs[1] else None


class Pow(Arithmetic):
    """a ** b. The gradient to b needs a > 0 and is taken as 0 where a is 0."""

    def forward(self, ctx, a, b):
        ctx.save(a, b)
        return a**b

    def backward(self, ctx, gy):
        a, b = ctx.saved
        xp = ctx.xp
        ga = gy * b * a ** (b - 1) if ctx.needs[0] else None
        return ga, gy * a**b * xp.log(xp.where(a > 0, a, 1.0)) if ctx.needs[1] else None


class Neg(Elementwise):
    """-x."""

    def forward(self, ctx, x):
        return -x

    def backward(self, ctx, gy):
        return -gy


@dataclass(frozen=True)
class Compare(Arithmetic):
    """A comparison, "==", "!=", "<", "<=", ">" or ">=", or "&", "|", "^" of booleans or integers. No gradient."""

    sign: str

    def forward(self, ctx, a, b):
        return SIGNS[self.sign](a, b)


class Invert(Elementwise):
    """not x for booleans, the complement for integers. No gradient."""

    def forward(self, ctx, x):
        return ~x


class FloorDiv(Arithmetic):
    """a // b, rounded down. The gradient is 0 almost everywhere and is not computed."""

    def forward(self, ctx, a, b):
        return a // b

    def backward(self, ctx, gy):
        return None, None


class Remainder(Arithmetic):
    """a - b floor(a / b), of b's sign. The gradient goes to a alone."""

    def forward(self, ctx, a, b):
        return a % b

    def backward(self, ctx, gy):
        return gy, None


SIGNS: dict[str, Any] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
}


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


class Maximum(Arithmetic):
    """The larger of a and b; where they are equal the gradient is shared, as in PyTorch."""

    def forward(self, ctx, a, b):
        ctx.save(a, b)
        return ctx.xp.maximum(a, b)

    def backward(self, ctx, gy):
        a, b = ctx.saved
        ga = gy * (a > b) + 0.5 * gy * (a == b)
        return ga, gy - ga


class Minimum(Arithmetic):
    """The smaller of a and b; where they are equal the gradient is shared, as in PyTorch."""

    def forward(self, ctx, a, b):
        ctx.save(a, b)
        return ctx.xp.minimum(a, b)

    def backward(self, ctx, gy):
        a, b = ctx.saved
        ga = gy * (a < b) + 0.5 * gy * (a == b)
        return ga, gy - ga


@dataclass(frozen=True)
class Clip(Elementwise):
    """x limited to [low, high]; None leaves that side open. The gradient passes where low <= x <= high."""

    low: float | None = None
    high: float | None = None

    def forward(self, ctx, x):
        ctx.save(x)
        y = x if self.low is None else ctx.xp.maximum(x, self.low)
        return y if self.high is None else ctx.xp.minimum(y, self.high)

    def backward(self, ctx, gy):
        (x,) = ctx.saved
        gx = gy if self.low is None else gy * (x >= self.low)
        return gx if self.high is None else gx * (x <= self.high)


class Where(Function):
    """a where the condition holds, else b. Inputs: condition (bool), a, b."""

    elementwise = True
    promotes = True

    def forward(self, ctx, condition, a, b):
        ctx.save(condition)
        return ctx.xp.where(condition, a, b)

    def backward(self, ctx, gy):
        (condition,) = ctx.saved
        zero = ctx.xp.zeros_like(gy)
        return None, ctx.xp.where(condition, gy, zero), ctx.xp.where(condition, zero, gy)


@dataclass(frozen=True)
class Cast(Elementwise):
    """x as another dtype; the gradient comes back in x's own."""

    dtype: str

    def forward(self, ctx, x):
        ctx.save(x)
        return x.astype(self.dtype)

    def backward(self, ctx, gy):
        (x,) = ctx.saved
        return gy.astype(x.dtype)


@dataclass(frozen=True)
class Fill(Elementwise):
    """`value` everywhere, in x's shape and dtype: the first gradient of a backward pass (1), a gradient that nobody sent (0)."""

    value: float

    def forward(self, ctx, x):
        return ctx.xp.full_like(x, self.value)

    def backward(self, ctx, gy):
        return None


class Copy(Elementwise):
    """A copy of x in memory of its own."""

    def forward(self, ctx, x):
        return x.copy()

    def backward(self, ctx, gy):
        return gy
