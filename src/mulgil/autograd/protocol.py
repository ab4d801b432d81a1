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
        tell("to_python", self.array)
        if not isinstance(self.array, np.ndarray):
            raise DTypeError("NumPy cannot see memory on the GPU", f"a tensor on {self.device}", "use t.cpu() first")  # type: ignore[attr-defined]
        wanted = self.array if dtype is None else self.array.astype(dtype, copy=False)
        return wanted.copy() if copy and wanted is self.array else wanted

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if method == "__call__" and ufunc in UFUNCS and out is None and not kwargs:
            return UFUNCS[ufunc]()(*inputs)
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        arrays = [_bare(x, name) for x in inputs]
        if out is not None:
            kwargs["out"] = tuple(_bare(x, name) for x in out)
        return getattr(ufunc, method)(*arrays, **kwargs)

    def __array_function__(self, function: Callable, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if function in FUNCTIONS and kwargs.get("out") is None:
            return FUNCTIONS[function](*args, **kwargs)
        name = getattr(function, "__name__", str(function))
        return function(*(_bare(a, name) for a in args), **{k: _bare(a, name) for k, a in kwargs.items()})


class PythonProtocol:
    """The part of Tensor that Python's own syntax calls: len, for, float(), bool(), format(), repr()."""

    __slots__ = ()

    array: Any
    __getitem__: Any

    def __len__(self) -> int:
        if not self.array.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.array.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(len(self.array)))

    def item(self) -> Any:  # as in NumPy: which kind of number, only the dtype says
        """The single element as a Python number: int, float or bool."""
        if self.array.size != 1:
            raise ShapeError(
                "item: only a tensor of one element is a Python number",
                describe(tensor=self.array),
                "reduce first: x.mean(), or take x.tolist()",
            )
        tell("to_python", self.array)
        return self.array.item()

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise ShapeError(
                "the truth of a tensor with several elements is ambiguous", describe(tensor=self.array), "use (a == b).all() or .any()"
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.dtype.kind not in "iub" or self.array.ndim:
            raise TypeError(f"only a 0-d integer tensor can be an index, got {describe(tensor=self.array)}")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec or not self.array.ndim else str(self)

    def __repr__(self) -> str:
        on_cpu = to_device(self.array, "cpu")
        body = np.array2string(on_cpu, separator=", ", prefix="tensor(", precision=4)
        notes = "" if self.array.dtype in (default_dtype(), np.int64, np.bool_) else f", dtype={self.array.dtype}"
        notes += "" if self.array is on_cpu else f", device='{device_of(self.array)}'"
        return f"tensor({body}{notes}{self._history()})"

    def _history(self) -> str:
        return ""


def _bare(x: Any, name: str) -> Any:
    """`x` with arrays in place of Tensors, refusing those whose gradient would be lost."""
    if isinstance(x, (list, tuple)):
        return type(x)(_bare(part, name) for part in x)
    if not isinstance(x, NumpyProtocol):
        return x
    if is_grad_enabled() and x.requires_grad:  # type: ignore[attr-defined]
        raise GradientError(
            f"np.{name} has no gradient in mulgil, and this tensor requires one",
            f"shape {list(x.array.shape)}",
            f"np.{name}(t.detach()), or an op that has one",
        )
    return np.asarray(x)
