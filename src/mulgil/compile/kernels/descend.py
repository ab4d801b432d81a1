"""Gradient descent along a product, in one call of BLAS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mulgil.native.blas import add_product
from mulgil.ops.function import Function


@dataclass(frozen=True)
class Descend(Function):
    """p <- (1 - lr decay) p - lr a b: a product and the step of gradient descent that it is made for, in one.

    Inputs: p[n, m], a[n, k], b[k, m], lr (0-d). Overwrites p. Passes put it where `ops.update.SGD` alone reads the product.
    """

    decay: float = 0.0
    inplace: ClassVar[tuple[int, ...]] = (0,)

    def overwrite(self, ctx, p, a, b, lr):
        rate = float(lr)
        add_product(p, a, b, -rate, 1 - rate * self.decay)
        return (p,)
