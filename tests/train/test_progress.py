"""What a person sees: plain lines, a live line, one output in a notebook; never more than five refreshes a second."""

from __future__ import annotations

import io
import re
import sys
import types
from typing import Any

import pytest

from mulgil.compile import Compiled
from mulgil.data import DataLoader
from mulgil.train import metrics, progress, step
from mulgil.train.metrics import Meter, Metrics
from mulgil.train.progress import LiveProgress, NotebookProgress, PlainProgress, epoch_line, progress_for
from mulgil.train.step import Preparing
from tests.train.tools import StopAt, blobs, loader, trainer


class Told:
    """A trainer in its second of fifteen epochs."""

    def __init__(self, complete: bool = True):
        self.epoch, self.epochs, self.step, self.batch, self.batches = 2, 15, 1200, 600, 600
        self.complete, self.in_epoch, self.meter, self.preparing = complete, False, Meter(), Preparing()
        self.train_metrics = Metrics(0.33551, 60000, 2.0, {"accuracy": 0.90694})
        self.validation_metrics = Metrics(0.3084, 10000, 0.1, {"accuracy": 0.9146})


def test_a_line() -> None:
    line = epoch_line(Told(), "test")
    assert line == "epoch  2/15   train loss 0.3355  accuracy 0.9069   test loss 0.3084  accuracy 0.9146    30,000 images/s"
    assert epoch_line(Told(complete=False)).endswith("(stopped)")


def test_plain_progress_is_a_line_an_epoch() -> None:
    stream = io.StringIO()
    shown = PlainProgress(stream)
    trainer(callbacks=[shown, StopAt(6)]).fit(loader(), blobs(20), epochs=3)
    first, second = stream.getvalue().splitlines()
    assert first.startswith("epoch 1/3   train loss ") and "validation loss" in first and first.endswith(" left")
    assert second.startswith("epoch 2/3") and second.endswith("(stopped)")


def test_live_progress_leaves_a_line_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    console = pytest.importorskip("rich.console")
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    monkeypatch.setattr(progress, "SHARE", 1e9)
    stream = io.StringIO()
    shown = LiveProgress(console.Console(file=stream, force_terminal=True, width=120, color_system=None))
    trainer(callbacks=[shown]).fit(loader(), blobs(20), epochs=2)
    text = stream.getvalue()
    assert "epoch 1/2   train loss" in text and "epoch 2/2   train loss" in text and "images/s" in text and " left" in text


class Clock:
    """A time that passes by `step` at each look."""

    def __init__(self, step: float):
        self.now, self.step = 0.0, step

    def perf_counter(self) -> float:
        self.now += self.step
        return self.now


@pytest.mark.parametrize(("drawing", "at_most"), [(0.0, 5.01), (0.01, 0.31)])
def test_how_often_it_draws(monkeypatch: pytest.MonkeyPatch, drawing: float, at_most: float) -> None:
    clock, drawn = Clock(0.001), []
    monkeypatch.setattr(progress, "time", clock)

    class Counting(progress.Progress):
        def show(self, trainer: Any, figures: str) -> None:
            drawn.append(clock.now)
            clock.now += drawing

    shown = Counting()
    trainer(callbacks=[shown]).fit(DataLoader(blobs(200), 1), epochs=30)
    seconds = clock.now
    assert 2 <= len(drawn) <= seconds * at_most + 1  # slow drawing is done less often


def test_one_output_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs: list[list[str]] = []

    class Handle:
        def __init__(self, data: dict[str, str]):
            self.shown = [data["text/plain"]]
            outputs.append(self.shown)

        def update(self, data: dict[str, str], raw: bool) -> None:
            assert raw and data["text/html"].startswith("<pre>")
            self.shown.append(data["text/plain"])

    shell = types.SimpleNamespace(kernel=object())
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: shell  # type: ignore[attr-defined]
    display = types.ModuleType("IPython.display")
    display.display = lambda data, raw, display_id: Handle(data)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    shown = progress_for()
    assert isinstance(shown, NotebookProgress)
    trainer(callbacks=[shown]).fit(loader(), blobs(20), epochs=25)
    assert len(outputs) == 1  # one, replaced
    lines = outputs[0][-1].splitlines()
    assert lines[0] == "... 5 epochs before" and len(lines) == 21 and lines[-1].startswith("epoch 25/25")


def test_which_display() -> None:
    stream = io.StringIO()
    assert isinstance(progress_for(stream), PlainProgress)
    stream.isatty = lambda: True  # type: ignore[method-assign]
    assert isinstance(progress_for(stream), LiveProgress)


class Slow(Clock):
    """A second for each step and each evaluation; a hundred for what is compiled."""

    def __init__(self) -> None:
        super().__init__(0.0)


@pytest.mark.parametrize("kind", [PlainProgress, progress.Progress])
@pytest.mark.parametrize("batches", [1, 2, 10])
def test_neither_pace_nor_time_left_counts_compiling(monkeypatch: pytest.MonkeyPatch, kind: Any, batches: int) -> None:
    clock = Slow()
    for module in (progress, metrics, step):
        monkeypatch.setattr(module, "time", clock)
    traced, run = Compiled.first, Compiled.run

    def slowly(self: Any, call: Any) -> Any:
        clock.now += 100
        return traced(self, call)

    def second(self: Any, plan: Any, call: Any) -> Any:
        clock.now += 1
        return run(self, plan, call)

    monkeypatch.setattr(Compiled, "first", slowly)
    monkeypatch.setattr(Compiled, "run", second)
    lines: list[str] = []
    rates: list[float] = []

    class Shown(kind):  # type: ignore[misc]
        def line(self, trainer: Any, text: str) -> None:
            lines.append(text)
            rates.append(trainer.train_metrics.rate)

    trainer(callbacks=[Shown()]).fit(DataLoader(blobs(10 * batches), 10), blobs(20), epochs=5)
    assert rates[1:] == pytest.approx([10.0] * 4)  # ten samples a second
    assert rates[0] == pytest.approx(10)
    for done, line in enumerate(lines[:-1], 1):
        promised = [float(seconds) for seconds in re.findall(r"(\d+) s left", line)]
        rest = (5 - done) * (batches + 1)  # an evaluation an epoch
        assert promised == [pytest.approx(rest)], line
