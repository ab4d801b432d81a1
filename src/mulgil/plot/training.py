"""Curves of a training: its history by epoch, and the search for a learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mulgil.plot.style import TEST, TRAIN, finish_epochs, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {"mse": "Mean squared error", "mae": "Mean absolute error", "top5": "Right among the first five"}


def history(records: np.ndarray, title: str = "") -> Figure:
    """A figure with a panel for the loss and one for each metric, training solid, validation dashed.

    records: a structured array with `epoch`, `train_loss`, `validation_loss`, `train_accuracy` and so on, such as `Trainer.fit` returns.
    """
    names = [name.removeprefix("train_") for name in records.dtype.names or () if name.startswith("train_")]
    figure = new_figure(5 * len(names), 4.2)
    if title:
        figure.suptitle(title, fontsize=13)
    short = len(records) <= 30
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for part, colour, line, marker in (("train", TRAIN, "-", "o"), ("validation", TEST, "--", "s")):
            values = records[f"{part}_{name}"]
            if np.isfinite(values).any():
                style = {"color": colour, "linestyle": line, "marker": marker if short else None, "markersize": 4, "linewidth": 1.6}
                axes.plot(records["epoch"], values, label=part, **style)
        finish_epochs(axes, TITLES.get(name, name.replace("_", " ").capitalize()))
        if axes.lines:
            axes.legend(loc="best", frameon=False)
    return figure


def learning_rates(rates: np.ndarray, losses: np.ndarray, smooth: np.ndarray, suggestion: float) -> Figure:
    """The loss against the learning rate, on a logarithmic axis, with the suggested rate.

    rates, losses, smooth: [steps] each, in the order of the steps; smooth: the running mean of the losses.
    """
    figure = new_figure(6.5, 4.2)
    axes = figure.subplots()
    axes.plot(rates, losses, color=TRAIN, alpha=0.35, linewidth=1, label="loss of a batch")
    axes.plot(rates, smooth, color=TRAIN, linewidth=1.8, label="running mean")
    axes.axvline(suggestion, color=TEST, linestyle="--", linewidth=1.4, label=f"suggestion: {suggestion:.2g}")
    low, start = float(losses.min()), float(smooth[0])
    margin = start - low + 1e-6
    axes.set_ylim(low - 0.1 * margin, start + 0.3 * margin)  # how it blows up at the end is of no interest
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend(loc="best", frameon=False)
    return figure
