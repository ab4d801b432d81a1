"""Ops that move elements without changing them: shapes, axes, joining, padding, indexing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mulgil.backend import device_of, to_device
from mulgil.ops.function import Function


class Rearrangement(Function):
    """What these ops share: a backward that is made of them."""

    composed = ("backward",)


@dataclass(frozen=True)
class Reshape(Rearrangement):
    """The same elements in another shape (row-major); one length may be -1. Shares memory where it can."""

    shape: tuple[int, ...]
    view = True

    def forward(self, ctx, x):
        ctx.static = x.shape
        return x.reshape(self.shape)

    def backward(self, ctx, gy):
        return gy.reshape(ctx.static)


@dataclass(frozen=True)
class Transpose(Rearrangement):
    """The axes in another order. Shares memory."""

    axes: tuple[int, ...]
    view = True

    def forward(self, ctx, x):
        return x.transpose(self.axes)

    def backward(self, ctx, gy):
        n = len(self.axes)
        places = [a % n for a in self.axes]
        return gy.transpose(tuple(places.index(i) for i in range(n)))


@dataclass(frozen=True)
class Expand(Rearrangement):
    """x broadcast to a shape. Shares memory, so the result is read-only. (The engine sums its gradient back.)"""

    shape: tuple[int, ...]
    view = True

    def forward(self, ctx, x):
        return ctx.xp.broadcast_to(x, self.shape)

    def backward(self, ctx, gy):
        return gy


@dataclass(frozen=True)
class Move(Function):
    """The same array on another device ("cpu", "cuda", "cuda:1"); the gradient travels back."""

    device: str

    def forward(self, ctx, x):
        ctx.static = str(device_of(x))
        return to_device(x, self.device)

    def backward(self, ctx, gy):
        return Move(ctx.static)(gy)


@dataclass(frozen=True)
class SumTo(Rearrangement):
    """The inverse of broadcasting: sum the axes that `shape` lacks or has with length 1."""

    shape: tuple[int, ...]
    combine = "add"

    def forward(self, ctx, x):
        ctx.static = x.shape
        return x.sum(axis=self.axes(x.shape), keepdims=True).reshape(self.shape)

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The axes of an array of this shape that are summed."""
        lead = len(shape) - len(self.shape)
        return tuple(i for i, n in enumerate(shape) if i < lead or (self.shape[i - lead] == 1 and n != 1))

    def backward(self, ctx, gy):
        return ctx.xp.broadcast_to(gy, ctx.static)


@dataclass(frozen=True)
class Concatenate(Rearrangement):
    """Arrays joined along an axis that they have."""

    axis: int = 0
    promotes = True

    def forward(self, ctx, *xs):
        ctx.static = [x.shape[self.axis] for x in xs]
        return ctx.xp.concatenate(xs, axis=self.axis)

    def backward(self, ctx, gy):
        parts, start = [], 0
        for length in ctx.static:
            parts.append(gy[_along(self.axis % gy.ndim, slice(start, start + length))])
            start += length
        return tuple(parts)


def _along(axis: int, index: Any) -> tuple:
    return (slice(None),) * axis + (index,)


@dataclass(frozen=True)
class Pad(Rearrangement):
    """`value` around x: `width` holds (before, after) for each axis."""

    width: tuple[tuple[int, int], ...]
    value: float = 0.0

    def forward(self, ctx, x):
        ctx.static = x.shape
        shape = tuple(n + before + after for n, (before, after) in zip(x.shape, self.width, strict=True))
        y = ctx.xp.full(shape, self.value, x.dtype)
        y[self._inside(x.shape)] = x
        return y

    def backward(self, ctx, gy):
        return gy[self._inside(ctx.static)]

    def _inside(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(slice(before, before + n) for n, (before, _) in zip(shape, self.width, strict=True))


class Slot:
    """In an index: "the next index array", which comes as an input of the op."""

    def __repr__(self) -> str:
        return "[...]"


SLOT = Slot()


def filled(key: tuple, arrays: tuple) -> tuple:
    """The index: `key` with the arrays in place of SLOT."""
    given = iter(arrays)
    return tuple(next(given) if part is SLOT else part for part in key)


@dataclass(frozen=True)
class Index(Rearrangement):
    """x[key], for every kind of NumPy index. Inputs: x, then the index arrays whose places in `key` are held by SLOT."""

    key: tuple

    @property
    def view(self) -> bool:  # type: ignore[override]
        return SLOT not in self.key

    @property
    def raises(self) -> bool:  # type: ignore[override]
        return SLOT in self.key

    def sized_by_values(self, *inputs: Any) -> bool:
        return any(a.dtype.kind == "b" for a in inputs[1:])

    def forward(self, ctx, x, *arrays):
        ctx.save(*arrays)
        ctx.static = x.shape
        return x[filled(self.key, arrays)]

    def backward(self, ctx, gy):
        gx = Scatter(self.key, ctx.static)(gy, *ctx.saved)
        return gx, *(None for _ in ctx.saved)


@dataclass(frozen=True)
class Scatter(Rearrangement):
    """Zeros of `shape` with x added at an index: the transpose of `Index`. An element named twice gets both."""

    key: tuple
    shape: tuple[int, ...]
    raises = True

    def forward(self, ctx, x, *arrays):
        ctx.save(*arrays)
        y = ctx.xp.zeros(self.shape, x.dtype)
        if arrays:
            ctx.xp.add.at(y, filled(self.key, arrays), x)
        else:
            y[self.key] = x
        return y

    def backward(self, ctx, gy):
        return Index(self.key)(gy, *ctx.saved), *(None for _ in ctx.saved)
