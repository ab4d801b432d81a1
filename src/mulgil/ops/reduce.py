"""Reductions over axes, and softmax. `axis` is None (all), an int or a tuple of ints; negative ones count from the end."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, prod
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
    """The sum over axes; of integers and booleans in int64, of float16 added up in float32."""

    combine = "add"

    def forward(self, ctx, x):
        ctx.static = x.shape
        wide = wider(x)
        y = x.sum(axis=self.axis, keepdims=self.keepdims, dtype=wide)
        return y.astype(x.dtype) if wide == "float32" else y

    def backward(self, ctx, gy):
        return self.spread(ctx, gy, ctx.static)


def wider(x: Any) -> str | None:
    """The dtype in which a sum or product of x is collected; None: x's own."""
    return None if x.dtype.kind == "f" and x.dtype.itemsize > 2 else "float32" if x.dtype.kind == "f" else "int64"


@dataclass(frozen=True)
class Prod(Reduction):
    """The product over axes; of integers and booleans in int64."""

    composed: ClassVar[tuple[str, ...]] = ()

    def forward(self, ctx, x):
        wide = wider(x)
        y = x.prod(axis=self.axis, keepdims=self.keepdims, dtype=wide)
        y = y.astype(x.dtype) if wide == "float32" else y
        ctx.save(x, y)
        return y

    def backward(self, ctx, gy):
        x, y = ctx.saved
        if bool((x != 0).all()):
            return self.kept(gy * y, x.shape) / x
        return self.kept(gy, x.shape) * self._of_others(ctx.xp, x)

    def _of_others(self, xp: Any, x: Any) -> Any:
        """For each element the product of those that were multiplied with it, in n^2 products: right also beside zeros."""
        axes = self.axes(x.shape)
        rest = tuple(i for i in range(len(x.shape)) if i not in axes)
        order = (*rest, *axes)
        n = prod(x.shape[i] for i in axes)
        rows = x.transpose(order).reshape(*(x.shape[i] for i in rest), 1, n)
        others = xp.where(xp.eye(n, dtype=bool), 1.0, rows).prod(axis=-1)
        back = tuple(order.index(i) for i in range(len(order)))
        return others.reshape(tuple(x.shape[i] for i in order)).transpose(back)


@dataclass(frozen=True)
class Mean(RealReduction):
    """The mean over axes."""

    combine, averages = "add", True

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
        return self.kept(gy, x.shape) * (2 * self.share(x.shape)) * (x - x.mean(axis=self.axis, keepdims=True))

    def share(self, shape: tuple[int, ...]) -> float:
        """What one square counts. Of too few elements the variance is nan, and so is its gradient: infinity times 0."""
        freedom = self.count(shape) - self.correction
        return 1 / freedom if freedom > 0 else inf


@dataclass(frozen=True)
class Std(Var):
    """The standard deviation: the square root of `Var`. Where all elements are equal its gradient is taken as 0, as in PyTorch."""

    def forward(self, ctx, x):
        y = x.std(axis=self.axis, keepdims=self.keepdims, ddof=self.correction)
        ctx.save(x, y)
        return y

    def backward(self, ctx, gy):
        x, y = ctx.saved
        per_deviation = self.kept(gy / ctx.xp.where(y == 0, inf, y), x.shape) * self.share(x.shape)
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

    combine = "maximum"


class Min(Extreme):
    """The smallest element over axes."""

    pick, combine = "min", "minimum"
    composed = ("backward",)


@dataclass(frozen=True)
class Gather(Function):
    """The elements of x at `index` along an axis, as `numpy.take_along_axis`. index: integers, of x's shape but for that axis."""

    axis: int = -1

    def forward(self, ctx, x, index):
        ctx.save(index)
        ctx.static = x.shape[self.axis]
        return ctx.xp.take_along_axis(x, index, self.axis)

    def backward(self, ctx, gy):
        (index,) = ctx.saved
        return GatherGradient(self.axis, ctx.static)(gy, index), None


@dataclass(frozen=True)
class GatherGradient(Function):
    """Zeros of length `length` along the axis with x added at `index`: the transpose of `Gather`."""

    axis: int = -1
    length: int = 0

    def forward(self, ctx, x, index):
        ctx.save(index)
        axis = self.axis % x.ndim
        y = ctx.xp.zeros((*x.shape[:axis], self.length, *x.shape[axis + 1 :]), x.dtype)
        places = list(ctx.xp.indices(index.shape, sparse=True))
        places[axis] = index
        ctx.xp.add.at(y, tuple(places), x)
        return y

    def backward(self, ctx, gy):
        (index,) = ctx.saved
        return Gather(self.axis)(gy, index), None


@dataclass(frozen=True)
class Query(Reduction):
    """A reduction without a gradient, by NumPy's name: "argmax", "argmin" (one axis; the first of equals), "all", "any"."""

    name: str = "all"

    def forward(self, ctx, x):
        return getattr(x, self.name)(axis=self.axis, keepdims=self.keepdims)


def largest(x: Any, axis: Axis) -> Any:
    """The maximum over axes, kept as axes of length 1; of nothing 0."""
    return x.max(axis=axis, keepdims=True) if prod(x.shape) else x.sum(axis=axis, keepdims=True)


@dataclass(frozen=True)
class LogSumExp(RealReduction):
    """log(sum(exp(x))) over axes, without overflow: the maximum is taken out first."""

    composed: ClassVar[tuple[str, ...]] = ("forward", "backward")

    def forward(self, ctx, x):
        top = largest(x, self.axis)
        top = ctx.xp.where(abs(top) == inf, 0.0, top)  # infinities would give inf - inf
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
        e = ctx.xp.exp(x - largest(x, self.axis))
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
        s = x - largest(x, self.axis)
        y = s - ctx.xp.log(ctx.xp.exp(s).sum(axis=self.axis, keepdims=True))
        ctx.save(y)
        return y

    def backward(self, ctx, gy):
        (y,) = ctx.saved
        return gy - ctx.xp.exp(y) * gy.sum(axis=self.axis, keepdims=True)
