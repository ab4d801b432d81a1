"""NumPy's protocols and Python's: `np.exp(t)`, `np.mean(t, axis=0)`, `np.where(mask, a, b)` on Tensors stay differentiable.

What has no op (see `numpy_functions`) NumPy computes on the arrays, as long as no gradient would be lost in silence.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mulgil.autograd.conversion import taken_in_passing
from mulgil.autograd.engine import is_grad_enabled
from mulgil.autograd.numpy_functions import HANDLERS, UFUNCS, WITHOUT_GRADIENT, WRITERS, NotHonoured, neutral
from mulgil.backend import default_dtype, device_of, to_device
from mulgil.errors import DTypeError, GradientError, MulgilError, ScalarError, ShapeError, describe
from mulgil.names import DEZERO, Missing
from mulgil.ops.explain import explained
from mulgil.ops.function import tell
from mulgil.typing import DTypeLike

if TYPE_CHECKING:
    from mulgil.autograd.tensor import Tensor


class NumpyProtocol:
    """The part of Tensor that NumPy calls."""

    __slots__ = ()

    array: Any

    if TYPE_CHECKING:  # Tensor's own

        @property
        def requires_grad(self) -> bool: ...
        def bump(self) -> None: ...

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        if is_grad_enabled() and self.requires_grad and (taker := taken_in_passing(sys._getframe(1))):
            raise GradientError(
                f"{taker} takes the numbers of a tensor that requires grad: the gradient would be lost",
                describe(tensor=self.array),
                "join tensors first, mulgil.stack([a, b]), or ask for the numbers: t.numpy(), t.detach()",
            )
        return self._as_numpy(dtype, copy)

    def _as_numpy(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        tell("to_python", self.array)
        if not isinstance(self.array, np.ndarray):
            raise DTypeError("NumPy cannot see memory on the GPU", f"a tensor on {device_of(self.array)}", "use t.cpu() first")
        wanted = self.array if dtype is None else self.array.astype(dtype, copy=False)
        return wanted.copy() if copy and wanted is self.array else wanted

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and ufunc in UFUNCS and all(neutral(k, v) for k, v in kwargs.items()):
            return UFUNCS[ufunc](*inputs)
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        written = inputs[:1] if method == "at" else kwargs.get("out") or ()
        return _on_arrays(getattr(ufunc, method), name, inputs, kwargs, written, ufunc in WITHOUT_GRADIENT, ufunc in UFUNCS)

    def __array_function__(self, function: Callable, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if function in HANDLERS:
            try:
                return HANDLERS[function](args, kwargs)
            except NotHonoured:
                pass
        name = getattr(function, "__name__", str(function))
        out = kwargs.get("out")
        written = args[:1] if function in WRITERS else out if isinstance(out, tuple) else (out,)
        return _on_arrays(function, name, args, kwargs, written, function in WITHOUT_GRADIENT, function in HANDLERS)


class PythonProtocol:
    """The part of Tensor that Python's own syntax calls: len, for, float(), bool(), format(), repr()."""

    __slots__ = ()

    array: Any
    __getitem__: Any

    def __len__(self) -> int:
        if not self.array.ndim:
            raise ScalarError("len() of a 0-d tensor: it has no axes", describe(tensor=self.array), "its number is x.item()")
        return self.array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.array.ndim:
            raise ScalarError("iteration over a 0-d tensor: it has no axes", describe(tensor=self.array), "its number is x.item()")
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
            rule = "only a 0-d integer tensor can be an index"
            raise DTypeError(rule, describe(tensor=self.array), "reduce it first, and convert it: int(x.sum())")
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


for _name in DEZERO["Tensor"]:
    setattr(PythonProtocol, _name, Missing("Tensor", _name))


def _on_arrays(function: Callable, name: str, args: tuple, kwargs: dict, written: Any, free: bool, known: bool) -> Any:
    """What NumPy itself makes of the call, on arrays. written: the arguments that it writes to. free: no gradient can be lost.

    known: whether the function has one with other arguments.
    """
    targets = [t for t in written if isinstance(t, NumpyProtocol)]
    for target in targets:
        _bare(target, name, free=False, known=known)
    bare = partial(_bare, name=name, free=free, known=known)
    try:
        result = function(*map(bare, args), **{k: bare(a) for k, a in kwargs.items()})
    except (ValueError, IndexError) as error:
        if isinstance(error, MulgilError):
            raise
        raise explained(f"np.{name}", _tensors(args), error) or error from None
    for target in targets:
        target.bump()
    return next((t for t in targets if t.array is result), result)


def _tensors(args: tuple) -> list[tuple[str, Any]]:
    """The Tensors among arguments, and within lists there: named as they come."""
    flat = [x for a in args for x in (a if isinstance(a, (list, tuple)) else (a,)) if isinstance(x, NumpyProtocol)]
    return [(f"x{i}", x.array) for i, x in enumerate(flat)]


def _bare(x: Any, name: str, free: bool, known: bool = False) -> Any:
    """`x` with arrays in place of Tensors, refusing those whose gradient would be lost."""
    if isinstance(x, (list, tuple)):
        parts = [_bare(part, name, free, known) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    if isinstance(x, dict):
        return {k: _bare(part, name, free, known) for k, part in x.items()}
    if not isinstance(x, NumpyProtocol):
        return x
    if not free and is_grad_enabled() and x.requires_grad:
        raise GradientError(
            f"np.{name} has no gradient in mulgil{' with these arguments' if known else ''}, and this tensor requires one",
            f"shape {list(x.array.shape)}",
            f"np.{name}(t.detach()), or an op that has one",
        )
    return x._as_numpy()
