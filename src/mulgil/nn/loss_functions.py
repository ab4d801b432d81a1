"""The losses of `mulgil.nn.functional`, with the checks that catch the usual slips of targets."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np

from mulgil.autograd import Tensor, apply
from mulgil.backend import to_device
from mulgil.errors import DTypeError, OptionError, ShapeError, describe
from mulgil.nn import checks
from mulgil.ops import elementwise
from mulgil.ops import loss as losses
from mulgil.options import SHARE, check_choice, check_count, check_number
from mulgil.typing import ArrayLike

NOT_LOGITS = "cross_entropy wants logits, but the input looks like probabilities: leave the softmax out"
NOT_LOGARITHMS = "nll_loss wants log-probabilities, which are at most 0: use log_softmax, or cross_entropy on logits"


class Looks:
    """How many first calls of a loss still look at the values themselves, for probabilities where logits belong."""

    def __init__(self, calls: int = 3):
        self.left = calls


_first_calls = Looks()  # of the functions; each loss layer has its own


REDUCTIONS = ("mean", "sum", "none")


def check_settings(name: str, reduction: Any = "mean", ignore_index: Any = -100, label_smoothing: Any = 0.0) -> None:
    """Raise OptionError for settings of a loss that make no sense."""
    check_choice(f"{name}: reduction", reduction, REDUCTIONS)
    check_count(f"{name}: ignore_index", ignore_index, least=-(1 << 63))
    check_number(f"{name}: label_smoothing", label_smoothing, SHARE)


def check_weights(name: str, weights: Any, each: str) -> None:
    """Raise ShapeError, DTypeError or OptionError for weights of a loss that make no sense; `each`: what has a weight."""
    a = to_device(weights.array if isinstance(weights, Tensor) else np.asarray(weights), "cpu")
    hint = f"make the loss first, then call it: criterion = nn.{name}(); criterion(outputs, targets)"
    if a.dtype.kind not in "fiub":
        raise DTypeError(f"{name}: the weights must be numbers", describe(weight=a), hint)
    if each == "class" and a.ndim != 1:
        raise ShapeError(f"{name}: weight must hold one number a class, [C]", describe(weight=a), hint)
    if not (np.isfinite(a).all() and (a >= 0).all()):
        raise OptionError(f"{name}: a weight must be a finite number of at least 0", repr(a.tolist())[:100], "1 / count of the class")


@cache
def _loss(kind: Any, **settings: Any) -> Any:
    check_settings(kind.__name__, **settings)
    return kind(**settings)


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    looks: Looks | None = None,
) -> Tensor:
    """Softmax and negative log-likelihood in one.

    Args:
        input: logits [N, C, ...], not probabilities.
        target: integer classes [N, ...], or probabilities of the logits' shape.
        weight: a weight for each class [C].
        ignore_index: the class that counts for nothing.
        reduction: "mean" (over the summed weights of the true classes), "sum", or "none" for [N, ...].
        label_smoothing: the share of the wanted probability that is spread over all classes.
        looks: whose first calls look for probabilities; used by the loss layers.
    Raises ShapeError and DTypeError for targets that do not fit; warns (UserWarning) where the first inputs look like probabilities.

    Example:
        >>> loss = F.cross_entropy(model(images), labels)
    """
    looks = looks or _first_calls
    if looks.left:
        _look(looks, checks.raw(input), _is_probability, NOT_LOGITS)
    op = _loss(losses.CrossEntropy, reduction=reduction, ignore_index=ignore_index, label_smoothing=label_smoothing)
    return _classified("cross_entropy", op, input, target, weight, ignore_index)


def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    looks: Looks | None = None,
) -> Tensor:
    """The negative log-likelihood of the true class. input: log-probabilities [N, C, ...]. Otherwise as `cross_entropy`."""
    looks = looks or _first_calls
    if looks.left:
        _look(looks, checks.raw(input), _is_positive, NOT_LOGARITHMS)
    op = _loss(losses.NLL, reduction=reduction, ignore_index=ignore_index)
    return _classified("nll_loss", op, input, target, weight, ignore_index)


def _classified(name: str, op: Any, x: Any, target: Any, weight: Any, ignore_index: int) -> Tensor:
    """Apply a loss over classes after checking its target."""
    a = x.array if isinstance(x, Tensor) else checks.raw(x)
    t = target.array if isinstance(target, Tensor) else checks.raw(target)
    if type(a) is not type(t) or a.dtype.kind != "f" or t.shape != a.shape[:1] or a.ndim != 2 or t.dtype.kind not in "iu":
        checks.logits(name, a, t)
    if t.ndim != a.ndim:
        checks.labels_in_range(name, t, a.shape[1], ignore_index)
    if t.dtype.kind == "f":
        target = _as(a, target, t)
    if weight is None:
        return apply(op, x, target)
    w = checks.raw(weight)
    if w.shape != (a.shape[1],):
        raise ShapeError(f"{name}: weight must hold one number for each of the {a.shape[1]} classes", describe(input=a, weight=w))
    return apply(op, x, target, _as(a, weight, w))


def mse_loss(input: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Tensor:
    """The squared distance (input - target)^2. Both of one shape; reduction "mean", "sum" or "none"."""
    return _paired("mse_loss", _loss(losses.MSE, reduction=reduction), input, target)


def l1_loss(input: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Tensor:
    """The distance |input - target|. Both of one shape; reduction "mean", "sum" or "none"."""
    check_choice("l1_loss: reduction", reduction, REDUCTIONS)
    distance = abs(_paired("l1_loss", elementwise.Sub(), input, target))
    return distance if reduction == "none" else distance.mean() if reduction == "mean" else distance.sum()


def binary_cross_entropy_with_logits(
    input: ArrayLike, target: ArrayLike, reduction: str = "mean", pos_weight: ArrayLike | None = None
) -> Tensor:
    """Binary cross-entropy of sigmoid(input) against target probabilities of the same shape. pos_weight: how much a positive weighs."""
    op = _loss(losses.BCEWithLogits, reduction=reduction)
    if pos_weight is None:
        return _paired("binary_cross_entropy_with_logits", op, input, target)
    return _paired("binary_cross_entropy_with_logits", op, input, target, _as(checks.raw(input), pos_weight, checks.raw(pos_weight)))


def _paired(name: str, op: Any, x: Any, target: Any, *more: Any) -> Tensor:
    a, t = checks.raw(x), checks.raw(target)
    if type(a) is not type(t) or a.dtype.kind != "f" or a.shape != t.shape:
        checks.same_shape(name, a, t)
    return apply(op, x, _as(a, target, t), *more)


def _as(like: Any, value: Any, array: Any) -> Any:
    """`value` in the dtype of the prediction: a float64 target must not turn a float32 step into float64."""
    return value if array.dtype == like.dtype else apply(elementwise.Cast(str(like.dtype)), value if isinstance(value, Tensor) else array)


def _look(looks: Looks, x: Any, wrong: Any, message: str) -> None:
    looks.left -= 1
    if x.ndim >= 2 and x.dtype.kind == "f" and x.size and wrong(x):
        looks.left = 0
        warnings.warn(message, UserWarning, stacklevel=3)


def _is_probability(x: Any) -> bool:
    return bool(x.min() >= 0) and bool(x.max() <= 1) and x.shape[1] > 1 and bool(abs(x.sum(axis=1) - 1).max() < 1e-3)


def _is_positive(x: Any) -> bool:
    return bool(x.max() > 1e-3)


softmax_cross_entropy = softmax_crossentropy = cross_entropy  # the names in DeZero and in MyGrad
mean_squared_error = mse_loss  # DeZero
