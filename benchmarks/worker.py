"""One side of one workload in a process of its own: reads a command a line, works, answers a line of JSON, sleeps.

    python -m benchmarks.worker SIDE WORKLOAD

Commands: {"seconds": s, "steps": n} measures: milliseconds of single steps, n of them or as many as fit, but at least one.
{"values": n} gives the losses (or the first outputs) of n steps. The first line is the side's version, or why it cannot run.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.sides import SIDES
from benchmarks.workloads import WORKLOADS


def measure(step: Callable[[int], Any], count: Iterator[int], seconds: float, steps: int) -> list[float]:
    """Milliseconds of single steps: at least a third of `seconds` and `steps` of them, if they fit into `seconds`."""
    times: list[float] = []
    start = now = time.perf_counter()
    while now - start < seconds / 3 or (len(times) < steps and now - start < seconds):
        before = now
        step(next(count))
        now = time.perf_counter()
        times.append(1e3 * (now - before))
    return times


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    side = SIDES[sys.argv[1]]
    count = itertools.count()
    try:
        library = import_module(f"benchmarks.sides.{side.file}")
        step = library.make(WORKLOADS[sys.argv[2]], side.variant)
        first = library.numpy(step(next(count))).ravel()[:10].tolist()
    except Exception as error:
        text = str(error).strip() or "no message"
        return answer({"missing": f"{type(error).__name__}: {text.splitlines()[0]}"[:200]})
    answer({"version": library.version()})
    for line in sys.stdin:
        command = json.loads(line)
        if "values" in command:
            later = [library.numpy(step(next(count))).ravel()[:10].tolist() for _ in range(command["values"] - 1)]
            answer(np.concatenate([first, *later]).tolist())
        else:
            answer(measure(step, count, command["seconds"], command["steps"]))
    return None


if __name__ == "__main__":
    main()
