"""Elementwise ops: arithmetic, comparisons, choices, conversions. One text each, for arrays, symbols and Tensors.

Shapes broadcast as NumPy's do; a gradient has the broadcast shape here and the engine sums it back. Where a mask stops a gradient
it is chosen by `select`, never multiplied in: 0 times an infinite gradient would be nan.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mulgil.backend import NUMBERS
from mulgil.errors import DTypeError
from mulgil.ops.function import Function

BITS = {2: "i2", 4: "i4", 8: "i8"}  # integers of a float's size


def select(xp: Any, mask: Any, x: Any) -> Any:
    """x where the mask (booleans of a shape that broadcasts to x's) holds, else 0, whatever x is there.

    On NumPy's arrays by the bits of x, as quick as a product: `where` takes ten times as long there (a branch an element).
    """
    if type(x) is np.ndarray and x.dtype.kind == "f" and type(mask) is np.ndarray and x.dtype.itemsize in BITS:
        whole = BITS[x.dtype.itemsize]
        return (np.negative(mask.view("i1")).astype(whole) & x.view(whole)).view(x.dtype)
    return xp.where(mask, x, 0.0)


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
        return gy / b, -gy * (a / b / b) if ctx.needs[1] else None


class Pow(Arithmetic):
    """a ** b. x ** 0 is 1 with gradient 0, also at 0; the gradient to b is 0 where a is 0 and b at least 0, nan where a < 0."""

    def forward(self, ctx, a, b):
        ctx.save(a, b)
        try:
            return a**b
        except ValueError as error:
            if "negative integer" not in str(error):
                raise
            raise DTypeError("pow: an integer to a negative integer is no integer", hint="convert one to floats: x.float() ** n") from None

    def backward(self, ctx, gy):
        a, b = ctx.saved
        return self._to_base(ctx.xp, gy, a, b) if ctx.needs[0] else None, self._to_exponent(ctx.xp, gy, a, b) if ctx.needs[1] else None

    @staticmethod
    def _to_base(xp: Any, gy: Any, a: Any, b: Any) -> Any:
        if isinstance(b, NUMBERS):
            return gy * (b * a ** (b - 1)) if b else xp.zeros_like(gy)
        flat = b == 0
        return select(xp, ~flat, gy * (b * a ** xp.where(flat, b, b - 1)))

    @staticmethod
    def _to_exponent(xp: Any, gy: Any, a: Any, b: Any) -> Any:
        if isinstance(a, NUMBERS):
            if a == 0:
                return select(xp, b < 0, gy * (a**b * -math.inf))
            return gy * (a**b * (math.log(a) if a > 0 else math.nan))
        settled = (a == 0) & (b >= 0)
        return select(xp, ~settled, gy * (a**b * xp.log(xp.where(settled, 1.0, a))))


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
    """a // b, rounded down. The gradient is 0 wherever it exists."""

    def forward(self, ctx, a, b):
        return a // b

    def backward(self, ctx, gy):
        zero = ctx.xp.zeros_like(gy)
        return zero, zero


class Remainder(Arithmetic):
    """a - b floor(a / b), of b's sign. The gradient to b is -floor(a / b)."""

    def forward(self, ctx, a, b):
        ctx.save(a, b)
        return a % b

    def backward(self, ctx, gy):
        a, b = ctx.saved
        return gy, -gy * (a // b) if ctx.needs[1] else None


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


class Choice(Arithmetic):
    """One of two inputs; where they are equal the gradient is shared, as in PyTorch."""

    @staticmethod
    def share(xp: Any, gy: Any, lost: Any, tied: Any) -> Any:
        """The gradient of the input that `lost` some elements and `tied` in others."""
        return select(xp, ~lost, gy) - 0.5 * select(xp, tied, gy)


class Maximum(Choice):
    """The larger of a and b."""

    def forward(self, ctx, a, b):
        ctx.save(a, b)
        return ctx.xp.maximum(a, b)

    def backward(self, ctx, gy):
        a, b = ctx.saved
        return self.share(ctx.xp, gy, a < b, a == b), self.share(ctx.xp, gy, b < a, a == b)


class Minimum(Choice):
    """The smaller of a and b."""

    def forward(self, ctx, a, b):
        ctx.save(a, b)
        return ctx.xp.minimum(a, b)

    def backward(self, ctx, gy):
        a, b = ctx.saved
        return self.share(ctx.xp, gy, a > b, a == b), self.share(ctx.xp, gy, b > a, a == b)


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
        gx = gy if self.low is None else select(ctx.xp, x >= self.low, gy)
        return gx if self.high is None else select(ctx.xp, x <= self.high, gx)


class Clamp(Arithmetic):
    """x limited to [low, high], where the limits are inputs too: min(max(x, low), high), so that high wins where they cross.

    The gradient goes to x where low <= x <= high, and to the limit that was taken elsewhere.
    """

    def forward(self, ctx, x, low, high):
        ctx.save(x, low, high)
        return ctx.xp.minimum(ctx.xp.maximum(x, low), high)

    def backward(self, ctx, gy):
        x, low, high = ctx.saved
        xp = ctx.xp
        return (
            select(xp, (x >= low) & (x <= high), gy),
            select(xp, (x < low) & (low < high), gy) if ctx.needs[1] else None,
            select(xp, (x > high) | (low > high), gy) if ctx.needs[2] else None,
        )


class Where(Function):
    """a where the condition holds, else b. Inputs: condition (bool), a, b."""

    elementwise = True
    promotes = True
    conditions = 1

    def forward(self, ctx, condition, a, b):
        ctx.save(condition)
        return ctx.xp.where(condition, a, b)

    def backward(self, ctx, gy):
        (condition,) = ctx.saved
        return None, select(ctx.xp, condition, gy), select(ctx.xp, ~condition, gy)


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
