"""Learning-rate schedules. Make one after the optimizer and call `step()` after the optimizer's, once an epoch or once a batch.

Each computes the rate from the number of steps alone (the closed forms of PyTorch's schedules), so a resumed run is exact.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from mulgil.errors import OptionError
from mulgil.ops.function import beside
from mulgil.optim.optimizer import Optimizer
from mulgil.options import NOT_NEGATIVE, SHARE, check_choice, check_count, check_number


class LRScheduler:
    """Base class: implement `factor(t)`, by which each group's initial learning rate is multiplied after t steps (or `rate`).

    optimizer: its groups' `lr` is set, at once and by each `step()`. last_epoch: the steps done before, -1 for none.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        if not isinstance(optimizer, Optimizer):
            raise OptionError(f"{type(self).__name__}: the first argument must be an optimizer", type(optimizer).__name__)
        check_count(f"{type(self).__name__}: last_epoch", last_epoch, least=-1)
        self.optimizer, self.last_epoch = optimizer, last_epoch
        if last_epoch == -1:
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]
        elif any("initial_lr" not in group for group in optimizer.param_groups):
            raise OptionError(
                "scheduler: to go on from last_epoch, each group needs its initial_lr", hint="load the optimizer's state_dict first"
            )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self._last_lr: list[float] = []
        self.step()

    def factor(self, t: int) -> float:
        """What the initial learning rate is multiplied with after `t` steps."""
        raise NotImplementedError

    def rate(self, base: float, t: int, group: int) -> float:
        """The learning rate of a group after `t` steps."""
        return base * self.factor(t)

    def step(self) -> None:
        """One step further: set each group's learning rate."""
        beside(self.step)
        self.last_epoch += 1
        for i, (group, base) in enumerate(zip(self.optimizer.param_groups, self.base_lrs, strict=True)):
            lr = self.rate(base, self.last_epoch, i)
            check_number(f"{type(self).__name__}: the learning rate after {self.last_epoch} steps", lr, NOT_NEGATIVE)
            group["lr"] = lr
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group as last set."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers: everything but the optimizer and functions."""
        return {name: value for name, value in self.__dict__.items() if name not in ("optimizer", "lr_lambdas")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict()`, the optimizer's learning rates included."""
        self.__dict__.update(state_dict)
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


class StepLR(LRScheduler):
    """The rate times gamma every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        check_count("StepLR: step_size", step_size)
        self.step_size, self.gamma = step_size, _gamma(self, gamma)
        super().__init__(optimizer, last_epoch)

    def factor(self, t: int) -> float:
        return self.gamma ** (t // self.step_size)


class MultiStepLR(LRScheduler):
    """The rate times gamma at each of the `milestones`."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1):
        for milestone in milestones:
            check_count("MultiStepLR: each of milestones", milestone, least=0)
        self.milestones, self.gamma = sorted(milestones), _gamma(self, gamma)
        super().__init__(optimizer, last_epoch)

    def factor(self, t: int) -> float:
        return self.gamma ** bisect_right(self.milestones, t)


class ExponentialLR(LRScheduler):
    """The rate times gamma at each step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.gamma = _gamma(self, gamma)
        super().__init__(optimizer, last_epoch)

    def factor(self, t: int) -> float:
        return self.gamma**t


class LambdaLR(LRScheduler):
    """The rate times `lr_lambda(t)`; or a list of such functions, one for each group."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]], last_epoch: int = -1):
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if not all(map(callable, self.lr_lambdas)):
            raise OptionError("LambdaLR: lr_lambda must be a function of the number of steps", repr(lr_lambda), "lambda t: 0.95**t")
        if len(self.lr_lambdas) != groups:
            raise OptionError(
                "LambdaLR: there must be one function for each parameter group", f"{len(self.lr_lambdas)} functions, {groups} groups"
            )
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int, group: int) -> float:
        factor = self.lr_lambdas[group](t)
        check_number(f"LambdaLR: lr_lambda({t})", factor)
        return base * factor


class CosineAnnealingLR(LRScheduler):
    """From the initial rate down to `eta_min` in `T_max` steps, along half a cosine. Source: Loshchilov and Hutter, ICLR 2017."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        check_count("CosineAnnealingLR: T_max", T_max)
        check_number("CosineAnnealingLR: eta_min", eta_min, NOT_NEGATIVE)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int, group: int) -> float:
        return _between(base, self.eta_min, t / self.T_max, "cos")


class OneCycleLR(LRScheduler):
    """Up to `max_lr` and down to almost nothing, one step a batch. Source: Smith and Topin, 2019.

    Args:
        max_lr: the peak, a number or one for each group.
        total_steps: length of the cycle; or epochs and steps_per_epoch.
        pct_start: the share of the steps that goes up. anneal_strategy: "cos" or "linear".
        cycle_momentum: the momentum (Adam's first beta) goes down from max_momentum to base_momentum while the rate goes up, and back.
        div_factor: the start is max_lr / div_factor. final_div_factor: the end is the start / final_div_factor.
        three_phase: go down to the start first, then to the end.
    Raises OptionError for a `step()` beyond total_steps.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        if total_steps is None and (epochs is None or steps_per_epoch is None):
            raise OptionError("OneCycleLR: the length must be known", hint="give total_steps, or epochs and steps_per_epoch")
        for name, count in (("total_steps", total_steps), ("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
            check_count(f"OneCycleLR: {name}", count, optional=True)
        self.total_steps: int = epochs * steps_per_epoch if total_steps is None else total_steps  # type: ignore[operator]
        check_choice("OneCycleLR: anneal_strategy", anneal_strategy, ("cos", "linear"))
        check_number("OneCycleLR: pct_start", pct_start, SHARE)
        for name, value in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
            check_number(f"OneCycleLR: {name}", value, above=0)
        for name, value in (("base_momentum", base_momentum), ("max_momentum", max_momentum)):
            check_number(f"OneCycleLR: {name}", value, NOT_NEGATIVE, below=1)
        groups = optimizer.param_groups
        several = isinstance(max_lr, Sequence) and not isinstance(max_lr, str)
        self.max_lrs: list[float] = list(max_lr) if several else [max_lr] * len(groups)  # type: ignore[arg-type,list-item]
        for top in self.max_lrs:
            check_number("OneCycleLR: max_lr", top, NOT_NEGATIVE)
        if len(self.max_lrs) != len(groups):
            raise OptionError("OneCycleLR: there must be one max_lr for each parameter group", f"{len(self.max_lrs)}, {len(groups)} groups")
        self.anneal_strategy, self.div_factor, self.final_div_factor = anneal_strategy, div_factor, final_div_factor
        self.cycle_momentum, self.base_momentum, self.max_momentum = cycle_momentum, base_momentum, max_momentum
        up = float(pct_start * self.total_steps) - 1
        self._ends = [up, 2 * up, self.total_steps - 1.0] if three_phase else [up, self.total_steps - 1.0]
        if cycle_momentum and not ({"momentum", "betas"} & set(optimizer.defaults)):
            raise OptionError(
                "OneCycleLR: cycle_momentum needs an optimizer with a momentum", type(optimizer).__name__, "cycle_momentum=False"
            )
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, t: int, group: int) -> float:
        top = self.max_lrs[group]
        start = top / self.div_factor
        return self._at(
            t, [start, top, start, start / self.final_div_factor] if len(self._ends) == 3 else [start, top, start / self.final_div_factor]
        )

    def _at(self, t: int, points: list[float]) -> float:
        """The value after t steps on the way through `points`, which are reached at `_ends`."""
        begin = 0.0
        for i, end in enumerate(self._ends):
            if t <= end or i == len(self._ends) - 1:
                return _between(points[i], points[i + 1], (t - begin) / (end - begin) if end > begin else 1.0, self.anneal_strategy)
            begin = end
        raise AssertionError("unreachable")

    def step(self) -> None:
        if self.last_epoch + 1 >= self.total_steps + 1:
            raise OptionError(
                "OneCycleLR: the cycle is over",
                f"step {self.last_epoch + 1} of {self.total_steps}",
                "make total_steps the number of batches of the whole run",
            )
        super().step()  # tells `beside`: this whole step is done again
        if self.cycle_momentum:
            low, high = self.base_momentum, self.max_momentum
            momentum = self._at(self.last_epoch, [high, low, high, high] if len(self._ends) == 3 else [high, low, high])
            for group in self.optimizer.param_groups:
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum


def _between(start: float, end: float, share: float, strategy: str) -> float:
    if strategy == "linear":
        return start + (end - start) * share
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def _gamma(schedule: LRScheduler, gamma: float) -> float:
    check_number(f"{type(schedule).__name__}: gamma", gamma, NOT_NEGATIVE)
    return gamma
