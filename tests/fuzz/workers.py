"""Programs checked in processes of their own: one that crashes or hangs is a failure like any other, and the rest goes on."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from tests.fuzz import growth, networks
from tests.fuzz.check import Verdict, judged
from tests.fuzz.expressions import row
from tests.fuzz.shrink import shrunk

GENERATORS = {"expression": growth.generate, "network": networks.generate}
PATIENCE = 120.0  # seconds for one program, its shrinking apart

Task = tuple[str, str]  # kind, seed


@dataclass
class Outcome:
    """A program checked. small: the text of a shrunk one that fails in the same way."""

    task: Task
    verdict: Verdict
    small: str = ""


def examined(task: Task, shrink: float) -> Outcome:
    """Generate, check and, where it fails, shrink for so many seconds."""
    program = GENERATORS[task[0]](task[1])
    verdict = judged(program)
    if not verdict.failed:
        return Outcome(task, verdict)
    if shrink > 0:
        program, verdict = shrunk(program, verdict, shrink)
    return Outcome(task, verdict, f"# row: {row(program)}\n{program.source()}")


class Worker:
    """A process and the task that it is at."""

    def __init__(self, shrink: float):
        self.shrink = shrink
        self.task: Task | None = None
        self.since = 0.0
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, self.shrink), daemon=True)
        self.process.start()
        other.close()

    def give(self, task: Task) -> None:
        self.task, self.since = task, time.monotonic()
        self.pipe.send(task)

    def lost(self, why: str) -> Outcome:
        """What became of the task of a process that is no more, or no more wanted; a new one takes its place."""
        assert self.task is not None
        self.process.kill()
        self.process.join()
        outcome = Outcome(self.task, Verdict("fault", why), f"{self.task[0]} of the seed {self.task[1]!r}, not shrunk\n")
        self.task = None
        self.start()
        return outcome

    def late(self) -> bool:
        return self.task is not None and time.monotonic() - self.since > PATIENCE + 2 * self.shrink

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def _serve(pipe: Connection, shrink: float) -> None:
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(examined(task, shrink))


def outcomes(tasks: Sequence[Task], jobs: int, shrink: float, seconds: float | None) -> Iterator[Outcome]:
    """The outcomes of all tasks as they come, or of those that `seconds` allow."""
    end = time.monotonic() + seconds if seconds else None
    todo = list(reversed(tasks))
    workers = [Worker(shrink) for _ in range(min(jobs, len(tasks)))]
    try:
        while True:
            for worker in workers:
                if worker.task is None and todo and not (end and time.monotonic() > end):
                    worker.give(todo.pop())
            busy = [w for w in workers if w.task is not None]
            if not busy:
                return
            ready: list[Any] = wait([w.pipe for w in busy], timeout=1.0)
            for worker in busy:
                if worker.pipe in ready:
                    yield _received(worker)
                elif worker.late():
                    yield worker.lost("hangs")
    finally:
        for worker in workers:
            worker.stop()


def _received(worker: Worker) -> Outcome:
    try:
        outcome = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join(5)
        return worker.lost(f"the process died (exit code {worker.process.exitcode})")
    worker.task = None
    return outcome
