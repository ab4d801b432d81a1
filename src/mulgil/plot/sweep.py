"""What a sweep found: the final figures against the settings that were varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mulgil.plot.compare import COLOURS, DASHES, MARKERS
from mulgil.plot.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def sweep(rows: Sequence[Mapping[str, Any]], settings: Sequence[str], title: str = "") -> Figure:
    """A figure of two panels, test loss and test accuracy, over the setting with the most values; a line for each choice of the others.

    rows: a trial each, with the settings, `test_loss` and `test_accuracy`; those without figures are left out. settings: the names
    of what was varied.
    """
    rows = [row for row in rows if isinstance(row.get("test_accuracy"), (int, float))]
    along = max(settings, key=lambda name: (len({row[name] for row in rows}), all(_number(row[name]) for row in rows)), default="trial")
    others = [name for name in settings if name != along]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(", ".join(f"{name.replace('_', ' ')} {row[name]}" for name in others), []).append(row)
    scattered = len(groups) > 8  # a random search: each choice of the others comes once
    figure = new_figure(10.5, 4.4)
    if title:
        figure.suptitle(title, fontsize=13)
    panels = figure.subplots(1, 2)
    for axes, what in zip(panels, ("test_loss", "test_accuracy"), strict=True):
        place = _axis(axes, along, [row[along] for row in rows])
        if scattered:
            axes.scatter([place(row[along]) for row in rows], [row[what] for row in rows], color=COLOURS[0], s=24)
        for k, (label, group) in enumerate(() if scattered else groups.items()):
            points = sorted((place(row[along]), row[what]) for row in group)
            style = {"color": COLOURS[k % 6], "linestyle": DASHES[k % 6], "marker": MARKERS[k % 6]}
            axes.plot([x for x, _ in points], [y for _, y in points], label=label, **style)
        axes.set_title(what.replace("_", " ").capitalize())
        axes.set_xlabel(along.replace("_", " "))
        axes.grid(alpha=0.3)
    if others and not scattered:
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _axis(axes: Any, name: str, values: Sequence[Any]) -> Any:
    """Prepare the horizontal axis: numbers that span much on a logarithmic scale, names in a row. Returns where a value stands on it."""
    distinct = sorted(set(values))
    if not all(_number(value) for value in distinct):
        axes.set_xticks(range(len(distinct)), [str(value) for value in distinct])
        return distinct.index
    if len(distinct) > 1 and distinct[0] > 0 and distinct[-1] / distinct[0] >= 8:
        axes.set_xscale("log")
    if len(distinct) <= 8:
        axes.set_xticks(distinct, [f"{value:g}" for value in distinct])
        axes.minorticks_off()
    return float


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
