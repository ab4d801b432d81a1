"""Averages of weights along the run: EMA and SWA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mulgil.autograd import no_grad
from mulgil.backend import to_device
from mulgil.errors import OptionError
from mulgil.nn import BatchNorm1d, BatchNorm2d, Module
from mulgil.options import NOT_NEGATIVE, check_number
from mulgil.train.callbacks import Callback
from mulgil.train.step import device_of

if TYPE_CHECKING:
    from mulgil.train.trainer import Trainer


class WeightAverage(Callback):
    """Base: `average`, name -> array, of parameters (and of floating buffers, such as running statistics).

    apply: put the average into the model at the end, whatever ended the run (default). `swap(model)` does it by hand, and back.
    """

    def __init__(self, apply: bool = True):
        self.apply, self.average, self.count = apply, {}, 0  # type: ignore[var-annotated]

    def add(self, model: Module, weight: float) -> None:
        """average <- average + weight * (now - average); the first call copies."""
        for name, value in model.state_dict().items():
            now = value.array
            if name not in self.average or now.dtype.kind != "f":
                self.average[name] = now.copy()
            else:
                average = self.average[name]
                average += weight * (now - average)
        self.count += 1

    def swap(self, model: Module) -> None:
        """Exchange the model's weights and the average."""
        for name, value in model.state_dict().items():
            if name in self.average:
                value.array[...], self.average[name] = self.average[name], value.array.copy()

    def end(self, trainer: Trainer) -> None:
        if self.apply and self.count:
            trainer.model.load_state_dict(self.average)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "average": {name: to_device(array, "cpu").copy() for name, array in self.average.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count, self.average = int(state["count"]), {name: array.copy() for name, array in state["average"].items()}

    def to_model(self, model: Module) -> None:
        """Bring the average to where the model is, after `load_state_dict`."""
        where = device_of(model)
        self.average = {name: to_device(array, where) for name, array in self.average.items()}

    def start(self, trainer: Trainer) -> None:
        self.to_model(trainer.model)


class EMA(WeightAverage):
    """Exponential moving average of the weights over the steps: average <- decay * average + (1 - decay) * weights.

    decay: 0.999 remembers about 1,000 steps; in the first steps less, (1 + n) / (10 + n). Source: Polyak and Juditsky, 1992.
    """

    def __init__(self, decay: float = 0.999, apply: bool = True):
        check_number("EMA: decay", decay, NOT_NEGATIVE, below=1)
        super().__init__(apply)
        self.decay = decay

    def batch(self, trainer: Trainer) -> None:
        self.add(trainer.model, 1 - min(self.decay, (1 + self.count) / (10 + self.count)))


class SWA(WeightAverage):
    """Stochastic weight averaging: the mean of the weights after each epoch, from epoch `first` on.

    At the end the running statistics of batch normalisation are computed anew for the averaged weights, in one pass over the
    training data. Source: Izmailov et al., UAI 2018.
    """

    def __init__(self, first: int, apply: bool = True):
        if first < 1:
            raise OptionError("SWA: first is an epoch, counted from 1", repr(first))
        super().__init__(apply)
        self.first = first

    def epoch(self, trainer: Trainer) -> None:
        if trainer.epoch >= self.first and trainer.complete:
            self.add(trainer.model, 1 / (self.count + 1))

    def end(self, trainer: Trainer) -> None:
        super().end(trainer)
        if self.apply and self.count:
            renew_statistics(trainer.model, trainer.train_data)


def renew_statistics(model: Module, batches: Any) -> None:
    """Running statistics of batch normalisation for the present weights: their mean over `batches`. Other modes are left alone."""
    layers = [m for m in model.modules() if isinstance(m, (BatchNorm1d, BatchNorm2d)) and m.track_running_stats]
    if not layers:
        return
    modes, momenta = [(m, m.training) for m in model.modules()], [layer.momentum for layer in layers]
    where = device_of(model)
    model.eval()  # dropout drops nothing
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.training = True
        with no_grad():
            for n, batch in enumerate(batches, 1):
                for layer in layers:
                    layer.momentum = 1 / n  # the plain mean of the batches so far
                model((batch[0] if isinstance(batch, (tuple, list)) else batch).to(where))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes:
            module.training = mode
