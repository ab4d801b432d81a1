"""SGD."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from mulgil.autograd import Tensor
from mulgil.backend import xp_of
from mulgil.errors import OptionError
from mulgil.ops import update
from mulgil.ops.function import run_inplace
from mulgil.optim.optimizer import Optimizer, Options, Params, cached_op, reject
from mulgil.options import ANY, NOT_NEGATIVE, Range, check_choice


class SGD(Optimizer):
    """Gradient descent: p <- p - lr * v, with v the gradient or its running sum.

    Args:
        params: see `Optimizer`. lr: learning rate.
        momentum: v <- momentum * v + (1 - dampening) * gradient. The first gradient is not dampened.
        weight_decay: adds weight_decay * p to the gradient. nesterov: look ahead by one momentum step.
    Same arithmetic as PyTorch's. Source: Sutskever et al., ICML 2013.

    Example:
        >>> optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    """

    starts_from_zeros = True  # but for the dampening, which is among the fixed options

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **options: Unpack[Options],
    ):
        reject("SGD", options)
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, defaults)

    ranges: ClassVar[dict[str, Range]] = {**Optimizer.ranges, "momentum": NOT_NEGATIVE, "dampening": ANY}

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        check_choice("SGD: nesterov", group["nesterov"], (True, False))
        if group["nesterov"] and (not group["momentum"] or group["dampening"]):
            raise OptionError(
                "SGD: nesterov needs a momentum and no dampening", f"momentum={group['momentum']}, dampening={group['dampening']}"
            )

    def moving(self, group: dict[str, Any]) -> dict[str, float]:
        return {"lr": group["lr"], "momentum": group["momentum"]}

    def fixed(self, group: dict[str, Any]) -> tuple[Any, ...]:
        first = bool(group["dampening"]) and not self.state  # of which the gradient is not dampened
        return bool(group["momentum"]), group["dampening"], group["weight_decay"], group["nesterov"], first

    def update(self, params: list[Tensor], group: dict[str, Any], lr: Any) -> None:
        decay = group["weight_decay"]
        op = cached_op(update.SGD, bool(group["momentum"]), group["dampening"], decay, group["nesterov"])
        if not group["momentum"]:
            for p in params:
                run_inplace(op, p.array, p.grad.array, lr)  # type: ignore[union-attr]
                p.bump()
            return
        for p in params:
            state = self.state.get(p)
            rule = op
            if state is None or "momentum_buffer" not in state:
                state = self.state[p] = {"momentum_buffer": Tensor(xp_of(p.array).zeros_like(p.array))}
                rule = cached_op(update.SGD, True, 0.0, decay, group["nesterov"])  # the first gradient is not dampened
            run_inplace(rule, p.array, p.grad.array, state["momentum_buffer"].array, self.numbers["momentum"], lr)  # type: ignore[union-attr]
            p.bump()
