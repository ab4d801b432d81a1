"""`make bench`: the whole suite, mulgil beside the others. Each part also runs alone: `python -m benchmarks.step --help`.

make bench ARGS="--only steps --workloads cnn relu --rounds 3"
make bench ARGS="--write"                       the figures of docs/performance.md; nothing else should run on the machine
"""

from __future__ import annotations

import argparse

from benchmarks import loader, page, programs, race, step

PARTS = {"steps": step.run, "loader": loader.run, "race": race.run, "programs": programs.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS), help="these parts")
    step.options_of(parser)
    for part in (programs, race, loader):
        part.options_of(parser)
    page.options_of(parser)
    options = parser.parse_args()
    for name in options.only:
        print(f"\n== {name}", flush=True)
        PARTS[name](options)


if __name__ == "__main__":
    main()
