"""The reductions and shapes of a Tensor: each method picks an op and applies it.

Names are PyTorch's; reductions take `dim=`/`keepdim=` and NumPy's `axis=`/`keepdims=` alike, so that the op texts, which
are written for arrays, also run on Tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from mulgil.autograd.axes import axes_of, axis_of
from mulgil.autograd.operators import Operators
from mulgil.backend import xp_of
from mulgil.errors import OptionError, ShapeError, describe
from mulgil.ops import reduce as r
from mulgil.ops import shape as s
from mulgil.ops.function import Function, made
from mulgil.typing import ArrayLike, Axis, DTypeLike, Index

if TYPE_CHECKING:
    from mulgil.autograd.tensor import Tensor


class Extremes(NamedTuple):
    """What `x.max(dim)` and `x.min(dim)` return."""

    values: Tensor
    indices: Tensor


class Methods(Operators):
    """The part of Tensor that reduces and reshapes."""

    __slots__ = ()

    if TYPE_CHECKING:  # Tensor's own

        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def ndim(self) -> int: ...

    # ---- reductions

    def _reduced(self, op: Callable[..., Function], dim: Axis, axis: Axis, keep: bool, *more: Any) -> Tensor:
        return self.apply_function(op(axes_of(self, dim, axis), keep, *more), (self,))

    def sum(
        self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The sum over the axes `dim`; over all if none is named. Integers and booleans add up in int64. dtype: convert to it first."""
        return self._as(dtype)._reduced(r.Sum, dim, axis, keepdim or keepdims)._as(dtype)

    def mean(
        self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The mean over the axes `dim`, of integers in the default dtype. dtype: convert to it first."""
        return self._as(dtype)._reduced(r.Mean, dim, axis, keepdim or keepdims)._as(dtype)

    def prod(
        self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False, dtype: DTypeLike | None = None
    ) -> Tensor:
        """The product over the axes `dim`. Integers and booleans are multiplied in int64. dtype: convert to it first."""
        return self._as(dtype)._reduced(r.Prod, dim, axis, keepdim or keepdims)._as(dtype)

    def amax(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The largest element along the axes `dim`; equals share its gradient."""
        return self._op(r.Max(axes_of(self, dim, axis, empty=False), keepdim or keepdims))

    def amin(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The smallest element along the axes `dim`; equals share its gradient."""
        return self._op(r.Min(axes_of(self, dim, axis, empty=False), keepdim or keepdims))

    def logsumexp(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """log(sum(exp(x))) over the axes `dim`, without overflow."""
        return self._reduced(r.LogSumExp, dim, axis, keepdim or keepdims)

    def argmax(self, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Where the largest element is along `dim`, int64; in the flat tensor if no axis is named."""
        return self._place("argmax", dim, axis, keepdim or keepdims)

    def argmin(self, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """Where the smallest element is along `dim`, int64; in the flat tensor if no axis is named."""
        return self._place("argmin", dim, axis, keepdim or keepdims)

    def _place(self, name: str, dim: Any, axis: Any, keep: bool) -> Tensor:
        along = axes_of(self, dim, axis, empty=False)
        if isinstance(along, tuple) and along:
            raise OptionError(f"{name}: one axis, or None for all elements", repr(along))
        return self._op(r.Query(along if along != () else None, keep and self.ndim > 0, name))

    def all(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Whether all elements along the axes `dim` are true (not 0)."""
        return self._reduced(r.Query, dim, axis, keepdim or keepdims, "all")

    def any(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Whether one element along the axes `dim` is true (not 0)."""
        return self._reduced(r.Query, dim, axis, keepdim or keepdims, "any")

    def var(
        self,
        dim: Axis | bool = None,
        correction: float | None = None,
        keepdim: bool = False,
        *,
        unbiased: bool = True,
        axis: Axis = None,
        keepdims: bool = False,
    ) -> Tensor:
        """The variance over the axes `dim`: squared distances from the mean, divided by their number less `correction` (1)."""
        return self._spread(r.Var, dim, axis, keepdim or keepdims, correction, unbiased)

    def std(
        self,
        dim: Axis | bool = None,
        correction: float | None = None,
        keepdim: bool = False,
        *,
        unbiased: bool = True,
        axis: Axis = None,
        keepdims: bool = False,
    ) -> Tensor:
        """The square root of `var`."""
        return self._spread(r.Std, dim, axis, keepdim or keepdims, correction, unbiased)

    def _spread(self, op: Any, dim: Any, axis: Any, keep: bool, correction: float | None, unbiased: bool) -> Tensor:
        if isinstance(dim, bool):  # PyTorch's short form, x.std(False)
            dim, unbiased = None, dim
        correction = correction if correction is not None else 1.0 if unbiased else 0.0  # PyTorch's default is the unbiased one
        return self._reduced(op, dim, axis, keep, correction)

    @overload
    def max(self, dim: None = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor: ...
    @overload
    def max(self, dim: int, keepdim: bool = False) -> Extremes: ...
    @overload
    def max(self, dim: Tensor) -> Tensor: ...
    def max(
        self, dim: int | Tensor | None = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False
    ) -> Tensor | Extremes:
        """The largest element; with `dim`, (values, indices) as in PyTorch; with `axis`, NumPy's values; of two tensors, the larger.

        The gradient of `dim`'s values goes to the elements at the indices; otherwise equal elements share it evenly.
        """
        if isinstance(dim, Methods):
            return self.maximum(dim)
        return self._extreme(r.Max, "argmax", dim, axis, keepdim or keepdims)

    @overload
    def min(self, dim: None = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor: ...
    @overload
    def min(self, dim: int, keepdim: bool = False) -> Extremes: ...
    @overload
    def min(self, dim: Tensor) -> Tensor: ...
    def min(
        self, dim: int | Tensor | None = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False
    ) -> Tensor | Extremes:
        """The smallest element; the forms of `max`."""
        if isinstance(dim, Methods):
            return self.minimum(dim)
        return self._extreme(r.Min, "argmin", dim, axis, keepdim or keepdims)

    def _extreme(self, op: Any, place: str, dim: Any, axis: Any, keep: bool) -> Any:
        along = axes_of(self, dim, axis, empty=False)
        if dim is None:
            return self._op(op(along, keep))
        indices = self._place(place, dim, None, True)
        values = self._op(r.Gather(along), indices) if self.ndim else self.reshape(())
        return Extremes(values, indices) if keep or not self.ndim else Extremes(values.squeeze(along), indices.squeeze(along))

    def gather(self, dim: int, index: ArrayLike) -> Tensor:
        """The elements at integers `index` along an axis: y[i, j] = x[index[i, j], j] for dim 0. index: x's shape but for that axis."""
        along, shape = axis_of(self, dim), tuple(getattr(index, "shape", ()))
        if len(shape) != self.ndim or shape[:along] + shape[along + 1 :] != self.shape[:along] + self.shape[along + 1 :]:
            hint = f"for one index a row: index.unsqueeze({dim}), and squeeze({dim}) afterwards"
            raise ShapeError(f"gather: index must be integers of x's shape but for axis {dim}", describe(x=self, index=index), hint)
        return self._op(r.Gather(along), index) if self.ndim else self.clone()

    def softmax(self, dim: int = -1, dtype: DTypeLike | None = None) -> Tensor:
        """exp(x) / sum(exp(x)) along one axis. dtype: convert to it first."""
        return self._normalised(r.Softmax, dim, dtype)

    def log_softmax(self, dim: int = -1, dtype: DTypeLike | None = None) -> Tensor:
        """log(softmax(x)) along one axis, accurate where the softmax is nearly 0 or 1. dtype: convert to it first."""
        return self._normalised(r.LogSoftmax, dim, dtype)

    def _normalised(self, op: Any, dim: int, dtype: Any) -> Tensor:
        x = self._as(dtype)
        return x._op(op(axes_of(x, dim))) if x.ndim else x.reshape(1)._op(op(axis_of(x, dim))).reshape(())

    def _as(self, dtype: DTypeLike | None) -> Tensor:
        return self if dtype is None else self.astype(dtype, copy=False)  # type: ignore[return-value]

    # ---- shapes

    def reshape(self, *shape: int | Sequence[int]) -> Tensor:
        """The same elements in another shape; one length may be -1. Shares memory where it can."""
        wanted = _ints(shape)
        known = 1
        for n in wanted:
            known *= n if n != -1 else 1
        size = self.array.size
        fits = size == known if -1 not in wanted else known != 0 and size % known == 0
        if not fits or min(wanted, default=0) < -1 or wanted.count(-1) > 1:
            raise ShapeError(
                "reshape: the number of elements must stay the same",
                f"{describe(tensor=self)} ({size} elements) to {list(wanted)}",
                "one length may be -1, it is worked out: x.reshape(len(x), -1)",
            )
        return self._op(s.Reshape(wanted))

    view = reshape

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """The axes start_dim to end_dim joined into one."""
        if not self.ndim:
            return self.reshape(1)
        start, end = axis_of(self, start_dim), axis_of(self, end_dim)
        if start > end:
            raise OptionError(
                "flatten: start_dim must not come after end_dim",
                f"start_dim={start_dim}, end_dim={end_dim}",
                "flatten(1) keeps the batch axis",
            )
        joined = 1
        for n in self.shape[start : end + 1]:
            joined *= n
        return self._op(s.Reshape((*self.shape[:start], joined, *self.shape[end + 1 :])))

    def ravel(self) -> Tensor:
        return self.flatten()

    def permute(self, *axes: int | Sequence[int]) -> Tensor:
        """The axes in a new order."""
        order = _ints(axes)
        if any(not -self.ndim <= a < self.ndim for a in order) or sorted(a % self.ndim for a in order) != list(range(self.ndim)):
            raise ShapeError(
                "permute: every axis must be named once",
                f"{describe(tensor=self)}, axes {list(order)}",
                f"permute{(*range(self.ndim)[::-1],)} reverses them",
            )
        return self._op(s.Transpose(order))

    def transpose(self, *axes: int | Sequence[int] | None) -> Tensor:
        """Two axes exchanged, `transpose(0, 1)` (PyTorch); all in a new order, or reversed if none is named (NumPy)."""
        named: tuple[Any, ...] = axes
        if len(named) == 2:
            return self.swapaxes(*named)
        return self.permute(*named) if named and named[0] is not None else self._op(s.Transpose(tuple(range(self.ndim))[::-1]))

    def swapaxes(self, a: int, b: int) -> Tensor:
        """Two axes exchanged."""
        order = list(range(self.ndim))
        a, b = axis_of(self, a), axis_of(self, b)
        if order:
            order[a], order[b] = order[b], order[a]
        return self._op(s.Transpose(tuple(order)))

    @property
    def T(self) -> Tensor:
        """The axes in reverse order."""
        return self._op(s.Transpose(tuple(range(self.ndim))[::-1]))

    def t(self) -> Tensor:
        """A matrix transposed; fewer axes stay as they are."""
        if self.ndim > 2:
            raise ShapeError("t: at most two axes", describe(tensor=self), "x.transpose(-1, -2), x.permute(...), or x.T for all axes")
        return self.T

    def squeeze(self, dim: Axis = None, *, axis: Axis = None) -> Tensor:
        """Without axes of length 1: all of them, or those named (a named axis of another length stays, as in PyTorch)."""
        named = axes_of(self, dim, axis) if dim != () else ()
        chosen = range(self.ndim) if named is None else [i % self.ndim for i in (named if isinstance(named, tuple) else (named,))]
        return self._op(s.Reshape(tuple(n for i, n in enumerate(self.shape) if n != 1 or i not in chosen)))

    def unsqueeze(self, dim: int) -> Tensor:
        """With a new axis of length 1 at `dim`."""
        at = axis_of(self, dim, self.ndim + 1)
        return self._op(s.Reshape((*self.shape[:at], 1, *self.shape[at:])))

    def expand(self, *shape: int | Sequence[int]) -> Tensor:
        """Broadcast to a shape; -1 keeps a length. The memory is shared, so the result is read-only."""
        wanted = _ints(shape)
        lead = len(wanted) - self.ndim
        full = tuple(self.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(wanted))
        if lead < 0 or any(have not in (1, n) for have, n in zip(self.shape, full[lead:], strict=True)):
            raise ShapeError(
                "expand: only axes of length 1 can grow",
                f"{describe(tensor=self)} to {list(wanted)}",
                "-1 keeps a length; unsqueeze adds an axis; cat repeats",
            )
        return self._op(s.Expand(full))

    def __getitem__(self, key: Index) -> Tensor:
        parts, arrays = self._index(key)
        return self._op(s.Index(parts), *arrays)

    def _index(self, key: Any) -> tuple[tuple, list[Any]]:
        """What `Index` wants for a NumPy index: the key with SLOT in place of arrays, and these."""
        parts: list[Any] = []
        arrays: list[Any] = []
        for part in key if isinstance(key, tuple) else (key,):
            if isinstance(part, (Methods, np.ndarray, list)):
                empty = isinstance(part, list) and not part  # NumPy would make it floating, which is no index
                xp = xp_of(self.array)
                arrays.append(part.array if isinstance(part, Methods) else made(xp.asarray(part, np.intp if empty else None), part))
                parts.append(s.SLOT)
            else:
                parts.append(part.item() if isinstance(part, np.generic) else part)
        return tuple(parts), arrays


def _ints(values: tuple) -> tuple[int, ...]:
    if len(values) == 1 and not isinstance(values[0], (int, np.integer)):
        values = tuple(values[0]) if hasattr(values[0], "__iter__") else values
    if not all(hasattr(v, "__index__") for v in values):
        raise OptionError("lengths and axes are integers", repr(values), "whole numbers: x.reshape(2, -1), n // 2 instead of n / 2")
    return tuple(int(v) for v in values)
