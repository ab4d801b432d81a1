"""Results as JSON, and docs/performance.md made of them.

    python -m benchmarks.page           write the page again, from docs/performance.json

Each command measures a section; with `--write` it replaces what it measured in docs/performance.json and writes the page.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import tables

DOCS = Path(__file__).parents[1] / "docs"
DATA, PAGE = DOCS / "performance.json", DOCS / "performance.md"

HEAD = """# Performance

mulgil beside PyTorch, JAX and others, in one run on one machine. Made by

```sh
make bench ARGS="--write"           # what is installed takes part; --python jax=... names an interpreter that has JAX
```

{machine}
The machine is shared: read the ratios, not the milliseconds. The raw figures are in [performance.json](performance.json).
"""
STEPS = """
## A step

Milliseconds for a training step (zero_grad, forward, loss, backward, optimizer step) or an inference, on a batch that lies ready.
Each side works in a process of its own while the others sleep; they take turns. The figure is the smallest of
the turns' medians, and behind it stands how much slower the slowest turn's median was. **Ratio**: mulgil compiled / the best of the
others, so less than 1 is faster. **Floor**: the milliseconds that the matrix products alone would take at {gflops:.0f} GFLOP/s, the
speed of this machine's large float32 product; **memory**: those that its parameters, their optimizer's arrays and the images would
take at {gbytes:.0f} GB/s, the speed of a large copy (what fits into a cache is faster than that).

"""
CONDITIONS = """
All sides have the same weights, images and labels, and `python -m benchmarks.step --check` compares what they compute. Each has its
best settings:

- **PyTorch** with fused optimizers, in `inference_mode` for inferences, the better of the usual layout and `channels_last`;
  **torch.compile** compiles model and loss, also in both layouts.
- **JAX**: the whole step is one `jit`, the old parameters are donated.
- **tinygrad** with `TinyJit`, `DEV=CPU` and clang; **DeZero** 0.0.13 gets the `numpy.int` that it asks for; **MyGrad** updates in place.
  MyGrad and DeZero are left out of the larger models, where a step takes them seconds.
- Nobody is told how many threads to use.
"""
PROGRAMS = """
## Whole programs

Seconds from the start of Python to its end: import, data, training, evaluation after each epoch. The text of the program is the same
for both libraries (`benchmarks/programs.py`); PyTorch's data set prepares each image on its own, as torchvision does. `mulgil train` is
the command with the same recipe. The smallest of the runs, and behind it the slowest: a first run that compiles kernels is the slower one.

"""
RACE = """
## Seconds until 99.0 % on MNIST

A LeNet (5x5x8, 5x5x16, each with ReLU and max-pooling; 256-64-10) with AdamW and a one-cycle schedule, batch and epochs the best
found for each side. Seconds of training alone, up to the end of the first epoch whose test accuracy is at least 99.0 %; evaluation and
preparation are apart.

"""


def options_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, help="save the figures here")
    parser.add_argument("--write", action="store_true", help="save them in docs/performance.json and write docs/performance.md")


def save(options: argparse.Namespace, **sections: dict[str, Any]) -> None:
    """Add the sections to what the files hold: entries of the same name are replaced."""
    for path in [*([options.json] if options.json else []), *([DATA] if options.write else [])]:
        data = json.loads(path.read_text()) if path.exists() else {}
        for name, entries in sections.items():
            data[name] = {**data.get(name, {}), **entries}
        path.write_text(json.dumps(data, indent=1) + "\n")
    if options.write:
        PAGE.write_text(render(json.loads(DATA.read_text())))


def render(data: dict[str, Any]) -> str:
    """The page, from the sections that there are."""
    machine = data["machine"]
    about = (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; Python {machine['python']}, NumPy {machine['numpy']}, "
        f"{', '.join(tables.versions(data)) or 'mulgil ' + machine['mulgil']}."
    )
    text = HEAD.format(machine=about)
    if "steps" in data:
        text += STEPS.format(**machine) + tables.steps(data["steps"], machine) + "\n" + CONDITIONS
        text += tables.absent(data["steps"])
    if "programs" in data:
        text += PROGRAMS + tables.programs(data["programs"]) + "\n"
    if "race" in data:
        text += RACE + tables.race(data["race"]) + "\n"
    if "loader" in data:
        text += "\n## An epoch of data\n\n" + tables.loader(data["loader"]) + "\n"
    return text


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    PAGE.write_text(render(json.loads(DATA.read_text())))


if __name__ == "__main__":
    main()
