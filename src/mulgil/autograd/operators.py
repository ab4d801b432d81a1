"""The arithmetic of a Tensor: operators and elementwise mathematics, each an op applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mulgil.ops import elementwise as e
from mulgil.ops.function import Function
from mulgil.ops.linalg import MatMul

if TYPE_CHECKING:
    from mulgil.autograd.tensor import Tensor

OPERANDS = (int, float, bool, np.ndarray, np.generic, list, tuple)


class Operators:
    """The part of Tensor that is arithmetic."""

    __slots__ = ()

    array: Any

    def apply_function(self, op: Function, inputs: Sequence[Any]) -> Any:
        raise NotImplementedError

    def _op(self, op: Function, *others: Any) -> Tensor:
        return self.apply_function(op, (self, *others))

    def _with(self, op: Function, other: Any, swapped: bool = False) -> Any:
        if not isinstance(other, (Operators, *OPERANDS)) and not hasattr(other, "__cuda_array_interface__"):
            return NotImplemented
        return self.apply_function(op, (other, self) if swapped else (self, other))

    # ---- operators

    def __add__(self, other: Any) -> Tensor:
        return self._with(e.Add(), other)

    def __radd__(self, other: Any) -> Tensor:
        return self._with(e.Add(), other, True)

    def __sub__(self, other: Any) -> Tensor:
        return self._with(e.Sub(), other)

    def __rsub__(self, other: Any) -> Tensor:
        return self._with(e.Sub(), other, True)

    def __mul__(self, other: Any) -> Tensor:
        return self._with(e.Mul(), other)

    def __rmul__(self, other: Any) -> Tensor:
        return self._with(e.Mul(), other, True)

    def __truediv__(self, other: Any) -> Tensor:
        return self._with(e.Div(), other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return self._with(e.Div(), other, True)

    def __pow__(self, other: Any) -> Tensor:
        return self._with(e.Pow(), other)

    def __rpow__(self, other: Any) -> Tensor:
        return self._with(e.Pow(), other, True)

    def __matmul__(self, other: Any) -> Tensor:
        return self._with(MatMul(), other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return self._with(MatMul(), other, True)

    def __neg__(self) -> Tensor:
        return self._op(e.Neg())

    def __pos__(self) -> Tensor:
        return self  # type: ignore[return-value]

    def __abs__(self) -> Tensor:
        return self._op(e.Abs())

    def __invert__(self) -> Tensor:
        return self._op(e.Invert())

    def __and__(self, other: Any) -> Tensor:
        return self._with(e.Bitwise("&"), other)

    def __or__(self, other: Any) -> Tensor:
        return self._with(e.Bitwise("|"), other)

    def __xor__(self, other: Any) -> Tensor:
        return self._with(e.Bitwise("^"), other)

    def __floordiv__(self, other: Any) -> Tensor:
        return self._with(e.FloorDiv(), other)

    def __mod__(self, other: Any) -> Tensor:
        return self._with(e.Remainder(), other)

    def __eq__(self, other: object) -> Any:
        return self._with(e.Compare("=="), other)

    def __ne__(self, other: object) -> Any:
        return self._with(e.Compare("!="), other)

    def __lt__(self, other: Any) -> Tensor:
        return self._with(e.Compare("<"), other)

    def __le__(self, other: Any) -> Tensor:
        return self._with(e.Compare("<="), other)

    def __gt__(self, other: Any) -> Tensor:
        return self._with(e.Compare(">"), other)

    def __ge__(self, other: Any) -> Tensor:
        return self._with(e.Compare(">="), other)

    __hash__ = object.__hash__

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())

    # ---- elementwise mathematics

    def exp(self) -> Tensor:
        return self._op(e.Exp())

    def log(self) -> Tensor:
        return self._op(e.Log())

    def log1p(self) -> Tensor:
        return self._op(e.Log1p())

    def sqrt(self) -> Tensor:
        return self._op(e.Sqrt())

    def sin(self) -> Tensor:
        return self._op(e.Sin())

    def cos(self) -> Tensor:
        return self._op(e.Cos())

    def abs(self) -> Tensor:
        return self._op(e.Abs())

    def tanh(self) -> Tensor:
        return self._op(e.Tanh())

    def sigmoid(self) -> Tensor:
        return self._op(e.Sigmoid())

    def relu(self) -> Tensor:
        return self._op(e.ReLU())

    def square(self) -> Tensor:
        return self * self  # type: ignore[return-value]

    def pow(self, exponent: Any) -> Tensor:
        return self**exponent

    def maximum(self, other: Any) -> Tensor:
        return self._op(e.Maximum(), other)

    def minimum(self, other: Any) -> Tensor:
        return self._op(e.Minimum(), other)

    def clip(self, min: float | None = None, max: float | None = None) -> Tensor:
        """Limited to [min, max]; None leaves a side open."""
        return self._op(e.Clip(min, max))

    clamp = clip

    def where(self, condition: Any, other: Any) -> Tensor:
        """This tensor where the condition holds, elsewhere `other`."""
        return self.apply_function(e.Where(), (condition, self, other))

    def eq(self, other: Any) -> Tensor:
        return self == other

    # ---- other dtypes

    def astype(self, dtype: Any, copy: bool = True) -> Tensor:
        wanted = np.dtype(dtype)
        return self if wanted == self.array.dtype and not copy else self._op(e.Cast(wanted.str))  # type: ignore[return-value]

    def clone(self) -> Tensor:
        """A copy in memory of its own; gradients pass through."""
        return self._op(e.Copy())

    copy = clone
