"""NumPy's protocols and Python's: `np.exp(t)`, `np.mean(t, axis=0)`, `np.where(mask, a, b)` on Tensors stay differentiable.

A NumPy function without an op is computed on the arrays, as long as no gradient would be lost in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mulgil.autograd.engine import is_grad_enabled
from mulgil.backend import default_dtype, device_of, to_device
from mulgil.errors import DTypeError, GradientError, ShapeError, describe
from mulgil.ops import elementwise as e
from mulgil.ops import mathematics as m
from mulgil.ops import reduce as r
from mulgil.ops import shape as s
from mulgil.ops.function import tell
from mulgil.ops.linalg import MatMul
from mulgil.typing import DTypeLike

if TYPE_CHECKING:
    from mulgil.autograd.tensor import Tensor

# fmt: off
_NAMED: dict[str, Callable] = {
    "add": e.Add, "subtract": e.Sub, "multiply": e.Mul, "true_divide": e.Div, "power": e.Pow, "float_power": e.Pow, "matmul": MatMul,
    "negative": e.Neg, "absolute": m.Abs, "sign": m.Sign, "maximum": e.Maximum, "minimum": e.Minimum, "logical_not": e.Invert,
    "exp": m.Exp, "log": m.Log, "log1p": m.Log1p, "sqrt": m.Sqrt, "sin": m.Sin, "cos": m.Cos, "tanh": m.Tanh,
    "floor_divide": e.FloorDiv, "remainder": e.Remainder,
}
_SIGNS = {
    "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=",
    "logical_and": "&", "logical_or": "|",
}
# fmt: on
UFUNCS: dict[np.ufunc, Callable] = {getattr(np, name): op for name, op in _NAMED.items()}
UFUNCS |= {getattr(np, name): partial(e.Compare, sign) for name, sign in _SIGNS.items()}


def _reduction(op: Callable) -> Callable:
    def call(a: Any, axis: Any = None, out: None = None, *, keepdims: Any = False, dtype: Any = None) -> Any:
        result = op(tuple(axis) if isinstance(axis, list) else axis, bool(keepdims))(a)
        return result if dtype is None else result.astype(dtype)

    return call


def _spread(op: Callable) -> Callable:
    def call(a: Any, axis: Any = None, *, ddof: float = 0, correction: float | None = None, keepdims: Any = False) -> Any:
        return op(axis, bool(keepdims), ddof if correction is None else correction)(a)

    return call


def _where(condition: Any, *choices: Any) -> Any:
    if not choices:
        return np.where(np.asarray(condition))
    return e.Where()(condition, *choices)


def _pad(a: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0) -> Any:
    if mode != "constant":
        raise DTypeError('np.pad on a Tensor: only mode="constant" is differentiable', f"mode={mode!r}", "pad t.detach().numpy() instead")
    widths = np.broadcast_to(np.asarray(pad_width), (a.ndim, 2))
    return s.Pad(tuple((int(x), int(y)) for x, y in widths), constant_values)(a)


FUNCTIONS: dict[Callable, Callable] = {
    np.sum: _reduction(r.Sum),
    np.mean: _reduction(r.Mean),
    **dict.fromkeys((np.max, np.amax), _reduction(r.Max)),
    **dict.fromkeys((np.min, np.amin), _reduction(r.Min)),
    **{getattr(np, name): _reduction(partial(r.Query, name=name)) for name in ("argmax", "argmin", "all", "any")},
    np.var: _spread(r.Var),
    np.std: _spread(r.Std),
    np.where: _where,
    np.pad: _pad,
    np.clip: lambda a, a_min=None, a_max=None, **k: a.clip(k.get("min", a_min), k.get("max", a_max)),
    np.reshape: lambda a, shape, order="C": a.reshape(shape),
    np.ravel: lambda a, order="C": a.flatten(),
    np.transpose: lambda a, axes=None: a.permute(axes) if axes is not None else a.T,
    np.swapaxes: lambda a, axis1, axis2: a.swapaxes(axis1, axis2),
    np.squeeze: lambda a, axis=None: a.squeeze(axis),
    np.expand_dims: lambda a, axis: a.unsqueeze(axis),
    np.broadcast_to: lambda a, shape, subok=False: a.expand(shape),
    np.concatenate: lambda arrays, axis=0: s.Concatenate(axis)(*arrays),
    np.stack: lambda arrays, axis=0: s.Concatenate(axis)(*(np.expand_dims(a, axis) for a in arrays)),
    np.dot: lambda a, b: a @ b if np.ndim(a) and np.ndim(b) else a * b,
    np.full_like: lambda a, fill_value, **k: e.Fill(fill_value)(a),
    np.zeros_like: lambda a, **k: e.Fill(0)(a),
    np.ones_like: lambda a, **k: e.Fill(1)(a),
    np.copy: lambda a, **k: a.clone(),
    np.ndim: lambda a: a.ndim,
    np.shape: lambda a: a.shape,
    np.size: lambda a, axis=None: a.array.size if axis is None else a.shape[axis],
}


class NumpyProtocol:
    """The part of Tensor that NumPy calls."""

    __slots__ = ()

    array: Any

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        for observer in observers:
            observer.to_python(self.array)
        tell("to_python", self.array)
