"""What a person sees while it trains: a live line on a terminal, one output in a notebook, a plain line an epoch elsewhere."""

from __future__ import annotations

import html
import sys
import time
from typing import Any, TextIO

from mulgil.errors import visible
from mulgil.train.callbacks import Callback
from mulgil.train.metrics import Metrics

INTERVAL = 0.2  # seconds: at most 5 refreshes a second
SHARE = 0.003  # of the time may go into drawing
LINES = 20  # epochs that a notebook shows


class Progress(Callback):
    """Base of displays: `show(trainer, figures)` while an epoch runs, as often as is cheap, and `line(trainer, text)` after it.

    part: what the second set of figures is called, "validation" or "test". live: whether there is something to show in an epoch.
    Neither the pace nor the time left counts what compiling takes.
    """

    live = True

    def __init__(self, part: str = "validation"):
        self.part = part
        self._next = 0.0

    def start(self, trainer: Any) -> None:
        self._start, self._steps, self._next = time.perf_counter() - trainer.preparing.seconds, trainer.step, 0.0

    def batch(self, trainer: Any) -> None:
        now = time.perf_counter()
        if not self.live or now < self._next:  # reading a meter costs time, on a GPU it even waits for it
            return
        self.show(trainer, self._figures(trainer, now))
        end = time.perf_counter()
        self._next = end + max(INTERVAL, (end - now) / SHARE)

    def epoch(self, trainer: Any) -> None:
        left = self._left(trainer, time.perf_counter()) if trainer.complete and trainer.epoch < trainer.epochs else None
        self.line(trainer, epoch_line(trainer, self.part) + ("" if left is None else f"   {clock(left)} left"))

    def show(self, trainer: Any, figures: str) -> None:
        """The epoch under way."""

    def line(self, trainer: Any, text: str) -> None:
        """An epoch that ended."""

    def _figures(self, trainer: Any, now: float) -> str:
        meter = trainer.meter
        values = "".join(f"  {name} {value:.4f}" for name, value in meter.values.items())
        left = self._left(trainer, now) if trainer.batches else None
        told = "" if left is None else f"  {clock(left)} left"
        return f"loss {meter.loss:.4f}{values}{speed(meter.rate, 9)}{told}"

    def _left(self, trainer: Any, now: float) -> float | None:
        """Seconds, by the pace of this fit so far; None before there is one."""
        steps, seconds = trainer.step - self._steps, now - self._start - trainer.preparing.seconds
        if steps < 1 or seconds <= 0:
            return None
        batches = trainer.batches or trainer.batch
        done = trainer.batch if trainer.in_epoch else batches
        ahead = (trainer.epochs - trainer.epoch) * batches + batches - done
        return seconds / steps * ahead


class PlainProgress(Progress):
    """A line an epoch: for files, pipes and CI."""

    live = False

    def __init__(self, stream: TextIO | None = None, part: str = "validation"):
        super().__init__(part)
        self.stream = stream or sys.stdout

    def line(self, trainer: Any, text: str) -> None:
        known = getattr(self.stream, "encoding", None) or "utf-8"  # a metric may have a name that the stream cannot write
        print(visible(text).encode(known, "backslashreplace").decode(known), file=self.stream, flush=True)


class LiveProgress(Progress):
    """The epoch under way as a bar that moves; each finished epoch leaves its line above."""

    def __init__(self, console: Any = None, part: str = "validation"):
        from rich.console import Console

        super().__init__(part)
        self.console = console or Console(highlight=False)

    def start(self, trainer: Any) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        super().start(trainer)
        left, right = (TextColumn(text, markup=False) for text in ("epoch {task.fields[number]}", "{task.fields[figures]}"))
        columns = left, BarColumn(bar_width=24), right
        # no thread draws beside the training, and the line about compiling kernels moves as it likes
        self.bar = Progress(*columns, console=self.console, transient=True, auto_refresh=False, redirect_stderr=False)
        self.task = self.bar.add_task("", total=None, number=number(trainer), figures="")
        self.bar.start()

    def show(self, trainer: Any, figures: str) -> None:
        total = trainer.batches or None
        figures = visible(figures)
        self.bar.update(self.task, total=total, completed=trainer.batch, number=number(trainer), figures=figures, refresh=True)

    def line(self, trainer: Any, text: str) -> None:
        self.console.print(visible(text), style="dim" if not trainer.complete else None, soft_wrap=True, markup=False, emoji=False)

    def end(self, trainer: Any) -> None:
        self.bar.stop()


class NotebookProgress(Progress):
    """One output under the cell, which is replaced: the last epochs' lines and the one under way."""

    def __init__(self, part: str = "validation"):
        super().__init__(part)
        self.lines: list[str] = []
        self._handle: Any = None

    def start(self, trainer: Any) -> None:
        super().start(trainer)
        self.lines, self._handle = [], None

    def show(self, trainer: Any, figures: str) -> None:
        share = int(24 * trainer.batch / trainer.batches) if trainer.batches else 0
        self._display(f"epoch {number(trainer)}   {'█' * share}{'░' * (24 - share)}   {figures}")

    def line(self, trainer: Any, text: str) -> None:
        self.lines.append(text)
        self._display()

    def end(self, trainer: Any) -> None:
        self._display()

    def _display(self, *under_way: str) -> None:
        from IPython.display import display

        skipped = len(self.lines) - LINES
        text = "\n".join([*([f"... {skipped} epochs before"] if skipped > 0 else []), *self.lines[-LINES:], *under_way])
        data = {"text/plain": text, "text/html": f"<pre>{html.escape(text)}</pre>"}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def progress_for(stream: TextIO | None = None, part: str = "validation") -> Progress:
    """One output in a notebook, a live line where `stream` (stdout) is a terminal, plain lines otherwise."""
    if in_notebook():
        return NotebookProgress(part)
    stream = stream or sys.stdout
    return LiveProgress(part=part) if stream.isatty() else PlainProgress(stream, part)


def in_notebook() -> bool:
    """Whether this program runs in a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def number(trainer: Any) -> str:
    """` 2/15`."""
    return f"{trainer.epoch:>{len(str(trainer.epochs))}}/{trainer.epochs}"


def epoch_line(trainer: Any, part: str = "validation") -> str:
    """`epoch 2/15   train loss 0.3355  accuracy 0.9069   test loss 0.3084  accuracy 0.9146   98,765 images/s`."""

    def figures(name: str, metrics: Metrics | None) -> str:
        return "" if metrics is None else f"   {name} " + "  ".join(f"{key} {value:.4f}" for key, value in metrics.as_dict().items())

    cut = "" if trainer.complete else "   (stopped)"
    both = figures("train", trainer.train_metrics) + figures(part, trainer.validation_metrics)
    return f"epoch {number(trainer)}{both} {speed(trainer.train_metrics.rate, 7)}{cut}"


def speed(rate: float, width: int) -> str:
    """`   98,765 images/s`; nothing where nobody knows: an epoch of a single step that was compiled."""
    return f"  {rate:>{width},.0f} images/s" if rate else ""


def clock(seconds: float) -> str:
    """`8 s`, `2:05 min`, `1:10 h`."""
    if seconds < 100:
        return f"{seconds:4.0f} s"
    if seconds < 6000:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    return f"{int(seconds) // 3600}:{int(seconds) % 3600 // 60:02d} h"
