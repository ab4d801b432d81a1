"""Which axes `dim=` or `axis=` means, checked in one place for every method that takes one."""

from __future__ import annotations

from typing import Any

import numpy as np

from mulgil.errors import AxisError, OptionError, ShapeError, describe


def axes_of(x: Any, dim: Any, axis: Any = None, empty: bool = True) -> Any:
    """The axes of a tensor that `dim=` (PyTorch's name) or `axis=` (NumPy's) means: None for all, an int or a tuple.

    dim=() stands for all, as in PyTorch; a 0-d tensor has, for both, the axes 0 and -1.
    empty: whether axes of length 0 may be meant.
    """
    ndim = x.array.ndim
    if dim is not None and axis is not None:
        raise OptionError("give dim= or axis=, not both", f"dim={dim}, axis={axis}")
    chosen = axis if dim is None else dim
    if chosen is not None and (type(chosen) is not int or not -ndim <= chosen < ndim):
        chosen = _checked(chosen, ndim, x, all_of_none=dim is not None)
    if not empty and not x.array.size and any(not x.shape[i] for i in _each(chosen, ndim)):
        raise ShapeError("the largest or smallest of no elements does not exist", describe(tensor=x), "leave out the empty axis")
    return chosen


def axis_of(x: Any, axis: Any, ndim: int | None = None) -> int:
    """One axis of a tensor (or of a shape of `ndim` axes), counted from 0."""
    n = x.array.ndim if ndim is None else ndim
    return _one(axis, max(n, 1), x) % max(n, 1)


def _each(axes: Any, ndim: int) -> Any:
    return range(ndim) if axes is None else axes if isinstance(axes, tuple) else (axes,)


def _checked(axes: Any, ndim: int, x: Any, all_of_none: bool) -> Any:
    if not isinstance(axes, (tuple, list)):
        one = _one(axes, max(ndim, 1), x)
        return one if ndim else ()
    named = tuple(_one(a, max(ndim, 1), x) for a in axes)
    if len({a % max(ndim, 1) for a in named}) < len(named):
        raise AxisError("each axis may be named once", f"{axes} of {describe(tensor=x)}", "-1 names the last axis once more")
    return (None if all_of_none else ()) if not named else named if ndim else ()


def _one(axis: Any, ndim: int, x: Any) -> int:
    if isinstance(axis, (bool, np.bool_)) or not hasattr(axis, "__index__") or np.ndim(axis):
        raise OptionError("an axis is an integer", f"{axis!r} ({type(axis).__name__})", "dim=0 is the first axis, dim=-1 the last")
    if not -ndim <= axis < ndim:
        hint = "axes count from 0; -1 is the last; x.unsqueeze(axis) adds one"
        raise AxisError(f"the axis must be from {-ndim} to {ndim - 1}", f"{axis} of {describe(tensor=x)}", hint)
    return int(axis)
