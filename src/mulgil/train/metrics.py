"""Loss and metrics over an epoch: exact, that is weighted by samples, whatever the size of the last batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mulgil.autograd import Tensor, no_grad
from mulgil.backend import to_device, xp_of
from mulgil.errors import OptionError, ShapeError, describe

Metric = Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True)
class Metrics:
    """What one pass over some data gave.

    loss: the mean over samples. samples: how many. seconds: how long it took. values: each metric's mean over samples, by name.
    predictions: the class of each sample in order, where they were kept.
    """

    loss: float
    samples: int
    seconds: float
    values: Mapping[str, float] = field(default_factory=dict)
    predictions: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def accuracy(self) -> float:
        """The fraction that was right; not a number if accuracy was not among the metrics."""
        return self.values.get("accuracy", float("nan"))

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.samples / self.seconds if self.seconds else 0.0

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        """{"loss": ..., "accuracy": ...}, each name after `prefix`."""
        return {prefix + name: value for name, value in {"loss": self.loss, **self.values}.items()}


def accuracy(logits: Tensor, targets: Tensor) -> Any:
    """Whether each sample's largest logit is that of its class: logits [N, classes], targets [N] -> [N].

    Of logits in the shape of the targets (two classes, 0 and 1) the sign decides.
    """
    if logits.ndim == 2 and targets.ndim == 1 and logits.shape[0] == targets.shape[0]:
        return logits.array.argmax(1) == targets.array
    if logits.shape == targets.shape:
        return ((logits.array > 0) == (targets.array > 0.5)).reshape(len(targets.array), -1).mean(1)
    rule = "accuracy: logits must be [N, classes], targets [N]"
    raise ShapeError(rule, describe(logits=logits, targets=targets), "leave it out: metrics=()")


def top5(logits: Tensor, targets: Tensor) -> Any:
    """Whether each sample's class is among the five with the largest logits (with fewer than 5 classes: always)."""
    own = xp_of(logits.array).take_along_axis(logits.array, targets.array[:, None], 1)
    return (logits.array > own).sum(1) < 5


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Any:
    """The mean squared difference of each sample."""
    return ((outputs.array - targets.array) ** 2).reshape(len(targets.array), -1).mean(1)


def mean_absolute_error(outputs: Tensor, targets: Tensor) -> Any:
    """The mean absolute difference of each sample."""
    return abs(outputs.array - targets.array).reshape(len(targets.array), -1).mean(1)


METRICS: dict[str, Metric] = {"accuracy": accuracy, "top5": top5, "mse": mean_squared_error, "mae": mean_absolute_error}


def named(metrics: Iterable[str | Metric] | Mapping[str, Metric] | str) -> dict[str, Metric]:
    """The functions of metrics that are given by name ("accuracy"), as functions, or as a dict of functions.

    A function takes (logits, targets) and returns the batch's mean, or an array of one value a sample.
    Raises OptionError for an unknown name, or one that comes twice.
    """
    if isinstance(metrics, Mapping):
        return dict(metrics)
    found: dict[str, Metric] = {}
    for metric in [metrics] if isinstance(metrics, str) or callable(metrics) else metrics:
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", type(metric).__name__)
        if isinstance(metric, str) and metric not in METRICS:
            raise OptionError("there is no such metric", repr(metric), f"one of {', '.join(METRICS)}, or a function of (logits, targets)")
        if name in found or name == "loss":
            raise OptionError("each metric needs a name of its own", repr(name), 'give a dict: {"name": function}')
        found[name] = METRICS[metric] if isinstance(metric, str) else metric
    return found


class Meter:
    """Sums loss and metrics, batch by batch; on a GPU the sums stay there until they are asked for.

    Example:
        >>> meter = Meter()
        >>> meter.add(logits, target, loss)        # doctest: +SKIP
        >>> meter.result().accuracy                # doctest: +SKIP
    """

    def __init__(self, metrics: Mapping[str, Metric] | None = None, keep_predictions: bool = False):
        self.metrics = {"accuracy": accuracy} if metrics is None else metrics
        self.samples = 0
        self._loss: Any = 0.0
        self._sums: dict[str, Any] = dict.fromkeys(self.metrics, 0)
        self._predictions: list[Any] | None = [] if keep_predictions else None
        self._start = time.perf_counter()

    def add(self, logits: Tensor, target: Tensor, loss: Tensor) -> None:
        """logits [N, ...], target [N, ...], loss: the batch's mean."""
        n = len(target.array)
        self.samples += n
        self._loss = self._loss + loss.array.astype(np.float64) * n
        with no_grad():
            for name, metric in self.metrics.items():
                self._sums[name] = self._sums[name] + _total(metric(logits, target), n)
        if self._predictions is not None and logits.ndim == 2:
            self._predictions.append(logits.array.argmax(1))

    @property
    def loss(self) -> float:
        """The mean loss so far; not a number before the first batch."""
        return float(self._loss) / self.samples if self.samples else float("nan")

    @property
    def values(self) -> dict[str, float]:
        """The mean of each metric so far."""
        return {name: float(total) / self.samples if self.samples else float("nan") for name, total in self._sums.items()}

    @property
    def accuracy(self) -> float:
        """The fraction of hits so far."""
        return self.values.get("accuracy", float("nan"))

    @property
    def seconds(self) -> float:
        """Since this meter was made."""
        return time.perf_counter() - self._start

    def result(self) -> Metrics:
        """The sums so far as plain numbers."""
        loss, values = self.loss, self.values  # on a GPU this waits for the work, so the time is read after it
        return Metrics(loss, self.samples, self.seconds, values, self._kept())

    def state_dict(self) -> dict[str, Any]:
        """The sums, as plain numbers."""
        sums = {name: float(total) for name, total in self._sums.items()}
        return {"samples": self.samples, "loss": float(self._loss), "sums": sums, "seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self.samples, self._loss = int(state["samples"]), float(state["loss"])
        self._sums = {name: float(state["sums"].get(name, 0)) for name in self.metrics}
        self._start = time.perf_counter() - float(state["seconds"])

    def _kept(self) -> np.ndarray | None:
        if not self._predictions:
            return None if self._predictions is None else np.zeros(0, np.int64)
        kept = xp_of(self._predictions[0]).concatenate(self._predictions)
        return to_device(kept, "cpu")


def _total(value: Any, samples: int) -> Any:
    """A metric's sum over the batch: of its values a sample, or its mean times the samples."""
    array = value.array if isinstance(value, Tensor) else value
    if getattr(array, "ndim", 0):
        return array.sum() if array.dtype.kind != "f" else array.sum(dtype=np.float64)
    return (array.astype(np.float64) if hasattr(array, "astype") else float(array)) * samples
