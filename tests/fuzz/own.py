"""What users write themselves: ops in every style that the pages teach, layers, optimizers, update rules: all from outside the package."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import mulgil
from mulgil import Function, Tensor, nn, optim
from mulgil.ops.function import run_inplace
from mulgil.ops.update import Update


class Scale(Function):
    """Settings in `__init__`, not a dataclass: `repr` shows nothing of them."""

    def __init__(self, by: float):
        self.by = by

    def forward(self, ctx, x):
        return x * self.by

    def backward(self, ctx, gy):
        return gy * self.by


@dataclass(frozen=True)
class Swish(Function):
    """An elementwise op in the contract's form."""

    beta: float = 1.0
    elementwise = True
    floating = True

    def forward(self, ctx, x):
        ctx.save(x)
        return x / (1 + ctx.xp.exp(-self.beta * x))

    def backward(self, ctx, gy):
        (x,) = ctx.saved
        s = 1 / (1 + ctx.xp.exp(-self.beta * x))
        return gy * (s + self.beta * x * s * (1 - s))


class Blend(Function):
    """An elementwise op of two inputs, with settings in `__init__`."""

    elementwise = True
    promotes = True

    def __init__(self, share: float):
        self.share = share

    def forward(self, ctx, a, b):
        return self.share * a + (1 - self.share) * b

    def backward(self, ctx, gy):
        return gy * self.share, gy * (1 - self.share)


class Power(Function):
    """The books' form: forward takes arrays, backward Tensors."""

    def __init__(self, c):
        self.c = c

    def forward(self, x):
        return x**self.c

    def backward(self, gy):
        (x,) = self.inputs
        return self.c * x ** (self.c - 1) * gy


class Spread(Function):
    """A reduction of one's own: the distance between the largest and the smallest of each row, in NumPy's words."""

    def forward(self, ctx, x):
        ctx.save(x)
        return x.max(axis=-1) - x.min(axis=-1)

    def backward(self, ctx, gy):
        (x,) = ctx.saved
        hit = (x == x.max(axis=-1, keepdims=True)).astype(x.dtype) - (x == x.min(axis=-1, keepdims=True)).astype(x.dtype)
        return gy.reshape((*x.shape[:-1], 1)) * hit


class Split(Function):
    """Two outputs."""

    def forward(self, ctx, x):
        ctx.save(x)
        return ctx.xp.sin(x), ctx.xp.cos(x)

    def backward(self, ctx, gs, gc):
        (x,) = ctx.saved
        gs, gc = (0 if g is None else g for g in (gs, gc))  # of an output that nobody used
        return gs * ctx.xp.cos(x) - gc * ctx.xp.sin(x)


inner = mulgil.compile(lambda x: x.tanh() * 2 + 1)  # a compiled function that other functions call


class Residual(nn.Module):
    """x + inner(x)."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class Twice(nn.Module):
    """One layer applied twice: shared parameters."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(self.inner(x).tanh())


class Applied(nn.Module):
    """An op as a layer."""

    def __init__(self, op: Function):
        super().__init__()
        self.op = op

    def forward(self, x):
        return self.op(x)


class Counting(nn.Module):
    """A layer with a buffer that each call changes, and a parameter that scales."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(np.ones((), mulgil.float32))
        self.register_buffer("seen", Tensor(np.zeros((), np.float32)))

    def forward(self, x):
        with mulgil.no_grad():
            self.seen += 1
        return x * self.gain


@dataclass(frozen=True)
class SignUpdate(Update):
    """p - lr sign(g): an update rule from outside the package."""

    def forward(self, ctx, p, g, lr):
        return p - lr * ctx.xp.sign(g)


class Pull(Update):
    """p - lr (g + pull p), with its setting in `__init__`."""

    def __init__(self, pull: float):
        self.pull = pull

    def forward(self, ctx, p, g, lr):
        return p - lr * (g + self.pull * p)


class LayerNormUpdate(Update):
    """An update rule that is not elementwise: the gradient is divided by its own norm."""

    elementwise = False

    def forward(self, ctx, p, g, lr):
        return p - lr * g / (ctx.xp.sqrt((g * g).sum()) + 1e-3)


class Own(optim.Optimizer):
    """An optimizer from outside the package, around any of the rules above."""

    def __init__(self, params, rule: Update, lr: float = 0.05):
        super().__init__(params, {"lr": lr})
        self.rule = rule

    def update(self, params, group, lr):
        for p in params:
            run_inplace(self.rule, p.array, p.grad.array, lr)
            p.bump()


class ByHand(optim.Optimizer):
    """An optimizer of Tensor arithmetic alone, with a state of its own: a running mean of the gradient."""

    def __init__(self, params, lr: float = 0.05, keep: float = 0.5):
        super().__init__(params, {"lr": lr, "keep": keep})

    def update(self, params, group, lr):
        with mulgil.no_grad():
            for p in params:
                if p not in self.state:
                    self.state[p] = {"mean": Tensor(np.zeros_like(p.array))}
                mean = self.state[p]["mean"]
                mean.mul_(group["keep"])
                mean.add_(p.grad, alpha=1 - group["keep"])
                p -= group["lr"] * mean


def first(model: nn.Module) -> nn.Parameter:
    """A model's first parameter."""
    return next(iter(model.parameters()))


def last(model: nn.Module) -> nn.Parameter:
    """A model's last parameter."""
    return list(model.parameters())[-1]


def every(model: nn.Module, kind, **settings) -> None:
    """Set attributes of every layer of a kind."""
    for module in model.modules():
        if isinstance(module, kind):
            for name, value in settings.items():
                setattr(module, name, value)


def differentiable(tree) -> list[Tensor]:
    """The tensors in a result that can be differentiated."""
    if isinstance(tree, (list, tuple, dict)):
        return [t for part in (tree.values() if isinstance(tree, dict) else tree) for t in differentiable(part)]
    return [tree] if isinstance(tree, Tensor) and tree.requires_grad else []


def go_back(result) -> None:
    """Backward from all that a function returned, outside it."""
    found = differentiable(result)
    if found:
        sum((t * t).sum() for t in found).backward()


def copied(tree):
    """A state_dict whose tensors have memory of their own."""
    if isinstance(tree, Tensor):
        return Tensor(tree.array.copy())
    if isinstance(tree, dict):
        return {k: copied(v) for k, v in tree.items()}
    return [copied(v) for v in tree] if isinstance(tree, list) else tree
