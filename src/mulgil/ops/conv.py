"""Two-dimensional convolution (cross-correlation, as everywhere in deep learning) and its two gradients.

Each of the three is an op, and the gradient of each is made of the other two: so convolution can be differentiated as
often as one likes. All are matrix products over im2col columns (Chellapilla et al., 2006).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from mulgil.ops.function import Function
from mulgil.ops.window import Pair, batch_first, batch_last, both, columns, output_size

COLUMN_BYTES = 1 << 26  # the columns of a large batch are made a part of the images at a time


@dataclass(frozen=True)
class Convolution(Function):
    """The settings that the three ops share."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def same(self, kind: Any, **more: Any) -> Any:
        """Another of the three ops with these settings."""
        return kind(self.stride, self.padding, self.dilation, self.groups, **more)


@dataclass(frozen=True)
class Conv2d(Convolution):
    """x[N, C, H, W] with weight[O, C / groups, kh, kw] and, if given, bias[O] -> y[N, O, H', W'].

    H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1.
    """

    def forward(self, ctx, x, weight, *bias):
        ctx.save(x, weight)
        kernel = weight.shape[2:]
        out = output_size(x.shape[2:], kernel, self.stride, self.padding, self.dilation)
        y = correlate(ctx.xp, batch_last(x, ctx.xp, both(self.padding)), weight, self.stride, self.dilation, out, self.groups)
        if bias:
            y += bias[0][:, None, None, None]
        return batch_first(y)

    def backward(self, ctx, gy):
        x, weight = ctx.saved
        gx = self.same(Conv2dInputGradient, size=x.shape[2:])(gy, weight) if ctx.needs[0] else None
        gweight = self.same(Conv2dWeightGradient, kernel=weight.shape[2:])(x, gy) if ctx.needs[1] else None
        return (gx, gweight, gy.sum(axis=(0, 2, 3))) if len(ctx.needs) == 3 else (gx, gweight)


@dataclass(frozen=True)
class Conv2dInputGradient(Convolution):
    """gy[N, O, H', W'], weight[O, C / groups, kh, kw] -> the gradient of x, [N, C, *size] (a transposed convolution)."""

    size: Pair = (0, 0)

    def forward(self, ctx, gy, weight):
        ctx.save(gy, weight)
        gy = spread_out(gy, ctx.xp, self.stride) if self.stride != (1, 1) else gy
        reach = [self.dilation[i] * (weight.shape[2 + i] - 1) for i in (0, 1)]
        before = [reach[i] - self.padding[i] for i in (0, 1)]
        frame = [(before[i], self.size[i] + reach[i] - before[i] - gy.shape[2 + i]) for i in (0, 1)]
        # more padding than the kernel reaches leaves a negative frame: rows of gy that only ever saw padding are cut off
        rows, cols = (slice(max(0, -a), gy.shape[2 + i] - max(0, -b)) for i, (a, b) in enumerate(frame))
        (top, bottom), (left, right) = (tuple(max(0, side) for side in pair) for pair in frame)
        framed = batch_last(gy[:, :, rows, cols], ctx.xp, ((top, bottom), (left, right)))
        return batch_first(correlate(ctx.xp, framed, flipped(weight, self.groups), (1, 1), self.dilation, self.size, self.groups))

    def backward(self, ctx, ggx):
        gy, weight = ctx.saved
        ggy = self.same(Conv2d)(ggx, weight) if ctx.needs[0] else None
        return ggy, self.same(Conv2dWeightGradient, kernel=weight.shape[2:])(ggx, gy) if ctx.needs[1] else None


@dataclass(frozen=True)
class Conv2dWeightGradient(Convolution):
    """x[N, C, H, W], gy[N, O, H', W'] -> the gradient of the weight, [O, C / groups, *kernel]."""

    kernel: Pair = (1, 1)

    def forward(self, ctx, x, gy):
        ctx.save(x, gy)
        xp, groups, out = ctx.xp, self.groups, gy.shape[2:]
        channels = x.shape[1] // groups
        framed, last = batch_last(x, xp, both(self.padding)), batch_last(gy, xp)
        total: Any = 0
        for part in image_parts(framed, self.kernel, out):
            cols = columns(framed[..., part], xp, self.kernel, self.stride, self.dilation, out)
            rows = last[..., part].reshape(groups, gy.shape[1] // groups, -1)
            # columns first: a tall product is about twice as quick as a flat one
            total = total + cols.reshape(groups, channels * prod(self.kernel), -1) @ rows.swapaxes(1, 2)
        return xp.ascontiguousarray(total.swapaxes(1, 2)).reshape(gy.shape[1], channels, *self.kernel)

    def backward(self, ctx, ggw):
        x, gy = ctx.saved
        gx = self.same(Conv2dInputGradient, size=x.shape[2:])(gy, ggw) if ctx.needs[0] else None
        return gx, self.same(Conv2d)(x, ggw) if ctx.needs[1] else None


def correlate(xp: Any, x: Any, weight: Any, stride: Pair, dilation: Pair, out: Pair, groups: int) -> Any:
    """x[C, H, W, N] with weight[O, C / groups, kh, kw] -> [O, *out, N], without padding."""
    kernel = weight.shape[2:]
    matrix = weight.reshape(groups, weight.shape[0] // groups, -1)
    parts = []
    for part in image_parts(x, kernel, out):
        cols = columns(x[..., part], xp, kernel, stride, dilation, out).reshape(groups, matrix.shape[2], -1)
        parts.append((matrix @ cols).reshape(weight.shape[0], *out, -1))
    return parts[0] if len(parts) == 1 else xp.concatenate(parts, axis=-1)


def image_parts(x: Any, kernel: Pair, out: Pair) -> Iterator[slice]:
    """Slices of the batch whose columns stay within `COLUMN_BYTES`."""
    channels, batch = x.shape[0], x.shape[3]
    size = max(1, COLUMN_BYTES // (channels * prod(kernel) * prod(out) * x.itemsize))
    for start in range(0, max(batch, 1), size):
        yield slice(start, min(start + size, batch))


def flipped(weight: Any, groups: int) -> Any:
    """weight[O, C / groups, kh, kw] turned by half a turn, input and output channels exchanged: [C, O / groups, kh, kw]."""
    outputs, channels, *kernel = weight.shape
    grouped = weight.reshape(groups, outputs // groups, channels, *kernel).swapaxes(1, 2)
    return grouped.reshape(groups * channels, outputs // groups, *kernel)[:, :, ::-1, ::-1]


def spread_out(gy: Any, xp: Any, stride: Pair) -> Any:
    """gy[N, O, H, W] with stride - 1 zeros between its rows and columns."""
    batch, channels, height, width = gy.shape
    y = xp.zeros((channels, (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1, batch), gy.dtype)
    y[:, :: stride[0], :: stride[1]] = gy.transpose(1, 2, 3, 0)
    return batch_first(y)
