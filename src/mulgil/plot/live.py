"""`create_plot`: loss and accuracy while a program of your own trains (the interface of the library noggin)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from mulgil.errors import OptionError
from mulgil.plot.style import TEST, TRAIN, require_matplotlib

MAX_POINTS = 2000  # of a line; more cannot be seen and take long to draw


class _Series:
    """One metric of one part (train or test): its batches, and the weighted mean of each epoch."""

    def __init__(self) -> None:
        self.batches: list[float] = []
        self.epochs: list[tuple[int, float]] = []  # (train batches so far, mean)
        self._sum = self._weight = 0.0

    def add(self, value: float, size: int) -> None:
        self.batches.append(value)
        self._sum += value * size
        self._weight += size

    def close_epoch(self, at: int) -> None:
        if self._weight:
            self.epochs.append((at, self._sum / self._weight))
        self._sum = self._weight = 0.0


class LivePlot:
    """Collects metrics of batches and epochs and draws them: batches as lines, epochs as dots, train and test.

    Make it with `create_plot`. In a window or notebook the figure follows the training, and drawing takes at most
    `max_fraction_spent_plotting` of the time; without a window it is drawn by `plot()` alone.
    """

    def __init__(self, metrics: Sequence[str], figure: Any, axes: Sequence[Any], max_fraction_spent_plotting: float = 0.05):
        self.metrics, self.figure, self.axes = tuple(metrics), figure, list(axes)
        self.max_fraction_spent_plotting = max_fraction_spent_plotting
        self.train = {name: _Series() for name in self.metrics}
        self.test = {name: _Series() for name in self.metrics}
        self.train_batches = 0
        self._started, self._drawing = time.perf_counter(), 0.0

    def set_train_batch(self, metrics: Mapping[str, Any], *, batch_size: int, plot: bool = True) -> None:
        """The metrics of a training batch, such as {"loss": 0.3, "accuracy": 0.9}; names that are not plotted are ignored."""
        self.train_batches += 1
        self._add(self.train, metrics, batch_size)
        if plot:
            self._draw_if_cheap()

    def set_test_batch(self, metrics: Mapping[str, Any], *, batch_size: int) -> None:
        """The metrics of a test batch. They are kept, and their mean is shown by `set_test_epoch`."""
        self._add(self.test, metrics, batch_size)

    def set_train_epoch(self) -> None:
        """The training epoch ends here: its mean, weighted by batch sizes, becomes a dot."""
        self._close(self.train)

    def set_test_epoch(self) -> None:
        """The test epoch ends here: its mean becomes a dot at the training's present place."""
        self._close(self.test)

    def plot(self) -> None:
        """Draw now."""
        start = time.perf_counter()
        for name, axes in zip(self.metrics, self.axes, strict=True):
            self._draw_metric(name, axes)
        self.figure.canvas.draw_idle() if _interactive() else self.figure.canvas.draw()
        if _interactive():
            self.figure.canvas.flush_events()
        self._drawing += time.perf_counter() - start

    show = plot  # noggin's later name

    def _add(self, part: dict[str, _Series], metrics: Mapping[str, Any], batch_size: int) -> None:
        if batch_size < 1:
            raise OptionError("batch_size must be at least 1", repr(batch_size), "pass the number of samples in the batch")
        for name, value in metrics.items():
            if name in part:
                part[name].add(float(value), batch_size)

    def _close(self, part: dict[str, _Series]) -> None:
        for series in part.values():
            series.close_epoch(self.train_batches)
        self._draw_if_cheap()

    def _draw_if_cheap(self) -> None:
        elapsed = time.perf_counter() - self._started
        if _interactive() and self._drawing <= self.max_fraction_spent_plotting * elapsed:
            self.plot()

    def _draw_metric(self, name: str, axes: Any) -> None:
        axes.clear()
        train, test = self.train[name], self.test[name]
        stride = max(1, -(-len(train.batches) // MAX_POINTS))
        x = range(1, len(train.batches) + 1, stride)
        if train.batches:
            axes.plot(x, train.batches[::stride], color=TRAIN, alpha=0.45, linewidth=1, label="train, batches")
        for series, colour, label in ((train, TRAIN, "train, epochs"), (test, TEST, "test, epochs")):
            if series.epochs:
                at, means = zip(*series.epochs, strict=True)
                axes.plot(at, means, color=colour, marker="o", linestyle="-", linewidth=1.2, label=label)
        axes.set_xlabel("training batches")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False)


def create_plot(
    metrics: Sequence[str] | str,
    *,
    max_fraction_spent_plotting: float = 0.05,
    nrows: int | None = None,
    ncols: int = 1,
    figsize: tuple[float, float] | None = None,
) -> tuple[LivePlot, Any, Any]:
    """A figure with a panel for each metric, and the plotter that fills it. Returns (plotter, figure, axes).

    Example:
        >>> plotter, fig, ax = create_plot(["loss", "accuracy"])                            # doctest: +SKIP
        >>> plotter.set_train_batch({"loss": 0.5, "accuracy": 0.8}, batch_size=100)         # doctest: +SKIP
        >>> plotter.set_train_epoch(); plotter.plot(); fig.savefig("training.png")          # doctest: +SKIP
    """
    require_matplotlib()
    import matplotlib.pyplot as plt

    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not names:
        raise OptionError("create_plot: name at least one metric", "none", 'create_plot(["loss", "accuracy"])')
    rows = nrows or -(-len(names) // ncols)
    figure, axes = plt.subplots(rows, ncols, figsize=figsize or (7 * ncols, 3 * rows), squeeze=False, layout="constrained")
    flat = list(axes.ravel())
    if len(flat) < len(names):
        got = f"{len(names)} metrics, {rows} x {ncols} panels"
        raise OptionError("create_plot: there must be a panel for each metric", got, "leave nrows out")
    for axis in flat[len(names) :]:
        axis.axis("off")
    plotter = LivePlot(names, figure, flat[: len(names)], max_fraction_spent_plotting)
    return plotter, figure, flat[0] if len(flat) == 1 else axes.squeeze()


def _interactive() -> bool:
    """Whether somebody can see the figure change."""
    import matplotlib

    backend = matplotlib.get_backend().lower()
    return backend not in {"agg", "pdf", "svg", "ps", "cairo", "template"} and "inline" not in backend
