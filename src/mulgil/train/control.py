"""Callbacks that decide: when to stop, which weights to keep, how fast to learn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mulgil.backend import to_device
from mulgil.errors import OptionError
from mulgil.optim import LRScheduler
from mulgil.options import check_count, check_number
from mulgil.train.callbacks import Callback

if TYPE_CHECKING:
    from mulgil.train.trainer import Trainer


class Best:
    """Follows one column of the history, and knows whether its last value is the best so far.

    monitor: the column. mode: "min" or "max"; by default "min" for losses and errors (mse, mae), "max" for everything else.
    """

    def __init__(self, monitor: str = "validation_loss", mode: str | None = None, min_delta: float = 0.0):
        if mode not in (None, "min", "max"):
            raise OptionError('mode must be "min" or "max"', repr(mode), "leave it out: losses go down, accuracies up")
        falls = monitor.endswith(("loss", "mse", "mae"))
        check_number("min_delta", min_delta)
        self.monitor, self.min_delta = monitor, abs(min_delta)
        self.sign = -1 if mode == "min" or (mode is None and falls) else 1
        self.value, self.epoch = math.nan, 0

    def improved(self, trainer: Any) -> bool:
        """Look at the epoch that ended; True if it is better, by more than min_delta, than all before."""
        names = trainer.history.dtype.names
        if self.monitor not in names:
            raise OptionError("monitor must be a column of the history", repr(self.monitor), f"one of {', '.join(names)}")
        value = float(trainer.history[self.monitor][-1])
        if math.isnan(value) and trainer.validation is None and self.monitor.startswith("validation"):
            raise OptionError(f"{self.monitor} needs a validation set", "none", 'fit(train, validation), or monitor="train_loss"')
        if math.isnan(value) or not (self.epoch == 0 or self.sign * (value - self.value) > self.min_delta):
            return False
        self.value, self.epoch = value, trainer.epoch
        return True


class EarlyStopping(Callback):
    """Stops when `monitor` has not improved by more than `min_delta` for `patience` epochs.

    Add `BestWeights` to keep the best epoch's weights. `monitor`, `mode`: see `Best`.
    """

    def __init__(self, monitor: str = "validation_loss", patience: int = 3, min_delta: float = 0.0, mode: str | None = None):
        check_count("EarlyStopping: patience", patience)
        self.best, self.patience, self.waited = Best(monitor, mode, min_delta), int(patience), 0

    def epoch(self, trainer: Trainer) -> None:
        self.waited = 0 if self.best.improved(trainer) else self.waited + 1
        if self.waited >= self.patience:
            trainer.stop(f"no better {self.best.monitor} for {self.patience} epochs")

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.best.value, "epoch": self.best.epoch, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best.value, self.best.epoch, self.waited = state["value"], state["epoch"], state["waited"]


class BestWeights(Callback):
    """Keeps the weights of the best epoch, and puts them back at the end, whatever ended the run: also Ctrl-C, an error, a time limit.

    monitor, mode, min_delta: see `Best`. restore: False leaves the last weights in the model.

    Attributes: best, last: name -> array, the weights of the best epoch and those at the end; best_epoch, best_value.
    """

    def __init__(self, monitor: str = "validation_loss", mode: str | None = None, min_delta: float = 0.0, restore: bool = True):
        self._best, self.restore = Best(monitor, mode, min_delta), restore
        self.best: dict[str, np.ndarray] | None = None
        self.last: dict[str, np.ndarray] | None = None

    @property
    def best_epoch(self) -> int:
        return self._best.epoch

    @property
    def best_value(self) -> float:
        return self._best.value

    def epoch(self, trainer: Trainer) -> None:
        if self._best.improved(trainer):
            self.best = weights_of(trainer.model)

    def end(self, trainer: Trainer) -> None:
        self.last = weights_of(trainer.model)
        if self.best is not None and self.restore:
            trainer.model.load_state_dict(self.best)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self._best.value, "epoch": self._best.epoch, "best": self.best or {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best.value, self._best.epoch = state["value"], state["epoch"]
        self.best = {name: np.array(array) for name, array in state["best"].items()} or None


class Schedule(Callback):
    """Steps a learning-rate scheduler of `mulgil.optim.lr_scheduler` after each "epoch" (default) or "batch".

    Example:
        >>> cycle = OneCycleLR(optimizer, 0.1, total_steps=5 * len(loader), cycle_momentum=False)     # doctest: +SKIP
        >>> Trainer(model, optimizer, loss, callbacks=[Schedule(cycle, every="batch")])               # doctest: +SKIP
    """

    def __init__(self, scheduler: LRScheduler, every: str = "epoch"):
        if every not in ("epoch", "batch"):
            raise OptionError('Schedule: every must be "epoch" or "batch"', repr(every))
        self.scheduler, self.every = scheduler, every

    def batch(self, trainer: Trainer) -> None:
        if self.every == "batch":
            self.scheduler.step()

    def epoch(self, trainer: Trainer) -> None:
        if self.every == "epoch":
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scheduler.load_state_dict(state)


class TimeLimit(Callback):
    """Stops after the batch at which `fit` has taken `seconds`, those before a resume included."""

    def __init__(self, seconds: float):
        check_number("TimeLimit: seconds", seconds, above=0)
        self.seconds = seconds

    def batch(self, trainer: Trainer) -> None:
        if trainer.seconds >= self.seconds:
            trainer.stop(f"time limit of {self.seconds:g} s")


def weights_of(model: Any) -> dict[str, np.ndarray]:
    """Name -> array of a model's parameters and buffers, as copies in the CPU's memory."""
    return {name: np.array(to_device(value.array, "cpu")) for name, value in model.state_dict().items()}
