"""Losses: a number for how wrong a prediction is. Each saves only its inputs, so second derivatives come for free."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from mulgil.ops.function import Context, Function


@dataclass(frozen=True)
class Loss(Function):
    """What losses share: the reduction, "mean", "sum" or "none"."""

    reduction: str = "mean"
    floating = True

    def reduce(self, loss: Any) -> Any:
        """One number from a loss per element."""
        return loss.mean() if self.reduction == "mean" else loss.sum() if self.reduction == "sum" else loss

    def scale(self, gy: Any, count: int) -> Any:
        """The gradient of `reduce`."""
        return gy / count if self.reduction == "mean" else gy


@dataclass(frozen=True)
class NLL(Loss):
    """The negative log-likelihood of the true class.

    Inputs: log-probabilities [N, C, ...]; target, integer classes [N, ...] or probabilities of the first input's shape;
    optionally a weight for each class [C].
    Returns a scalar, or [N, ...] with reduction "none". "mean" divides by the summed weights of the true classes (PyTorch's rule).
    Classes equal to `ignore_index` count for nothing. Error: none added to the logarithms given.
    """

    ignore_index: int = -100
    label_smoothing: float = 0.0

    def forward(self, ctx, x, target, *weight):
        ctx.save(x, target, *weight)
        wanted, total = self._wanted(ctx, x, target, weight)
        return self._per_sample_reduced(wanted * self.log_probability(ctx, x), total)

    def backward(self, ctx, gy):
        x, target, *weight = ctx.saved
        wanted, total = self._wanted(ctx, x, target, tuple(weight))
        g = gy / total if self.reduction == "mean" else gy[:, None] if self.reduction == "none" else gy
        gtarget = None
        if ctx.needs[1]:
            gtarget = -g * (1 - self.label_smoothing) * self.log_probability(ctx, x)
            gtarget = gtarget * self._per_class(weight[0], x.ndim) if weight else gtarget
        return self.gradient(ctx, x, wanted, g), gtarget, *(None for _ in weight)

    def log_probability(self, ctx: Context, x: Any) -> Any:
        return x

    def gradient(self, ctx: Context, x: Any, wanted: Any, g: Any) -> Any:
        return -wanted * g

    def _per_sample_reduced(self, terms: Any, total: Any) -> Any:
        if self.reduction == "none":
            return -terms.sum(axis=1)
        return -terms.sum() / total if self.reduction == "mean" else -terms.sum()

    def _wanted(self, ctx: Context, x: Any, target: Any, weight: tuple) -> tuple[Any, Any]:
        """The distribution that the prediction should have, times the class weights; and what "mean" divides by."""
        xp, classes = ctx.xp, x.shape[1]
        per_class = self._per_class(weight[0], x.ndim) if weight else None
        if target.ndim == x.ndim:
            wanted, total = target, prod(x.shape) // classes
        else:
            column = xp.arange(classes, dtype=target.dtype).reshape(1, -1, *(1 for _ in x.shape[2:]))
            hit = (target[:, None] == column).astype(x.dtype)
            wanted, valid = hit, None
            if not 0 <= self.ignore_index < classes:  # an index outside the classes hits no column by itself
                valid = None if not self.label_smoothing else (target != self.ignore_index)[:, None]
            else:
                valid = (target != self.ignore_index)[:, None]
                wanted = hit = hit * valid
            total = (hit if per_class is None else hit * per_class).sum()
        if self.label_smoothing:
            wanted = wanted * (1 - self.label_smoothing) + self.label_smoothing / classes
            wanted = wanted * valid if target.ndim != x.ndim else wanted
        return wanted if per_class is None else wanted * per_class, total

    @staticmethod
    def _per_class(weight: Any, ndim: int) -> Any:
        return weight.reshape(1, -1, *(1 for _ in range(ndim - 2)))


@dataclass(frozen=True)
class CrossEntropy(NLL):
    """Softmax and negative log-likelihood in one: minus the log-probability of the true class.

    Inputs: logits [N, C, ...]; target, integer classes [N, ...] or probabilities of the logits' shape; optionally class weights [C].
    Returns as `NLL`. `label_smoothing` e moves e of the wanted probability evenly over all classes (Szegedy et al., CVPR 2016).
    Gradient: (softmax(logits) * sum(wanted) - wanted) / total.
    Error: no overflow; the maximum logit is taken out first.
    """

    def log_probability(self, ctx, x):
        s = x - x.max(axis=1, keepdims=True)
        return s - ctx.xp.log(ctx.xp.exp(s).sum(axis=1, keepdims=True))

    def gradient(self, ctx, x, wanted, g):
        e = ctx.xp.exp(x - x.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        return (p * wanted.sum(axis=1, keepdims=True) - wanted) * g


@dataclass(frozen=True)
class MSE(Loss):
    """The squared distance (x - target)^2. Inputs of one shape."""

    def forward(self, ctx, x, target):
        ctx.save(x, target)
        d = x - target
        return self.reduce(d * d)

    def backward(self, ctx, gy):
        x, target = ctx.saved
        g = self.scale(2 * gy, prod(x.shape)) * (x - target)
        return g, -g if ctx.needs[1] else None


@dataclass(frozen=True)
class BCEWithLogits(Loss):
    """Binary cross-entropy of sigmoid(x) against target probabilities, both of one shape; optionally a weight of the positives.

    loss = (1 - t) x + (1 + (w - 1) t) log(1 + exp(-x)).   Error: no overflow, exp only sees -|x|.
    """

    def forward(self, ctx, x, target, *positive):
        ctx.save(x, target, *positive)
        return self.reduce((1 - target) * x + self._weight(target, positive) * self._softplus_of_minus(ctx, x))

    def backward(self, ctx, gy):
        x, target, *positive = ctx.saved
        e = ctx.xp.exp(-abs(x))
        miss = ctx.xp.where(x >= 0, e, 1.0) / (1 + e)  # 1 - sigmoid(x)
        g = self.scale(gy, prod(x.shape))
        gtarget = None
        if ctx.needs[1]:
            extra = (positive[0] - 1) * self._softplus_of_minus(ctx, x) if positive else 0.0
            gtarget = g * (extra - x)
        return g * (1 - target - self._weight(target, positive) * miss), gtarget, *(None for _ in positive)

    @staticmethod
    def _weight(target: Any, positive: Any) -> Any:
        return 1 + (positive[0] - 1) * target if positive else 1

    @staticmethod
    def _softplus_of_minus(ctx: Context, x: Any) -> Any:
        return ctx.xp.log1p(ctx.xp.exp(-abs(x))) + ctx.xp.maximum(-x, 0)
