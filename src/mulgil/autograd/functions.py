"""Tensor's methods as functions, under PyTorch's names: `mulgil.exp(x)`, `mulgil.cat([a, b])`, `mulgil.where(mask, a, b)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mulgil.autograd.tensor import Data, Tensor, apply, as_tensor
from mulgil.ops import elementwise as e
from mulgil.ops import shape as s


def exp(x: Data) -> Tensor:
    """e ** x."""
    return as_tensor(x).exp()


def log(x: Data) -> Tensor:
    """The natural logarithm."""
    return as_tensor(x).log()


def log1p(x: Data) -> Tensor:
    """log(1 + x)."""
    return as_tensor(x).log1p()


def sqrt(x: Data) -> Tensor:
    """The square root."""
    return as_tensor(x).sqrt()


def sin(x: Data) -> Tensor:
    """The sine; x in radians."""
    return as_tensor(x).sin()


def cos(x: Data) -> Tensor:
    """The cosine; x in radians."""
    return as_tensor(x).cos()


def abs(x: Data) -> Tensor:
    """|x|."""
    return as_tensor(x).abs()


def tanh(x: Data) -> Tensor:
    """The hyperbolic tangent."""
    return as_tensor(x).tanh()


def sigmoid(x: Data) -> Tensor:
    """1 / (1 + exp(-x))."""
    return as_tensor(x).sigmoid()


def relu(x: Data) -> Tensor:
    """max(x, 0)."""
    return as_tensor(x).relu()


def square(x: Data) -> Tensor:
    """x * x."""
    return as_tensor(x).square()


def pow(x: Data, exponent: Data) -> Tensor:
    """x ** exponent."""
    return as_tensor(x) ** exponent


def maximum(a: Data, b: Data) -> Tensor:
    """The larger of a and b, element by element."""
    return as_tensor(a).maximum(b)


def minimum(a: Data, b: Data) -> Tensor:
    """The smaller of a and b, element by element."""
    return as_tensor(a).minimum(b)


def clamp(x: Data, min: float | None = None, max: float | None = None) -> Tensor:
    """x limited to [min, max]."""
    return as_tensor(x).clip(min, max)


clip = clamp


def where(condition: Data, a: Data, b: Data) -> Tensor:
    """a where the condition holds, else b."""
    return apply(e.Where(), as_tensor(condition), a, b)


def sum(x: Data, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over axes."""
    return as_tensor(x).sum(dim, keepdim, axis=axis, keepdims=keepdims)


def mean(x: Data, dim: Any = None, keepdim: bool = False, *, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The mean over axes."""
    return as_tensor(x).mean(dim, keepdim, axis=axis, keepdims=keepdims)


def var(x: Data, dim: Any = None, correction: float | None = None, keepdim: bool = False, **kwargs: Any) -> Tensor:
    """The variance over axes; see `Tensor.var`."""
    return as_tensor(x).var(dim, correction, keepdim, **kwargs)


def std(x: Data, dim: Any = None, correction: float | None = None, keepdim: bool = False, **kwargs: Any) -> Tensor:
    """The standard deviation over axes; see `Tensor.std`."""
    return as_tensor(x).std(dim, correction, keepdim, **kwargs)


def max(x: Data, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
    """The largest element; with a dim, (values, indices); of two tensors, the larger. See `Tensor.max`."""
    return as_tensor(x).max(dim, keepdim, **kwargs)


def min(x: Data, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
    """The smallest element; with a dim, (values, indices); of two tensors, the smaller. See `Tensor.min`."""
    return as_tensor(x).min(dim, keepdim, **kwargs)


def argmax(x: Data, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None) -> Tensor:
    """The index of the largest element."""
    return as_tensor(x).argmax(dim, keepdim, axis=axis)


def argmin(x: Data, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None) -> Tensor:
    """The index of the smallest element."""
    return as_tensor(x).argmin(dim, keepdim, axis=axis)


def all(x: Data, dim: Any = None) -> Tensor:
    """Whether all elements are true."""
    return as_tensor(x).all(dim)


def any(x: Data, dim: Any = None) -> Tensor:
    """Whether any element is true."""
    return as_tensor(x).any(dim)


def logsumexp(x: Data, dim: Any, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) over axes."""
    return as_tensor(x).logsumexp(dim, keepdim)


def softmax(x: Data, dim: int) -> Tensor:
    """exp(x) / sum(exp(x)) along one axis."""
    return as_tensor(x).softmax(dim)


def log_softmax(x: Data, dim: int) -> Tensor:
    """log(softmax(x)) along one axis."""
    return as_tensor(x).log_softmax(dim)


def matmul(a: Data, b: Data) -> Tensor:
    """a @ b for vectors, matrices and stacks of matrices."""
    return as_tensor(a) @ b


mm = matmul


def reshape(x: Data, shape: Any) -> Tensor:
    """The same elements in another shape."""
    return as_tensor(x).reshape(shape)


def flatten(x: Data, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The axes start_dim to end_dim joined into one."""
    return as_tensor(x).flatten(start_dim, end_dim)


def transpose(x: Data, dim0: int, dim1: int) -> Tensor:
    """Two axes exchanged."""
    return as_tensor(x).swapaxes(dim0, dim1)


def permute(x: Data, dims: Any) -> Tensor:
    """The axes in another order."""
    return as_tensor(x).permute(dims)


def squeeze(x: Data, dim: Any = None) -> Tensor:
    """Without axes of length 1."""
    return as_tensor(x).squeeze(dim)


def unsqueeze(x: Data, dim: int) -> Tensor:
    """With a new axis of length 1."""
    return as_tensor(x).unsqueeze(dim)


def cat(tensors: Sequence[Data], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors joined along an axis that they have."""
    return apply(s.Concatenate(dim if axis is None else axis), *tensors)


concatenate = cat


def stack(tensors: Sequence[Data], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    return apply(s.Stack(dim if axis is None else axis), *tensors)
