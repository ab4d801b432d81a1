"""Adam and AdamW."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import xp_of
from mulgil.errors import OptionError
from mulgil.ops import update
from mulgil.ops.function import run_inplace
from mulgil.optim.optimizer import Optimizer, Options, Params, cached_op, reject
from mulgil.options import NOT_NEGATIVE, check_number


class Clock:
    """A step count and the two numbers that follow from it, shared by the parameters that have been updated equally often."""

    def __init__(self, xp: Any, t: float = 0.0):
        self.t, self.step_size, self.eps_hat = xp.full((), t, np.float64), xp.empty((), np.float64), xp.empty((), np.float64)
        self.users = 0

    def advance(self, lr: Any, fresh: Any, *settings: float) -> None:
        """One step more; fresh: 1 - beta1. settings: beta2, eps."""
        run_inplace(cached_op(update.BiasCorrection, *settings), self.t, lr, fresh, self.step_size, self.eps_hat)


class Adam(Optimizer):
    """Adam: steps of about lr, from running means of the gradient and its square.

    Args:
        params: see `Optimizer`. lr: learning rate. betas: how long the two running means remember.
        eps: added to the root of the second. weight_decay: adds weight_decay * p to the gradient.
    Same arithmetic as PyTorch's; `amsgrad` is not supported. Source: Kingma and Ba, ICLR 2015.

    Example:
        >>> optimizer = Adam(model.parameters(), lr=1e-3)
    """

    op: Any = update.Adam
    starts_from_zeros = True
    takes_lr = False  # whether the op wants the learning rate itself, beside the step size

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ):
        reject(type(self).__name__, options)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        betas, name = group["betas"], type(self).__name__
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise OptionError(f"{name}: betas must be two numbers", repr(betas), "(0.9, 0.999)")
        for beta in betas:
            check_number(f"{name}: each of betas", beta, NOT_NEGATIVE, below=1)

    def moving(self, group: dict[str, Any]) -> dict[str, float]:
        return {"lr": group["lr"], "fresh": 1 - group["betas"][0]}

    def fixed(self, group: dict[str, Any]) -> tuple[Any, ...]:
        return group["betas"][1], group["eps"], group["weight_decay"]

    def update(self, params: list[Tensor], group: dict[str, Any], lr: Any) -> None:
        beta2, fresh = group["betas"][1], self.numbers["fresh"]
        for clock in self._clocks(params, group):
            clock.advance(lr, fresh, beta2, group["eps"])
        op = cached_op(self.op, beta2, group["weight_decay"])
        more = (lr,) if self.takes_lr else ()
        for p in params:
            state = self.state[p]
            clock = state["step"]
            moments = state["exp_avg"].array, state["exp_avg_sq"].array
            run_inplace(op, p.array, p.grad.array, *moments, fresh, clock.step_size, clock.eps_hat, *more)  # type: ignore[union-attr]
            p.bump()

    def _clocks(self, params: list[Tensor], group: dict[str, Any]) -> list[Clock]:
        """The clocks of `params`, each with no other users; parameters without a gradient stay behind on the old one."""
        members: dict[int, list[dict]] = {}
        new: Clock | None = None
        for p in params:
            state = self.state.get(p)
            if state is None:
                xp = xp_of(p.array)
                new = new or Clock(xp)
                new.users += 1
                zeros = xp.zeros_like
                state = self.state[p] = {"step": new, "exp_avg": Tensor(zeros(p.array)), "exp_avg_sq": Tensor(zeros(p.array))}
            members.setdefault(id(state["step"]), []).append(state)
        clocks = []
        for states in members.values():
            clock = states[0]["step"]
            if clock.users > len(states):
                clock.users -= len(states)
                clock = _shared(states, Clock(xp_of(clock.t), float(clock.t)))
            clocks.append(clock)
        return clocks

    def exported(self, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "step": Tensor(values["step"].t.copy())}

    def after_load(self) -> None:
        for group in self.param_groups:
            together: dict[tuple, list[dict]] = {}
            for p in group["params"]:
                if p in self.state:
                    state = self.state[p]
                    together.setdefault((float(state["step"]), xp_of(p.array)), []).append(state)
            for (t, xp), states in together.items():
                _shared(states, Clock(xp, t))


class AdamW(Adam):
    """Adam with decoupled weight decay: each step also shrinks the parameter by lr * weight_decay (0.01 by default).

    Source: Loshchilov and Hutter, ICLR 2019.
    """

    op = update.AdamW
    takes_lr = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        **options: Unpack[Options],
    ):
        super().__init__(params, lr, betas, eps, weight_decay, **options)


def _shared(states: list[dict], clock: Clock) -> Clock:
    """Put these parameters on one clock."""
    for state in states:
        state["step"] = clock
    clock.users = len(states)
    return clock
