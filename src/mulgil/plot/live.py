"""`create_plot`: loss and accuracy while a program of your own trains (the interface of the library noggin)."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mulgil.errors import MulgilError, OptionError
from mulgil.plot.metrics import LiveLogger, LiveMetric
from mulgil.plot.screen import screens_for
from mulgil.plot.style import TEST, TRAIN, figure_class, require_matplotlib
from mulgil.plot.terminal import chart

MAX_POINTS = 2000  # of a line; more cannot be seen and take long to draw
SHORTEST_WAIT = 0.2  # seconds between two drawings: more often does a browser no good
Colours = Any  # of matplotlib; or {"train": colour, "test": colour}


class LivePlot(LiveLogger):
    """Collects metrics of batches and epochs and draws them: batches as lines, epochs as dots, train and test.

    Make it with `create_plot`. It is redrawn while the training goes on wherever somebody can see it: in a window, in a notebook
    (in the cell that made it), in a terminal, in a file. Elsewhere it is drawn by `plot()` alone.

    Attributes: metrics (their names), max_fraction_spent_plotting, last_n_batches, metric_colors, figsize, plot_objects.
    """

    def __init__(
        self,
        metrics: Sequence[str] | str | Mapping[str, Colours],
        max_fraction_spent_plotting: float = 0.05,
        last_n_batches: int | None = None,
        nrows: int | None = None,
        ncols: int = 1,
        figsize: tuple[float, float] | None = None,
        terminal: bool | None = None,
        png: str | os.PathLike | None = None,
    ):
        super().__init__()
        require_matplotlib()
        self.metrics = (metrics,) if isinstance(metrics, str) else tuple(metrics)
        if not self.metrics or len(set(self.metrics)) < len(self.metrics) or not all(isinstance(name, str) for name in self.metrics):
            rule = "create_plot: name at least one metric, each once"
            raise OptionError(rule, repr(self.metrics), 'create_plot(["loss", "accuracy"])')
        self.metric_colors = _colours(metrics) if isinstance(metrics, Mapping) else {}
        self.max_fraction_spent_plotting = max_fraction_spent_plotting
        self.last_n_batches = last_n_batches
        self._figure, self._axes = _panels(len(self.metrics), nrows, ncols, figsize)
        for name, axes in zip(self.metrics, self._axes, strict=True):
            axes.set(ylabel=name, xlabel="training batches")
            axes.grid(alpha=0.3)
        self._lines: dict[tuple[str, str], Any] = {}
        self._last_drawn, self._cost = time.perf_counter(), 0.0
        self._screens = screens_for(self._figure, terminal, png)

    # ---- settings

    @property
    def max_fraction_spent_plotting(self) -> float:
        """Of the time; 0: only `plot()` draws."""
        return self._fraction

    @max_fraction_spent_plotting.setter
    def max_fraction_spent_plotting(self, value: float) -> None:
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise OptionError("max_fraction_spent_plotting must be from 0 to 1", repr(value))
        self._fraction = float(value)

    @property
    def last_n_batches(self) -> int | None:
        """How many of the latest training batches are shown; None: all."""
        return self._last_n

    @last_n_batches.setter
    def last_n_batches(self, value: int | None) -> None:
        if value is not None and (not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1):
            raise OptionError("last_n_batches must be a positive integer, or None for all", repr(value))
        self._last_n = None if value is None else int(value)

    @property
    def figsize(self) -> tuple[float, float]:
        """Width and height in inches."""
        return tuple(self._figure.get_size_inches())

    @figsize.setter
    def figsize(self, size: tuple[float, float]) -> None:
        self._figure.set_size_inches(size)

    @property
    def plot_objects(self) -> tuple[Any, Any]:
        """The figure; the axes, in an array if there are several."""
        return self._figure, self._axes[0] if len(self._axes) == 1 else np.array(self._axes, dtype=object)

    # ---- collecting

    def set_train_batch(self, metrics: Mapping[str, Any], batch_size: int, plot: bool = True) -> None:
        """The metrics of a training batch, such as {"loss": 0.3, "accuracy": 0.9}; names that are not plotted are ignored."""
        super().set_train_batch(metrics, batch_size)
        if plot:
            self._draw_if_cheap()

    def set_train_epoch(self) -> None:
        super().set_train_epoch()
        self._draw_if_cheap()

    def set_test_epoch(self) -> None:
        super().set_test_epoch()
        self._draw_if_cheap()

    plot_train_epoch, plot_test_epoch = set_train_epoch, set_test_epoch  # noggin's earlier names

    def _wants(self, name: str) -> bool:
        return name in self.metrics

    def to_dict(self) -> dict[str, Any]:
        """What was collected, and the settings: dicts of arrays, numbers and text."""
        settings: dict[str, Any] = {"metric_names": list(self.metrics), "max_fraction_spent_plotting": self._fraction}
        if self._last_n is not None:
            settings["last_n_batches"] = self._last_n
        return {**super().to_dict(), **settings, "metric_colors": {name: dict(colours) for name, colours in self.metric_colors.items()}}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> LivePlot:
        """A plot that goes on from what `to_dict` gave. `plot()` draws it."""
        new = cls(list(state["metric_names"]), state.get("max_fraction_spent_plotting", 0.05), state.get("last_n_batches"))
        new.metric_colors = _colours(state.get("metric_colors", {}))
        new.load_dict(state)
        return new

    # ---- drawing

    def plot(self, plot_batches: bool = True) -> None:
        """Draw now, everything. plot_batches: the lines of the training batches too. Call it at the end: the latest dots may be missing."""
        self._draw(plot_batches, last=True)

    show = plot  # noggin's later name

    def _draw_if_cheap(self) -> None:
        """Draw if somebody can see it and drawing then takes no more than its share of the time since the last drawing."""
        if self._screens and self._fraction:
            wait = self._cost * (1 - self._fraction) / self._fraction
            if time.perf_counter() - self._last_drawn >= max(wait, SHORTEST_WAIT):
                self._draw(True, last=False)

    def _draw(self, plot_batches: bool, last: bool) -> None:
        start = time.perf_counter()
        for name, axes in zip(self.metrics, self._axes, strict=True):
            self._draw_metric(name, axes, plot_batches)
        for screen in list(self._screens):
            try:
                screen.show(self, last)
            except (MulgilError, OSError) as error:  # a full disk or a closed terminal must not end a training
                self._screens.remove(screen)
                warnings.warn(f"the live plot is no longer shown in this place ({type(screen).__name__}): {error}", stacklevel=4)
        self._last_drawn = time.perf_counter()
        self._cost = self._last_drawn - start

    def _curves(self, name: str, plot_batches: bool = True) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """(which, x, y) of what is to be seen of a metric."""
        first = 0 if self._last_n is None else max(0, self.num_train_batch - self._last_n)
        train, test = self._train.get(name, LiveMetric(name)), self._test.get(name, LiveMetric(name))
        curves = [("train, batches", *thinned(*_since(first, train.batch_domain, train.batch_data)))] if plot_batches else []
        for which, metric in (("train", train), ("test", test)):
            curves.append((which, *_since(first, metric.epoch_domain, metric.epoch_data)))
        return curves

    def _draw_metric(self, name: str, axes: Any, plot_batches: bool) -> None:
        curves = self._curves(name, plot_batches)
        for which, x, y in curves:
            if (name, which) not in self._lines:
                if not len(x):
                    continue
                part = which.split(",")[0]
                colour = self.metric_colors.get(name, {}).get(part) or {"train": TRAIN, "test": TEST}[part]
                self._lines[name, which] = axes.plot([], [], color=colour, **STYLES[which])[0]
            line = self._lines[name, which]
            line.set_data(x, np.where(np.isfinite(y), y, np.nan))
            line.set_label(f"{which}, epochs: {y[-1]:.4g}" if "batches" not in which and len(y) else which)
        if not plot_batches and (name, "train, batches") in self._lines:
            self._lines[name, "train, batches"].set_data([], [])
        axes.relim()
        axes.autoscale_view()
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", framealpha=0.85, edgecolor="none")

    def text(self, width: int = 72, lines: int = 24, braille: bool = True) -> str:
        """The curves as text, at most `lines` lines: o for the epochs of the training, x for those of the test."""
        height = min(10, max(3, (lines - 2) // len(self.metrics) - 2))
        panels = []
        for name in self.metrics:
            (_, x, y), (_, *train), (_, *test) = self._curves(name)
            marks = [("o", train[0], train[1]), ("x", test[0], test[1])]
            latest = [f"{mark[0]} {part} {mark[2][-1]:.4g}" for mark, part in zip(marks, ("train", "test"), strict=True) if len(mark[2])]
            panels.append(chart("   ".join([name, *latest]), (x, y), marks, width, height, braille))
        return "\n".join(panels)


STYLES: dict[str, dict[str, Any]] = {
    "train, batches": {"alpha": 0.45, "linewidth": 1},
    "train": {"marker": "o", "linestyle": "-", "linewidth": 1.8, "markersize": 6},
    "test": {"marker": "s", "linestyle": "--", "linewidth": 1.8, "markersize": 6},
}


def create_plot(
    metrics: Sequence[str] | str | Mapping[str, Colours],
    max_fraction_spent_plotting: float = 0.05,
    last_n_batches: int | None = None,
    nrows: int | None = None,
    ncols: int = 1,
    figsize: tuple[float, float] | None = None,
    *,
    terminal: bool | None = None,
    png: str | os.PathLike | None = None,
) -> tuple[LivePlot, Any, Any]:
    """A figure with a panel for each metric, and the plotter that fills it. Returns (plotter, figure, axes).

    Args:
        metrics: names; or a dict with colours, {"loss": "black"} or {"loss": {"train": "black", "test": "grey"}}.
        max_fraction_spent_plotting: of the time, from 0 (only `plot()` draws) to 1. At most five drawings a second.
        last_n_batches: show only so many of the latest batches; None: all.
        nrows, ncols, figsize (inches): the figure. There are more rows if the metrics need them.
        terminal: also as text in the terminal. By default if there is a terminal and neither a window nor a notebook.
        png: also into this file, which is rewritten whole at each drawing.

    In a notebook there is one output, in the cell of this call, which follows the training. Raises OptionError for a wrong argument.

    Example:
        >>> plotter, fig, ax = create_plot(["loss", "accuracy"])                            # doctest: +SKIP
        >>> plotter.set_train_batch({"loss": 0.5, "accuracy": 0.8}, batch_size=100)         # doctest: +SKIP
        >>> plotter.set_train_epoch(); plotter.plot(); fig.savefig("training.png")          # doctest: +SKIP
        >>> plotter.save("metrics.npz")   # later: plotter.load("metrics.npz") goes on      # doctest: +SKIP
    """
    plotter = LivePlot(metrics, max_fraction_spent_plotting, last_n_batches, nrows, ncols, figsize, terminal, png)
    return plotter, *plotter.plot_objects


def plot_logger(
    logger: LiveLogger, plot_batches: bool = True, last_n_batches: int | None = None, **figure: Any
) -> tuple[LivePlot, Any, Any]:
    """Draw what a `LiveLogger` has collected. figure: `colors`, `nrows`, `ncols`, `figsize`, as in `create_plot`."""
    names = list(dict.fromkeys([*logger.train_metrics, *logger.test_metrics]))
    colours = figure.pop("colors", None) or {}
    plotter = LivePlot(names, 0.0, last_n_batches, **figure)
    plotter.metric_colors = _colours(colours)
    plotter.load_dict(logger.to_dict())
    plotter.plot(plot_batches)
    return plotter, *plotter.plot_objects


def thinned(x: np.ndarray, y: np.ndarray, most: int = MAX_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` points that look the same: of each stretch its least and its greatest, so that no peak is lost."""
    if len(y) <= most:
        return x, y
    starts = np.arange(0, len(y), -(-len(y) // (most // 2)))
    return np.repeat(x[starts], 2), np.stack([np.fmin.reduceat(y, starts), np.fmax.reduceat(y, starts)], 1).ravel()


def _since(first: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    start = int(np.searchsorted(x, first, side="right")) if first else 0
    return x[start:], y[start:]


def _panels(count: int, nrows: int | None, ncols: int, figsize: tuple[float, float] | None) -> tuple[Any, list[Any]]:
    import matplotlib.pyplot as plt

    if ncols < 1 or (nrows is not None and nrows < 1):
        raise OptionError("create_plot: nrows and ncols must be at least 1", f"nrows={nrows}, ncols={ncols}")
    rows = max(nrows or 1, -(-count // ncols))
    size = figsize or (7 * ncols, 3 * rows)
    figure, axes = plt.subplots(rows, ncols, figsize=size, squeeze=False, layout="constrained", FigureClass=figure_class())
    for axis in axes.ravel()[count:]:
        axis.remove()
    return figure, list(axes.ravel()[:count])


def _colours(metrics: Mapping[str, Colours]) -> dict[str, dict[str, Any]]:
    """Name -> {"train": colour, "test": colour}, checked; a single colour is that of the training."""
    from matplotlib.colors import is_color_like

    found = {name: dict(c) if isinstance(c, Mapping) else {"train": c} for name, c in metrics.items() if c is not None}
    for name, colours in found.items():
        for part, colour in colours.items():
            if part not in ("train", "test") or not (colour is None or is_color_like(colour)):
                rule = "create_plot: a metric's colour is one of matplotlib's, or {'train': colour, 'test': colour}"
                raise OptionError(rule, f"{name}: {part}: {colour!r}", 'create_plot({"loss": "black"})')
    return found
