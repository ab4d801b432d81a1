"""The arithmetic, mathematics and shapes of a Tensor: each method picks an op and applies it.

Names are PyTorch's; reductions take `dim=`/`keepdim=` and NumPy's `axis=`/`keepdims=` alike, so that the op texts, which
are written for arrays, also run on Tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mulgil.errors import OptionError, ShapeError, describe
from mulgil.ops import elementwise as e
from mulgil.ops import reduce as r
from mulgil.ops import shape as s
from mulgil.ops.function import Function
from mulgil.ops.linalg import MatMul

if TYPE_CHECKING:
    from mulgil.autograd.tensor import Tensor

Axis = int | tuple[int, ...] | None
OPERANDS = (int, float, bool, np.ndarray, np.generic, list, tuple)


class Extremes(NamedTuple):
    """What `x.max(dim)` and `x.min(dim)` return."""

    values: Tensor
    indices: Tensor


class Methods:
    """The methods of Tensor that are ops."""

    __slots__ = ()

    array: Any
    shape: tuple[int, ...]
    ndim: int

    def apply_function(self, op: Function, inputs: Sequence[Any]) -> Any:
        raise NotImplementedError

    def _op(self, op: Function, *others: Any) -> Tensor:
        return self.apply_function(op, (self, *others))

    def _with(self, op: Function, other: Any, swapped: bool = False) -> Any:
        if not isinstance(other, (Methods, *OPERANDS)) and not hasattr(other, "__cuda_array_interface__"):
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

    # ---- reductions

    def sum(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return self._op(r.Sum(_axis(dim, axis), keepdim or keepdims))

    def mean(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return self._op(r.Mean(_axis(dim, axis), keepdim or keepdims))

    def var(
        self,
        dim: Axis = None,
        correction: float | None = None,
        keepdim: bool = False,
        *,
        unbiased: bool = True,
        axis: Axis = None,
        keepdims: bool = False,
    ) -> Tensor:
        """The variance; divides by count - correction, where correction is 1 (0 with `unbiased=False`) as in PyTorch."""
        return self._op(r.Var(_axis(dim, axis), keepdim or keepdims, _correction(correction, unbiased)))

    def std(
        self,
        dim: Axis = None,
        correction: float | None = None,
        keepdim: bool = False,
        *,
        unbiased: bool = True,
        axis: Axis = None,
        keepdims: bool = False,
    ) -> Tensor:
        """The standard deviation: the square root of `var`."""
        return self._op(r.Std(_axis(dim, axis), keepdim or keepdims, _correction(correction, unbiased)))

    def amax(self, dim: Axis = None, keepdim: bool = False) -> Tensor:
        return self._op(r.Max(dim, keepdim))

    def amin(self, dim: Axis = None, keepdim: bool = False) -> Tensor:
        return self._op(r.Min(dim, keepdim))

    def max(self, dim: Any = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Any:
        """The largest element; with `dim`, (values, indices) as in PyTorch; with `axis`, the values as in NumPy; with a tensor, the larger of two."""
        if isinstance(dim, Methods):
            return self.maximum(dim)
        values = self._op(r.Max(_axis(dim, axis), keepdim or keepdims))
        return values if dim is None else Extremes(values, self._op(r.ArgMax(dim, keepdim)))

    def min(self, dim: Any = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Any:
        """The smallest element; the forms of `max`."""
        if isinstance(dim, Methods):
            return self.minimum(dim)
        values = self._op(r.Min(_axis(dim, axis), keepdim or keepdims))
        return values if dim is None else Extremes(values, self._op(r.ArgMin(dim, keepdim)))

    def argmax(self, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return self._op(r.ArgMax(_axis(dim, axis), keepdim or keepdims))

    def argmin(self, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
        return self._op(r.ArgMin(_axis(dim, axis), keepdim or keepdims))

    def all(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return self._op(r.All(_axis(dim, axis), keepdim or keepdims))

    def any(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return self._op(r.Any_(_axis(dim, axis), keepdim or keepdims))

    def logsumexp(self, dim: Axis = None, keepdim: bool = False) -> Tensor:
        return self._op(r.LogSumExp(dim, keepdim))

    def softmax(self, dim: int = -1) -> Tensor:
        return self._op(r.Softmax(dim))

    def log_softmax(self, dim: int = -1) -> Tensor:
        return self._op(r.LogSoftmax(dim))

    # ---- shapes

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape; one length may be -1. Shares memory where it can."""
        wanted = _ints(shape)
        known = 1
        for n in wanted:
            known *= n if n != -1 else 1
        size = self.array.size
        fits = size == known if -1 not in wanted else known != 0 and size % known == 0
        if not fits or min(wanted, default=0) < -1 or wanted.count(-1) > 1:
            raise ShapeError(
                "reshape: the number of elements must stay the same", f"{describe(tensor=self)} ({size} elements) to {list(wanted)}"
            )
        return self._op(s.Reshape(wanted))

    view = reshape

    def reshape_as(self, other: Any) -> Tensor:
        return self.reshape(other.shape)

    view_as = reshape_as

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """The axes start_dim to end_dim joined into one."""
        if not self.ndim:
            return self.reshape(1)
        start, end = start_dim % self.ndim, end_dim % self.ndim
        joined = 1
        for n in self.shape[start : end + 1]:
            joined *= n
        return self._op(s.Reshape((*self.shape[:start], joined, *self.shape[end + 1 :])))

    def ravel(self) -> Tensor:
        return self.flatten()

    def permute(self, *axes: Any) -> Tensor:
        """The axes in a new order."""
        order = _ints(axes)
        if sorted(a % max(self.ndim, 1) for a in order) != list(range(self.ndim)):
            raise ShapeError("permute: every axis must be named once", f"{describe(tensor=self)}, axes {list(order)}")
        return self._op(s.Transpose(order))

    def transpose(self, *axes: Any) -> Tensor:
        """Two axes exchanged, `transpose(0, 1)` (PyTorch); all in a new order, or reversed if none is named (NumPy)."""
        if len(axes) == 2 and self.ndim >= 2:
            return self.swapaxes(*axes)
        return self.permute(*axes) if axes and axes[0] is not None else self._op(s.Transpose(tuple(range(self.ndim))[::-1]))

    def swapaxes(self, a: int, b: int) -> Tensor:
        order = list(range(self.ndim))
        order[a], order[b] = order[b], order[a]
        return self._op(s.Transpose(tuple(order)))

    @property
    def T(self) -> Tensor:
        """The axes in reverse order."""
        return self._op(s.Transpose(tuple(range(self.ndim))[::-1]))

    def t(self) -> Tensor:
        return self.T

    def squeeze(self, dim: Axis = None, *, axis: Axis = None) -> Tensor:
        """Without axes of length 1: all of them, or those named (a named axis of another length stays, as in PyTorch)."""
        named = _axis(dim, axis)
        chosen = range(self.ndim) if named is None else [i % self.ndim for i in (named if isinstance(named, tuple) else (named,))]
        return self._op(s.Reshape(tuple(n for i, n in enumerate(self.shape) if n != 1 or i not in chosen)))

    def unsqueeze(self, dim: int) -> Tensor:
        """With a new axis of length 1 at `dim`."""
        at = dim % (self.ndim + 1)
        return self._op(s.Reshape((*self.shape[:at], 1, *self.shape[at:])))

    def expand(self, *shape: Any) -> Tensor:
        """Broadcast to a shape; -1 keeps a length. The memory is shared, so the result is read-only."""
        wanted = _ints(shape)
        lead = len(wanted) - self.ndim
        full = tuple(self.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(wanted))
        if lead < 0 or any(have not in (1, n) for have, n in zip(self.shape, full[lead:], strict=True)):
            raise ShapeError("expand: only axes of length 1 can grow", f"{describe(tensor=self)} to {list(wanted)}")
        return self._op(s.Expand(full))

    def __getitem__(self, key: Any) -> Tensor:
        parts, arrays = [], []
        for part in key if isinstance(key, tuple) else (key,):
            if isinstance(part, (Methods, np.ndarray, list)):
                arrays.append(part.array if isinstance(part, Methods) else self._index_array(part))
                parts.append(s.SLOT)
            else:
                parts.append(part.item() if isinstance(part, np.generic) else part)
        return self._op(s.Index(tuple(parts)), *arrays)

    @staticmethod
    def _index_array(part: Any) -> np.ndarray:
        array = np.asarray(part)
        return array.astype(np.intp) if array.dtype.kind == "f" and not array.size else array

    # ---- other dtypes

    def astype(self, dtype: Any, copy: bool = True) -> Tensor:
        wanted = np.dtype(dtype)
        return self if wanted == self.array.dtype and not copy else self._op(e.Cast(wanted.str))  # type: ignore[return-value]

    def clone(self) -> Tensor:
        """A copy in memory of its own; gradients pass through."""
        return self._op(e.Copy())

    copy = clone


def _axis(dim: Any, axis: Any) -> Any:
    if dim is not None and axis is not None:
        raise OptionError("give dim= or axis=, not both", f"dim={dim}, axis={axis}")
    chosen = dim if dim is not None else axis
    return tuple(chosen) if isinstance(chosen, list) else chosen


def _correction(correction: float | None, unbiased: bool) -> float:
    return correction if correction is not None else 1.0 if unbiased else 0.0


def _ints(values: tuple) -> tuple[int, ...]:
    if len(values) == 1 and not isinstance(values[0], (int, np.integer)):
        values = tuple(values[0])
    return tuple(int(v) for v in values)
