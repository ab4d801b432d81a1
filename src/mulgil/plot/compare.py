"""The curves of several runs in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mulgil.plot.style import finish_epochs, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# dark to light, and each with its own line and marker: a print in grey still tells six of them apart
COLOURS = ("#1f4e79", "#d1653e", "#2f8f6f", "#8e5aa8", "#c7a02b", "#7a8794")
DASHES = ("-", "--", "-.", ":", (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "x")


def compare(runs: Mapping[str, Sequence[Mapping[str, Any]]], title: str = "", part: str = "test") -> Figure:
    """A figure of two panels, loss and accuracy, a line a run.

    runs: name -> its epochs, as in metrics.jsonl. part: "test" or "train".
    """
    figure = new_figure(11, 4.4 + 0.22 * max(0, len(runs) - 6))
    if title:
        figure.suptitle(title, fontsize=13)
    panels = figure.subplots(1, 2)
    for axes, what in zip(panels, ("loss", "accuracy"), strict=True):
        for k, (name, rows) in enumerate(runs.items()):
            points = [point for row in rows if all(map(_drawable, point := (row.get("epoch"), row.get(f"{part}_{what}"))))]
            colour, dash, marker = COLOURS[k % 6], DASHES[(k + k // 6) % 6], MARKERS[(k + k // 6) % 6]
            style = {"color": colour, "linestyle": dash, "marker": marker if len(points) <= 30 else "", "markersize": 4}
            axes.plot([x for x, _ in points], [y for _, y in points], label=name, **style)
        finish_epochs(axes, f"{part.capitalize()} {what}")
    handles, names = panels[0].get_legend_handles_labels()
    columns = 2 if max(map(len, names), default=0) > 24 else 4
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    return figure


def _drawable(value: Any) -> bool:
    """A number that fits on an axis: the lines may be a stranger's."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15
