"""Callbacks that write figures into files."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from pathlib import Path
from typing import Any

from mulgil.errors import OptionError
from mulgil.files import atomic_file
from mulgil.train.callbacks import Callback


class MetricsFile(Callback):
    """A line of JSON an epoch in the file `path`: losses, metrics, lr, speed and time.

    part: what the second set of figures is called there, "validation" or "test". In a resumed run the lines of the epochs that are
    done stay, those of an epoch that is trained anew go.
    """

    def __init__(self, path: str | os.PathLike[str], part: str = "validation"):
        self.path, self.part = Path(path), part

    def start(self, trainer: Any) -> None:
        lines = self.path.read_text(encoding="utf-8").splitlines() if len(trainer.history) and self.path.exists() else []
        with atomic_file(self.path) as file:
            file.write("".join(line + "\n" for line in lines[: len(trainer.history)]).encode())

    def epoch(self, trainer: Any) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(epoch_record(trainer, self.part)) + "\n")


def epoch_record(trainer: Any, part: str = "validation") -> dict[str, Any]:
    """The epoch that ended last as a flat dict: a line of metrics.jsonl."""
    record: dict[str, Any] = {"epoch": trainer.epoch, **trainer.train_metrics.as_dict("train_")}
    if trainer.validation_metrics is not None:
        record |= trainer.validation_metrics.as_dict(f"{part}_")
    return {
        **record,
        "lr": float(trainer.optimizer.param_groups[0]["lr"]),
        "images_per_second": round(trainer.train_metrics.rate, 1),  # 0: an epoch of one step alone, which was compiled
        "seconds": round(trainer.seconds, 3),
        "complete": trainer.complete,
    }


class CSVLogger(Callback):
    """The history as a table in the file `path`: a column a name, a row an epoch. A resumed run goes on with its own history."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    def start(self, trainer: Any) -> None:
        self._write(trainer)

    def _write(self, trainer: Any) -> None:
        self._columns = trainer.history.dtype.names
        with atomic_file(self.path) as file:
            file.write(_table([self._columns, *trainer.history.tolist()]).encode())

    def epoch(self, trainer: Any) -> None:
        if trainer.history.dtype.names != self._columns:  # the first batch has shown which metrics there are
            self._write(trainer)
            return
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(_table([trainer.history[-1].tolist()]))


def _table(rows: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


class TensorBoard(Callback):
    """Event files for TensorBoard in `folder`: losses and metrics of each epoch, and of the batch every `every` steps.

    Needs the package tensorboard: pip install "mulgil[tensorboard]". Then: tensorboard --logdir FOLDER.
    """

    def __init__(self, folder: str | os.PathLike[str], every: int = 50):
        self.folder, self.every = str(folder), int(every)
        self._writer: Any = None

    def start(self, trainer: Any) -> None:
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            rule, hint = "TensorBoard: event files need the package tensorboard", 'pip install "mulgil[tensorboard]"'
            raise OptionError(rule, "it is not installed", hint) from None
        self._writer = EventFileWriter(self.folder)

    def batch(self, trainer: Any) -> None:
        if trainer.step % self.every == 0:
            self._add(trainer.step, {f"batch/{name}": value for name, value in trainer.batch_metrics().items()})

    def epoch(self, trainer: Any) -> None:
        names = trainer.history.dtype.names
        row = dict(zip(names, trainer.history[-1].tolist(), strict=True))
        self._add(trainer.step, {name.replace("_", "/", 1): value for name, value in row.items() if name != "epoch" and value == value})
        self._writer.flush()

    def end(self, trainer: Any) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _add(self, step: int, scalars: dict[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
