"""Scores from arrays: as scikit-learn has them, also for classes that were never seen or never predicted."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from mulgil.errors import DTypeError, OptionError, ShapeError
from mulgil.train.scores import Confused, confusion_matrix, most_confused, per_class_report


def answers(classes: int, seen: int, predicted: int, n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets among the first `seen` of the classes, predictions among the last `predicted`."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, seen, n), classes - 1 - rng.integers(0, predicted, n)


CASES = [(3, 3, 3), (5, 3, 5), (5, 5, 2), (4, 2, 2), (2, 1, 1), (1, 1, 1)]


@pytest.mark.parametrize(("classes", "seen", "predicted"), CASES)
def test_report_is_scikit_learns(classes: int, seen: int, predicted: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    t, p = answers(classes, seen, predicted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = per_class_report(t, p, classes)
    labels = range(classes)
    for average, rows in ((None, slice(0, classes)), ("macro", -2), ("weighted", -1)):
        precision, recall, f1, support = metrics.precision_recall_fscore_support(t, p, labels=labels, average=average, zero_division=0)
        for name, wanted in (("precision", precision), ("recall", recall), ("f1", f1)):
            np.testing.assert_allclose(report[name][rows], wanted, rtol=1e-12, atol=1e-15)
        if support is not None:
            np.testing.assert_array_equal(report["support"][rows], support)
    assert report["recall"][-1] == pytest.approx(np.mean(t == p)) and list(report["support"][-2:]) == [200, 200]


@pytest.mark.filterwarnings("ignore:A single label was found")  # scikit-learn, of one class
@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
@pytest.mark.parametrize(("classes", "seen", "predicted"), CASES)
def test_confusion_matrix_is_scikit_learns(classes: int, seen: int, predicted: int, normalize: str | None) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    t, p = answers(classes, seen, predicted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix = confusion_matrix(t, p, classes, normalize)
    np.testing.assert_allclose(matrix, metrics.confusion_matrix(t, p, labels=range(classes), normalize=normalize), rtol=1e-12)
    assert matrix.dtype == (np.int64 if normalize is None else np.float64)


def test_confusion_matrix_counts_pairs() -> None:
    t, p = answers(6, 6, 6)
    matrix = confusion_matrix(t, p)
    assert matrix.sum() == 200
    for true, predicted in ((0, 0), (2, 5), (5, 1)):
        assert matrix[true, predicted] == np.sum((t == true) & (p == predicted))
    assert confusion_matrix([], [], 3).tolist() == [[0] * 3] * 3 and confusion_matrix([], []).shape == (0, 0)


def test_most_confused_are_sorted_and_never_right() -> None:
    matrix = np.array([[9, 2, 0], [7, 9, 2], [0, 0, 9]])
    assert most_confused(matrix, ["a", "b", "c"]) == [Confused("b", "a", 7), Confused("a", "b", 2), Confused("b", "c", 2)]
    assert most_confused(matrix, n=1) == [("1", "0", 7)] and most_confused(np.eye(3, dtype=int)) == []
    assert matrix[0, 0] == 9  # the matrix is left as it was


def test_report_is_an_array_that_reads_as_a_table() -> None:
    report = per_class_report([0, 0, 1, 1, 2], [0, 1, 1, 1, 2], ["고양이", "dog", "cow"])
    lines = str(report).splitlines()
    assert lines[1].split() == ["고양이", "1.0000", "0.5000", "0.6667", "2"] and lines[-1].startswith("weighted avg")
    assert len(lines) == 7 and lines[4] == "" and len({line.find(".") for line in lines[2:] if line}) == 1
    assert lines[1].find(".") + 3 == lines[2].find(".")  # three Korean letters take three columns more
    assert type(report["f1"]) is np.ndarray and report["f1"].shape == (5,) and str(report["f1"]).startswith("[")
    assert float(report[report["class"] == "cow"]["recall"][0]) == 1.0 and "cow" in str(report[2:3])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (([0, 1], [0]), ShapeError),
        (([[0]], [[0]]), ShapeError),
        (([0.5], [0]), DTypeError),
        (([0, 3], [0, 1], 3), OptionError),
        (([0, -1], [0, 1]), OptionError),
        (([0, 1], [0, 2], ["a", "b"]), OptionError),
        (([0], [0], 1, "rows"), OptionError),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple, error: type) -> None:
    with pytest.raises(error) as caught:
        confusion_matrix(*arguments)
    assert caught.value.got
