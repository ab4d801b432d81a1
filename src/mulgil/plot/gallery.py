"""Images with what the model said and what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mulgil.errors import ShapeError
from mulgil.plot.images import as_images, grid
from mulgil.plot.style import RIGHT, WRONG, new_figure
from mulgil.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def gallery(
    images: ArrayLike,
    predictions: ArrayLike,
    truth: ArrayLike,
    classes: Sequence[str] | None = None,
    title: str = "",
    columns: int = 6,
    notes: Sequence[str] | None = None,
) -> Figure:
    """A figure of images in rows, each under its prediction and its truth; wrong ones in red.

    images: [N, 28, 28], [N, 1, 28, 28], [N, 3, 28, 28] or flat [N, 784], any dtype. predictions, truth: [N] class numbers.
    classes: names by number. notes: more lines for each title, such as its probability.
    Raises ShapeError where they do not fit.
    """
    images, predictions, truth = as_images(images), np.asarray(predictions), np.asarray(truth)
    n = len(images)
    if predictions.shape != (n,) or truth.shape != (n,) or (notes is not None and len(notes) != n):
        got = f"images{list(images.shape)}, predictions{list(predictions.shape)}, truth{list(truth.shape)}"
        rule = "gallery: there must be a prediction, a truth and a note for each image"
        raise ShapeError(rule, got, "pass whole arrays, not single images")
    names = [str(c) for c in classes] if classes is not None else None
    rows, columns = grid(n, columns)
    short = names is None or max(map(len, names), default=0) <= 3
    noted = 0.0 if notes is None else 0.16 * max((1 + note.count("\n") for note in notes), default=0)
    figure = new_figure(1.45 * columns, (1.75 + noted) * rows + (0.5 if title else 0.1))
    if title:
        figure.suptitle(title, fontsize=13)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, image, predicted, true, note in zip(panels, images, predictions, truth, notes or [""] * n, strict=False):
        said, is_ = (names[predicted], names[true]) if names else (str(predicted), str(true))
        axes.imshow(image, cmap="gray", interpolation="nearest")
        label = f"predicted {said}\ntruth {is_}" if short else f"{said}\ntruth {is_}"
        label += f"\n{note}" if note else ""
        axes.set_title(label, fontsize=9 if short else 8, color=RIGHT if predicted == true else WRONG)
    return figure


def samples(
    images: ArrayLike, predictions: ArrayLike, truth: ArrayLike, classes: Sequence[str] | None = None, count: int = 24, seed: int = 0
) -> Figure:
    """A gallery of `count` test images drawn at random (by `seed`)."""
    chosen = _some(np.arange(len(np.asarray(truth))), count, seed)
    images, predictions, truth = (np.asarray(a)[chosen] for a in (images, predictions, truth))
    return gallery(images, predictions, truth, classes, "Test images, drawn at random")


def mistakes(
    images: ArrayLike, predictions: ArrayLike, truth: ArrayLike, classes: Sequence[str] | None = None, count: int = 24, seed: int = 0
) -> Figure:
    """A gallery of at most `count` test images that the model got wrong."""
    predictions, truth = np.asarray(predictions), np.asarray(truth)
    wrong = np.flatnonzero(predictions != truth)
    chosen = _some(wrong, count, seed)
    title = f"{len(wrong):,} mistakes in {len(truth):,} test images" + (f" ({len(chosen)} of them)" if len(wrong) > len(chosen) else "")
    if not len(wrong):
        return message(f"No mistakes in {len(truth):,} test images")
    return gallery(np.asarray(images)[chosen], predictions[chosen], truth[chosen], classes, title)


def message(text: str) -> Figure:
    """A figure that says something in place of pictures."""
    figure = new_figure(5, 1.2)
    figure.suptitle(text, fontsize=13)
    return figure


def _some(indices: np.ndarray, count: int, seed: int) -> np.ndarray:
    if len(indices) <= count:
        return indices
    return np.sort(np.random.default_rng(seed).choice(indices, count, replace=False))
