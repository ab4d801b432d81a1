"""`python -m tests.fuzz --expressions 3000 --networks 300 --seed 7`: compiled against eager, on programs that nobody wrote."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter

import click

from tests.fuzz.workers import Outcome, Task, outcomes


@click.command()
@click.option("--expressions", default=3000, help="How many random expressions.")
@click.option("--networks", default=300, help="How many random networks with whole training steps.")
@click.option("--seed", default=7, help="The same seed gives the same programs.")
@click.option("--start", default=0, help="Leave out so many of each.")
@click.option("--seconds", type=float, help="Start no program after so long.")
@click.option("--jobs", default=1, help="Processes.")
@click.option("--shrink", default=60.0, help="Seconds to make a failing program small; 0 prints it as it is.")
@click.option("--reasons", is_flag=True, help="All reasons of those that say that they run eagerly.")
def main(expressions: int, networks: int, seed: int, start: int, seconds: float | None, jobs: int, shrink: float, reasons: bool) -> None:
    """Random programs, compiled and eager: prints what differs, as small programs that run; exit code 1 if there is any."""
    tasks: list[Task] = [("expression", f"{seed}-{i}") for i in range(start, start + expressions)]
    tasks += [("network", f"{seed}-{i}") for i in range(start, start + networks)]
    tasks.sort(key=lambda task: int(task[1].rpartition("-")[2]) * (1 if task[0] == "expression" else expressions / max(1, networks)))
    counts: Counter[str] = Counter()
    why: Counter[str] = Counter()
    began = time.monotonic()
    for outcome in outcomes(tasks, jobs, shrink, seconds):
        counts[outcome.verdict.kind] += 1
        counts["programs"] += 1
        if outcome.verdict.eagerly:
            counts["eagerly"] += 1
            why[_shorter(outcome.verdict.eagerly)] += 1
        if outcome.verdict.failed:
            report(outcome)
    _summary(counts, why, len(tasks), time.monotonic() - began, reasons)
    sys.exit(1 if counts["wrong"] + counts["silent"] + counts["fault"] else 0)


def report(outcome: Outcome) -> None:
    """Print a failure."""
    print(f"\n# ---- {outcome.verdict.kind}: {outcome.task[0]} {outcome.task[1]}\n# {_one_line(outcome.verdict.reason)}")
    if outcome.verdict.eagerly:
        print(f"# it says: {_one_line(outcome.verdict.eagerly)}")
    print(outcome.small, flush=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def _shorter(reason: str) -> str:
    """A reason without what differs from program to program."""
    lines = [line.strip() for line in reason.splitlines()]
    op = re.search(r"(\w+)\(.* read ", reason)
    return f"{lines[0][:100]}{f' ({op.group(1)})' if op else ''}"


def _summary(counts: Counter[str], why: Counter[str], planned: int, seconds: float, all_reasons: bool) -> None:
    print(f"{counts['programs']} of {planned} programs in {seconds:.0f} s: {counts['equal']} equal to eager, {counts['wrong']} wrong,")
    print(f"{counts['silent']} silently eager, {counts['fault']} faults of the compiler, {counts['invalid']} that eager mode cannot build;")
    print(f"{counts['eagerly']} say that they run eagerly:")
    for reason, n in why.most_common(None if all_reasons else 12):
        print(f"{n:6}  {reason}")


if __name__ == "__main__":
    main()
