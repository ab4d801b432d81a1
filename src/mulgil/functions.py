"""Tensor's methods as functions, under PyTorch's names: `mulgil.exp(x)`, `mulgil.cat([a, b])`, `mulgil.where(mask, a, b)`.

Each takes a Tensor, an array or numbers first, and then what the method of that name takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from mulgil.autograd.tensor import Data, Tensor, apply, as_tensor
from mulgil.ops.elementwise import Where
from mulgil.ops.shape import Concatenate

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


def _function(name: str) -> Callable[..., Any]:
    @wraps(getattr(Tensor, name))
    def call(x: Data, *args: Any, **kwargs: Any) -> Any:
        return getattr(as_tensor(x), name)(*args, **kwargs)

    return call


exp, log, log1p, sqrt, sin, cos, tanh = map(_function, ("exp", "log", "log1p", "sqrt", "sin", "cos", "tanh"))
abs, sigmoid, relu, square, pow, clip = map(_function, ("abs", "sigmoid", "relu", "square", "pow", "clip"))
maximum, minimum, clamp = map(_function, ("maximum", "minimum", "clamp"))
sum, mean, var, std, max, min = map(_function, ("sum", "mean", "var", "std", "max", "min"))
amax, amin, argmax, argmin, all, any = map(_function, ("amax", "amin", "argmax", "argmin", "all", "any"))
logsumexp, softmax, log_softmax = map(_function, ("logsumexp", "softmax", "log_softmax"))
reshape, flatten, ravel, permute, transpose = map(_function, ("reshape", "flatten", "ravel", "permute", "transpose"))
swapaxes, squeeze, unsqueeze, clone = map(_function, ("swapaxes", "squeeze", "unsqueeze", "clone"))


def matmul(a: Data, b: Data) -> Tensor:
    """a @ b for vectors, matrices and stacks of matrices."""
    return as_tensor(a) @ b


def where(condition: Data, a: Data, b: Data) -> Tensor:
    """a where the condition holds, else b."""
    return apply(Where(), as_tensor(condition), a, b)


def cat(tensors: Sequence[Data], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors joined along an axis that they have."""
    return apply(Concatenate(dim if axis is None else axis), *tensors)


def stack(tensors: Sequence[Data], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    along = dim if axis is None else axis
    return cat([as_tensor(x).unsqueeze(along) for x in tensors], along)


mm, concatenate = matmul, cat
