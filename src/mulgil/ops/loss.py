"""Losses: a number for how wrong a prediction is. Each saves only its inputs, so second derivatives come for free."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, prod
from typing import Any, ClassVar

from mulgil.ops.elementwise import select
from mulgil.ops.function import Context, Function
from mulgil.ops.mathematics import exponent_limit
from mulgil.ops.reduce import largest


@dataclass(frozen=True)
class Loss(Function):
    """What losses share: the reduction, "mean", "sum" or "none"."""

    reduction: str = "mean"
    composed = ("forward", "backward")
    predicts: ClassVar[str] = "numbers"  # or "class" (one of several), "yes or no": what a right answer is

    def reduce(self, loss: Any) -> Any:
        """One number from a loss per element."""
        return loss.mean() if self.reduction == "mean" else loss.sum() if self.reduction == "sum" else loss

    def divisor(self, x: Any, target: Any, *weight: Any) -> Any:
        """What "mean" divides by, of arrays as `forward` takes them: what this loss weighs in a mean over several batches."""
        return x.size

    def scale(self, gy: Any, count: int) -> Any:
        """The gradient of `reduce`."""
        return gy / count if self.reduction == "mean" else gy


@dataclass(frozen=True)
class NLL(Loss):
    """The negative log-likelihood of the true class.

    Inputs: log-probabilities [N, C, ...]; target, integer classes [N, ...] or probabilities of the first input's shape;
    optionally a weight for each class [C].
    Returns a scalar, or [N, ...] with reduction "none". "mean" divides by the summed weights of the true classes (PyTorch's rule).
    Classes equal to `ignore_index` count for nothing. `label_smoothing` e moves e of the wanted probability evenly over all
    classes (Szegedy et al., CVPR 2016).
    """

    ignore_index: int = -100
    label_smoothing: float = 0.0
    predicts = "class"

    def divisor(self, x, target, *weight):
        if target.dtype.kind == "f":  # probabilities
            return target.size // target.shape[1]
        valid = target != self.ignore_index
        return weight[0][target[valid]].sum() if weight else valid.sum()

    def forward(self, ctx, x, target, *weight):
        ctx.save(x, target, *weight)
        x = _classes_first(x)
        wanted, total = self._wanted(ctx, x, target, weight)
        terms = wanted * select(ctx.xp, wanted != 0, self.log_probability(ctx, x))  # what nobody wants may be impossible, -inf
        if self.reduction == "none":
            return 0 - terms.sum(axis=0)  # 0 -, as in PyTorch: a loss of nothing is 0.0, not -0.0
        return (0 - terms.sum()) / total if self.reduction == "mean" else 0 - terms.sum()

    def backward(self, ctx, gy):
        x, target, *weight = ctx.saved
        x = _classes_first(x)
        wanted, total = self._wanted(ctx, x, target, weight)
        if self.reduction == "mean":  # a batch that counts for nothing has no gradient, though its mean is 0 / 0
            total = total or inf if isinstance(total, int) else ctx.xp.where(total == 0, inf, total)
        g = gy / total if self.reduction == "mean" else gy
        gtarget = None
        if ctx.needs[1]:
            gtarget = -g * (1 - self.label_smoothing) * self.log_probability(ctx, x)
            gtarget = (gtarget * _column(weight[0], x) if weight else gtarget).swapaxes(0, 1)
        return self.gradient(ctx, x, wanted, g).swapaxes(0, 1), gtarget, *(None for _ in weight)

    def log_probability(self, ctx: Context, x: Any) -> Any:
        return x

    def gradient(self, ctx: Context, x: Any, wanted: Any, g: Any) -> Any:
        return -wanted * g

    def _wanted(self, ctx: Context, x: Any, target: Any, weight: Any) -> tuple[Any, Any]:
        """The distribution [C, N, ...] that the prediction should have, times the class weights; and what "mean" divides by."""
        valid: Any = None
        if target.ndim == x.ndim:
            wanted, total = _classes_first(target), prod(target.shape) // x.shape[0]
        else:
            wanted = (target == _column(ctx.xp.arange(x.shape[0], dtype=target.dtype), x)).astype(x.dtype)
            if self.label_smoothing or 0 <= self.ignore_index < x.shape[0]:  # else an ignored index is no class and hits nothing
                valid = target != self.ignore_index
                wanted = wanted * valid
            total = (wanted * _column(weight[0], x) if weight else wanted).sum()
        if self.label_smoothing:
            wanted = wanted * (1 - self.label_smoothing) + self.label_smoothing / x.shape[0]
            wanted = wanted if valid is None else wanted * valid
        return wanted * _column(weight[0], x) if weight else wanted, total


def _classes_first(x: Any) -> Any:
    """[N, C, ...] -> [C, N, ...] in order: sums over the few classes then run along the many samples."""
    return x.swapaxes(0, 1).copy()


def _column(v: Any, x: Any) -> Any:
    """v[C] shaped to broadcast over x[C, N, ...]."""
    return v.reshape(-1, *(1 for _ in x.shape[1:]))


@dataclass(frozen=True)
class CrossEntropy(NLL):
    """Softmax and negative log-likelihood in one: minus the log-probability of the true class.

    Inputs: logits [N, C, ...]; the rest, and what is returned, as in `NLL`.
    Gradient: (softmax(logits) * sum(wanted) - wanted) / total.
    Error: no overflow; the maximum logit is taken out first.
    """

    composed = ("forward", "backward")

    def log_probability(self, ctx, x):
        s = x - largest(x, 0)
        return s - ctx.xp.log(ctx.xp.exp(s).sum(axis=0, keepdims=True))

    def gradient(self, ctx, x, wanted, g):
        e = ctx.xp.exp(x - largest(x, 0))
        return (e * (wanted.sum(axis=0, keepdims=True) / e.sum(axis=0, keepdims=True)) - wanted) * g


@dataclass(frozen=True)
class MSE(Loss):
    """The squared distance (x - target)^2. Inputs of one shape."""

    promotes = True

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

    promotes = True
    predicts = "yes or no"

    def forward(self, ctx, x, target, *positive):
        ctx.save(x, target, *positive)
        return self.reduce((1 - target) * x + self._weight(target, positive) * self._softplus_of_minus(ctx, x))

    def backward(self, ctx, gy):
        x, target, *positive = ctx.saved
        miss = 1 / (1 + ctx.xp.exp(ctx.xp.minimum(x, exponent_limit(x.dtype))))  # 1 - sigmoid(x)
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
