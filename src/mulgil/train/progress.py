"""What a person sees while it trains: a live line on a terminal, a plain line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol, TextIO

from mulgil.train.loop import EpochRecord
from mulgil.train.metrics import Meter


class Progress(Protocol):
    """Told what happens: `start`, `batch` after each batch, `epoch` after each epoch, `close` at the end whatever happened."""

    def start(self, epochs: int, batches: int) -> None: ...
    def batch(self, meter: Meter) -> None: ...
    def epoch(self, record: EpochRecord) -> None: ...
    def close(self) -> None: ...


class Silent:
    """Shows nothing."""

    def start(self, epochs: int, batches: int) -> None:
        pass

    def batch(self, meter: Meter) -> None:
        pass

    def epoch(self, record: EpochRecord) -> None:
        pass

    def close(self) -> None:
        pass


class PlainProgress(Silent):
    """A line an epoch: for files, pipes and CI."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stdout

    def epoch(self, record: EpochRecord) -> None:
        left = record.seconds / record.epoch * (record.epochs - record.epoch) if record.complete else 0.0
        tail = f"   {clock(left)} left" if left else ""
        print(epoch_line(record) + tail, file=self.stream, flush=True)


class LiveProgress(Silent):
    """The epoch under way as a bar that moves; each finished epoch leaves its line above."""

    def __init__(self, console: Any = None):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self.console = console or Console(highlight=False)
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]:>{task.fields[width]}}/{task.fields[epochs]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            transient=True,
            refresh_per_second=8,
        )
        self._shown = 0.0

    def start(self, epochs: int, batches: int) -> None:
        self.epochs, self.batches, self.done, self.batch_number = epochs, batches, 0, 0
        self._start = time.perf_counter()
        self.task = self.bar.add_task("", total=batches, epoch=1, epochs=epochs, width=len(str(epochs)), figures="")
        self.bar.start()

    def batch(self, meter: Meter) -> None:
        self.batch_number += 1
        now = time.perf_counter()
        if now - self._shown < 0.1:  # reading a meter costs time, on a GPU it even waits for it
            return
        self._shown = now
        share = (self.done + self.batch_number / self.batches) / self.epochs
        left = (now - self._start) * (1 - share) / share
        rate = meter.samples / max(meter.seconds, 1e-9)
        figures = f"loss {meter.loss:.4f}  accuracy {meter.accuracy:.4f}  {rate:>9,.0f} images/s  {clock(left)} left"
        self.bar.update(self.task, completed=self.batch_number, figures=figures)

    def epoch(self, record: EpochRecord) -> None:
        self.done, self.batch_number = record.epoch, 0
        self.console.print(epoch_line(record), style="dim" if not record.complete else None)
        self.bar.update(self.task, completed=0, epoch=min(record.epoch + 1, self.epochs))

    def close(self) -> None:
        self.bar.stop()


def progress_for(stream: TextIO | None = None) -> Progress:
    """A live line where `stream` (stdout) is a terminal, plain lines otherwise."""
    stream = stream or sys.stdout
    return LiveProgress() if stream.isatty() else PlainProgress(stream)


def epoch_line(record: EpochRecord) -> str:
    """`epoch 2/15   train loss 0.3355  accuracy 0.9069   test loss 0.3084  accuracy 0.9146   98,765 images/s`."""
    number = f"{record.epoch:>{len(str(record.epochs))}}/{record.epochs}"
    train, test = record.train, record.test
    cut = "" if record.complete else "   (stopped)"
    return (
        f"epoch {number}   train loss {train.loss:.4f}  accuracy {train.accuracy:.4f}"
        f"   test loss {test.loss:.4f}  accuracy {test.accuracy:.4f}   {train.rate:>7,.0f} images/s{cut}"
    )


def clock(seconds: float) -> str:
    """`8 s`, `2:05 min`, `1:10 h`."""
    if seconds < 100:
        return f"{seconds:4.0f} s"
    if seconds < 6000:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
    return f"{int(seconds) // 3600}:{int(seconds) % 3600 // 60:02d} h"
