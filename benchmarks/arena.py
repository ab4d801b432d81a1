"""Sides take turns: each in a process of its own, never two at work at the same time.

A library's threads go on spinning for some milliseconds after the work; so a turn comes `PAUSE` seconds after the one before, and its
first steps, in which threads wake up and caches fill, vanish in its median. A side's figure is the smallest of its turns'
medians: what disturbs a machine makes nothing faster. The spread of the medians stands beside it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.sides import SIDES, Side
from benchmarks.workloads import Workload

ROOT = Path(__file__).parents[1]
PAUSE = 0.25
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Figure:
    """ms: the smallest of the turns' medians. spread: how much slower the slowest turn was, as a part of it. turns: their number."""

    ms: float
    spread: float
    turns: int

    @classmethod
    def of(cls, turns: Sequence[Sequence[float]]) -> Figure:
        """From the milliseconds of single steps, turn by turn."""
        medians = [statistics.median(turn) for turn in turns]
        return cls(min(medians), max(medians) / min(medians) - 1, len(medians))

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def environment() -> dict[str, str]:
    """Of a worker: no library is told how many threads to use. Compilation stays in the process, so that no helper idles beside it."""
    own = {name: value for name, value in os.environ.items() if name not in THREADS}
    return {**own, "TORCHINDUCTOR_COMPILE_THREADS": "1"}


class Worker:
    """A side at a workload. `missing` is the reason if it cannot run, else None; `version` then is its library's."""

    def __init__(self, side: Side, workload: Workload, python: str = sys.executable):
        command = [python, "-m", "benchmarks.worker", side.name, workload.name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, env=environment()
        )
        self.turns: list[list[float]] = []
        hello = self._answer() or {"missing": "its process ended"}
        self.missing: str | None = hello.get("missing")
        self.version: str = hello.get("version", "")

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, **command: Any) -> list[float]:
        """Send a command, wait for the answer; an empty one, and `missing` set, if the process died of it."""
        assert self.process.stdin is not None
        try:
            print(json.dumps(command), file=self.process.stdin, flush=True)
            answer = self._answer()
        except BrokenPipeError:
            answer = None
        if answer is None:
            self.missing = "its process ended"
        return answer or []

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def start(sides: Sequence[str], workload: Workload, pythons: Mapping[str, str]) -> dict[str, Worker]:
    """A worker for each side that takes the workload. pythons: package -> the interpreter that has it, if not this one."""
    chosen = [SIDES[name] for name in sides if SIDES[name].takes(workload)]
    return {side.name: Worker(side, workload, pythons.get(side.package, sys.executable)) for side in chosen}


def compare(sides: Sequence[str], workload: Workload, pythons: Mapping[str, str], rounds: int, seconds: float, steps: int) -> dict:
    """Side -> a `Figure` with the library's version, or {"missing": reason}."""
    workers = start(sides, workload, pythons)
    try:
        for worker in workers.values():
            if not worker.missing:
                worker.ask(seconds=seconds, steps=10)  # warms up
        for _ in range(rounds):
            for worker in workers.values():
                if not worker.missing:
                    time.sleep(PAUSE)
                    worker.turns.append(worker.ask(seconds=seconds, steps=steps))
        return {name: outcome(worker) for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.close()


def outcome(worker: Worker) -> dict[str, Any]:
    """A worker's part of the results."""
    if worker.missing:
        return {"missing": worker.missing}
    return {**Figure.of(worker.turns).as_dict(), "version": worker.version}


def values(sides: Sequence[str], workload: Workload, pythons: Mapping[str, str], steps: int = 3) -> dict[str, list[float] | str]:
    """Side -> the losses of its first steps (of an inference: the first ten outputs, repeated), or why there are none."""
    workers = start(sides, workload, pythons)
    try:
        answers = {name: w.missing or w.ask(values=steps) for name, w in workers.items()}
        return {name: answer or "its process ended" for name, answer in answers.items()}
    finally:
        for worker in workers.values():
            worker.close()
