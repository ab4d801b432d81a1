"""The live plot as a callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mulgil.train.callbacks import Callback

if TYPE_CHECKING:
    from mulgil.train.trainer import Trainer


class LivePlotCallback(Callback):
    """Draws loss and metrics while a `Trainer` fits: in a notebook, a window or a PNG file. Needs mulgil[plot].

    Args:
        metrics: names, or a dict with colours; the loss and all metrics of the trainer by default.
        max_fraction_spent_plotting: of the time.
        terminal: also as text in the terminal, in the place where the trainer's progress would be.
        options: the other arguments of `plot.create_plot`, such as `last_n_batches` and `png`.

    Attributes: plotter (a `plot.LivePlot`) once the run has begun. A resumed run goes on drawing the same curves.

    Example:
        >>> Trainer(model, optimizer, loss, callbacks=[LivePlotCallback(png="training.png")])    # doctest: +SKIP
    """

    def __init__(self, metrics: Any = None, max_fraction_spent_plotting: float = 0.02, terminal: bool = False, **options: Any):
        self.metrics = metrics
        self.options = {"max_fraction_spent_plotting": max_fraction_spent_plotting, "terminal": terminal, **options}
        self.plotter: Any = None
        self._saved: dict[str, Any] = {}
        self._before: tuple[int, dict[str, tuple[float, float]]] = (0, {})

    def start(self, trainer: Trainer) -> None:
        from mulgil.plot import create_plot

        if self.plotter is None:
            self.plotter, _, _ = create_plot(self.metrics or ["loss", *trainer.metrics], **self.options)
        if self._saved:
            self.plotter.load_dict(self._saved)
            self._saved = {}
        meter = getattr(trainer, "meter", None)
        self._before = (0, {}) if meter is None else _totals(meter)  # of a resumed epoch, what came before

    def batch(self, trainer: Trainer) -> None:
        samples, totals = _totals(trainer.meter)
        before = self._before if self._before[0] < samples else (0, {})  # a new epoch counts from 0
        size = samples - before[0]
        values = {}
        for name, (total, weight) in totals.items():
            earlier, lighter = before[1].get(name, (0.0, 0.0))
            if weight != lighter:  # a batch whose labels are all ignored says nothing
                values[name] = (total - earlier) / (weight - lighter)
        self._before = samples, totals
        self.plotter.set_train_batch(values, batch_size=size)

    def epoch(self, trainer: Trainer) -> None:
        self._before = 0, {}
        self.plotter.set_train_epoch()
        if trainer.validation_metrics is not None:
            self.plotter.set_test_batch(trainer.validation_metrics.as_dict(), batch_size=trainer.validation_metrics.samples)
            self.plotter.set_test_epoch()

    def end(self, trainer: Trainer) -> None:
        if self.plotter is not None:
            self.plotter.plot()

    def state_dict(self) -> dict[str, Any]:
        return {"plot": self._saved if self.plotter is None else self.plotter.to_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._saved = state["plot"]


def _totals(meter: Any) -> tuple[int, dict[str, tuple[float, float]]]:
    """How many samples a meter has seen; for the loss and each metric the sum so far and what it weighs."""
    return meter.samples, meter.totals() if meter.samples else {}
