"""Elementwise ops: arithmetic, comparisons, choices, conversions. One text each, for arrays, symbols and Tensors.

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
    shape_only = True

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
