"""Pooling over windows. Each gradient is an op of its own, so pooling can be differentiated more than once."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from mulgil.ops.function import Function
from mulgil.ops.window import Pair, batch_first, batch_last, both, output_size, taps


@dataclass(frozen=True)
class Pooling(Function):
    """The settings that pooling ops share; all are pairs (height, width)."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def same(self, kind: Any, **more: Any) -> Any:
        """Another pooling op with these settings."""
        return kind(self.kernel, self.stride, self.padding, self.dilation, **more)

    def out(self, size: Pair) -> Pair:
        return output_size(size, self.kernel, self.stride, self.padding, self.dilation)

    def taps(self, x: Any, out: Pair) -> list[Any]:
        return taps(x, self.kernel, self.stride, self.dilation, out)

    def framed(self, xp: Any, size: Pair, like: Any) -> Any:
        """Zeros to collect a gradient in: [C, H + padding, W + padding, N]."""
        return xp.zeros((like.shape[1], size[0] + 2 * self.padding[0], size[1] + 2 * self.padding[1], like.shape[0]), like.dtype)

    def inside(self, framed: Any, size: Pair) -> Any:
        top, left = self.padding
        return batch_first(framed[:, top : top + size[0], left : left + size[1]])


@dataclass(frozen=True)
class MaxPool2d(Pooling):
    """The largest element of each window. x[N, C, H, W] -> y[N, C, H', W']; the gradient goes to the first of equals."""

    def forward(self, ctx, x):
        xp = ctx.xp
        ctx.static = x.shape[2:]
        out = self.out(x.shape[2:])
        views = self.taps(batch_last(x, xp, both(self.padding), -xp.inf if any(self.padding) else 0.0), out)
        y = views[0].copy()
        winner = xp.zeros(y.shape, "uint8" if len(views) < 256 else "int64")
        for k, view in enumerate(views[1:], 1):
            if any(ctx.needs):  # the last tap that beats all before it
                xp.maximum(winner, (view > y) * winner.dtype.type(k), out=winner)
            xp.maximum(y, view, out=y)
        winner = batch_first(winner)
        ctx.save(winner)
        return batch_first(y)

    def backward(self, ctx, gy):
        return self.same(MaxPool2dGradient, size=ctx.static)(gy, *ctx.saved)


@dataclass(frozen=True)
class MaxPool2dGradient(Pooling):
    """gy[N, C, H', W'] sent to each window's winner, a position in the window: [N, C, *size]."""

    size: Pair = (0, 0)

    def forward(self, ctx, gy, winner):
        ctx.save(winner)
        gy_last, winner_last = batch_last(gy, ctx.xp), batch_last(winner, ctx.xp)
        gx = self.framed(ctx.xp, self.size, gy)
        for k, view in enumerate(self.taps(gx, gy.shape[2:])):
            view += gy_last * (winner_last == k)
        return self.inside(gx, self.size)

    def backward(self, ctx, ggx):
        (winner,) = ctx.saved
        return self.same(MaxPool2dPick)(ggx, winner), None


@dataclass(frozen=True)
class MaxPool2dPick(Pooling):
    """From each window of x[N, C, H, W] the element at the given position: the transpose of `MaxPool2dGradient`."""

    def forward(self, ctx, x, winner):
        ctx.save(winner)
        ctx.static = x.shape[2:]
        winner_last = batch_last(winner, ctx.xp)
        y = ctx.xp.zeros(winner_last.shape, x.dtype)
        for k, view in enumerate(self.taps(batch_last(x, ctx.xp, both(self.padding)), winner.shape[2:])):
            y += view * (winner_last == k)
        return batch_first(y)

    def backward(self, ctx, gy):
        return self.same(MaxPool2dGradient, size=ctx.static)(gy, *ctx.saved), None


@dataclass(frozen=True)
class AvgPool2d(Pooling):
    """The mean of each window. x[N, C, H, W] -> y[N, C, H', W']. `count_include_pad`: whether padding counts as elements."""

    count_include_pad: bool = True

    def forward(self, ctx, x):
        ctx.static = x.shape[2:]
        out = self.out(x.shape[2:])
        y = sum(self.taps(batch_last(x, ctx.xp, both(self.padding)), out))
        return batch_first(y / self.counts(ctx.xp, x.shape[2:], x.dtype))

    def backward(self, ctx, gy):
        return self.same(AvgPool2dGradient, count_include_pad=self.count_include_pad, size=ctx.static)(gy)

    def counts(self, xp: Any, size: Pair, dtype: Any) -> Any:
        if self.count_include_pad or not any(self.padding):
            return prod(self.kernel)
        ones = batch_last(xp.ones((1, 1, *size), dtype), xp, both(self.padding))
        return sum(self.taps(ones, self.out(size)))


@dataclass(frozen=True)
class AvgPool2dGradient(AvgPool2d):
    """gy[N, C, H', W'] spread evenly over each window: [N, C, *size]."""

    size: Pair = (0, 0)

    def forward(self, ctx, gy):
        share = batch_last(gy, ctx.xp) / self.counts(ctx.xp, self.size, gy.dtype)
        gx = self.framed(ctx.xp, self.size, gy)
        for view in self.taps(gx, gy.shape[2:]):
            view += share
        return self.inside(gx, self.size)

    def backward(self, ctx, ggx):
        return self.same(AvgPool2d, count_include_pad=self.count_include_pad)(ggx)
