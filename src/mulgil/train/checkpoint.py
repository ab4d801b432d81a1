"""Checkpoints: the whole state of a training, in files that are complete or not there at all."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mulgil.errors import DataError, MulgilError, NonFiniteError, OptionError
from mulgil.files import sync_folder
from mulgil.io import load, save
from mulgil.train.callbacks import Callback

if TYPE_CHECKING:
    from mulgil.train.trainer import Trainer

__all__ = ["Checkpoint", "Checkpoints", "Every"]

FORMAT = 1
NAME = re.compile(r"step-(\d+)\.safetensors")
UNITS = {"": "steps", "step": "steps", "steps": "steps", "s": "s", "sec": "s", "min": "min", "h": "h"}
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
SHARE = 0.01  # of the time may go into checkpoints at the ends of epochs


@dataclass(frozen=True)
class Every:
    """How often: every so many steps, or every so many seconds; neither: only at the end. `Every.parse("2min")` reads a text."""

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str | int | Every) -> Every:
        """`500` or `500steps`, `30s`, `2min`, `1h`, `end`. Raises OptionError for anything else."""
        if isinstance(text, Every):
            return text
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(text).strip().lower())
        unit = UNITS.get(found[2]) if found else None
        if str(text) == "end":
            return cls()
        if found is None or unit is None or float(found[1]) == 0 or (unit == "steps" and "." in found[1]):
            rule = "checkpoints are written every so many steps, seconds, minutes or hours"
            raise OptionError(rule, repr(text), "for example 500steps, 30s, 2min, or end")
        return cls(steps=int(found[1])) if unit == "steps" else cls(seconds=float(found[1]) * SECONDS[unit])

    def due(self, steps: int, seconds: float) -> bool:
        """Whether it is time, `steps` and `seconds` after the last one."""
        return (self.steps is not None and steps >= self.steps) or (self.seconds is not None and seconds >= self.seconds)


class Checkpoints:
    """The checkpoints of a folder: `step-00001200.safetensors` after step 1200, the newest `keep` of them, and `best.safetensors`.

    Each is a safetensors file with checksums, read without running anything. It is written beside its place, flushed to the disk
    and moved; older ones go only after that. So a process that dies at any moment leaves whole files.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 3):
        if isinstance(keep, bool) or keep < 1:
            raise OptionError("at least one checkpoint must be kept", f"keep={keep!r}", "keep=3")
        self.folder, self.keep = Path(folder), keep

    @property
    def best(self) -> Path:
        """Where the best one stands, if there is one yet."""
        return self.folder / "best.safetensors"

    def all(self) -> list[Path]:
        """The numbered ones, the oldest first."""
        found = [(int(match[1]), path) for path in self.folder.glob("step-*") if (match := NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found)]

    def write(self, state: Any, step: int, facts: Mapping[str, Any] | None = None, name: str | None = None) -> Path:
        """Keep `state` (a tree of dicts, lists, numbers, text and arrays), reached after `step`; under `name`, or its number.

        facts: what a reader compares, as plain JSON; see `read`.
        Raises DataError where it cannot be written: the checkpoints that were there stay.
        """
        path = self.folder / f"{name or f'step-{step:08d}'}.safetensors"
        try:
            save({"checkpoint": FORMAT, "step": step, "facts": dict(facts or {}), "state": state}, path)
            sync_folder(self.folder)
        except DataError as error:
            left = self.all()
            hint = f"{error.hint}; the one before it is whole: {left[-1]}" if left else error.hint
            raise DataError("the checkpoint cannot be written", f"{path}: {error.got}", hint) from error
        if name is None:
            self._thin(path)
        return path

    def _thin(self, newest: Path) -> None:
        """Remove all but `keep`; a run that was resumed from an older one goes on from there, so later steps are of the past."""
        for path in [*[p for p in self.all() if p.name > newest.name], *[p for p in self.all() if p.name <= newest.name][: -self.keep]]:
            path.unlink(missing_ok=True)

    def read(self, path: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """{"step", "facts", "state"} of a checkpoint: `path`, or the newest.

        Raises DataError: there is none, or it is damaged; then the error names the newest one that is whole.
        """
        found = self.all()
        if path is None and not found:
            raise DataError("a run goes on from its newest checkpoint", f"{self.folder}: there is none", "start the run anew")
        path = Path(path) if path is not None else found[-1]
        try:
            return contents(path)
        except MulgilError as error:
            whole = self.newest_whole(other_than=path)
            offer = f"go on from the one before it: --fall-back, or --resume {whole}"
            hint = offer if whole else "no other one is whole: start the run anew"
            raise DataError("the checkpoint must be whole, as it was written", f"{error.got or error.rule}", hint) from error

    def newest_whole(self, other_than: Path | None = None) -> Path | None:
        """The newest checkpoint that can be read; None if there is none."""
        for path in reversed(self.all()):
            if other_than is None or path.name != other_than.name:
                try:
                    contents(path)
                    return path
                except MulgilError:
                    continue
        return None


def contents(path: Path) -> dict[str, Any]:
    """What a checkpoint holds. Raises a MulgilError for a file that is none, or is damaged."""
    tree = load(path)
    parts = {"checkpoint": int, "step": int, "facts": dict, "state": dict}
    if not (isinstance(tree, dict) and all(isinstance(tree.get(name), kind) for name, kind in parts.items())):
        raise DataError("the file must be a checkpoint", f"{path}: it holds something else")
    if tree["checkpoint"] != FORMAT:
        raise DataError("the checkpoint is of another version", f"{path}: format {tree['checkpoint']}", "pip install --upgrade mulgil")
    return tree


class Checkpoint(Callback):
    """Writes the trainer's state into `folder` while it trains, and at its end.

    There is one after the first epoch in any case, and at the end of each later one, as long as that takes at most 1 % of the time.
    The best state, by the validation loss after an epoch, is copied in memory and written together with the next checkpoint.

    Args:
        folder: for the files; made where it is missing.
        every: how often besides, see `Every.parse`; default "1min". "end": at the end alone, where there is one in any case.
        keep: how many; default 3.
        facts: written into each, to be compared on resuming.

    Raises DataError, which ends the training, where a checkpoint cannot be written; those before it stay.

    Example:
        >>> trainer = Trainer(model, optimizer, loss, callbacks=[Checkpoint("runs/first", every="500steps")])   # doctest: +SKIP
        >>> trainer.load_state_dict(Checkpoints("runs/first").read()["state"])                                  # doctest: +SKIP
    """

    late = True

    def __init__(
        self, folder: str | os.PathLike[str], every: str | int | Every = "1min", keep: int = 3, facts: Mapping[str, Any] | None = None
    ):
        self.files, self.every, self.facts = Checkpoints(folder, keep), Every.parse(every), dict(facts or {})
        self.best_loss = float("inf")
        self._best: tuple[int, Any] | None = None  # the step and the state of a best that is not on the disk yet
        self._step, self._time = 0, time.monotonic()  # of the newest one
        self._took, self._any = 0.0, False  # what writing it took; whether there is one
        self._behind = self._failed = False  # whether something happened since; whether it could not be written

    def start(self, trainer: Trainer) -> None:
        self._step = trainer.step
        self._time, self._behind, self._failed = time.monotonic(), False, False
        self._any = bool(self.files.all())

    def batch(self, trainer: Trainer) -> None:
        self._behind = True
        if self.every.due(trainer.step - self._step, time.monotonic() - self._time):
            self.write(trainer)

    def epoch(self, trainer: Trainer) -> None:
        self._behind = True
        metrics = trainer.validation_metrics
        if metrics is not None and trainer.complete and metrics.loss < self.best_loss:
            self.best_loss = float(metrics.loss)
            self._best = trainer.step, trainer.state_dict()
        ends = trainer.stopped is not None or trainer.epoch >= trainer.epochs  # written here: `end` may find other weights in the model
        cheap = time.monotonic() - self._time >= self._took / SHARE
        if ends or (self.every != Every() and (cheap or not self._any)):
            self.write(trainer)

    def nonfinite(self, trainer: Trainer, error: NonFiniteError) -> None:
        """Keep the state before the step that failed, to look into it; the run goes on from the newest numbered one."""
        path = self.files.write(error.state, error.step or trainer.step, self.facts, name="nonfinite")
        error.hint = f"{error.hint}; error.state is kept in {path}"

    def end(self, trainer: Trainer) -> None:
        if self._behind and not trainer.torn and not self._failed:  # torn: an error within a batch, whose update may be half done
            self.write(trainer)

    def write(self, trainer: Trainer) -> None:
        """Write one now."""
        self._failed, began = True, time.monotonic()
        if self._best is not None:
            step, state = self._best
            self.files.write(state, step, self.facts, name="best")
            self._best = None
        self.files.write(trainer.state_dict(), trainer.step, self.facts)
        self._step, self._any = trainer.step, True
        self._time, self._behind, self._failed = time.monotonic(), False, False
        self._took = self._time - began

    def state_dict(self) -> dict[str, Any]:
        return {"best_loss": self.best_loss}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best_loss = float(state["best_loss"])
