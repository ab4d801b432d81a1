"""Update rules: ops that overwrite their first inputs. Optimizers, running statistics and clipping are made of these.

They are elementwise texts like any other, so the eager mode runs them in cache-sized blocks and the compiler fuses them.
0-d inputs (learning rate, momentum, step count) are arrays, not Python numbers: they change from step to step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mulgil.ops.function import Function
from mulgil.ops.shape import filled


class Update(Function):
    """An elementwise op whose outputs overwrite the inputs at `inplace`. It has no gradient."""

    elementwise = True
    inplace: ClassVar[tuple[int, ...]] = (0,)


@dataclass(frozen=True)
class SGD(Update):
    """Gradient descent, with momentum, Nesterov's variant and L2 weight decay as PyTorch defines them.

    Inputs: parameter, gradient, [buffer and momentum (0-d), if there is momentum], learning rate (0-d).
    Overwrites the parameter and the buffer. Source: Sutskever et al., ICML 2013.
    """

    momentum: bool = False
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    @property
    def inplace(self) -> tuple[int, ...]:  # type: ignore[override]
        return (0, 2) if self.momentum else (0,)

    def forward(self, ctx, p, g, *more):
        if self.weight_decay:
            g = g + self.weight_decay * p
        if not self.momentum:
            return p - more[0] * g
        buffer, momentum, lr = more
        buffer = momentum * buffer + (1 - self.dampening) * g
        g = g + momentum * buffer if self.nesterov else buffer
        return p - lr * g, buffer


@dataclass(frozen=True)
class BiasCorrection(Update):
    """Adam's step count and what follows from it; all 0-d.

    Inputs: t, lr, 1 - beta1, then the two results' places. Overwrites t with t + 1, and the places with
    lr sqrt(1 - beta2^t) / (1 - beta1^t) and eps sqrt(1 - beta2^t), the efficient form at the end of Kingma and Ba's section 2.
    Keep them in float64: 1 - beta2^t loses its digits in float32.
    """

    beta2: float = 0.999
    eps: float = 1e-8
    inplace: ClassVar[tuple[int, ...]] = (0, 3, 4)

    def forward(self, ctx, t, lr, fresh, step_size, eps_hat):
        t = t + 1
        root = ctx.xp.sqrt(1 - self.beta2**t)
        return t, lr * root / (1 - (1 - fresh) ** t), self.eps * root


@dataclass(frozen=True)
class Adam(Update):
    """Adam, with L2 weight decay added to the gradient.

    Inputs: parameter, gradient, first moment, second moment, then 1 - beta1, step size and eps from `BiasCorrection` (0-d).
    Overwrites the parameter and both moments. Source: Kingma and Ba, ICLR 2015.
    """

    beta2: float = 0.999
    weight_decay: float = 0.0
    inplace: ClassVar[tuple[int, ...]] = (0, 2, 3)

    def forward(self, ctx, p, g, m, v, fresh, step_size, eps_hat):
        if self.weight_decay:
            g = g + self.weight_decay * p
        return self._moved(ctx, p, g, m, v, fresh, step_size, eps_hat)

    def _moved(self, ctx: Any, p: Any, g: Any, m: Any, v: Any, fresh: Any, step_size: Any, eps_hat: Any) -> tuple:
        m = m + fresh * (g - m)
        v = v + (1 - self.beta2) * (g * g - v)
        return p - step_size * m / (ctx.xp.sqrt(v) + eps_hat), m, v


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: the parameter itself shrinks by lr * weight_decay.

    Inputs: those of `Adam`, then the learning rate (0-d). Source: Loshchilov and Hutter, ICLR 2019.
    """

    weight_decay: float = 0.01
    elementwise = True

    def forward(self, ctx, p, g, m, v, fresh, step_size, eps_hat, lr):  # type: ignore[override]
        return self._moved(ctx, p * (1 - lr * self.weight_decay), g, m, v, fresh, step_size, eps_hat)


@dataclass(frozen=True)
class Lerp(Update):
    """a moved towards b by a fraction: a + weight (b - a). Running statistics."""

    weight: float

    def forward(self, ctx, a, b):
        return a + self.weight * (b - a)


class Assign(Update):
    """b, broadcast into a's memory."""

    def forward(self, ctx, a, b):
        return b


@dataclass(frozen=True)
class AssignNumber(Update):
    """A number everywhere in a."""

    value: float
    shape_only = True

    def forward(self, ctx, a):
        return ctx.xp.full_like(a, self.value)

    def overwrite(self, ctx, a):
        a[...] = self.value
        return (a,)


@dataclass(frozen=True)
class IndexPut(Function):
    """a[key] = b, for every kind of NumPy index. Inputs: a, b, then the index arrays whose places in `key` are held by SLOT."""

    key: tuple
    inplace: ClassVar[tuple[int, ...]] = (0,)
    raises = True

    def forward(self, ctx, a, b, *arrays):
        return self.overwrite(ctx, a.copy(), b, *arrays)

    def overwrite(self, ctx, a, b, *arrays):
        a[filled(self.key, arrays)] = b
        return (a,)


class Increment(Update):
    """a + 1: counts batches."""

    def forward(self, ctx, a):
        return a + 1


class Scale(Update):
    """a times a 0-d factor: gradient clipping by norm."""

    def forward(self, ctx, a, factor):
        return a * factor


@dataclass(frozen=True)
class Limit(Update):
    """a limited to [-bound, bound]: gradient clipping by value."""

    bound: float

    def forward(self, ctx, a):
        return ctx.xp.minimum(ctx.xp.maximum(a, -self.bound), self.bound)


@dataclass(frozen=True)
class ClipFactor(Function):
    """What gradients must be multiplied by so that their joint 2-norm is at most `max_norm`.

    Inputs: any number of arrays. Returns (norm, factor), 0-d. Source: Pascanu et al., ICML 2013.
    """

    max_norm: float
    eps: float = 1e-6

    def forward(self, ctx, *gradients):
        xp = ctx.xp
        norm = xp.sqrt(sum(xp.vdot(g, g) for g in gradients))
        return norm, xp.minimum(self.max_norm / (norm + self.eps), 1.0)
