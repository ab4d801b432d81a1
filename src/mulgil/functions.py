"""Tensor's methods as functions, under PyTorch's names: `mulgil.exp(x)`, `mulgil.cat([a, b])`, `mulgil.where(mask, a, b)`.

Each takes a Tensor, an array or numbers first, and then what the method of that name takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from mulgil.autograd.tensor import Tensor, apply, as_tensor
from mulgil.ops import shape as s
from mulgil.ops.elementwise import Where
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
    return apply(Where(), as_tensor(condition), a, b)


def cat(tensors: Sequence[ArrayLike], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors joined along an axis that they have."""
    return apply(s.Concatenate(dim if axis is None else axis), *tensors)


def stack(tensors: Sequence[ArrayLike], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    along = dim if axis is None else axis
    return cat([as_tensor(x).unsqueeze(along) for x in tensors], along)


mm, concatenate = matmul, cat
