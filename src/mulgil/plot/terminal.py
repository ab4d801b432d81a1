"""Curves as text, for a terminal without a display."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mulgil.errors import visible

# the dots of a Braille letter, by row and column, as bits above U+2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
LARGEST = 1e300  # differences of larger numbers overflow
LABEL = 9  # letters for the numbers at the left


def chart(
    title: str, line: tuple[Any, Any], marks: Sequence[tuple[str, Any, Any]], width: int = 72, height: int = 8, braille: bool = True
) -> str:
    """A panel of `height` lines under its title: a line through points, and letters at others.

    line: (x, y). marks: (letter, x, y), drawn over it. width: of the whole, in letters. Values that are not finite are left out.
    braille: fine dots; otherwise full stops, for terminals that have no Unicode.
    """
    title, columns = visible(title), max(4, width - LABEL - 1)
    curves = [_finite(*line), *(_finite(x, y) for _, x, y in marks)]
    all_x, all_y = (np.concatenate([curve[i] for curve in curves]) for i in (0, 1))
    if not len(all_x):
        return f"{title}\n" + "\n".join(" " * LABEL + "|" for _ in range(height))
    low, high = float(all_y.min()), float(all_y.max())
    bounds = float(all_x.min()), float(all_x.max()), low, high
    fine = _dots(_scaled(*curves[0], bounds, 2 * columns, 4 * height), columns, height)
    blank, some = (chr(0x2800), None) if braille else (" ", ".")
    cells = [[blank if not bits else some or chr(0x2800 + bits) for bits in row] for row in fine]
    for (letter, _, _), curve in zip(marks, curves[1:], strict=True):
        for column, row in zip(*_scaled(*curve, bounds, columns, height), strict=True):
            cells[row][column] = letter
    labels = {0: f"{high:.3g}", height - 1: f"{low:.3g}"} if high > low else {height // 2: f"{low:.3g}"}
    lines = [f"{labels.get(i, '')[:LABEL]:>{LABEL}}|{''.join(row)}" for i, row in enumerate(cells)]
    foot = f"{bounds[0]:g}", f"{bounds[1]:g}"
    return "\n".join([title, *lines, " " * (LABEL + 1) + foot[0] + f"{foot[1]:>{max(1, columns - len(foot[0]))}}"])


def _finite(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    kept = (abs(x) < LARGEST) & (abs(y) < LARGEST)  # and none that is not a number
    return x[kept], y[kept]


def _scaled(x: np.ndarray, y: np.ndarray, bounds: tuple, columns: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of each point, counted from the upper left."""
    left, right, low, high = bounds
    column = (x - left) / (right - left) if right > left else np.zeros_like(x)
    row = (high - y) / (high - low) if high > low else np.full_like(y, 0.5)
    return np.rint(column * (columns - 1)).astype(int), np.rint(row * (rows - 1)).astype(int)


def _dots(points: tuple[np.ndarray, np.ndarray], columns: int, rows: int) -> list[list[int]]:
    """The bits of each cell for a line through the points: from each to the next, every row between is dotted."""
    cells = [[0] * columns for _ in range(rows)]
    if 1 < len(points[0]) < 2 * columns:  # fewer points than dots: straight lines between them
        filled = np.arange(points[0][0], points[0][-1] + 1)
        points = filled, np.rint(np.interp(filled, *points)).astype(int)
    previous = None
    for x, y in zip(*(p.tolist() for p in points), strict=True):
        start = y if previous is None else previous
        for row in range(min(start, y), max(start, y) + 1):
            cells[row // 4][x // 2] |= DOTS[row % 4][x % 2]
        previous = y
    return cells
