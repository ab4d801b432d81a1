"""Images with what the model said and what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mulgil.errors import ShapeError
from mulgil.plot.style import RIGHT, WRONG, new_figure


def gallery(
    images: Any,
    predictions: Any,
    truth: Any,
    classes: Sequence[str] | None = None,
    title: str = "",
    columns: int = 6,
) -> Any:
    """A figure of images in rows, each under its prediction and its truth; wrong ones in red.

    images: [N, 28, 28] or [N, 1, 28, 28], any dtype. predictions, truth: [N] class numbers. classes: names by number.
    Raises ShapeError where they do not fit.
    """
    images, predictions, truth = np.asarray(images), np.asarray(predictions), np.asarray(truth)
    images = images[:, 0] if images.ndim == 4 else images
    n = len(images)
    if images.ndim != 3 or predictions.shape != (n,) or truth.shape != (n,):
        got = f"images{list(images.shape)}, predictions{list(predictions.shape)}, truth{list(truth.shape)}"
        rule = "gallery: images must be [N, height, width], predictions and truth [N]"
        raise ShapeError(rule, got, "pass whole arrays, not single images")
    names = [str(c) for c in classes] if classes is not None else None
    columns = max(1, min(columns, n))
    rows = max(1, -(-n // columns))
    short = names is None or max(map(len, names), default=0) <= 3
    figure = new_figure(1.45 * columns, 1.75 * rows + (0.5 if title else 0.1))
    if title:
        figure.suptitle(title, fontsize=13)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, image, predicted, true in zip(grid, images, predictions, truth, strict=False):
        said, is_ = (names[predicted], names[true]) if names else (str(predicted), str(true))
        axes.imshow(image, cmap="gray", interpolation="nearest")
        label = f"predicted {said}\ntruth {is_}" if short else f"{said}\ntruth {is_}"
        axes.set_title(label, fontsize=9 if short else 8, color=RIGHT if predicted == true else WRONG)
    return figure


def samples(images: Any, predictions: Any, truth: Any, classes: Sequence[str] | None = None, count: int = 24, seed: int = 0) -> Any:
    """A gallery of `count` test images drawn at random (by `seed`)."""
    chosen = _some(np.arange(len(np.asarray(truth))), count, seed)
    images, predictions, truth = (np.asarray(a)[chosen] for a in (images, predictions, truth))
    return gallery(images, predictions, truth, classes, "Test images, drawn at random")


def mistakes(images: Any, predictions: Any, truth: Any, classes: Sequence[str] | None = None, count: int = 24, seed: int = 0) -> Any:
    """A gallery of at most `count` test images that the model got wrong."""
    predictions, truth = np.asarray(predictions), np.asarray(truth)
    wrong = np.flatnonzero(predictions != truth)
    chosen = _some(wrong, count, seed)
    title = f"{len(wrong):,} mistakes in {len(truth):,} test images" + (f" ({len(chosen)} of them)" if len(wrong) > len(chosen) else "")
    if not len(wrong):
        figure = new_figure(5, 1.2)
        figure.suptitle(f"No mistakes in {len(truth):,} test images", fontsize=13)
        return figure
    return gallery(np.asarray(images)[chosen], predictions[chosen], truth[chosen], classes, title)


def _some(indices: np.ndarray, count: int, seed: int) -> np.ndarray:
    if len(indices) <= count:
        return indices
    return np.sort(np.random.default_rng(seed).choice(indices, count, replace=False))
