"""Pictures of what a model learned and where it fails, and of computations. Most need matplotlib: pip install "mulgil[plot]"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mulgil.names import lookup
from mulgil.plot.confusion import confusion
from mulgil.plot.curves import curves
from mulgil.plot.diagram import Diagram
from mulgil.plot.gallery import gallery, message, mistakes, samples
from mulgil.plot.graph import graph
from mulgil.plot.live import LivePlot, create_plot, plot_logger
from mulgil.plot.maps import features, filters, heatmaps
from mulgil.plot.metrics import LiveLogger, load_metrics, save_metrics
from mulgil.plot.scatter import scatter
from mulgil.plot.style import save_png

__all__ = [
    "Diagram",
    "LiveLogger",
    "LivePlot",
    "confusion",
    "create_plot",
    "curves",
    "features",
    "filters",
    "gallery",
    "graph",
    "heatmaps",
    "load_metrics",
    "message",
    "mistakes",
    "plot_logger",
    "samples",
    "save_metrics",
    "save_png",
    "scatter",
]

if not TYPE_CHECKING:  # a checker would take any name for known
    __getattr__ = lookup(__name__)
