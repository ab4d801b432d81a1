"""Reductions over axes, and softmax. `axis` is None (all), an int or a tuple of ints; negative ones count from the end."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from mulgil.ops.function import Context, Function

Axis = int | tuple[int, ...] | None


@dataclass(frozen=True)
class Reduction(Function):
    """What reductions share: the axes, and the way back to the input's shape."""

    axis: Axis = None
    keepdims: bool = False
    composed: ClassVar[tuple[str, ...]] = ("backward",)

    def spread(self, ctx: Context, y: Any, shape: tuple[int, ...]) -> Any:
        """`y` broadcast back over the axes that were reduced."""
        return ctx.xp.broadcast_to(self.kept(y, shape), shape)

    def kept(self, y: Any, shape: tuple[int, ...]) -> Any:
        """`y` with the reduced axes as axes of length 1."""
        return y.reshape(tuple(1 if i in self.axes(shape) else n for i, n in enumerate(shape)))

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.axis is None:
            return tuple(range(len(shape)))
        return tuple(i % len(shape) for i in (self.axis if isinstance(self.axis, tuple) else (self.axis,)))

    def count(self, shape: tuple[int, ...]) -> int:
        """How many elements go into one result."""
        return prod(shape[i] for i in self.axes(shape))


class RealReduction(Reduction):
    """A reduction with real values: integers are cast to the default dtype first."""

    floating = True


@dataclass(frozen=True)
class Sum(Reduction):
    """The sum over axes."""

    def forward(self, ctx, x):
        ctx.static = x.shape
        return x.sum(axis=self.axis, keepdims=self.keepdims)

    def backward(self, ctx, gy):
        return self.spread(ctx, gy, ctx.static)


@dataclass(frozen=True)
class Mean(RealReduction):
    """The mean over axes."""

    def forward(self, ctx, x):
        ctx.static = x.shape
        return x.mean(axis=self.axis, keepdims=self.keepdims)

    def backward(self, ctx, gy):
        return self.spread(ctx, gy / self.count(ctx.static), ctx.static)


@dataclass(frozen=True)
class Var(RealReduction):
    """The variance: squared distances from the mean, summed and divided by (count - correction)."""

    correction: float = 1

    def forward(self, ctx, x):
        ctx.save(x)
        return x.var(axis=self.axis, keepdims=self.keepdims, ddof=self.correction)

    def backward(self, ctx, gy):
        (x,) = ctx.saved
        scale = 2 / (self.count(x.shape) - self.correction)
        return self.kept(gy, x.shape) * scale * (x - x.mean(axis=self.axis, keepdims=True))


@dataclass(frozen=True)
class Std(RealReduction):
    """The standard deviation: the square root of `Var`."""

    correction: float = 1

    def forward(self, ctx, x):
        y = x.std(axis=self.axis, keepdims=self.keepdims, ddof=self.correction)
        ctx.save(x, y)
        return y

    def backward(self, ctx, gy):
        x, y = ctx.saved
        per_deviation = self.kept(gy / y, x.shape) / (self.count(x.shape) - self.correction)
        return per_deviation * (x - x.mean(axis=self.axis, keepdims=True))


class Extreme(Reduction):
    """A maximum or minimum. The gradient is shared evenly by the elements that reach it (as PyTorch's amax and amin)."""

    pick: ClassVar[str] = "max"

    def forward(self, ctx, x):
        y = getattr(x, self.pick)(axis=self.axis, keepdims=self.keepdims)
        ctx.save(x, y)
        return y

    def backward(self, ctx, gy):
        x, y = ctx.saved
        hit = (x == self.kept(y, x.shape)).astype(x.dtype)
        return self.kept(gy, x.shape) * hit / hit.sum(axis=self.axis, keepdims=True)


class Max(Extreme):
    """The largest element over axes."""


class Min(Extreme):
    """The smallest element over axes."""

    pick = "min"
    composed = ("backward",)


@dataclass(frozen=True)
class Query(Reduction):
    """A reduction without a gradient, by NumPy's name: "argmax", "argmin" (one axis; the first of equals), "all", "any"."""

    name: str = "all"

    def forward(self, ctx, x):
        return getattr(x, self.name)(axis=self.axis, keepdims=self.keepdims)


@dataclass(frozen=True)
class LogSumExp(RealReduction):
    """log(sum(exp(x))) over axes, without overflow: the maximum is taken out first."""

    composed: ClassVar[tuple[str, ...]] = ("forward", "backward")

    def forward(self, ctx, x):
        top = x.max(axis=self.axis, keepdims=True)
        total = ctx.xp.exp(x - top).sum(axis=self.axis, keepdims=True)
        y = ctx.xp.log(total) + top
        y = y if self.keepdims else y.squeeze(self.axes(x.shape))
        ctx.save(x, y)
        return y

    def backward(self, ctx, gy):
        x, y = ctx.saved
        return self.kept(gy, x.shape) * ctx.xp.exp(x - self.kept(y, x.shape))


@dataclass(frozen=True)
class Softmax(Function):
    """exp(x) / sum(exp(x)) along one axis, without overflow."""

    axis: int = -1
    floating = True
    composed: ClassVar[tuple[str, ...]] = ("forward", "backward")

    def forward(self, ctx, x):
        e = ctx.xp.exp(x - x.max(axis=self.axis, keepdims=True))
        y = e / e.sum(axis=self.axis, keepdims=True)
        ctx.save(y)
        return y

    def backward(self, ctx, gy):
        (y,) = ctx.saved
        return y * (gy - (gy * y).sum(axis=self.axis, keepdims=True))


@dataclass(frozen=True)
class LogSoftmax(Function):
    """log(softmax(x)) along one axis, accurate where the softmax is nearly 0 or 1."""

    axis: int = -1
    floating = True
    composed: ClassVar[tuple[str, ...]] = ("forward", "backward")

    def forward(self, ctx, x):
        s = x - x.max(axis=self.axis, keepdims=True)
        y = s - ctx.xp.log(ctx.xp.exp(s).sum(axis=self.axis, keepdims=True))
        ctx.save(y)
        return y

    def backward(self, ctx, gy):
        (y,) = ctx.saved
        return gy - ctx.xp.exp(y) * gy.sum(axis=self.axis, keepdims=True)
