"""The confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mulgil.errors import OptionError, ShapeError, describe, visible
from mulgil.plot.style import new_figure
from mulgil.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST = 11.0  # inches that the cells may take
CONTRAST = 0.3  # exponent of the colours: below 1 it lifts the few mistakes from the many right ones


def confusion(matrix: ArrayLike, classes: Sequence[str] | None = None, title: str = "") -> Figure:
    """A figure of a confusion matrix: a row for each true class, a column for each prediction.

    matrix: [C, C], counts or shares. Each cell shows its number, as long as there is room; cells of 0 stay empty. The darkness is
    the share among the row, so that rare classes are seen as well; it prints in grey.
    classes: C names; default the numbers. Raises ShapeError, OptionError where they do not fit.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ShapeError("confusion: the matrix must be [C, C]", describe(matrix=matrix))
    n = len(matrix)
    names = [str(i) for i in range(n)] if classes is None else [visible(str(name)) for name in classes]
    if len(names) != n:
        raise OptionError(f"confusion: there must be a name for each of the {n} classes", f"{len(names)} names")
    cell = min(0.52, LARGEST / n)
    longest = max(map(len, names))
    figure = new_figure(cell * n + 1.0 + 0.07 * longest, cell * n + 0.9 + (0.07 * longest if longest > 3 else 0.1))
    axes = figure.subplots()
    shade = matrix / np.maximum(matrix.sum(1, keepdims=True), 1e-12)
    axes.imshow(shade**CONTRAST, cmap="Blues", vmin=0, vmax=1.1, interpolation="nearest")
    small = min(10.0, max(4.0, cell * 72 * 0.85))
    _label(axes, names, small, longest, every=max(1, round(0.085 / cell)))
    _lines(axes, n)
    if cell >= 0.26:
        _write_numbers(axes, matrix, shade**CONTRAST, cell)
    axes.set_title(title or "Confusion matrix", fontsize=12)
    return figure


def _label(axes: Any, names: Sequence[str], size: float, longest: int, every: int) -> None:
    """Class names along both axes, upright under the columns where they are long."""
    places = range(0, len(names), every)
    shown = [names[i] for i in places]
    axes.set_xticks(places, shown, fontsize=size, rotation=90 if longest > 3 or len(names) > 30 else 0)
    axes.set_yticks(places, shown, fontsize=size)
    axes.tick_params(length=0, pad=2)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


def _lines(axes: Any, n: int) -> None:
    """Thin lines between the cells, a little stronger every ten where there are many."""
    for i in range(1, n):
        strong = n > 20 and i % 10 == 0
        for line in (axes.axhline, axes.axvline):
            line(i - 0.5, color="#999999" if strong else "#e4e4e4", linewidth=0.6 if strong else 0.4)


def _write_numbers(axes: Any, matrix: np.ndarray, shade: np.ndarray, cell: float) -> None:
    whole = matrix.dtype.kind in "iu"
    texts = [[(f"{v:,}" if whole else f"{v:.2f}") if v >= (1 if whole else 0.005) else "" for v in row] for row in matrix.tolist()]
    longest = max(len(text) for row in texts for text in row) or 1
    size = min(10.0, cell * 72 * 1.5 / max(longest, 2))
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            if text:
                colour = "white" if shade[i, j] > 0.6 else "black"
                axes.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)
