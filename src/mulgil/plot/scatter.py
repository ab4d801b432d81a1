"""Points in the plane, coloured by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mulgil.errors import ShapeError, describe
from mulgil.plot.style import new_figure
from mulgil.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by the colour-blind too, and two greys; the markers tell classes apart in print.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#8c6d1f", "#222222", "#999999", "#6a3d9a")
LEGEND = 20  # classes that a legend may list
MARKERS = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "*")


def scatter(
    points: ArrayLike,
    labels: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    title: str = "",
    shares: Sequence[float] | np.ndarray | None = None,
) -> Figure:
    """A figure of points, with the name of each class at its middle.

    points: [N, 2] or more columns, of which the first two are drawn. labels: class numbers [N], or None. classes: names by number.
    shares: the share of the variance along each axis, written there. Raises ShapeError where they do not fit.
    """
    points = np.asarray(points)
    numbers = np.zeros(len(points), int) if labels is None else np.asarray(labels)
    if points.ndim != 2 or points.shape[1] < 2 or numbers.shape != points.shape[:1]:
        hint = "embedding(model, data, layer, components=2)"
        raise ShapeError("scatter: points must be [N, 2], labels [N]", describe(points=points, labels=numbers), hint)
    figure = new_figure(7.6, 6)
    axes: Any = figure.subplots()
    size = float(np.clip(20000 / max(len(points), 1), 7, 36))
    present = np.unique(numbers)
    names = {n: str(classes[n]) if classes is not None and 0 <= n < len(classes) else str(n) for n in present.tolist()}
    for number, name in names.items():
        chosen = points[numbers == number]
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
        axes.scatter(*chosen[:, :2].T, s=size, c=colour, marker=marker, alpha=0.6, linewidths=0, rasterized=True, label=name)
    if labels is not None:
        _write_names(axes, names, np.array([np.median(points[numbers == n][:, :2], axis=0) for n in names]).reshape(-1, 2))
        if 0 < len(names) <= LEGEND:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=(36 / size) ** 0.5)
    for k, write in enumerate((axes.set_xlabel, axes.set_ylabel)):
        write(f"component {k + 1}" + ("" if shares is None else f" ({shares[k]:.0%} of the variance)"))
    axes.set_title(title)
    axes.grid(alpha=0.3)
    return figure


def _write_names(axes: Any, names: Mapping[int, str], places: np.ndarray) -> None:
    """The name of each class at its place, moved a little where two would lie on each other."""
    axes.autoscale_view()
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    start, span = np.array([left, low]), np.array([right - left, high - low])
    for number, (x, y) in zip(names, _apart((places - start) / span) * span + start, strict=True):
        frame = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": COLOURS[number % len(COLOURS)], "alpha": 0.85}
        axes.text(x, y, names[number], ha="center", va="center", fontsize=11 if len(names) <= LEGEND else 7, bbox=frame)


def _apart(places: np.ndarray, least: float = 0.055, steps: int = 100) -> np.ndarray:
    """Places in the unit square, pushed apart until none are closer than `least`, or the steps are over."""
    places = places + 1e-6 * np.arange(len(places))[:, None]  # no two on one spot
    for _ in range(steps):
        away = places[:, None] - places
        distance = np.hypot(*np.moveaxis(away, -1, 0)) + np.eye(len(places))
        push = np.maximum(least - distance, 0) / distance
        if not push.any():
            break
        places = places + 0.5 * (away * push[:, :, None]).sum(1)
    return places
