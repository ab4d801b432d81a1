"""Mutated files of every kind that mulgil reads: only errors of its own, or what was written; little memory, little time.

    python -m tests.io.mutate --count 20000 --seed 0        all kinds in turn, in a worker that may take 1 GB more than it begins with
    python -m tests.io.mutate --case 1234 --seed 0          one of them again, in this process, with its traceback

A case is made from its number and the seed alone. The kinds and their samples stand in `tests.io.samples`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from tests.io.samples import KINDS, Sample, make_samples

MEMORY = 1 << 30  # bytes above what the worker has when all is imported
SECONDS = 20.0  # for a file


class Wrong(Exception):
    """A file that was read as something else than was written, or whose text reached the screen as it came."""


def run_case(samples: dict[str, Sample], folder: Path, seed: int, number: int) -> tuple[str, str, str]:
    """(kind, mutation, "refused" or "read") of a case. What is wrong comes as an exception."""
    from mulgil.errors import MulgilError

    r = random.Random(f"{seed} {number}")
    name = list(KINDS)[number % len(KINDS)]
    sample = samples[name]
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(sample.folder, place, symlinks=True)
    mutation, knowing = sample.kind.mutate(place, r)
    try:
        found = sample.kind.read(place)
    except MulgilError as error:
        if any(ord(c) < 32 and c not in "\n\t" for c in str(error)) or len(str(error)) > 20_000:
            raise Wrong(f"an error that shows what it should not: {str(error)[:300]!r}") from None
        return name, mutation, "refused"
    if not knowing and sample.kind.checked and found not in (sample.meaning, None):
        raise Wrong(f"read as something else: {str(found)[:300]}")
    return name, mutation, "read"


def work(seed: int, folder: Path) -> None:
    """A worker: takes numbers of cases, a line each, and answers each with a line of JSON."""
    samples = make_samples(folder / "samples")
    out = os.fdopen(os.dup(1), "w")  # the cases print as well
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for name, sample in samples.items():
        sample.meaning = sample.kind.read(sample.folder)  # also imports whatever is needed
        assert sample.meaning is not None or not sample.kind.checked, name
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    print(json.dumps({"baseline": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), file=out, flush=True)
    for line in sys.stdin:
        began, answer = time.perf_counter(), {"case": int(line)}
        try:
            answer["kind"], answer["mutation"], answer["outcome"] = run_case(samples, folder, seed, int(line))
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            answer |= {"kind": list(KINDS)[int(line) % len(KINDS)], "outcome": f"{type(error).__name__} at {where}: {str(error)[:300]}"}
        answer |= {"seconds": time.perf_counter() - began, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
        print(json.dumps(answer), file=out, flush=True)


class Worker:
    """A process that does cases, and is replaced when one of them ends it or takes too long."""

    def __init__(self, seed: int):
        self.seed, self.baseline = seed, 0
        self._process: Any = None

    def ask(self, number: int) -> dict[str, Any]:
        if self._process is None:
            self._begin()
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        answer = self._line(SECONDS)
        if answer is None:
            code = self._process.poll()
            self.end()
            what = f"no answer after {SECONDS:g} s" if code is None else f"the process ended with {code}"
            return {"case": number, "kind": list(KINDS)[number % len(KINDS)], "outcome": what, "seconds": SECONDS, "peak": 0}
        return answer

    def _begin(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        command = [sys.executable, "-m", "tests.io.mutate", "--worker", self._folder.name, "--seed", str(self.seed)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        first = self._line(300)
        assert first is not None, "the worker did not begin"
        self.baseline = first["baseline"]

    def _line(self, seconds: float) -> dict[str, Any] | None:
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if ready else ""
        return json.loads(line) if line else None

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
            self._folder.cleanup()


def campaign(count: int, seed: int) -> int:
    """Run the cases 0 to count - 1, print a table, and return how many were wrong."""
    worker, outcomes, faults = Worker(seed), {name: Counter[str]() for name in KINDS}, []
    slowest, peak, mutations = (0.0, -1), 0, Counter[str]()
    began = time.perf_counter()
    try:
        for number in range(count):
            answer = worker.ask(number)
            fault = answer["outcome"] not in ("refused", "read")
            outcomes[answer["kind"]]["wrong" if fault else answer["outcome"]] += 1
            mutations[answer.get("mutation", "?")] += 1
            slowest, peak = max(slowest, (answer["seconds"], number)), max(peak, answer["peak"])
            if (number + 1) % 1000 == 0:
                print(f"{number + 1:,} files in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
            if fault:
                faults.append(answer)
                print(f"case {number} ({answer['kind']}): {answer['outcome']}", flush=True)
    finally:
        worker.end()
    print(f"{'kind':<22}{'refused':>9}{'read':>9}{'wrong':>9}")
    for name, counts in outcomes.items():
        print(f"{name:<22}{counts['refused']:>9}{counts['read']:>9}{counts['wrong']:>9}")
    spent = time.perf_counter() - began
    print(f"{count:,} files in {spent:.0f} s, {len(mutations)} mutations; slowest {slowest[0]:.2f} s (case {slowest[1]})")
    print(f"memory: {worker.baseline / 1024:.0f} MB with all imported, {peak / 1024:.0f} MB at most; {len(faults)} wrong")
    return len(faults)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="this one alone, in this process")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(options.seed, options.worker)
        return 0
    if options.case is None:
        return int(campaign(options.count, options.seed) > 0)
    with tempfile.TemporaryDirectory() as folder:
        samples = make_samples(Path(folder) / "samples")
        name = list(KINDS)[options.case % len(KINDS)]
        samples[name].meaning = samples[name].kind.read(samples[name].folder)
        print(*run_case(samples, Path(folder), options.seed, options.case))
    return 0


if __name__ == "__main__":
    sys.exit(main())
