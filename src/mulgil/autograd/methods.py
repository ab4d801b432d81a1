"""The reductions and shapes of a Tensor: each method picks an op and applies it.

Names are PyTorch's; reductions take `dim=`/`keepdim=` and NumPy's `axis=`/`keepdims=` alike, so that the op texts, which
are written for arrays, also run on Tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from mulgil.autograd.operators import Operators
from mulgil.backend import xp_of
from mulgil.errors import OptionError, ShapeError, describe
from mulgil.ops import reduce as r
from mulgil.ops import shape as s
from mulgil.ops.function import Function
from mulgil.typing import Axis, Index

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
        return self.apply_function(op(_axis(dim, axis), keep, *more), (self,))

    def sum(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The sum over the axes `dim`; over all if none is named."""
        return self._reduced(r.Sum, dim, axis, keepdim or keepdims)

    def mean(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The mean over the axes `dim`."""
        return self._reduced(r.Mean, dim, axis, keepdim or keepdims)

    def amax(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The largest element along the axes `dim`; equals share its gradient."""
        return self._reduced(r.Max, dim, axis, keepdim or keepdims)

    def amin(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The smallest element along the axes `dim`; equals share its gradient."""
        return self._reduced(r.Min, dim, axis, keepdim or keepdims)

    def logsumexp(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """log(sum(exp(x))) over the axes `dim`, without overflow."""
        return self._reduced(r.LogSumExp, dim, axis, keepdim or keepdims)

    def argmax(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Where the largest element is along `dim`, int64; in the flat tensor if no axis is named."""
        return self._reduced(r.Query, dim, axis, keepdim or keepdims, "argmax")

    def argmin(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Where the smallest element is along `dim`, int64; in the flat tensor if no axis is named."""
        return self._reduced(r.Query, dim, axis, keepdim or keepdims, "argmin")

    def all(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Whether all elements along the axes `dim` are true (not 0)."""
        return self._reduced(r.Query, dim, axis, keepdim or keepdims, "all")

    def any(self, dim: Axis = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """Whether one element along the axes `dim` is true (not 0)."""
        return self._reduced(r.Query, dim, axis, keepdim or keepdims, "any")

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
        """The variance over the axes `dim`: squared distances from the mean, divided by their number less `correction` (1)."""
        return self._reduced(r.Var, dim, axis, keepdim or keepdims, _correction(correction, unbiased))

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
        """The square root of `var`."""
        return self._reduced(r.Std, dim, axis, keepdim or keepdims, _correction(correction, unbiased))

    @overload
    def max(self, dim: None = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False) -> Tensor: ...
    @overload
    def max(self, dim: int, keepdim: bool = False) -> Extremes: ...
    @overload
    def max(self, dim: Tensor) -> Tensor: ...
    def max(
        self, dim: int | Tensor | None = None, keepdim: bool = False, *, axis: Axis = None, keepdims: bool = False
    ) -> Tensor | Extremes:
        """The largest element; with `dim`, (values, indices) as in PyTorch; with `axis`, NumPy's values; of two tensors, the larger."""
        if isinstance(dim, Methods):
            return self.maximum(dim)
        values = self._reduced(r.Max, dim, axis, keepdim or keepdims)
        return values if dim is None else Extremes(values, self._op(r.Query(dim, keepdim, "argmax")))

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
        values = self._reduced(r.Min, dim, axis, keepdim or keepdims)
        return values if dim is None else Extremes(values, self._op(r.Query(dim, keepdim, "argmin")))

    def softmax(self, dim: int = -1) -> Tensor:
        return self._op(r.Softmax(dim))

    def log_softmax(self, dim: int = -1) -> Tensor:
        return self._op(r.LogSoftmax(dim))

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
                "reshape: the number of elements must stay the same", f"{describe(tensor=self)} ({size} elements) to {list(wanted)}"
            )
        return self._op(s.Reshape(wanted))

    view = reshape

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

    def permute(self, *axes: int | Sequence[int]) -> Tensor:
        """The axes in a new order."""
        order = _ints(axes)
        if sorted(a % max(self.ndim, 1) for a in order) != list(range(self.ndim)):
            raise ShapeError("permute: every axis must be named once", f"{describe(tensor=self)}, axes {list(order)}")
        return self._op(s.Transpose(order))

    def transpose(self, *axes: int | Sequence[int] | None) -> Tensor:
        """Two axes exchanged, `transpose(0, 1)` (PyTorch); all in a new order, or reversed if none is named (NumPy)."""
        named: tuple[Any, ...] = axes
        if len(named) == 2 and self.ndim >= 2:
            return self.swapaxes(*named)
        return self.permute(*named) if named and named[0] is not None else self._op(s.Transpose(tuple(range(self.ndim))[::-1]))

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

    def expand(self, *shape: int | Sequence[int]) -> Tensor:
        """Broadcast to a shape; -1 keeps a length. The memory is shared, so the result is read-only."""
        wanted = _ints(shape)
        lead = len(wanted) - self.ndim
        full = tuple(self.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(wanted))
        if lead < 0 or any(have not in (1, n) for have, n in zip(self.shape, full[lead:], strict=True)):
            raise ShapeError("expand: only axes of length 1 can grow", f"{describe(tensor=self)} to {list(wanted)}")
        return self._op(s.Expand(full))

    def __getitem__(self, key: Index) -> Tensor:
        parts: list[Any] = []
        arrays: list[Any] = []
        for part in key if isinstance(key, tuple) else (key,):
            if isinstance(part, (Methods, np.ndarray, list)):
                empty = isinstance(part, list) and not part  # NumPy would make it floating, which is no index
                xp = xp_of(self.array)
                arrays.append(part.array if isinstance(part, Methods) else xp.asarray(part, np.intp if empty else None))
                parts.append(s.SLOT)
            else:
                parts.append(part.item() if isinstance(part, np.generic) else part)
        return self._op(s.Index(tuple(parts)), *arrays)


def _correction(correction: float | None, unbiased: bool) -> float:
    return correction if correction is not None else 1.0 if unbiased else 0.0  # PyTorch's default is the unbiased one


def _axis(dim: Any, axis: Any) -> Any:
    if dim is not None and axis is not None:
        raise OptionError("give dim= or axis=, not both", f"dim={dim}, axis={axis}")
    chosen = dim if dim is not None else axis
    return tuple(chosen) if isinstance(chosen, list) else chosen


def _ints(values: tuple) -> tuple[int, ...]:
    if len(values) == 1 and not isinstance(values[0], (int, np.integer)):
        values = tuple(values[0])
    return tuple(int(v) for v in values)
