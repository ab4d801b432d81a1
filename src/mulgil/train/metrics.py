"""Loss and metrics over an epoch: exact, that is what they would be over all of it at once, whatever the batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mulgil.autograd import Tensor, no_grad
from mulgil.backend import to_device, xp_of
from mulgil.errors import OptionError, ShapeError, describe
from mulgil.train.step import Preparing
from mulgil.train.weighing import Weights

Metric = Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True)
class Metrics:
    """What one pass over some data gave.

    loss: that of all of them at once. samples: how many. seconds: how long it took, compiling left out. values: each metric's mean
    over samples, by name. predictions: the class of each sample in order, where they were kept. timed: of how many samples the
    seconds are, where some are left out with the compiling that came before them.
    """

    loss: float
    samples: int
    seconds: float
    values: Mapping[str, float] = field(default_factory=dict)
    predictions: np.ndarray | None = field(default=None, repr=False, compare=False)
    timed: int | None = field(default=None, repr=False, compare=False)

    @property
    def accuracy(self) -> float:
        """The fraction that was right; not a number if accuracy was not among the metrics."""
        return self.values.get("accuracy", float("nan"))

    @property
    def rate(self) -> float:
        """Samples a second; 0 where nobody knows."""
        return _rate(self.samples if self.timed is None else self.timed, self.seconds)

    def as_dict(self, prefix: str = "") -> dict[str, float]:
        """{"loss": ..., "accuracy": ...}, each name after `prefix`."""
        return {prefix + name: value for name, value in {"loss": self.loss, **self.values}.items()}


def accuracy(logits: Tensor, targets: Tensor) -> Any:
    """Whether the largest logit is that of the class: logits [N, classes, ...], targets [N, ...] -> [N, ...].

    Where that does not fit, the classes may be the last axis. Of one logit a target (two classes, 0 and 1) the sign decides; where both
    have one shape: -> [N], the share of each sample.
    """
    a, t = logits.array, targets.array
    if a.ndim == t.ndim + 1:
        if a.shape[:1] + a.shape[2:] == t.shape:
            return a.argmax(1) == t if a.shape[1] > 1 else (a[:, 0] > 0) == (t > 0.5)
        if a.shape[:-1] == t.shape:
            return a.argmax(-1) == t
    if a.shape == t.shape:
        return ((a > 0) == (t > 0.5)).reshape(len(t), -1).mean(1)
    rule = "accuracy: logits must be [N, classes], targets [N]"
    raise ShapeError(rule, describe(logits=logits, targets=targets), "leave it out: metrics=()")


def top5(logits: Tensor, targets: Tensor) -> Any:
    """Whether the class is among the five with the largest logits (with fewer than 5 classes: always). Shapes as for accuracy."""
    a, t = logits.array, targets.array
    axis = 1 if a.shape[:1] + a.shape[2:] == t.shape else -1
    own = xp_of(a).take_along_axis(a, xp_of(a).expand_dims(t, axis), axis)
    return (a > own).sum(axis) < 5


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Any:
    """The mean squared difference of each sample."""
    return ((outputs.array - targets.array) ** 2).reshape(len(targets.array), -1).mean(1)


def mean_absolute_error(outputs: Tensor, targets: Tensor) -> Any:
    """The mean absolute difference of each sample."""
    return abs(outputs.array - targets.array).reshape(len(targets.array), -1).mean(1)


OF_CLASSES = (accuracy, top5)
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

    metrics: functions by name; default accuracy, where the targets are classes.
    loss: the loss function, which tells how the losses of batches come together: then `loss` is what it would be over all
    data at once, with class weights and ignored labels too, and metrics of classes leave ignored labels out. Without it batches weigh
    as many as they have samples.
    preparing: what `make_step` notes its compiling in; the rate leaves it out.

    Example:
        >>> meter = Meter(loss=criterion)          # doctest: +SKIP
        >>> meter.add(logits, target, loss)        # doctest: +SKIP
        >>> meter.result().accuracy                # doctest: +SKIP
    """

    def __init__(
        self,
        metrics: Mapping[str, Metric] | None = None,
        keep_predictions: bool = False,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        preparing: Preparing | None = None,
    ):
        self.metrics = metrics
        self.samples = 0
        self._weights, self._weight = Weights(loss), 0.0
        self._loss: Any = 0.0
        self._total = False  # whether the losses are sums
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, Any] = {}
        self._predictions: list[Any] | None = [] if keep_predictions else None
        self._preparing = Preparing() if preparing is None else preparing
        self._prepared = self._preparing.seconds, self._preparing.whole
        self._left_out = 0  # samples of batches that were nothing but compiling
        self._start = time.perf_counter()

    def add(self, logits: Tensor, target: Tensor, loss: Tensor) -> None:
        """logits [N, ...], target [N, ...], loss: the batch's loss."""
        n = len(target.array)
        self.samples += n
        if self._preparing.seconds != self._prepared[0]:
            self._leave_out(n)
        weight = self._weights(logits, target)
        self._weight, self._total = self._weight + weight, self._weights.found.total  # type: ignore[union-attr]
        self._loss = self._loss + weighted(loss.array, weight)
        if self.metrics is None:
            self.metrics = usual(self._weights, logits, target)
        with no_grad():
            for name, metric in self.metrics.items():
                self._measure(name, metric, logits, target, n)
        if self._predictions is not None and logits.ndim == 2:
            self._predictions.append(logits.array.argmax(1))

    def _measure(self, name: str, metric: Metric, logits: Tensor, target: Tensor, n: int) -> None:
        found, valid = self._weights.found, None
        if metric in OF_CLASSES and found is not None and found.predicts == "class":
            if target.ndim == logits.ndim:
                target = Tensor.of(target.array.argmax(1))  # probabilities: the most probable class
            elif found.ignored is not None:
                valid = target.array != found.ignored
                target = Tensor.of(valid * target.array)
        value = metric(logits, target)
        total, count = _total(value if valid is None else value[valid], n)
        self._sums[name] = self._sums.get(name, 0) + total
        self._counts[name] = self._counts.get(name, 0) + count

    def _leave_out(self, samples: int) -> None:
        now = self._preparing.seconds, self._preparing.whole
        self._start += now[0] - self._prepared[0]
        self._left_out += samples if now[1] != self._prepared[1] else 0
        self._prepared = now

    @property
    def loss(self) -> float:
        """The loss of what came so far, as if it had been one batch; not a number before the first batch."""
        total, weight = self.totals()["loss"]
        return total / weight if weight else float("nan")

    @property
    def values(self) -> dict[str, float]:
        """The mean of each metric so far."""
        totals = self.totals()
        return {name: totals[name][0] / totals[name][1] if totals[name][1] else float("nan") for name in self.metrics or ()}

    def totals(self) -> dict[str, tuple[float, float]]:
        """For the loss and each metric the sum so far, and what it is divided by."""
        totals = {"loss": (float(self._loss), float(bool(self.samples)) if self._total else float(self._weight))}
        return totals | {name: (float(self._sums.get(name, 0)), float(self._counts.get(name, 0))) for name in self.metrics or ()}

    @property
    def accuracy(self) -> float:
        """The fraction of hits so far."""
        return self.values.get("accuracy", float("nan"))

    @property
    def seconds(self) -> float:
        """Since this meter was made, without what was spent on compiling."""
        return max(0.0, time.perf_counter() - self._start)

    def result(self) -> Metrics:
        """The sums so far as plain numbers."""
        loss, values = self.loss, self.values  # on a GPU this waits for the work, so the time is read after it
        return Metrics(loss, self.samples, self.seconds, values, self._kept(), self.samples - self._left_out)

    @property
    def rate(self) -> float:
        """Samples a second so far; 0 while nobody knows."""
        return _rate(self.samples - self._left_out, self.seconds)

    def state_dict(self) -> dict[str, Any]:
        """The sums, as plain numbers."""
        sums, counts = ({name: float(value) for name, value in part.items()} for part in (self._sums, self._counts))
        numbers = {"samples": self.samples, "loss": float(self._loss), "weight": float(self._weight), "seconds": self.seconds}
        return {**numbers, "sums": sums, "counts": counts, "left_out": self._left_out, "total": self._total}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self.samples, self._loss = int(state["samples"]), float(state["loss"])
        self._weight, self._total = float(state.get("weight", self.samples)), bool(state.get("total", False))
        self._sums = {name: float(value) for name, value in state["sums"].items()}
        self._counts = {name: float(state.get("counts", {}).get(name, self.samples)) for name in self._sums}
        if self.metrics is None and self.samples:
            self.metrics = {name: METRICS[name] for name in self._sums if name in METRICS}
        self._left_out = int(state.get("left_out", 0))
        self._start = time.perf_counter() - float(state["seconds"])

    def _kept(self) -> np.ndarray | None:
        if not self._predictions:
            return None if self._predictions is None else np.zeros(0, np.int64)
        kept = xp_of(self._predictions[0]).concatenate(self._predictions)
        return to_device(kept, "cpu")


def weighted(loss: Any, weight: Any) -> Any:
    """loss * weight in float64; 0 where the weight is 0, for then the loss was 0 / 0: every label was ignored."""
    product = loss.reshape(()).astype(np.float64) * weight
    return xp_of(product).where(weight == 0, 0.0, product) if hasattr(weight, "dtype") else product


def usual(weights: Weights, logits: Tensor, targets: Tensor) -> dict[str, Metric]:
    """The metrics of who asked for none: accuracy where the targets are classes, nothing for a regression."""
    a, t, predicts = logits.array, targets.array, weights.found.predicts if weights.found else None
    fits = a.shape == t.shape or (a.ndim == t.ndim + 1 and t.shape in (a.shape[:1] + a.shape[2:], a.shape[:-1]))
    if predicts is not None:
        classes = predicts != "numbers" and fits
    elif a.shape == t.shape:
        classes = weights.loss is None and bool(((t == 0) | (t == 1)).all())
    else:
        classes = weights.loss is None or (fits and t.dtype.kind in "iu")
    return {"accuracy": accuracy} if classes else {}


def _total(value: Any, samples: int) -> tuple[Any, Any]:
    """A metric's sum over the batch, and of how many: of its values, or its mean times the samples."""
    array = value.array if isinstance(value, Tensor) else value
    if getattr(array, "ndim", 0):
        return array.sum() if array.dtype.kind != "f" else array.sum(dtype=np.float64), array.size
    return (array.astype(np.float64) if hasattr(array, "astype") else float(array)) * samples, samples


def _rate(samples: int, seconds: float) -> float:
    return samples / seconds if samples and seconds else 0.0
