"""Layers as functions of tensors: `import mulgil.nn.functional as F`.

Each takes Tensors or arrays and returns a Tensor. Wrong shapes, dtypes and devices are found by a few comparisons; the message is
made in `checks`, only when one fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mulgil.autograd import Tensor, apply, as_tensor
from mulgil.backend import Generator, default_generator, xp_of
from mulgil.errors import OptionError, ShapeError, describe
from mulgil.names import lookup
from mulgil.nn import checks
from mulgil.nn.loss_functions import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    l1_loss,
    mean_squared_error,
    mse_loss,
    nll_loss,
    softmax_cross_entropy,
    softmax_crossentropy,
)
from mulgil.ops import conv, elementwise, linalg, mathematics, norm, pool, random, reduce, shape, update
from mulgil.ops.function import Context, made, run, run_inplace
from mulgil.typing import ArrayLike, DTypeLike, Pair

__all__ = [
    "accuracy", "avg_pool2d", "batch_norm", "binary_cross_entropy_with_logits", "conv2d", "cross_entropy", "dropout", "flatten", "l1_loss",
    "leaky_relu", "linear", "log_softmax", "max_pool2d", "mean_squared_error", "mse_loss", "nll_loss", "one_hot", "pad", "relu", "sigmoid",
    "softmax", "softmax_cross_entropy", "softmax_crossentropy", "tanh",
]  # fmt: skip

_affine, _relu, _sigmoid, _tanh, _count = linalg.Affine(), mathematics.ReLU(), mathematics.Sigmoid(), mathematics.Tanh(), update.Increment()
_op = cache(lambda kind, *settings: kind(*settings))  # ops are immutable: one object per setting


def _raw(x: Any) -> Any:
    return x.array if isinstance(x, Tensor) else x if isinstance(x, np.ndarray) else checks.raw(x)


# ---------------------------------------------------------------------- layers with weights
def linear(x: ArrayLike, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x weight^T + bias.  x[..., in], weight[out, in], bias[out] -> y[..., out]."""
    a, w = _raw(x), weight.array
    if type(a) is not type(w) or a.dtype is not w.dtype or a.shape[-1:] != w.shape[1:]:
        checks.linear(a, w)
    return apply(_affine, x, weight) if bias is None else apply(_affine, x, weight, bias)


def conv2d(
    x: ArrayLike, weight: Tensor, bias: Tensor | None = None, stride: Pair = 1, padding: Pair | str = 0, dilation: Pair = 1, groups: int = 1
) -> Tensor:
    """Two-dimensional convolution.  x[N, C, H, W], weight[O, C / groups, kh, kw], bias[O] -> y[N, O, H', W'].

    stride, padding, dilation: a number or (height, width); padding may be "same" (stride 1 only) or "valid".
    H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1.
    """
    a, w = _raw(x), weight.array
    if type(a) is not type(w) or a.dtype is not w.dtype or a.ndim != 4 or a.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        checks.conv2d(a, w, groups)
    stride, dilation = pair(stride), pair(dilation)
    if type(padding) is str:
        x, padding = _padded(x, w.shape[2:], stride, padding, dilation)
    op = _op(conv.Conv2d, stride, pair(padding), dilation, groups)
    return apply(op, x, weight) if bias is None else apply(op, x, weight, bias)


def pair(value: Any) -> tuple[int, int]:
    """(v, v) for a number v, (h, w) for two."""
    if isinstance(value, (int, np.integer)):
        return int(value), int(value)
    height, *width = value
    return int(height), int(*width or (height,))


def _padded(x: Any, kernel: Any, stride: tuple, padding: str, dilation: tuple) -> tuple[Any, tuple[int, int]]:
    """x and the padding that "same" or "valid" mean; what "same" needs on one side only is put around x."""
    if padding == "valid":
        return x, (0, 0)
    if padding != "same":
        raise OptionError('conv2d: padding must be a number, a pair, "same" or "valid"', repr(padding))
    if stride != (1, 1):
        raise OptionError('conv2d: padding="same" needs stride 1', f"stride={stride}", "give the padding as a number")
    total = [dilation[i] * (kernel[i] - 1) for i in (0, 1)]
    if total[0] % 2 or total[1] % 2:  # PyTorch puts the odd row and column at the end
        x = apply(_op(shape.Pad, ((0, 0), (0, 0), (0, total[0] % 2), (0, total[1] % 2))), x)
    return x, (total[0] // 2, total[1] // 2)


def batch_norm(
    x: ArrayLike,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel of x[N, C, ...] brought to mean 0 and variance 1, then scaled by weight[C] and shifted by bias[C].

    training: use the batch's statistics, and move the running ones (if given) by `momentum` towards them, the variance unbiased.
    Otherwise use the running ones.
    """
    a = _raw(x)
    like = weight if weight is not None else running_mean
    channels = a.shape[1] if like is None and a.ndim > 1 else 0 if like is None else like.shape[0]
    if a.dtype.kind != "f" or a.ndim < 2 or a.shape[1] != channels:
        checks.batch_norm("batch_norm", a, channels, ())
    weight = _constant(1.0, like, a) if weight is None else weight
    bias = _constant(0.0, like, a) if bias is None else bias
    if not training and (running_mean is None or running_var is None):
        raise OptionError("batch_norm: without training it needs running_mean and running_var", "None", "training=True uses the batch's")
    if not training:
        return apply(_op(norm.BatchNormInference, eps), x, weight, bias, running_mean, running_var)
    count = a.size // channels if channels else 0
    if count < 2:
        hint = "use a larger batch (drop_last=True drops a last one of size 1), or model.eval()"
        raise ShapeError("batch_norm: training needs more than one value per channel", describe(x=a), hint)
    y, mean, var = apply(_op(norm.BatchNorm, eps), x, weight, bias)
    if running_mean is not None and running_var is not None:
        unbiased = run(_op(elementwise.Mul), "forward", Context(xp_of(a)), var.array, count / (count - 1))[0]
        run_inplace(_op(update.Lerp, momentum), running_mean.array, mean.array)
        run_inplace(_op(update.Lerp, momentum), running_var.array, unbiased)
        running_mean.bump()
        running_var.bump()
    return y


def _constant(value: float, like: Tensor | None, x: Any) -> Any:
    """A vector of `value`, one for each channel."""
    if like is None:
        return xp_of(x).full(x.shape[1], value, x.dtype)
    return apply(_op(elementwise.Fill, value), like.detach())


def count_batch(counter: Tensor) -> None:
    """Add one to `num_batches_tracked`."""
    run_inplace(_count, counter.array)


# ---------------------------------------------------------------------- pooling and shapes
def max_pool2d(
    x: ArrayLike,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The largest element of each window.  x[N, C, H, W] -> y[N, C, H', W'].

    kernel_size, stride (default: kernel_size), padding, dilation: a number or (height, width).
    """
    if return_indices:
        raise OptionError("MaxPool2d: return_indices is not supported", "return_indices=True")
    kernel, stride, padding = _window("MaxPool2d", x, kernel_size, stride, padding, ceil_mode)
    return apply(_op(pool.MaxPool2d, kernel, stride, padding, pair(dilation)), x)


def avg_pool2d(
    x: ArrayLike,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window.  x[N, C, H, W] -> y[N, C, H', W'].  count_include_pad: whether padding counts in the mean."""
    if divisor_override is not None:
        raise OptionError("AvgPool2d: divisor_override is not supported", repr(divisor_override), "multiply the result")
    kernel, stride, padding = _window("AvgPool2d", x, kernel_size, stride, padding, ceil_mode)
    return apply(_op(_avg_pool, kernel, stride, padding, bool(count_include_pad)), x)


def _avg_pool(kernel: tuple, stride: tuple, padding: tuple, count_include_pad: bool) -> Any:
    return pool.AvgPool2d(kernel, stride, padding, count_include_pad=count_include_pad)


def _window(name: str, x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> tuple[tuple, tuple, tuple]:
    kernel = pair(kernel)
    stride, padding = kernel if stride is None else pair(stride), pair(padding)
    a = _raw(x)
    if a.ndim != 4:
        checks.images(name, a)
    if a.dtype.kind != "f":
        checks.floating(name, a)
    if ceil_mode:
        raise OptionError(f"{name}: ceil_mode is not supported", "ceil_mode=True", "pad the images instead: F.pad(x, (0, 1, 0, 1))")
    if 2 * padding[0] > kernel[0] or 2 * padding[1] > kernel[1]:
        raise OptionError(f"{name}: padding must be at most half the window", f"padding={padding}, kernel_size={kernel}")
    return kernel, stride, padding


def flatten(x: ArrayLike, start_dim: int = 1, end_dim: int = -1) -> Tensor:
    """The axes from start_dim to end_dim as one: [N, C, H, W] -> [N, C * H * W]."""
    return (x if isinstance(x, Tensor) else Tensor(x)).flatten(start_dim, end_dim)


def pad(x: ArrayLike, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """`value` around x. pad: (left, right), (left, right, top, bottom), ...: pairs for the last axis, the one before it, and so on.

    A negative width cuts off so many elements.
    """
    if mode != "constant":
        raise OptionError('pad: mode must be "constant"', repr(mode))
    if len(pad) % 2:
        raise OptionError(
            "pad: widths come in pairs, before and after", f"pad={tuple(pad)}", "(1, 1) pads the last axis by 1 on both sides"
        )
    ndim, width = _raw(x).ndim, [(int(before), int(after)) for before, after in zip(pad[::2], pad[1::2], strict=True)]
    if len(width) > ndim:
        raise ShapeError(
            "pad: at most one pair for each axis of x",
            f"pad={tuple(pad)}, {describe(x=_raw(x))}",
            "pairs begin with the last axis; the others are not padded",
        )
    full = ((0, 0),) * (ndim - len(width)) + tuple(reversed(width))
    if any(before < 0 or after < 0 for before, after in full):  # a negative width cuts off
        sizes = zip(_raw(x).shape, full, strict=True)
        x = as_tensor(x)[tuple(slice(max(0, -before), max(0, n + min(0, after))) for n, (before, after) in sizes)]
        full = tuple((max(0, before), max(0, after)) for before, after in full)
    return apply(shape.Pad(full, value), x)


def one_hot(labels: ArrayLike, num_classes: int = -1) -> Tensor:
    """int64 rows with a single one: labels [...] -> [..., num_classes]. num_classes: -1 takes the largest label plus 1."""
    a = _raw(labels)
    if a.dtype.kind not in "iu":
        raise OptionError("one_hot: labels must be integers", describe(labels=a), "convert them: labels.long()")
    x = labels if isinstance(labels, Tensor) else Tensor(a)
    num_classes = int(x.max()) + 1 if num_classes == -1 else num_classes
    checks.labels_in_range("one_hot", a, num_classes, ignore_index=0)
    return (x.unsqueeze(-1) == Tensor(made(xp_of(a).arange(num_classes)))).long()


# ---------------------------------------------------------------------- activations
def relu(x: ArrayLike, inplace: bool = False) -> Tensor:
    """max(x, 0). `inplace` is accepted and ignored: x stays as it is."""
    return apply(_relu, x)


def leaky_relu(x: ArrayLike, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope * x. `inplace` is accepted and ignored."""
    return apply(_op(mathematics.LeakyReLU, negative_slope), x)


def sigmoid(x: ArrayLike) -> Tensor:
    """1 / (1 + exp(-x))."""
    return apply(_sigmoid, x)


def tanh(x: ArrayLike) -> Tensor:
    """The hyperbolic tangent."""
    return apply(_tanh, x)


def softmax(x: ArrayLike, dim: int | None = None, dtype: DTypeLike | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`; None: the class axis, 1 (0 for one or three axes, as in PyTorch). dtype: convert to it first."""
    return as_tensor(x).softmax(_class_axis(x, dim), dtype)


def log_softmax(x: ArrayLike, dim: int | None = None, dtype: DTypeLike | None = None) -> Tensor:
    """log(softmax(x)) along `dim`, accurate where the softmax is nearly 0 or 1. None and dtype as in `softmax`."""
    return as_tensor(x).log_softmax(_class_axis(x, dim), dtype)


def _class_axis(x: Any, dim: int | None) -> int:
    return dim if dim is not None else 0 if _raw(x).ndim in (0, 1, 3) else 1


def dropout(x: ArrayLike, p: float = 0.5, training: bool = True, inplace: bool = False, generator: Generator = default_generator) -> Tensor:
    """Zero each element with probability p and divide the others by 1 - p; x itself when not training. `inplace` is ignored."""
    if not 0 <= p <= 1:
        raise OptionError("dropout: p must be between 0 and 1", repr(p))
    if not training or p == 0:
        return x if isinstance(x, Tensor) else Tensor(x)
    if _raw(x).dtype.kind != "f":
        checks.floating("dropout", _raw(x))
    return apply(_op(random.Dropout, p), x, apply(_op(random.Keep, p, generator), _raw(x)))


def accuracy(prediction: ArrayLike, target: ArrayLike) -> Tensor:
    """The share of samples whose largest score is at the true class: a number between 0 and 1.

    prediction [N, C] scores, target [N] classes.
    """
    scores, labels = _raw(prediction), _raw(target)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        checks.logits("accuracy", scores, labels)
    best = apply(_op(reduce.Query, 1, False, "argmax"), scores)
    return (best == target).float().mean()


if not TYPE_CHECKING:  # a checker would take any name for known
    __getattr__ = lookup(__name__)
