"""The arithmetic of a Tensor: operators and elementwise mathematics, each an op applied."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mulgil.backend import NUMBERS, as_dtype, default_dtype, xp_of
from mulgil.errors import DTypeError
from mulgil.ops import elementwise as e
from mulgil.ops import mathematics as m
from mulgil.ops.function import Function
from mulgil.ops.linalg import MatMul
from mulgil.typing import ArrayLike, DTypeLike

if TYPE_CHECKING:
    from mulgil.autograd.tensor import Tensor

OPERANDS = (int, float, bool, np.ndarray, np.generic, list, tuple)


def _unary(op: Function) -> Callable[[Any], Tensor]:
    def method(self: Any) -> Tensor:
        return self.apply_function(op, (self,))

    method.__name__, method.__doc__ = type(op).__name__.lower(), type(op).__doc__
    return method


def _binary(op: Function, swapped: bool = False) -> Callable[[Any, ArrayLike], Tensor]:
    def method(self: Any, other: ArrayLike) -> Tensor:
        if not isinstance(other, (Operators, *OPERANDS)) and not hasattr(other, "__cuda_array_interface__"):
            return NotImplemented
        return self.apply_function(op, (other, self) if swapped else (self, other))

    method.__name__, method.__doc__ = type(op).__name__.lower(), type(op).__doc__
    return method


class Operators:
    """The part of Tensor that is arithmetic."""

    __slots__ = ()

    array: Any
    of: Any

    def apply_function(self, op: Function, inputs: Sequence[Any]) -> Any:
        raise NotImplementedError

    def _op(self, op: Function, *others: Any) -> Any:
        return self.apply_function(op, (self, *others))

    __add__, __radd__ = _binary(e.Add()), _binary(e.Add(), swapped=True)
    __sub__, __rsub__ = _binary(e.Sub()), _binary(e.Sub(), swapped=True)
    __mul__, __rmul__ = _binary(e.Mul()), _binary(e.Mul(), swapped=True)
    __truediv__, __rtruediv__ = _binary(e.Div()), _binary(e.Div(), swapped=True)
    __pow__, __rpow__ = _binary(e.Pow()), _binary(e.Pow(), swapped=True)
    __matmul__, __rmatmul__ = _binary(MatMul()), _binary(MatMul(), swapped=True)
    __floordiv__, __rfloordiv__ = _binary(e.FloorDiv()), _binary(e.FloorDiv(), swapped=True)
    __mod__, __rmod__ = _binary(e.Remainder()), _binary(e.Remainder(), swapped=True)
    __and__, __or__, __xor__ = _binary(e.Compare("&")), _binary(e.Compare("|")), _binary(e.Compare("^"))
    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__
    __lt__, __le__ = _binary(e.Compare("<")), _binary(e.Compare("<="))
    __gt__, __ge__ = _binary(e.Compare(">")), _binary(e.Compare(">="))
    eq, _ne = _binary(e.Compare("==")), _binary(e.Compare("!="))
    __hash__ = object.__hash__
    __neg__, __invert__, __abs__ = _unary(e.Neg()), _unary(e.Invert()), _unary(m.Abs())

    def __eq__(self, other: ArrayLike) -> Tensor:  # type: ignore[override]
        return self.eq(other)

    def __ne__(self, other: ArrayLike) -> Tensor:  # type: ignore[override]
        return self._ne(other)

    def __pos__(self) -> Self:
        return self

    def __contains__(self, value: ArrayLike) -> bool:
        if not isinstance(value, (Operators, *OPERANDS)):
            raise DTypeError("in: a tensor holds numbers", f"{value!r} ({type(value).__name__})", "give a number")
        return bool((self == value).any())

    exp, log, log1p, sqrt = _unary(m.Exp()), _unary(m.Log()), _unary(m.Log1p()), _unary(m.Sqrt())
    sin, cos, tanh, sigmoid = _unary(m.Sin()), _unary(m.Cos()), _unary(m.Tanh()), _unary(m.Sigmoid())
    abs, relu, sign, clone = _unary(m.Abs()), _unary(m.ReLU()), _unary(m.Sign()), _unary(e.Copy())
    floor, ceil, trunc, round = _unary(m.Floor()), _unary(m.Ceil()), _unary(m.Trunc()), _unary(m.Round())
    isnan, isinf, isfinite = _unary(m.IsNan()), _unary(m.IsInf()), _unary(m.IsFinite())
    maximum, minimum = _binary(e.Maximum()), _binary(e.Minimum())
    pow, copy = __pow__, clone

    def square(self) -> Tensor:
        """x * x; of booleans as integers."""
        x: Any = self if self.array.dtype.kind != "b" else self.astype(np.int64)
        return x._op(e.Mul(), x)

    def clip(self, min: ArrayLike | None = None, max: ArrayLike | None = None) -> Tensor:
        """Limited to [min, max]; None leaves a side open. Limits may be tensors, which broadcast and get gradients."""
        low: Any
        high: Any
        low, high = (v.item() if isinstance(v, np.generic) else v for v in (min, max))
        if not all(v is None or isinstance(v, (int, float)) for v in (low, high)):
            if self.array.dtype.kind != "f" and (low is None or high is None):  # integers have no infinity, and no gradient
                return self.maximum(low) if high is None else self.minimum(high)
            low, high = -math.inf if low is None else low, math.inf if high is None else high
            return self.apply_function(e.Clamp(), (self, low, high))
        widened = self.array.dtype.kind != "f" and (isinstance(low, float) or isinstance(high, float))
        return (self.astype(default_dtype()) if widened else self)._op(e.Clip(low, high))

    clamp = clip

    def where(self, condition: ArrayLike, other: ArrayLike) -> Tensor:
        """This tensor where the condition holds, elsewhere `other`."""
        given = isinstance(condition, Operators)
        return choose(condition if given else self.of(xp_of(self.array).asarray(condition)), self, other)

    def astype(self, dtype: DTypeLike, copy: bool = True) -> Tensor:
        """The same values as another dtype; itself if it has it already and `copy` is False."""
        wanted = as_dtype(dtype)
        return self if wanted == self.array.dtype and not copy else self._op(e.Cast(wanted.str))  # type: ignore[return-value]


def choose(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition (a Tensor of booleans, or of numbers that are not 0) holds, else b."""
    if condition.array.dtype.kind != "b":
        condition = condition != 0
    if isinstance(a, NUMBERS) and isinstance(b, NUMBERS):  # two numbers have the dtype that arrays of them would have
        target = default_dtype() if float in (type(a), type(b)) else np.dtype(bool if type(a) is type(b) is bool else np.int64)
        a = condition.astype(target)._op(e.Fill(a))
    return condition.apply_function(e.Where(), (condition, a, b))
