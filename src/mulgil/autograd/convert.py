"""Tensors to other dtypes, devices and Python values, and in-place methods."""

from __future__ import annotations

import builtins  # annotations name these: float, int and bool are methods of Tensor
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from mulgil.autograd.axes import axis_of
from mulgil.autograd.engine import is_grad_enabled, no_grad
from mulgil.backend import Generator, default_generator, device, device_of, xp_of
from mulgil.errors import GradientError, OptionError, describe
from mulgil.ops.elementwise import Add, Clip, Copy, Div, Mul, Sub
from mulgil.ops.function import Context, Function, made, run, run_inplace, tell
from mulgil.ops.random import Draw
from mulgil.ops.shape import Index as Place
from mulgil.ops.shape import Move, Reshape
from mulgil.ops.update import Assign, AssignNumber, IndexPut
from mulgil.typing import ArrayLike, DeviceLike, DTypeLike, Index

if TYPE_CHECKING:
    from mulgil.autograd.tensor import Tensor

NUMBERS = (float, int, bool)


def _cast(dtype: Any) -> Callable[[Any], Tensor]:
    def method(self: Any) -> Tensor:
        return self.to(dtype=dtype)

    method.__name__, method.__doc__ = np.dtype(dtype).name, f"`to({np.dtype(dtype).name})`."
    return method


class Conversions:
    """The part of Tensor that changes where and as what it is kept."""

    __slots__ = ()

    array: Any
    version: list[int]
    shape: Any
    requires_grad: Any
    clone: Any
    apply_function: Any
    _index: Any

    def to(
        self,
        *where: DeviceLike | DTypeLike | Tensor,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
        non_blocking: builtins.bool = False,
        copy: builtins.bool = False,
    ) -> Tensor:
        """On another device and/or as another dtype: `to("cuda")`, `to(mulgil.float64)`, `to(other_tensor)`. Itself if nothing changes."""
        part: Any
        for part in where:
            if hasattr(part, "array"):
                device, dtype = part.device, part.dtype
            elif _names_device(part):
                device = part
            else:
                dtype = part
        result: Any = self
        if device is not None and _device(device) != device_of(self.array):
            result = result.apply_function(Move(str(device)), (result,))
        if dtype is not None:
            result = result.astype(dtype, copy=False)
        return result.clone() if copy and result is self else result

    def cpu(self) -> Tensor:
        return self.to("cpu")

    def cuda(self, index: builtins.int | None = None) -> Tensor:
        return self.to(_device("cuda") if index is None else device("cuda", index))

    float, double = _cast(np.float32), _cast(np.float64)
    long, int, bool = _cast(np.int64), _cast(np.int32), _cast(np.bool_)

    def contiguous(self) -> Self:
        return self

    def numpy(self) -> np.ndarray:
        """The NumPy array behind this tensor; the memory is shared."""
        return self._as_numpy()  # type: ignore[attr-defined]

    def tolist(self) -> Any:
        """Nested Python lists, or a number for a 0-d tensor."""
        tell("to_python", self.array)
        return self.array.tolist()

    @overload
    def size(self, dim: None = None) -> tuple[builtins.int, ...]: ...
    @overload
    def size(self, dim: builtins.int) -> builtins.int: ...
    def size(self, dim: builtins.int | None = None) -> tuple[builtins.int, ...] | builtins.int:
        """The shape, or the length of one axis (as PyTorch's method of that name; the number of elements is `numel()`)."""
        return self.array.shape if dim is None else self.array.shape[axis_of(self, dim)]

    def numel(self) -> builtins.int:
        return self.array.size

    def dim(self) -> builtins.int:
        return self.array.ndim

    @property
    def is_cuda(self) -> builtins.bool:
        return xp_of(self.array) is not np

    # ---- in place: refused while this tensor requires a gradient and operations are recorded

    def bump(self) -> None:
        """Tell the graph that the memory of `array` was written to: backward through an op that saved it becomes an error."""
        self.version[0] += 1

    def _check_writable(self, value: Any) -> None:
        if self.requires_grad and is_grad_enabled():
            rule = "a tensor that requires grad cannot be changed in place while operations are recorded"
            raise GradientError(rule, describe(tensor=self), "write under no_grad(), or build a new tensor: where(mask, new, x)")
        if isinstance(value, Conversions) and value.requires_grad and is_grad_enabled():
            rule = "assigning a tensor that requires grad into another would lose its gradient"
            raise GradientError(rule, describe(value=value), "use value.detach(), or stack/cat/where")

    def _write(self, value: Any) -> Self:
        """Overwrite every element. All writes go through ops, so that a compiled step repeats them."""
        self._check_writable(value)
        _assign(self.array, value)
        self.bump()
        return self

    def __setitem__(self, key: Index, value: ArrayLike) -> None:
        self._check_writable(value)
        parts, arrays = self._index(key)
        if arrays or True in map(_is_bool, parts):
            value = value if type(value) in NUMBERS else _operand(self.array, value)
            run_inplace(IndexPut(parts), self.array, value, *arrays)
        else:
            place = Place(parts if ... in parts else (*parts, ...))  # a view, also of a single element
            _assign(run(place, "forward", Context(xp_of(self.array)), self.array)[0], value)
        self.bump()

    def _augmented(self, op: Function, other: Any) -> Any:
        """`a += b`: into a's memory under no_grad(), as PyTorch's hand-written updates expect; while recording a new tensor,
        so that what others hold of `a`, or what an op saved of it, is never changed behind their backs."""
        result = self.apply_function(op, (self, other))
        if is_grad_enabled() or result.shape != self.shape:
            return result
        return self._write(result)

    def __isub__(self, other: ArrayLike) -> Tensor:
        return self._augmented(Sub(), other)

    def __imul__(self, other: ArrayLike) -> Tensor:
        return self._augmented(Mul(), other)

    def __itruediv__(self, other: ArrayLike) -> Tensor:
        return self._augmented(Div(), other)

    def fill_(self, value: ArrayLike) -> Self:
        return self._write(value)

    def zero_(self) -> Self:
        return self._write(0)

    def copy_(self, other: ArrayLike) -> Self:
        return self._write(other)

    def _changed(self, op: Function, *operands: Any) -> Self:
        """Overwritten with what an op makes of it and the operands."""
        for other in operands:
            self._check_writable(other)
        with no_grad():
            return self._write(self.apply_function(op, (self, *operands)))

    def add_(self, other: ArrayLike, alpha: builtins.float = 1) -> Self:
        return self._changed(Add(), self._scaled(other, alpha))

    def sub_(self, other: ArrayLike, alpha: builtins.float = 1) -> Self:
        return self._changed(Sub(), self._scaled(other, alpha))

    def _scaled(self, other: Any, alpha: builtins.float) -> Any:
        return other if alpha == 1 else self.apply_function(Mul(), (other, alpha))

    def mul_(self, other: ArrayLike) -> Self:
        return self._changed(Mul(), other)

    def div_(self, other: ArrayLike) -> Self:
        return self._changed(Div(), other)

    def clamp_(self, min: builtins.float | None = None, max: builtins.float | None = None) -> Self:
        return self._changed(Clip(min, max))

    def uniform_(self, low: builtins.float = 0.0, high: builtins.float = 1.0, generator: Generator | None = None) -> Self:
        """Filled with numbers drawn evenly from [low, high)."""
        if low > high:
            raise OptionError("uniform_: low must not exceed high", f"low={low}, high={high}")
        return self._drawn("uniform", low, high, generator)

    def normal_(self, mean: builtins.float = 0.0, std: builtins.float = 1.0, generator: Generator | None = None) -> Self:
        """Filled with normally distributed numbers."""
        return self._drawn("normal", mean, std, generator)

    def _drawn(self, method: str, a: builtins.float, b: builtins.float, generator: Generator | None) -> Self:
        draw = Draw(method, (a, b, self.array.shape), self.array.dtype.str, generator or default_generator)
        return self._write(run(draw, "forward", Context(xp_of(self.array)))[0])


def _assign(target: Any, value: Any) -> None:
    """Overwrite an array with a number, or with an array that is broadcast."""
    if type(value) in NUMBERS:
        run_inplace(AssignNumber(value), target)
        return
    value = _operand(target, value)
    if value.ndim > target.ndim:  # NumPy lets axes of length 1 stand in front
        value = run(Reshape(value.shape[value.ndim - target.ndim :]), "forward", Context(xp_of(target)), value)[0]
    run_inplace(Assign(), target, value)


def _operand(target: Any, value: Any) -> Any:
    """The array of a value that is to be written; a copy, if it lies in the memory that is written."""
    xp = xp_of(target)
    array = getattr(value, "array", value)
    if not hasattr(array, "dtype"):
        array = made(xp.asarray(array), array)
    array = xp.asarray(array) if isinstance(array, np.generic) else array
    shares = xp_of(array) is xp and xp.may_share_memory(target, array)
    return run(Copy(), "forward", Context(xp), array)[0] if shares else array


def _is_bool(part: Any) -> Any:
    return type(part) is bool


def _device(where: Any) -> device:
    named = device(where)
    return device("cuda", 0) if named.type == "cuda" and named.index is None else named


def _names_device(x: Any) -> Any:
    return isinstance(x, device) or (isinstance(x, str) and x.partition(":")[0] in ("cpu", "cuda"))
