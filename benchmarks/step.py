"""Milliseconds for a training step or an inference: mulgil and the others, side by side.

    python -m benchmarks.step [--workloads cnn relu ...] [--sides mulgil torch ...] [--rounds 5] [--seconds 1] [--write]
    python -m benchmarks.step --check                   do all sides compute the same?
    python -m benchmarks.step --python jax=/path/to/python --python mygrad=...

A training step is zero_grad, forward, loss, backward, optimizer step, on a batch that lies ready. How it is measured: `arena`.
What is measured: `workloads`. A library that lives in another environment is named with its interpreter; one that is not
installed is left out, and the table says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks import page, tables
from benchmarks.arena import compare, values
from benchmarks.machine import describe
from benchmarks.sides import SIDES
from benchmarks.workloads import WORKLOADS


def interpreter(pair: str) -> tuple[str, str]:
    """From "jax=/usr/bin/python3" ("jax", "/usr/bin/python3"). Raises argparse.ArgumentTypeError."""
    packages = {side.package for side in SIDES.values()}
    package, _, path = pair.partition("=")
    if package not in packages or not path:
        raise argparse.ArgumentTypeError(f"PACKAGE=INTERPRETER with one of {', '.join(sorted(packages))}, not {pair!r}")
    return package, path


def check(names: Sequence[str], sides: Sequence[str], pythons: Mapping[str, str]) -> bool:
    """Print how far each side is from mulgil's eager one after three steps; is everyone within 1 in 1000?"""
    good = True
    for name in names:
        results = values(["mulgil-eager", *(s for s in sides if s != "mulgil-eager")], WORKLOADS[name], pythons)
        reference = results.pop("mulgil-eager")
        for side, got in results.items():
            if isinstance(got, str) or isinstance(reference, str):
                print(f"{name:22} {side:28} {got if isinstance(got, str) else reference}", flush=True)
                continue
            difference = float(np.abs(np.subtract(got, reference)).max() / np.abs(reference).max())
            verdict = "agrees" if difference < 1e-3 else "DIFFERS"
            good &= verdict == "agrees"
            print(f"{name:22} {side:28} {verdict} ({difference:.1e})", flush=True)
    return good


def options_of(parser: argparse.ArgumentParser) -> None:
    """The options that `benchmarks.step` and the whole suite share."""
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS), metavar="NAME")
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (default 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="at most, for a turn; a step is always finished (default 1)")
    parser.add_argument("--steps", type=int, default=100, help="steps in a turn, if they fit (default 100)")
    elsewhere: dict = {"action": "append", "type": interpreter, "default": [], "metavar": "PACKAGE=INTERPRETER"}
    parser.add_argument("--python", **elsewhere, help="for a library that is installed elsewhere")


def run(options: argparse.Namespace) -> None:
    """Measure, print, save."""
    pythons = dict(options.python)
    results = {}
    machine = describe()
    print(tables.step_header(), flush=True)
    for name in options.workloads:
        results[name] = compare(options.sides, WORKLOADS[name], pythons, options.rounds, options.seconds, options.steps)
        print(tables.step_lines(name, results[name], machine), flush=True)
    page.save(options, steps=results, machine=machine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options_of(parser)
    page.options_of(parser)
    parser.add_argument("--check", action="store_true", help="compare what the sides compute, measure nothing")
    options = parser.parse_args()
    if options.check:
        raise SystemExit(not check(options.workloads, options.sides, dict(options.python)))
    run(options)


if __name__ == "__main__":
    main()
