"""Ops that draw random numbers. The draw is part of forward, so a recorded step draws anew at each replay."""

from __future__ import annotations

from dataclasses import dataclass

from mulgil.backend import Generator, default_generator
from mulgil.ops.function import Function


@dataclass(frozen=True)
class Dropout(Function):
    """Each element is zeroed with probability p, the others are divided by 1 - p, so that the mean stays.

    x: any shape, float. Source: Srivastava et al., JMLR 2014.
    """

    p: float = 0.5
    generator: Generator = default_generator

    def forward(self, ctx, x):
        keep = self.generator.on(ctx.xp).random(x.shape, dtype="float32") >= self.p
        ctx.save(keep)
        return self._kept(x, keep)

    def backward(self, ctx, gy):
        (keep,) = ctx.saved
        return self._kept(gy, keep)

    def _kept(self, x, keep):
        return x * keep * (1 / (1 - self.p) if self.p < 1 else 0.0)
