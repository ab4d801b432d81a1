"""Scores of a classifier from its answers alone: arrays of class numbers in, arrays and tables out."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mulgil.errors import DTypeError, OptionError, ShapeError, describe, visible

__all__ = ["Confused", "Report", "confusion_matrix", "most_confused", "per_class_report"]

SHARES = (None, "true", "pred", "all")  # what `normalize` may be, as in scikit-learn


class Confused(NamedTuple):
    """A pair of classes: `count` samples of class `true` were taken for `predicted`."""

    true: str
    predicted: str
    count: int  # type: ignore[assignment]  # instead of tuple.count, which nobody needs here


class Report(np.ndarray):
    """A structured array, a row a class, then "macro avg" and "weighted avg"; `str(report)` is a table to read.

    Fields: `class` (its name), `precision`, `recall`, `f1` (0 where there is nothing to divide), `support` (samples of the class).
    The weighted average of the recall is the accuracy.

    Example:
        >>> report["f1"][:10].min(), report[report["class"] == "8"]["recall"]        # doctest: +SKIP
    """

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return found.view(np.ndarray) if isinstance(found, Report) and found.dtype.names is None else found

    def __str__(self) -> str:
        if self.dtype.names is None or self.ndim != 1:
            return str(self.view(np.ndarray))
        names = [visible(str(name)) for name in self["class"]]
        width = max(map(_columns, names), default=0)
        rows = [" " * width + "  precision  recall      f1  support"]
        for name, row in zip(names, self.view(np.ndarray), strict=True):
            if name == "macro avg":
                rows.append("")
            padded = name + " " * (width - _columns(name))
            rows.append(f"{padded}  {row['precision']:>9.4f}  {row['recall']:.4f}  {row['f1']:.4f}  {row['support']:>7,}")
        return "\n".join(rows)


def confusion_matrix(
    targets: Any, predictions: Any, classes: int | Sequence[str] | None = None, normalize: str | None = None
) -> np.ndarray:
    """How often each class was taken for each: [C, C], row = true class, column = predicted class.

    Args:
        targets, predictions: class numbers [N].
        classes: how many classes there are, or their names; default: as many as occur.
        normalize: None counts (int64); "true" divides by the row's sum, "pred" by the column's, "all" by N (float64). Where the
            sum is 0 the shares are 0, as in scikit-learn.

    Raises:
        ShapeError, DTypeError: not two equally long rows of whole numbers.
        OptionError: a number that is no class, or an unknown `normalize`.

    Example:
        >>> confusion_matrix([0, 1, 1], [0, 1, 0]).tolist()
        [[1, 0], [1, 1]]
    """
    if normalize not in SHARES:
        raise OptionError('confusion_matrix: normalize must be None, "true", "pred" or "all"', repr(normalize))
    true, predicted = class_numbers(targets=targets, predictions=predictions)
    count = _class_count(classes, true, predicted)
    matrix = np.bincount(true * count + predicted, minlength=count * count).reshape(count, count)
    if normalize is None:
        return matrix
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    return ratio(matrix, matrix.sum(axis=axis, keepdims=True))


def most_confused(matrix: np.ndarray, classes: Sequence[str] | None = None, n: int | None = 10) -> list[Confused]:
    """The pairs of different classes that were confused most often, those with the highest count first; none with a count of 0.

    matrix: counts [C, C] of `confusion_matrix`. classes: names; default the numbers. n: at most so many pairs; None for all.
    """
    wrong = np.array(matrix)
    np.fill_diagonal(wrong, 0)
    names = class_names(classes, len(wrong))
    order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)][:n]
    return [Confused(names[i], names[j], int(wrong[i, j])) for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)]


def per_class_report(targets: Any, predictions: Any, classes: int | Sequence[str] | None = None) -> Report:
    """Precision, recall, F1 and support of each class, with the plain and the weighted mean of them below.

    Arguments as `confusion_matrix` takes them. precision: the share of right ones among those taken for the class; recall: the share
    of the class that was found; F1: their harmonic mean. A class never predicted, or never seen, has 0, without a warning; the
    means are over all `classes`, as scikit-learn takes them with `labels=range(C), zero_division=0`.

    Example:
        >>> print(per_class_report([0, 0, 1, 1], [0, 1, 1, 1], ["cat", "dog"]))
                      precision  recall      f1  support
        cat              1.0000  0.5000  0.6667        2
        dog              0.6667  1.0000  0.8000        2
        <BLANKLINE>
        macro avg        0.8333  0.7500  0.7333        4
        weighted avg     0.8333  0.7500  0.7333        4
    """
    matrix = confusion_matrix(targets, predictions, classes)
    right, support, taken = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    scores = np.stack([ratio(right, taken), ratio(right, support), ratio(2 * right, support + taken)], axis=1)
    total = int(support.sum())
    macro = scores.mean(0) if len(matrix) else np.zeros(3)
    names = [*class_names(classes, len(matrix)), "macro avg", "weighted avg"]
    rows = [*scores, macro, ratio(support @ scores, np.array(total))]
    fields = [("class", f"U{max(map(len, names))}"), ("precision", "f8"), ("recall", "f8"), ("f1", "f8"), ("support", "i8")]
    supports = [*support, total, total]
    return np.array([(name, *row, n) for name, row, n in zip(names, rows, supports, strict=True)], dtype=fields).view(Report)


def class_numbers(**arrays: Any) -> list[np.ndarray]:
    """Each array as int64 [N], all of one length. Raises ShapeError, DTypeError."""
    found = [np.asarray(array) for array in arrays.values()]
    names = " and ".join(arrays)
    got = describe(**dict(zip(arrays, found, strict=True)))
    if any(array.shape != found[0].shape or array.ndim != 1 for array in found):
        raise ShapeError(f"{names} must be [N] class numbers, equally many", got, "scores.argmax(1) makes class numbers of scores")
    if any(array.dtype.kind not in "iub" and array.size for array in found):
        raise DTypeError(f"{names} must be whole numbers", got, "convert them first: targets.astype(int)")
    return [array.astype(np.int64) for array in found]


def class_names(classes: int | Sequence[str] | None, count: int) -> list[str]:
    """The names of `count` classes: those given, or their numbers. Raises OptionError for another number of names."""
    if classes is None or isinstance(classes, (int, np.integer)):
        return [str(i) for i in range(count)]
    if len(classes) != count:
        raise OptionError(f"there must be a name for each of the {count} classes", f"{len(classes)} names", "leave them out to see numbers")
    return [str(name) for name in classes]


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole in float64, and 0 where the whole is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole != 0)


def _class_count(classes: int | Sequence[str] | None, *numbers: np.ndarray) -> int:
    """How many classes there are, after a look that every number is one of them."""
    lowest = min((int(n.min()) for n in numbers if n.size), default=0)
    highest = max((int(n.max()) for n in numbers if n.size), default=-1)
    count = highest + 1 if classes is None else int(classes) if isinstance(classes, (int, np.integer)) else len(classes)
    if lowest < 0 or highest >= count:
        got = f"numbers from {lowest} to {highest}"
        raise OptionError(f"class numbers must lie in 0..{count - 1}", got, "count classes from 0, and name all of them")
    return count


def _columns(text: str) -> int:
    """How many columns of a terminal `text` takes: Korean letters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
