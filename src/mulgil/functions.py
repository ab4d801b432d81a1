"""Tensor's methods as functions, under PyTorch's names: `mulgil.exp(x)`, `mulgil.cat([a, b])`, `mulgil.where(mask, a, b)`.

Each takes a Tensor, an array or numbers first, and then what the method of that name takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from mulgil.autograd.axes import axis_of
from mulgil.autograd.operators import choose
from mulgil.autograd.tensor import Tensor, apply, as_tensor
from mulgil.errors import OptionError, ShapeError, describe
from mulgil.ops import shape as s
from mulgil.typing import ArrayLike

P = ParamSpec("P")
R = TypeVar("R")

__all__ = [
    "exp",
    "log",
    "log1p",
    "sqrt",
    "sin",
    "cos",
    "tanh",
    "abs",
    "sign",
    "floor",
    "ceil",
    "trunc",
    "round",
    "isnan",
    "isinf",
    "isfinite",
    "sigmoid",
    "relu",
    "square",
    "pow",
    "clip",
    "maximum",
    "minimum",
    "clamp",
    "sum",
    "mean",
    "prod",
    "var",
    "std",
    "max",
    "min",
    "amax",
    "amin",
    "argmax",
    "argmin",
    "all",
    "any",
    "logsumexp",
    "softmax",
    "log_softmax",
    "reshape",
    "flatten",
    "ravel",
    "permute",
    "transpose",
    "swapaxes",
    "squeeze",
    "unsqueeze",
    "gather",
    "clone",
    "matmul",
    "where",
    "cat",
    "stack",
    "mm",
    "concatenate",
]


def _function(method: Callable[Concatenate[Tensor, P], R]) -> Callable[Concatenate[ArrayLike, P], R]:
    """A method of Tensor as a function: checkers and editors see the method's own signature."""

    @wraps(method)
    def call(x: ArrayLike, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(as_tensor(x), *args, **kwargs)

    return call


exp = _function(Tensor.exp)
log = _function(Tensor.log)
log1p = _function(Tensor.log1p)
sqrt = _function(Tensor.sqrt)
sin = _function(Tensor.sin)
cos = _function(Tensor.cos)
tanh = _function(Tensor.tanh)
abs = _function(Tensor.abs)
sigmoid = _function(Tensor.sigmoid)
relu = _function(Tensor.relu)
square = _function(Tensor.square)
pow = _function(Tensor.pow)
clip = _function(Tensor.clip)
sign = _function(Tensor.sign)
floor = _function(Tensor.floor)
ceil = _function(Tensor.ceil)
trunc = _function(Tensor.trunc)
round = _function(Tensor.round)
isnan = _function(Tensor.isnan)
isinf = _function(Tensor.isinf)
isfinite = _function(Tensor.isfinite)
gather = _function(Tensor.gather)
prod = _function(Tensor.prod)
maximum = _function(Tensor.maximum)
minimum = _function(Tensor.minimum)
clamp = _function(Tensor.clamp)
sum = _function(Tensor.sum)
mean = _function(Tensor.mean)
var = _function(Tensor.var)
std = _function(Tensor.std)
amax = _function(Tensor.amax)
amin = _function(Tensor.amin)
argmax = _function(Tensor.argmax)
argmin = _function(Tensor.argmin)
all = _function(Tensor.all)
any = _function(Tensor.any)
logsumexp = _function(Tensor.logsumexp)
softmax = _function(Tensor.softmax)
log_softmax = _function(Tensor.log_softmax)
reshape = _function(Tensor.reshape)
flatten = _function(Tensor.flatten)
ravel = _function(Tensor.ravel)
permute = _function(Tensor.permute)
transpose = _function(Tensor.transpose)
swapaxes = _function(Tensor.swapaxes)
squeeze = _function(Tensor.squeeze)
unsqueeze = _function(Tensor.unsqueeze)
clone = _function(Tensor.clone)
max = _function(Tensor.max)
min = _function(Tensor.min)


def matmul(a: ArrayLike, b: ArrayLike) -> Tensor:
    """a @ b for vectors, matrices and stacks of matrices."""
    return as_tensor(a) @ b


def where(condition: ArrayLike, a: ArrayLike, b: ArrayLike) -> Tensor:
    """a where the condition holds, else b."""
    return choose(as_tensor(condition), a, b)


def cat(tensors: Sequence[ArrayLike], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors joined along an axis that they have; those of shape [0] count for nothing, as in PyTorch."""
    parts = _several("cat", tensors)
    shaped = [x for x in parts if x.shape != (0,)] or parts
    along = axis_of(shaped[0], dim if axis is None else axis)
    _same("cat", [x.shape[:along] + x.shape[along + 1 :] if x.ndim else None for x in shaped], shaped)
    return apply(s.Concatenate(along), *shaped)


def stack(tensors: Sequence[ArrayLike], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    parts = _several("stack", tensors)
    _same("stack", [x.shape for x in parts], parts)
    along = axis_of(parts[0], dim if axis is None else axis, parts[0].ndim + 1)
    return apply(s.Concatenate(along), *[x.unsqueeze(along) for x in parts])


def _several(name: str, tensors: Sequence[ArrayLike]) -> list[Tensor]:
    if not getattr(tensors, "ndim", 1) or not hasattr(tensors, "__len__"):
        raise OptionError(f"{name}: takes a list of tensors", describe(tensors=tensors), f"{name}([a, b])")
    if not len(tensors):
        raise OptionError(f"{name}: at least one tensor", "none", "was the list filled? a generator can be read only once")
    return [as_tensor(x) for x in tensors]


def _same(name: str, shapes: list, tensors: list[Tensor]) -> None:
    """All shapes must be equal, and none may be None."""
    for shape, x in zip(shapes, tensors, strict=True):
        if shape is None or shape != shapes[0] or x.ndim != tensors[0].ndim:
            rule = "the tensors must have one shape" + (" but for the axis to join, and at least one axis" if name == "cat" else "")
            other = "cat along another axis (dim=), or stack" if name == "cat" else "cat joins along an axis that they have"
            raise ShapeError(f"{name}: {rule}", describe(first=tensors[0], other=x), f"reshape, slice or pad the other one; {other}")


mm, concatenate = matmul, cat
