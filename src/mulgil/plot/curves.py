"""Loss and accuracy against epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mulgil.plot.style import TEST, TRAIN, finish_epochs, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves(records: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """A figure of two panels, loss and accuracy, train and test.

    records: an epoch each, with `epoch` and any of `train_loss`, `test_loss`, `train_accuracy`, `test_accuracy` (the lines
    of metrics.jsonl).
    """
    figure = new_figure(10, 4.2)
    if title:
        figure.suptitle(title, fontsize=13)
    epochs = [record["epoch"] for record in records]
    marker = "o" if len(epochs) <= 30 else None
    for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part, colour in (("train", TRAIN), ("test", TEST)):
            values = [record.get(f"{part}_{what}") for record in records]
            if any(v is not None for v in values):
                points = [float("nan") if v is None else v for v in values]
                axes.plot(epochs, points, color=colour, marker=marker, markersize=4, linewidth=1.6, label=part)
        finish_epochs(axes, what.capitalize())
        if axes.lines:
            axes.legend(loc="best", frameon=False)
    return figure
