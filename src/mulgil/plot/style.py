"""What the pictures share: matplotlib, asked for when it is needed, colours, and how a figure becomes a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mulgil.errors import OptionError

TRAIN, TEST, WRONG, RIGHT = "#4878a8", "#d1653e", "#c0392b", "#2f6f4f"


def require_matplotlib() -> Any:
    """The matplotlib module. Raises OptionError with the way to install it."""
    try:
        import matplotlib
    except ImportError:
        raise OptionError("pictures need matplotlib", "it is not installed", 'pip install "mulgil[plot]"') from None
    return matplotlib


def new_figure(width: float, height: float) -> Any:
    """A figure in inches that belongs to no window: drawing to a file needs no display and leaves nothing open."""
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_png(figure: Any, path: str | os.PathLike, dpi: int = 120) -> Path:
    """Write a figure as PNG; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi, format="png", facecolor="white")
    return path
