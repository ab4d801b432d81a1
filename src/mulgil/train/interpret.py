"""interpret: what a classifier says about each sample of some data, where it is wrong, and pictures of that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mulgil.autograd import Tensor, no_grad
from mulgil.errors import DTypeError, OptionError, ShapeError, describe
from mulgil.nn import Module
from mulgil.train import scores
from mulgil.train.feed import EVAL_BATCH, Batches
from mulgil.train.inputs import known
from mulgil.train.layers import as_input
from mulgil.train.samples import Samples, on_cpu
from mulgil.train.state import evaluating

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Interpretation", "interpret"]


def interpret(model: Module, data: Batches, *, classes: Sequence[str] | None = None, batch_size: int = EVAL_BATCH) -> Interpretation:
    """Run a classifier over labelled data, in evaluation mode and without gradients, and keep its answer to each sample.

    The model's modes are afterwards what they were. In memory are one batch and the outputs, [N, classes].

    Args:
        model: gives scores [N, classes] for a batch: logits, log-probabilities, or probabilities (recognised by their sum of 1).
        data: a data set; a loader, whose data set is read whole and in order; a tuple (X, y) of arrays or Tensors; an iterable of
            batches (inputs, targets).
        classes: names by class number; default those of the data set, or that the model knows, else the numbers.
        batch_size: samples at a time, where the data does not say; default 500.

    Raises:
        ShapeError: outputs or targets of another form. DTypeError: targets that are no whole numbers.
        OptionError: no samples, no targets, a target that is no class, or another number of names than classes.

    Example:
        >>> result = interpret(model, test_set)                       # doctest: +SKIP
        >>> result.accuracy, result.mistakes[:5]                      # doctest: +SKIP
        >>> print(result.report()); result.most_confused(3)           # doctest: +SKIP
        >>> result.plot_top_losses().savefig("worst.png")             # doctest: +SKIP
    """
    samples = Samples(data, batch_size)
    outputs, targets = answers(model, samples)
    if classes is None and (found := samples.classes or known(model).get("classes")):
        numbers = scores.class_names(None, outputs.shape[1])
        classes = [*found, *numbers[len(found) :]][: len(numbers)]
    return Interpretation(outputs, targets, classes, samples)


def answers(model: Module, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """The model's outputs [N, classes] and the targets [N], on the CPU."""
    outputs, targets = [], []
    with evaluating(model), no_grad():
        for inputs, target in samples.batches():
            output = model(as_input(model, inputs))
            if target is None:
                raise OptionError("interpret needs a target for each sample", "inputs alone", "pass (X, y), or a data set of such pairs")
            if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[1] < 2 or target.shape != output.shape[:1]:
                rule = "interpret: the model must give scores [N, classes] of 2 or more classes, the data class numbers [N]"
                raise ShapeError(rule, describe(outputs=output, targets=target))
            outputs.append(on_cpu(output))
            targets.append(target)
    if not outputs or not sum(map(len, outputs)):
        raise OptionError("interpret needs at least one sample", "no samples")
    return np.concatenate(outputs), np.concatenate(targets)


class Interpretation:
    """A classifier's answers to N samples; `interpret` makes it. Sample i is the i-th of the data, in its own order.

    Attributes:
        targets: the true classes, int64 [N]. predictions: the classes it chose, int64 [N].
        probabilities: float [N, C]; each row sums to 1.
        losses: the cross-entropy of each sample, -log p(target), float64 [N].
        classes: the names, a list of C.
        mistakes: the numbers of the samples that it got wrong, in order, int64.
        accuracy, loss: the share that was right; the mean of the losses.
    """

    def __init__(self, outputs: np.ndarray, targets: np.ndarray, classes: Sequence[str] | None, samples: Samples):
        if targets.dtype.kind not in "iub":
            raise DTypeError("interpret: targets must be whole numbers", describe(targets=targets), "convert them first: y.astype(int)")
        self.classes = scores.class_names(classes, outputs.shape[1])
        self.targets, self.predictions = scores.class_numbers(targets=targets, predictions=outputs.argmax(1))
        self._matrix = scores.confusion_matrix(self.targets, self.predictions, self.classes)
        logs = log_probabilities(outputs)
        self.probabilities = np.exp(logs).astype(outputs.dtype if outputs.dtype.kind == "f" else np.float64)
        self.losses = 0 - logs[np.arange(len(logs)), self.targets]  # 0 and not -0 where p is 1
        self.mistakes = np.flatnonzero(self.predictions != self.targets)
        self.accuracy, self.loss = 1 - len(self.mistakes) / len(self), float(self.losses.mean())
        self._samples = samples

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        counts = f"{len(self):,} samples, {len(self.classes)} classes, {len(self.mistakes):,} mistakes"
        return f"Interpretation({counts}, accuracy {self.accuracy:.4f}, loss {self.loss:.4f})"

    # ------------------------------------------------------------------ tables
    def top_losses(self, k: int | None = 10) -> np.ndarray:
        """The numbers of the `k` samples with the highest losses, the worst first; None for all. Not-a-number counts as the worst."""
        losses = np.where(np.isnan(self.losses), np.inf, self.losses)
        return np.argsort(-losses, kind="stable")[:k]

    def where(self, true: int | str | None = None, predicted: int | str | None = None) -> np.ndarray:
        """The numbers of the samples of class `true` that were taken for `predicted`; each a class number or name, or None for any."""
        found = np.ones(len(self), bool)
        for choice, numbers in ((true, self.targets), (predicted, self.predictions)):
            if choice is not None:
                found &= numbers == self._class_number(choice)
        return np.flatnonzero(found)

    def confusion_matrix(self, normalize: str | None = None) -> np.ndarray:
        """How often each class (row) was taken for each (column); `normalize`: None, "true", "pred" or "all", see `scores`."""
        return scores.confusion_matrix(self.targets, self.predictions, self.classes, normalize)

    def most_confused(self, n: int | None = 10) -> list[scores.Confused]:
        """The `n` most frequent confusions as (true, predicted, count), by class names."""
        return scores.most_confused(self._matrix, self.classes, n)

    def report(self) -> scores.Report:
        """Precision, recall, F1 and support of each class and their averages; `print` it, or take its fields."""
        return scores.per_class_report(self.targets, self.predictions, self.classes)

    # ------------------------------------------------------------------ pictures
    def plot_confusion_matrix(self, normalize: str | None = None) -> Figure:
        """A figure of the confusion matrix. The pictures need matplotlib; `figure.savefig("confusion.png")` keeps one."""
        from mulgil import plot

        title = f"{len(self.mistakes):,} mistakes in {len(self):,} samples"
        return plot.confusion(self.confusion_matrix(normalize), self.classes, title)

    def plot_mistakes(self, count: int = 24, seed: int | None = None) -> Figure:
        """A figure of at most `count` mistakes: the first ones, or, with a `seed`, some drawn at random."""
        chosen = self.mistakes[:count]
        if seed is not None and len(self.mistakes) > count:
            chosen = np.sort(np.random.default_rng(seed).choice(self.mistakes, count, replace=False))
        shown = "" if len(chosen) == len(self.mistakes) else f" ({len(chosen)} of them)"
        return self.plot_samples(chosen, f"{len(self.mistakes):,} mistakes in {len(self):,} samples{shown}")

    def plot_top_losses(self, k: int = 24) -> Figure:
        """A figure of the `k` samples with the highest losses, the worst first."""
        return self.plot_samples(self.top_losses(k), "Highest losses")

    def plot_samples(self, rows: Sequence[int] | np.ndarray, title: str = "") -> Figure:
        """A figure of the samples numbered `rows`: what was said with its probability, the truth, the loss and the number of each."""
        from mulgil import plot

        rows = np.asarray(rows, np.int64)
        if not len(rows):
            return plot.message(title or "No samples")
        predicted, losses = self.predictions[rows], self.losses[rows]
        sure = self.probabilities[rows, predicted]
        notes = [f"p {p:.2f}  loss {loss:.2f}\n#{row}" for p, loss, row in zip(sure, losses, rows, strict=True)]
        images = self._samples.fetch(rows)
        return plot.gallery(images, predicted, self.targets[rows], self.classes, title, notes=notes)

    def _class_number(self, choice: int | str) -> int:
        if isinstance(choice, str) and choice in self.classes:
            return self.classes.index(choice)
        if isinstance(choice, (int, np.integer)) and 0 <= choice < len(self.classes):
            return int(choice)
        raise OptionError("there is no such class", repr(choice), f"a number in 0..{len(self.classes) - 1}, or a name from .classes")


def log_probabilities(outputs: np.ndarray) -> np.ndarray:
    """log p of each class, float64 [N, C], of logits or log-probabilities; where no value is below 0 and all rows sum to 1, of those."""
    scores_ = outputs.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):  # a model that has diverged gives what is not a number, and so do we
        if outputs.shape[1] > 1 and (scores_ >= 0).all() and np.allclose(scores_.sum(1), 1, atol=1e-4):
            return np.log(scores_)
        shifted = scores_ - scores_.max(1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
