"""New tensors: from data, filled, counted, and random."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, TypeGuard, overload

import numpy as np

from mulgil.autograd.engine import no_grad
from mulgil.autograd.tensor import Tensor, as_tensor, holds_gradient
from mulgil.backend import Generator, default_dtype, default_generator, xp_of
from mulgil.errors import DTypeError, OptionError, describe
from mulgil.ops.elementwise import Copy
from mulgil.ops.function import Context, made, run
from mulgil.ops.random import Draw
from mulgil.typing import ArrayLike, DeviceLike, DTypeLike

__all__ = [
    "tensor",
    "from_numpy",
    "full",
    "zeros",
    "ones",
    "empty",
    "full_like",
    "zeros_like",
    "ones_like",
    "arange",
    "linspace",
    "eye",
    "rand",
    "randn",
    "randint",
    "randperm",
    "rand_like",
    "randn_like",
    "is_tensor",
    "allclose",
    "equal",
]


def tensor(data: ArrayLike, dtype: DTypeLike | None = None, device: DeviceLike | None = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with a copy of `data` (`as_tensor` and `from_numpy` share memory).

    Example:
        >>> tensor([[1, 2], [3, 4]], dtype="float32").shape
        (2, 2)
    """
    if isinstance(data, (list, tuple)) and holds_gradient(data):  # PyTorch allows it, with a warning: losses kept for a log
        warnings.warn("tensor: the new tensor keeps no gradients of those in the list; stack(tensors) does", UserWarning, stacklevel=2)
    with no_grad():
        fresh = Tensor(data, dtype=dtype, device=device)
    copy = run(Copy(), "forward", Context(xp_of(fresh.array)), fresh.array)[0]
    return Tensor(copy, requires_grad=requires_grad)


def from_numpy(array: np.ndarray) -> Tensor:
    """A Tensor over the memory of `array`; no copy."""
    return Tensor(array)


def _shape(size: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape that `zeros(2, 3)` or `zeros((2, 3))` means, checked."""
    given: Any = size[0] if len(size) == 1 and hasattr(size[0], "__iter__") else size
    if not all(hasattr(n, "__index__") and n >= 0 for n in given):
        raise OptionError("a shape is made of whole numbers, 0 or more", repr(tuple(given)), "zeros(2, 3), or zeros((2, 3))")
    return tuple(map(int, given))


def full(
    size: int | Sequence[int],
    fill_value: float,
    dtype: DTypeLike | None = None,
    device: DeviceLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A Tensor of shape `size`, every element `fill_value`."""
    if dtype is None and isinstance(fill_value, float):
        dtype = default_dtype()
    if np.ndim(fill_value):
        raise OptionError("full: every element is one number", describe(fill_value=fill_value), "x.expand(...), or a number: x.item()")
    try:
        array = np.full(_shape((size,)), fill_value, dtype)
    except OverflowError:
        raise DTypeError(f"full: {np.dtype(dtype)} does not hold this number", repr(fill_value), "another dtype=") from None
    return Tensor(made(array, fill_value), requires_grad, device=device)


def zeros(
    *size: int | Sequence[int], dtype: DTypeLike | None = None, device: DeviceLike | None = None, requires_grad: bool = False
) -> Tensor:
    """Zeros: `zeros(2, 3)` or `zeros((2, 3))`; the default dtype unless another is named."""
    return full(_shape(size), 0, dtype or default_dtype(), device, requires_grad)


def ones(
    *size: int | Sequence[int], dtype: DTypeLike | None = None, device: DeviceLike | None = None, requires_grad: bool = False
) -> Tensor:
    """Ones: `ones(2, 3)` or `ones((2, 3))`; the default dtype unless another is named."""
    return full(_shape(size), 1, dtype or default_dtype(), device, requires_grad)


def empty(
    *size: int | Sequence[int], dtype: DTypeLike | None = None, device: DeviceLike | None = None, requires_grad: bool = False
) -> Tensor:
    """Memory for a Tensor; what it holds is not defined."""
    return Tensor(made(np.empty(_shape(size), dtype or default_dtype())), requires_grad, device=device)


def full_like(
    x: Tensor, fill_value: float, dtype: DTypeLike | None = None, device: DeviceLike | None = None, requires_grad: bool = False
) -> Tensor:
    """`full` with the shape, dtype and device of x."""
    return full(x.shape, fill_value, dtype or x.dtype, device or x.device, requires_grad)


def zeros_like(x: Tensor, dtype: DTypeLike | None = None, device: DeviceLike | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros with the shape, dtype and device of x."""
    return full_like(x, 0, dtype, device, requires_grad)


def ones_like(x: Tensor, dtype: DTypeLike | None = None, device: DeviceLike | None = None, requires_grad: bool = False) -> Tensor:
    """Ones with the shape, dtype and device of x."""
    return full_like(x, 1, dtype, device, requires_grad)


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    dtype: DTypeLike | None = None,
    device: DeviceLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step, ... up to, without, end; `arange(n)` counts from 0."""
    start, end = (0, start) if end is None else (start, end)
    if not step:
        raise OptionError("arange: the step must not be 0", repr(step), "arange(n) counts in steps of 1")
    if dtype is None and any(isinstance(v, float) for v in (start, end, step)):
        dtype = default_dtype()
    try:
        if dtype is not None and np.dtype(dtype).kind in "iu":  # PyTorch converts the limits, not what lies between
            limits = (int(end), int(start), int(step)) if np.dtype(dtype) == np.int64 else (end, start, step)
            count = max(0, math.ceil((limits[0] - limits[1]) / limits[2]))
            start, end, step = int(start), int(start) + count * int(step), int(step)
        counted = np.arange(start, end, step, dtype)  # type: ignore[call-overload, misc]
    except OverflowError:
        raise DTypeError(f"arange: {np.dtype(dtype)} does not hold these numbers", f"{start}, {end}, {step}", "another dtype=") from None
    return Tensor(made(counted, start, end, step), requires_grad, device=device)


def linspace(
    start: float, end: float, steps: int, dtype: DTypeLike | None = None, device: DeviceLike | None = None, requires_grad: bool = False
) -> Tensor:
    """`steps` evenly spaced numbers from start to end, both included; of an integer dtype without their fractions."""
    first, last = (v.item() if isinstance(v, Tensor) else v for v in (start, end))
    if dtype is not None and np.dtype(dtype).kind in "iu":
        first, last = int(first), int(last)
    (steps,) = _shape((steps,))
    spaced = made(np.linspace(first, last, steps).astype(dtype or default_dtype()), first, last)
    return Tensor(spaced, requires_grad, device=device)


def eye(
    n: int, m: int | None = None, dtype: DTypeLike | None = None, device: DeviceLike | None = None, requires_grad: bool = False
) -> Tensor:
    """Ones on the diagonal of an [n, m] matrix (m = n if left out), zeros elsewhere."""
    n, m = _shape((n, n if m is None else m))
    return Tensor(made(np.eye(n, m, dtype=dtype or default_dtype())), requires_grad, device=device)


def _drawn(method: str, arguments: tuple[Any, ...], dtype: DTypeLike, generator: Generator | None) -> np.ndarray:
    """Random numbers, through an op: a compiled step draws anew at each call."""
    return run(Draw(method, arguments, np.dtype(dtype).str, generator or default_generator), "forward", Context())[0]


def rand(
    *size: int | Sequence[int],
    generator: Generator | None = None,
    dtype: DTypeLike | None = None,
    device: DeviceLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers drawn evenly from [0, 1)."""
    return Tensor(_drawn("random", (_shape(size),), dtype or default_dtype(), generator), requires_grad, device=device)


def randn(
    *size: int | Sequence[int],
    generator: Generator | None = None,
    dtype: DTypeLike | None = None,
    device: DeviceLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers from the normal distribution with mean 0 and variance 1."""
    return Tensor(_drawn("standard_normal", (_shape(size),), dtype or default_dtype(), generator), requires_grad, device=device)


@overload
def randint(high: int, size: Sequence[int], /, *, generator: Generator | None = None, dtype: DTypeLike = np.int64) -> Tensor: ...
@overload
def randint(low: int, high: int, size: Sequence[int], *, generator: Generator | None = None, dtype: DTypeLike = np.int64) -> Tensor: ...
def randint(low: int, high: Any = None, size: Any = None, *, generator: Generator | None = None, dtype: DTypeLike = np.int64) -> Tensor:
    """Integers from [low, high): `randint(0, 10, (3,))`, or `randint(10, (3,))`."""
    if size is None:
        low, high, size = 0, low, high
    if size is None or low >= high:
        raise OptionError("randint: needs low < high and a size", f"low={low}, high={high}, size={size}", "randint(0, 10, (3,))")
    return Tensor(_drawn("integers", (low, high, size, np.dtype(dtype).type), dtype, generator))


def randperm(n: int, *, generator: Generator | None = None) -> Tensor:
    """The integers 0 to n - 1 in random order."""
    return Tensor(_drawn("permutation", (n,), np.int64, generator))


def rand_like(x: Tensor) -> Tensor:
    """`rand` with the shape, dtype and device of x."""
    return rand(x.shape, dtype=x.dtype, device=x.device)


def randn_like(x: Tensor) -> Tensor:
    """`randn` with the shape, dtype and device of x."""
    return randn(x.shape, dtype=x.dtype, device=x.device)


def is_tensor(x: object) -> TypeGuard[Tensor]:
    """Whether x is a Tensor."""
    return isinstance(x, Tensor)


def allclose(a: ArrayLike, b: ArrayLike, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
    """Whether |a - b| <= atol + rtol |b| everywhere."""
    return bool(np.allclose(np.asarray(as_tensor(a).cpu()), np.asarray(as_tensor(b).cpu()), rtol, atol))


def equal(a: Tensor, b: Tensor) -> bool:
    """Whether a and b have the same shape and elements."""
    return a.shape == b.shape and bool((a == b).all())
