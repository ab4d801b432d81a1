"""Callbacks that look at gradients and weights, or limit them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import to_device
from mulgil.errors import OptionError
from mulgil.functions import stack
from mulgil.nn import utils
from mulgil.options import check_number
from mulgil.train.callbacks import Callback

if TYPE_CHECKING:
    from mulgil.train.trainer import Trainer


class GradientClipping(Callback):
    """Limits the gradients within each step, compiled with it: their joint norm (max_norm), or each element (max_value).

    Attributes: norm: the joint norm before the last step, where max_norm is given.
    """

    def __init__(self, max_norm: float | None = None, max_value: float | None = None):
        if (max_norm is None) == (max_value is None):
            raise OptionError("GradientClipping: give one of max_norm and max_value, above 0", f"{max_norm!r}, {max_value!r}")
        name, value = ("max_value", max_value) if max_norm is None else ("max_norm", max_norm)
        check_number(f"GradientClipping: give one of max_norm and max_value, above 0: {name}", value, above=0)
        self.max_norm, self.max_value, self.norm = max_norm, max_value, float("nan")

    def after_backward(self, trainer: Trainer) -> Tensor | None:
        if self.max_norm is not None:
            return utils.clip_grad_norm_(trainer.model.parameters(), self.max_norm)
        utils.clip_grad_value_(trainer.model.parameters(), self.max_value or 0.0)
        return None

    def batch(self, trainer: Trainer) -> None:
        if self in trainer.outputs:
            self.norm = float(trainer.outputs[self])


class GradientStatistics(Callback):
    """The 2-norm of each parameter's gradient in each step, before clipping if it stands before `GradientClipping`.

    Attributes: names: the parameters. norms: [steps, parameters], float32, of this fit's and earlier steps.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self._norms: list[np.ndarray] = []

    @property
    def norms(self) -> np.ndarray:
        return np.stack(self._norms) if self._norms else np.zeros((0, len(self.names)), np.float32)

    def after_backward(self, trainer: Trainer) -> Tensor | None:
        found = [(name, p.grad) for name, p in trainer.model.named_parameters() if p.grad is not None]
        self.names = [name for name, _ in found]
        return stack([(g * g).sum() for _, g in found]).sqrt() if found else None

    def batch(self, trainer: Trainer) -> None:
        if self in trainer.outputs:
            self._norms.append(to_device(trainer.outputs[self].array, "cpu"))

    def state_dict(self) -> dict[str, Any]:
        return {"names": list(self.names), "norms": self.norms}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.names, self._norms = list(state["names"]), list(np.asarray(state["norms"]))


class WeightStatistics(Callback):
    """Mean, standard deviation, smallest, largest and norm of each parameter after each epoch.

    Attributes: records: an epoch each, {"epoch": 1, "0.weight": {"mean": ..., "std": ..., "min": ..., "max": ..., "norm": ...}, ...}.
    """

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def epoch(self, trainer: Trainer) -> None:
        record: dict[str, Any] = {"epoch": trainer.epoch}
        for name, parameter in trainer.model.named_parameters():
            w = parameter.array
            figures = {"mean": w.mean(), "std": w.std(), "min": w.min(), "max": w.max(), "norm": (w * w).sum() ** 0.5}
            record[name] = {key: float(value) for key, value in figures.items()}
        self.records.append(record)

    def state_dict(self) -> dict[str, Any]:
        return {"records": list(self.records)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.records = list(state["records"])
