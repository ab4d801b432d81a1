"""Loss and accuracy over an epoch: exact, that is weighted by samples, whatever the size of the last batch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import to_device, xp_of


@dataclass(frozen=True)
class Metrics:
    """What one pass over some data gave.

    loss: the mean over samples. accuracy: the fraction that was right. samples: how many. seconds: how long it took.
    predictions: the class of each sample in order, where they were kept.
    """

    loss: float
    accuracy: float
    samples: int
    seconds: float
    predictions: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.samples / self.seconds if self.seconds else 0.0


class Meter:
    """Sums loss and hits, batch by batch; on a GPU the sums stay there until they are asked for.

    Example:
        >>> meter = Meter()
        >>> meter.add(logits, target, loss)        # doctest: +SKIP
        >>> meter.result().accuracy                # doctest: +SKIP
    """

    def __init__(self, keep_predictions: bool = False):
        self.samples = 0
        self._loss: Any = 0.0
        self._hits: Any = 0
        self._predictions: list[Any] | None = [] if keep_predictions else None
        self._start = time.perf_counter()

    def add(self, logits: Tensor, target: Tensor, loss: Tensor) -> None:
        """logits [N, classes], target [N], loss: the batch's mean."""
        n = len(target.array)
        classes = logits.array.argmax(1)
        self.samples += n
        self._loss = self._loss + loss.array.astype(np.float64) * n
        self._hits = self._hits + (classes == target.array).sum()
        if self._predictions is not None:
            self._predictions.append(classes)

    @property
    def loss(self) -> float:
        """The mean loss so far; not a number before the first batch."""
        return float(self._loss) / self.samples if self.samples else float("nan")

    @property
    def accuracy(self) -> float:
        """The fraction of hits so far."""
        return float(self._hits) / self.samples if self.samples else float("nan")

    @property
    def seconds(self) -> float:
        """Since this meter was made."""
        return time.perf_counter() - self._start

    def result(self) -> Metrics:
        """The sums so far as plain numbers."""
        loss, accuracy = self.loss, self.accuracy  # on a GPU this waits for the work, so the time is read after it
        return Metrics(loss, accuracy, self.samples, self.seconds, self._kept())

    def _kept(self) -> np.ndarray | None:
        if not self._predictions:
            return None if self._predictions is None else np.zeros(0, np.int64)
        kept = xp_of(self._predictions[0]).concatenate(self._predictions)
        return to_device(kept, "cpu")
