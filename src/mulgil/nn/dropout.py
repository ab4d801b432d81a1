"""Dropout."""

from __future__ import annotations

from mulgil.autograd import Tensor
from mulgil.nn import functional as F
from mulgil.nn.module import Module
from mulgil.options import SHARE, check_number
from mulgil.typing import ArrayLike


class Dropout(Module):
    """In training mode each element is zeroed with probability p and the others are divided by 1 - p; in evaluation mode x as it is.

    `inplace` is accepted and ignored. Source: Srivastava et al., JMLR 2014.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        check_number("Dropout: p", p, SHARE)
        self.p, self.inplace = p, inplace

    def forward(self, x: ArrayLike) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
