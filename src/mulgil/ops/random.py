"""Ops that draw random numbers, and dropout: a draw is a call like any other, so a recorded step draws anew at each replay."""

from __future__ import annotations

from dataclasses import dataclass

from mulgil.backend import Generator, default_generator
from mulgil.ops.function import Function


@dataclass(frozen=True)
class Keep(Function):
    """Which elements of x stay when each is dropped with probability p. Looks at the shape of x alone. No gradient."""

    p: float = 0.5
    generator: Generator = default_generator
    pure = False
    shape_only = True
    early = True

    def forward(self, ctx, x):
        return self.generator.on(ctx.xp).random(x.shape, dtype="float32") >= self.p


@dataclass(frozen=True)
class Draw(Function):
    """Random numbers, from nothing: what the `method` of NumPy's generator gives for these arguments, as `dtype`. No gradient."""

    method: str
    arguments: tuple
    dtype: str
    generator: Generator = default_generator
    pure = False
    shape_only = True
    early = True

    def forward(self, ctx):
        return ctx.xp.asarray(getattr(self.generator.on(ctx.xp), self.method)(*self.arguments)).astype(self.dtype, copy=False)


@dataclass(frozen=True)
class Dropout(Function):
    """x where `keep`, divided by 1 - p so that the mean stays, and zero elsewhere.

    x: any shape, float. keep: booleans of the same shape, see `Keep`. Source: Srivastava et al., JMLR 2014.
    """

    p: float = 0.5
    elementwise = True

    def forward(self, ctx, x, keep):
        ctx.save(keep)
        return self._kept(x, keep)

    def backward(self, ctx, gy):
        (keep,) = ctx.saved
        return self._kept(gy, keep), None

    def _kept(self, x, keep):
        return x * keep * (1 / (1 - self.p) if self.p < 1 else 0.0)
