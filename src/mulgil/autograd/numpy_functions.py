"""NumPy's functions on Tensors: for each that has a gradient here, how it is computed.

A handler's own signature declares what it honours, under NumPy's names and in NumPy's order. What it does not declare is not
dropped: NumPy then computes the call itself, on arrays, and a tensor whose gradient would be lost is refused (`protocol`).
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import numpy as np

from mulgil.autograd.operators import Operators, choose
from mulgil.ops import elementwise as e
from mulgil.ops import mathematics as m
from mulgil.ops import shape as s
from mulgil.ops.linalg import MatMul


class NotHonoured(Exception):
    """A handler's answer to arguments that it cannot do: the call is NumPy's."""


# ---------------------------------------------------------------------- ufuncs
def _truth(x: Any) -> Any:
    return x if isinstance(x, bool) or getattr(x, "dtype", None) == np.dtype(bool) else x != 0


def _op(op: Any) -> Callable:
    return lambda *inputs: op(*inputs)


UFUNCS: dict[np.ufunc, Callable] = {
    np.add: _op(e.Add()),
    np.subtract: _op(e.Sub()),
    np.multiply: _op(e.Mul()),
    np.true_divide: _op(e.Div()),
    np.power: _op(e.Pow()),
    np.matmul: _op(MatMul()),
    np.negative: _op(e.Neg()),
    np.positive: lambda x: x,
    np.absolute: _op(m.Abs()),
    np.square: lambda x: x.square(),
    np.sign: _op(m.Sign()),
    np.maximum: _op(e.Maximum()),
    np.minimum: _op(e.Minimum()),
    np.exp: _op(m.Exp()),
    np.log: _op(m.Log()),
    np.log1p: _op(m.Log1p()),
    np.sqrt: _op(m.Sqrt()),
    np.sin: _op(m.Sin()),
    np.cos: _op(m.Cos()),
    np.tanh: _op(m.Tanh()),
    np.floor_divide: _op(e.FloorDiv()),
    np.remainder: _op(e.Remainder()),
    np.floor: _op(m.Floor()),
    np.ceil: _op(m.Ceil()),
    np.trunc: _op(m.Trunc()),
    np.rint: _op(m.Round()),
    np.isnan: _op(m.IsNan()),
    np.isinf: _op(m.IsInf()),
    np.isfinite: _op(m.IsFinite()),
    np.equal: _op(e.Compare("==")),
    np.not_equal: _op(e.Compare("!=")),
    np.less: _op(e.Compare("<")),
    np.less_equal: _op(e.Compare("<=")),
    np.greater: _op(e.Compare(">")),
    np.greater_equal: _op(e.Compare(">=")),
    np.logical_and: lambda a, b: e.Compare("&")(_truth(a), _truth(b)),
    np.logical_or: lambda a, b: e.Compare("|")(_truth(a), _truth(b)),
    np.logical_xor: lambda a, b: e.Compare("^")(_truth(a), _truth(b)),
    np.logical_not: lambda x: e.Invert()(_truth(x)),
    np.bitwise_and: _op(e.Compare("&")),
    np.bitwise_or: _op(e.Compare("|")),
    np.bitwise_xor: _op(e.Compare("^")),
    np.invert: _op(e.Invert()),
}


# ---------------------------------------------------------------------- functions
def _sum(a: Any, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    return a.sum(axis=axis, keepdims=bool(keepdims), dtype=dtype)


def _prod(a: Any, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    return a.prod(axis=axis, keepdims=bool(keepdims), dtype=dtype)


def _mean(a: Any, axis: Any = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    if dtype is not None and np.dtype(dtype).kind != "f":
        raise NotHonoured  # NumPy rounds then
    return a.mean(axis=axis, keepdims=bool(keepdims), dtype=dtype)


def _var(a: Any, axis: Any = None, *, ddof: float = 0, correction: float | None = None, keepdims: bool = False) -> Any:
    return a.var(axis=axis, keepdims=bool(keepdims), correction=ddof if correction is None else correction)


def _std(a: Any, axis: Any = None, *, ddof: float = 0, correction: float | None = None, keepdims: bool = False) -> Any:
    return a.std(axis=axis, keepdims=bool(keepdims), correction=ddof if correction is None else correction)


def _over_axes(method: str) -> Callable:
    def handler(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
        return getattr(a, method)(axis=axis, keepdims=bool(keepdims))

    return handler


def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None and y is None:
        return np.nonzero(condition)
    if not isinstance(condition, Operators):
        condition = next(v for v in (x, y) if isinstance(v, Operators)).of(np.asarray(condition))
    return choose(condition, x, y)


def _pad(array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Any:
    if mode != "constant" or isinstance(pad_width, dict) or not isinstance(constant_values, (int, float)):
        raise NotHonoured
    widths = np.broadcast_to(np.asarray(pad_width), (array.ndim, 2))
    return s.Pad(tuple((int(x), int(y)) for x, y in widths), constant_values)(array)


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    return a.clip(a_min if min is None else min, a_max if max is None else max)


def _reshape(a: Any, shape: Any, order: str = "C") -> Any:
    shape = (shape,) if hasattr(shape, "__index__") else tuple(shape)
    if order == "F":  # the first axis runs fastest: row-major of the axes turned round
        return a.T.reshape(shape[::-1]).T
    return a.reshape(shape) if order == "C" else _unknown()


def _ravel(a: Any, order: str = "C") -> Any:
    return a.T.flatten() if order == "F" else a.flatten() if order == "C" else _unknown()


def _unknown() -> Any:
    raise NotHonoured


def _squeeze(a: Any, axis: Any = None) -> Any:
    if axis is not None and any(a.shape[i] != 1 for i in (axis if isinstance(axis, tuple) else (axis,))):
        raise NotHonoured  # NumPy's error
    return a.squeeze(axis=axis)


def _expand_dims(a: Any, axis: Any) -> Any:
    if not isinstance(axis, int):
        raise NotHonoured
    return a.unsqueeze(axis)


def _concatenate(arrays: Any, axis: Any = 0) -> Any:
    arrays = list(arrays)
    return s.Concatenate(axis)(*arrays) if axis is not None else s.Concatenate(0)(*[np.ravel(a) for a in arrays])


def _stack(arrays: Any, axis: int = 0) -> Any:
    return s.Concatenate(axis)(*[np.expand_dims(a, axis) for a in arrays])


def _dot(a: Any, b: Any) -> Any:
    if not np.ndim(a) or not np.ndim(b):
        return a * b
    if np.ndim(b) > 2:  # the last but one axis of b, beside all others: not a stack of products
        raise NotHonoured
    return a @ b


def _transpose(a: Any, axes: Any = None) -> Any:
    return a.T if axes is None else a.permute(tuple(axes))


def _like(value: Any) -> Callable:
    def handler(a: Any, dtype: Any = None, *, shape: Any = None) -> Any:
        return _filled(a, value, dtype, shape)

    return handler


def _full_like(a: Any, fill_value: Any, dtype: Any = None, *, shape: Any = None) -> Any:
    return _filled(a, fill_value, dtype, shape)


def _filled(a: Any, value: Any, dtype: Any, shape: Any) -> Any:
    if shape is not None or not isinstance(value, (int, float)) or not hasattr(a, "detach"):
        raise NotHonoured
    a = a.detach()  # nothing of its values stays
    return e.Fill(value)(a if dtype is None else a.astype(dtype))


def _round(a: Any, decimals: int = 0) -> Any:
    return m.Round()(a) if not decimals else m.Round()(a * 10.0**decimals) / 10.0**decimals


FUNCTIONS: dict[Callable, Callable] = {
    np.sum: _sum,
    np.prod: _prod,
    np.mean: _mean,
    np.var: _var,
    np.std: _std,
    **dict.fromkeys((np.max, np.amax), _over_axes("amax")),
    **dict.fromkeys((np.min, np.amin), _over_axes("amin")),
    **{getattr(np, name): _over_axes(name) for name in ("argmax", "argmin", "all", "any")},
    np.where: _where,
    np.pad: _pad,
    np.clip: _clip,
    np.reshape: _reshape,
    np.ravel: _ravel,
    np.transpose: _transpose,
    np.swapaxes: lambda a, axis1, axis2: a.swapaxes(axis1, axis2),
    np.squeeze: _squeeze,
    np.expand_dims: _expand_dims,
    np.broadcast_to: lambda array, shape: array.expand(shape),
    np.concatenate: _concatenate,
    np.stack: _stack,
    np.dot: _dot,
    np.full_like: _full_like,
    np.zeros_like: _like(0),
    np.ones_like: _like(1),
    np.copy: lambda a: a.clone(),
    **dict.fromkeys((np.round, np.around), _round),
    np.fix: lambda x: m.Trunc()(x),
    np.ndim: lambda a: a.ndim,
    np.shape: lambda a: a.shape,
    np.size: lambda a, axis=None: np.size(a.array, axis),
}

# Arguments that change nothing when they hold this: a handler need not know them. order, where it is no handler's own, is a layout.
NEUTRAL: dict[str, tuple] = {
    "out": (None,),
    "where": (True, np._NoValue),
    "initial": (np._NoValue,),
    "keepdims": (False, np._NoValue),
    "dtype": (None,),
    "order": ("C", "K", "A", "F"),
    "subok": (True, False),
    "casting": ("same_kind",),
    "device": (None, "cpu"),
    "like": (None,),
    "mean": (np._NoValue,),
}

# What no gradient can come from: computed on the arrays, also of tensors that require gradients.
# fmt: off
WITHOUT_GRADIENT: frozenset[Callable] = frozenset((
    np.allclose, np.isclose, np.array_equal, np.array_equiv, np.argsort, np.argpartition, np.argwhere, np.nonzero, np.flatnonzero,
    np.count_nonzero, np.searchsorted, np.digitize, np.lexsort, np.isin, np.iscomplex, np.isreal, np.iscomplexobj, np.isrealobj,
    np.isneginf, np.isposinf, np.signbit, np.result_type, np.can_cast, np.min_scalar_type, np.common_type, np.array_repr, np.array_str,
    np.array2string, np.ndim, np.shape, np.size, np.empty_like, np.shares_memory, np.may_share_memory, np.isnan, np.isinf, np.isfinite,
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.logical_and, np.logical_or, np.logical_xor,
    np.logical_not, np.floor, np.ceil, np.trunc, np.rint, np.fix, np.round, np.around, np.sign, np.argmax, np.argmin, np.all, np.any,
))
# fmt: on

# What writes into its first argument.
WRITERS: frozenset[Callable] = frozenset((np.copyto, np.fill_diagonal, np.put, np.place, np.putmask, np.put_along_axis))

# Whose first argument need not be a Tensor.
MIXED = (_where, _concatenate, _stack, _dot)


class Handler:
    """A handler and what it declares: how many positions, which names."""

    def __init__(self, call: Callable):
        self.call = call
        kinds = signature(call).parameters.values()
        positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        self.names = frozenset(p.name for p in kinds)
        self.most = sum(p.kind in positional for p in kinds)
        self.least = sum(p.kind in positional and p.default is Parameter.empty for p in kinds)
        self.first = next(iter(signature(call).parameters))

    def __call__(self, args: tuple, kwargs: dict) -> Any:
        """The result. Raises NotHonoured for arguments that are not declared and not neutral."""
        if kwargs:
            kwargs = {k: v for k, v in kwargs.items() if k in self.names or not neutral(k, v)}
        if not kwargs.keys() <= self.names or not self.least <= len(args) + sum(k in self.names for k in kwargs) or len(args) > self.most:
            raise NotHonoured
        if type(args[0] if args else kwargs.get(self.first)) is np.ndarray and self.call not in MIXED:
            raise NotHonoured
        return self.call(*args, **kwargs)


def neutral(name: str, value: Any) -> bool:
    """Whether an argument of NumPy's changes nothing."""
    if name == "out" and isinstance(value, tuple):
        return not any(v is not None for v in value)
    return any(value is v or (isinstance(v, str) and value == v) for v in NEUTRAL.get(name, ()))


HANDLERS: dict[Callable, Handler] = {function: Handler(call) for function, call in FUNCTIONS.items()}
