"""Sweeps: the same recipe with many settings, each trial a run in a folder of its own, resumable at any moment."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

from mulgil.errors import DataError, OptionError
from mulgil.files import atomic_file, read_json, refuse_link
from mulgil.native.threads import cores
from mulgil.train.folder import RunFolder, write_json
from mulgil.train.runs import RunFacts, read_run
from mulgil.train.search import SEARCHES, OptunaSearch, Space, Trial, plan, read_space, read_trial

FORMAT = 1
OPTIONS = ("recipe", "data", "data_root", "epochs", "batch_size", "lr", "optimizer", "seed", "compiled")  # of `mulgil train`
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
FIGURES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")


@dataclass
class Sweep:
    """A folder with `sweep.json` (what is tried), a run folder for each trial, and, at the end, results.csv.

    options: of `mulgil train`, the same for all trials. space, search, count, seed: see `search`. trials: those chosen so far.
    """

    path: Path
    options: dict[str, Any]
    space: Space
    search: str = "grid"
    count: int | None = None
    seed: int = 0
    trials: list[Trial] = field(default_factory=list)

    @classmethod
    def create(cls, path: str | os.PathLike[str] | None, options: Mapping[str, Any], space: Space, search: str, count: int | None) -> Sweep:
        """A new sweep in a new folder: `path`, or sweeps/<time>-<recipe>.

        Raises OptionError where the folder holds one already, or the search does not fit; DataError where it cannot be written.
        """
        if both := [name for name in space if options.get(name) is not None]:
            raise OptionError("a setting is either swept or fixed", ", ".join(both), "leave out one of the two")
        seed = int(options.get("seed") or 0)
        trials = plan(space, search, count, seed)
        if search == "optuna":
            OptunaSearch(space, seed)  # is it there at all?
        folder = RunFolder.create(path, str(options.get("recipe") or "sweep"), base="sweeps")
        sweep = cls(folder.path, dict(options), space, search, count, seed, trials)
        if os.path.lexists(sweep.file):
            hint = f"go on with it: mulgil sweep --resume {folder.path}"
            raise OptionError("a sweep needs a folder of its own", f"{folder.path} holds one already", hint)
        sweep.write()
        return sweep

    @classmethod
    def existing(cls, path: str | os.PathLike[str]) -> Sweep:
        """The sweep of a folder. Raises DataError where there is none, or sweep.json is damaged."""
        refuse_link(path)
        file = Path(path) / "sweep.json"
        if not os.path.lexists(file):
            raise DataError("a sweep's folder holds its sweep.json", f"{path}: there is none", "mulgil sweep --set ... begins one")
        facts = read_json(file)
        try:
            if facts["format"] != FORMAT:
                raise ValueError(f"format {facts['format']!r}")
            options, space, search, count, seed = (facts[name] for name in ("options", "space", "search", "count", "seed"))
            if not all(name in OPTIONS and (value is None or isinstance(value, (int, float, str))) for name, value in options.items()):
                raise ValueError("options that `mulgil train` does not have")
            if search not in SEARCHES or type(seed) is not int or not (count is None or type(count) is int):
                raise ValueError("another search, seed or number of trials than a sweep has")
            space = read_space(space)
            return cls(Path(path), options, space, search, count, seed, [read_trial(trial, space) for trial in facts["trials"]])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            got = f"{error.rule}: {error.got}" if isinstance(error, OptionError) else f"{type(error).__name__}: {error}"
            raise DataError("sweep.json must be as the sweep wrote it", f"{file}: {got}") from None

    @property
    def file(self) -> Path:
        return self.path / "sweep.json"

    def write(self) -> None:
        names = ("options", "space", "search", "count", "seed", "trials")
        write_json(self.file, {"format": FORMAT, **{name: getattr(self, name) for name in names}})

    def folder(self, number: int) -> Path:
        """The run folder of a trial: `003-lr=0.01-batch_size=32`."""
        return self.path / "-".join([f"{number + 1:03d}", *(f"{name}={shown(value)}" for name, value in self.trials[number].items())])

    def facts(self, number: int) -> RunFacts | None:
        """What became of a trial; None if it was not begun."""
        path = self.folder(number)
        return read_run(path) if os.path.lexists(path / "config.json") else None

    # ------------------------------------------------------------------ running
    def run(self, jobs: int = 1, say: Callable[[str], None] = print) -> bool:
        """Run what is left, `jobs` trials at a time, each with cores / jobs threads. False if Ctrl-C ended it; the rest stays for later.

        Finished trials stay as they are, one that was interrupted goes on. A trial that fails is told, and the sweep goes on.
        """
        with RunFolder(self.path).lock():
            work = Work(self, jobs, say)
            work.run()
            self.write_results()
        return not work.stopped.is_set()

    # ------------------------------------------------------------------ what came out
    def results(self) -> list[dict[str, Any]]:
        """A row a trial: trial (its number), the swept settings, state, and `FIGURES`, None where there are none yet."""
        rows = []
        for number, trial in enumerate(self.trials):
            facts = self.facts(number)
            figures = {name: facts.figure(name) if facts else None for name in FIGURES}
            rows.append({"trial": number + 1, **trial, "state": facts.state if facts else "to do", **figures})
        return rows

    def write_results(self) -> Path:
        """results.csv."""
        text, rows = io.StringIO(), self.results()
        writer = csv.DictWriter(text, ["trial", *self.space, "state", *FIGURES], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        path = self.path / "results.csv"
        with atomic_file(path) as file:
            file.write(text.getvalue().encode())
        return path


def shown(value: Any) -> str:
    """A value in a few letters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Work:
    """The trials of a sweep that are left, done by some threads, each of which waits for a child process."""

    def __init__(self, sweep: Sweep, jobs: int, say: Callable[[str], None]):
        self.sweep, self.jobs, self.say = sweep, jobs, say
        self.stopped, self._lock = Event(), Lock()
        self._children: set[subprocess.Popen] = set()
        states = [facts.state if (facts := sweep.facts(n)) else "to do" for n in range(len(sweep.trials))]
        self._left = [n for n, state in enumerate(states) if state != "finished"]
        self._done = len(states) - len(self._left)
        self._search = None
        if sweep.search == "optuna":
            known = [(sweep.trials[n], facts.figure("test_accuracy")) for n, facts in self._facts() if facts.state == "finished"]
            self._search = OptunaSearch(sweep.space, sweep.seed, [(trial, value) for trial, value in known if value is not None])

    def _facts(self) -> list[tuple[int, RunFacts]]:
        return [(n, facts) for n in range(len(self.sweep.trials)) if (facts := self.sweep.facts(n))]

    @property
    def total(self) -> int:
        return len(self.sweep.trials) if self._search is None else self.sweep.count or 0

    def run(self) -> None:
        if self._done:
            self.say(f"{self._done} of {self.total} trials are finished already")
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(self._loop) for _ in range(self.jobs)]
            try:
                for future in futures:
                    future.result()
            except BaseException as error:  # Ctrl-C, or a fault of ours: the children end in order, and keep what they have
                self.stopped.set()
                with self._lock:
                    for child in self._children:
                        child.send_signal(signal.SIGINT)
                if not isinstance(error, KeyboardInterrupt):
                    raise

    def _loop(self) -> None:
        while not self.stopped.is_set() and (number := self._next()) is not None:
            began = time.perf_counter()
            error = self._train(number)
            self._tell(number, error, time.perf_counter() - began)

    def _next(self) -> int | None:
        """The number of the next trial; of a search that chooses as it goes it is written down first."""
        with self._lock:
            if self._left:
                return self._left.pop(0)
            if self._search is None or len(self.sweep.trials) >= self.total:
                return None
            self.sweep.trials.append(self._search.ask())
            self.sweep.write()
            return len(self.sweep.trials) - 1

    def _train(self, number: int) -> str | None:
        """Run a trial to its end; returns why it failed, or None."""
        environment = dict(os.environ)
        if self.jobs > 1:
            environment |= dict.fromkeys(THREADS, str(max(1, cores() // self.jobs)))
        with self._lock:
            if self.stopped.is_set():
                return "stopped"
            command = [sys.executable, "-m", "mulgil", "train", "--quiet", "--no-plots", *self._arguments(number)]
            # a session of its own: Ctrl-C comes to us alone, and we hand it on once
            child = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
            )
            self._children.add(child)
        out, _ = child.communicate()
        with self._lock:
            self._children.discard(child)
        if child.returncode == 0:
            return None
        return "stopped" if child.returncode == 130 else out.strip() or f"exit code {child.returncode}"

    def _arguments(self, number: int) -> list[str]:
        folder = self.sweep.folder(number)
        if self.sweep.facts(number) is not None:
            return ["--resume", str(folder)]
        chosen = {**self.sweep.options, **self.sweep.trials[number]}
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items() if value is not None and name != "compiled"]
        return [*arguments, "--compile" if chosen.get("compiled", True) else "--eager", "--out", str(folder)]

    def _tell(self, number: int, error: str | None, seconds: float) -> None:
        with self._lock:
            trial, facts = self.sweep.trials[number], self.sweep.facts(number)
            accuracy = facts.figure("test_accuracy") if facts and error is None else None
            if self._search is not None:
                self._search.tell(trial, accuracy)
            settings = ", ".join(f"{name} {shown(value)}" for name, value in trial.items())
            if error == "stopped":
                return
            self._done += 1
            what = f"test accuracy {accuracy:.4f}" if accuracy is not None else f"failed: {error}"
            self.say(f"{self._done:>{len(str(self.total))}}/{self.total}  {settings}: {what}  ({seconds:.1f} s)")
