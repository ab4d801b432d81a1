"""Pictures of what a model learned and where it fails. Needs matplotlib: pip install "mulgil[plot]"."""

from __future__ import annotations

from mulgil.plot.curves import curves
from mulgil.plot.gallery import gallery, mistakes, samples
from mulgil.plot.live import LivePlot, create_plot
from mulgil.plot.style import save_png

__all__ = ["LivePlot", "create_plot", "curves", "gallery", "mistakes", "samples", "save_png"]
