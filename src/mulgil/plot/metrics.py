"""`LiveLogger`: the metrics of batches and epochs, train and test, and their file. The interface of the library noggin."""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mulgil.errors import DataError, OptionError
from mulgil.files import atomic_file, read_regular
from mulgil.npz import MAX_BYTES, read_npz

ARRAYS = ("batch_data", "batch_domain", "epoch_data", "epoch_domain")
SUMS = ("running_weighted_sum", "total_weighting", "cnt_since_epoch")
COUNTS = ("num_train_batch", "num_train_epoch", "num_test_batch", "num_test_epoch")


class LiveMetric:
    """One metric of one part (train or test): its batches, and the mean of each epoch, weighted by batch sizes."""

    def __init__(self, name: str):
        self.name = name
        self._batch_x, self._batch_y = array("q"), array("d")
        self._epoch_x, self._epoch_y = array("q"), array("d")
        self._sum = self._weight = 0.0
        self._count = 0

    def add_datapoint(self, value: Any, weighting: float = 1.0, x: int | None = None) -> None:
        """A batch's value. x: which batch of the training it was; the next one by default."""
        value = float(value)
        self._batch_x.append(x if x is not None else self._batch_x[-1] + 1 if self._batch_x else 1)
        self._batch_y.append(value)
        self._sum += weighting * value
        self._weight += weighting
        self._count += 1

    def set_epoch_datapoint(self, x: int | None = None) -> None:
        """An epoch ends: the mean since the last one, at batch x (by default the latest). Nothing happens if there were no batches."""
        if self._count:
            self._epoch_x.append(self._batch_x[-1] if x is None else x)
            self._epoch_y.append(self._sum / self._weight if self._weight else self._sum)
            self._sum = self._weight = 0.0
            self._count = 0

    batch_data = property(lambda self: np.array(self._batch_y), doc="[batches], the value of each")
    batch_domain = property(lambda self: np.array(self._batch_x), doc="[batches], the number of each, from 1")
    epoch_data = property(lambda self: np.array(self._epoch_y), doc="[epochs], the mean of each")
    epoch_domain = property(lambda self: np.array(self._epoch_x), doc="[epochs], the batch at which each ended")

    def to_dict(self) -> dict[str, Any]:
        """Arrays and numbers from which `from_dict` makes the same metric, in mid-epoch too."""
        arrays = {key: getattr(self, key) for key in ARRAYS}
        return {**arrays, **dict(zip(SUMS, (self._sum, self._weight, self._count), strict=True)), "name": self.name}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> LiveMetric:
        """The inverse of `to_dict`. Raises DataError for what cannot be a metric."""
        try:
            metric = cls(str(state["name"]))
            values, ends, means = (np.asarray(state[key], np.float64) for key in ("batch_data", "epoch_domain", "epoch_data"))
            numbers = np.asarray(state.get("batch_domain", np.arange(1, len(values) + 1)))
            if not (values.shape == numbers.shape == (len(values),) and ends.shape == means.shape == (len(ends),)):
                raise ValueError("arrays of different lengths")
            metric._batch_y, metric._epoch_y = array("d", values.tobytes()), array("d", means.tobytes())
            metric._batch_x, metric._epoch_x = (array("q", map(int, a.tolist())) for a in (numbers, ends))
            metric._sum, metric._weight, metric._count = (kind(state[key]) for kind, key in zip((float, float, int), SUMS, strict=True))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            got = f"{type(error).__name__}: {error}"
            raise DataError("metrics: this is not the record of a metric", got, "to_dict writes one") from error
        return metric


class LiveLogger:
    """Collects metrics: call `set_train_batch` and `set_test_batch` as they come, and the epochs' ends. `create_plot` also draws them."""

    def __init__(self) -> None:
        self._train: dict[str, LiveMetric] = {}
        self._test: dict[str, LiveMetric] = {}
        self.num_train_batch = self.num_train_epoch = self.num_test_batch = self.num_test_epoch = 0

    @property
    def train_metrics(self) -> dict[str, dict[str, Any]]:
        """Name -> {"batch_data", "batch_domain", "epoch_data", "epoch_domain", ...}, see `LiveMetric.to_dict`."""
        return {name: metric.to_dict() for name, metric in self._train.items()}

    @property
    def test_metrics(self) -> dict[str, dict[str, Any]]:
        """As `train_metrics`."""
        return {name: metric.to_dict() for name, metric in self._test.items()}

    def set_train_batch(self, metrics: Mapping[str, Any], batch_size: int) -> None:
        """The metrics of a training batch, such as {"loss": 0.3, "accuracy": 0.9}. batch_size: how many samples it had."""
        self._add(self._train, metrics, batch_size, self.num_train_batch + 1)
        self.num_train_batch += 1

    def set_test_batch(self, metrics: Mapping[str, Any], batch_size: int) -> None:
        """The metrics of a test batch. They are kept, and their mean is shown by `set_test_epoch`."""
        self._add(self._test, metrics, batch_size, self.num_test_batch + 1)
        self.num_test_batch += 1

    def set_train_epoch(self) -> None:
        """The training epoch ends here: its mean, weighted by batch sizes, becomes a dot."""
        for metric in self._train.values():
            metric.set_epoch_datapoint(self.num_train_batch)
        self.num_train_epoch += 1

    def set_test_epoch(self) -> None:
        """The test epoch ends here: its mean becomes a dot at the training's present place."""
        for metric in self._test.values():
            metric.set_epoch_datapoint(self.num_train_batch or None)
        self.num_test_epoch += 1

    def _add(self, part: dict[str, LiveMetric], metrics: Mapping[str, Any], batch_size: int, number: int) -> None:
        if batch_size < 1:
            raise OptionError("batch_size must be at least 1", repr(batch_size), "pass the number of samples in the batch")
        numbers = {name: float(value) for name, value in metrics.items() if self._wants(name)}  # all or none are taken
        for name, value in numbers.items():
            part.setdefault(name, LiveMetric(name)).add_datapoint(value, batch_size, number)

    def _wants(self, name: str) -> bool:
        return True

    def to_dict(self) -> dict[str, Any]:
        """Everything collected, as dicts of arrays, numbers and text: what `from_dict` and `load_dict` take."""
        counts = {key: getattr(self, key) for key in COUNTS}
        return {"train_metrics": self.train_metrics, "test_metrics": self.test_metrics, **counts}

    def load_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `to_dict` gave: replaces all that was collected. Raises DataError, and then nothing has changed."""
        parts = [{name: LiveMetric.from_dict(metric) for name, metric in state[f"{part}_metrics"].items()} for part in ("train", "test")]
        self._train, self._test = parts
        for key, part in zip(COUNTS, (parts[0], parts[0], parts[1], parts[1]), strict=True):
            last = max((m._batch_x[-1] for m in part.values() if m._batch_x), default=0)
            most = max((len(m._epoch_y) for m in part.values()), default=0)
            setattr(self, key, int(state.get(key, last if key.endswith("batch") else most)))

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> LiveLogger:
        """A logger that goes on from what `to_dict` gave."""
        logger = cls()
        logger.load_dict(state)
        return logger

    def save(self, path: str | os.PathLike) -> None:
        """`save_metrics(path, self)`."""
        save_metrics(path, self)

    def load(self, path: str | os.PathLike) -> None:
        """Go on from a file of `save_metrics`: replaces all that was collected. Raises DataError, and then nothing has changed."""
        train, test = load_metrics(path)
        self.load_dict({"train_metrics": train, "test_metrics": test})


class Metrics(NamedTuple):
    """What `load_metrics` returns: of each part, name -> {"batch_data": array, "epoch_data": array, ...}."""

    train: dict[str, dict[str, Any]]
    test: dict[str, dict[str, Any]]


def save_metrics(
    path: str | os.PathLike,
    liveplot: LiveLogger | None = None,
    *,
    train_metrics: Mapping[str, Mapping[str, Any]] | None = None,
    test_metrics: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write metrics as .npz, whole or not at all, in noggin's format: noggin reads it, and `load_metrics` reads noggin's.

    liveplot: a LivePlot or LiveLogger; or give `train_metrics` and `test_metrics` as `load_metrics` returns them.
    Raises DataError if the file cannot be written.
    """
    if liveplot is not None:
        train_metrics, test_metrics = liveplot.train_metrics, liveplot.test_metrics
    parts = {"train": train_metrics or {}, "test": test_metrics or {}}
    separator = ";"
    while any(separator in name for part in parts.values() for name in part):
        separator += ";"
    flat = {separator.join((part, name, key)): v for part, ms in parts.items() for name, m in ms.items() for key, v in m.items()}
    orders = {f"{part}_order": np.array(list(metrics), dtype=str) for part, metrics in parts.items()}
    with atomic_file(path) as file:
        np.savez(file, sep=separator, **orders, **flat)  # type: ignore[arg-type]


def load_metrics(path: str | os.PathLike) -> Metrics:
    """Read a file of `save_metrics` (or noggin's). No code runs from it. Raises DataError, which says what is wrong with it."""
    path = Path(path)
    try:
        data = read_npz(read_regular(path, MAX_BYTES, follow=True))
        separator = data.pop("sep").item()
        parts: dict[str, dict] = {part: {str(name): {} for name in data.pop(f"{part}_order").tolist()} for part in ("train", "test")}
        for key, value in data.items():
            part, name, attribute = key.split(separator)
            parts[part][name][attribute] = value.item() if value.ndim == 0 else value
        for metrics in parts.values():
            for metric in metrics.values():
                LiveMetric.from_dict(metric)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file", hint="save_metrics writes one") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError, DataError) as error:
        got = error.strerror if isinstance(error, OSError) else error.got if isinstance(error, DataError) else f"{error}"
        hint = "use another copy; save_metrics writes such a file"
        raise DataError(f"{path}: this is not a file of metrics, or it is damaged", got, hint) from error
    return Metrics(parts["train"], parts["test"])
