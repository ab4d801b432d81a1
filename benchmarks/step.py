"""Milliseconds for one training step of each recipe: mulgil and PyTorch side by side.

    python -m benchmarks.step [--recipes cnn relu ...] [--rounds 8] [--steps 25] [--json FILE]

Each side lives in a process of its own and works only while the others wait for it: no pool of threads disturbs another's.
They take turns, `--rounds` times `--steps` steps each, so that a machine that slows down slows all of them. A step is
zero_grad, forward, loss, backward, optimizer step, on one batch that lies ready. Reported: the median and the 10th percentile
of the single steps, and the ratio of ours to each opponent's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import mulgil
from mulgil.train.recipes import RECIPES, Recipe, make_optimizer

SIDES = ("mulgil", "mulgil-compiled", "torch", "torch-channels-last")
WARM_UP = 10
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def batch(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Random images in the shape that the recipe's model takes, and labels."""
    rng = np.random.default_rng(0)
    size = 32 if recipe.name == "cnn" else 28
    return rng.random((recipe.batch_size, 1, size, size), dtype=np.float32), rng.integers(10, size=recipe.batch_size)


def mulgil_step(recipe: Recipe, compiled: bool = False) -> Callable[[], Any]:
    from mulgil import Tensor, nn

    model = recipe.model()
    optimizer = make_optimizer(recipe, model)
    criterion = nn.CrossEntropyLoss()
    x, t = map(Tensor, batch(recipe))

    def step(x: Tensor, t: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = criterion(model(x), t)
        loss.backward()
        optimizer.step()
        return loss

    if compiled:
        step = mulgil.compile(step, state=[model, optimizer], strict=True)
    return lambda: step(x, t)


def torch_model(recipe: Recipe) -> Any:
    """The recipe's model in PyTorch, read off ours: the layers have the same names and settings."""
    from torch import nn

    settings = {
        "Linear": ("in_features", "out_features"),
        "Conv2d": ("in_channels", "out_channels", "kernel_size"),
        "MaxPool2d": ("kernel_size",),
    }
    layers: list[Any] = list(recipe.model())  # type: ignore[call-overload]
    kinds = [type(layer).__name__ for layer in layers]
    made = [getattr(nn, kind)(*[getattr(layer, s) for s in settings.get(kind, ())]) for kind, layer in zip(kinds, layers, strict=True)]
    return nn.Sequential(*made)


def torch_step(recipe: Recipe, channels_last: bool = False) -> Callable[[], None]:
    import torch

    model = torch_model(recipe)
    x, t = map(torch.from_numpy, batch(recipe))
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[recipe.optimizer](model.parameters(), **recipe.settings)
    criterion = torch.nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        criterion(model(x), t).backward()
        optimizer.step()

    return step


def serve(side: str, recipe: Recipe) -> None:
    """Worker: for each number read, do that many steps and answer with their milliseconds."""
    step = (
        mulgil_step(recipe, side == "mulgil-compiled") if side.startswith("mulgil") else torch_step(recipe, side == "torch-channels-last")
    )
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps(times), flush=True)


class Worker:
    """One side in its own process."""

    def __init__(self, side: str, recipe: Recipe):
        command = [sys.executable, "-m", "benchmarks.step", "--serve", side, "--recipes", recipe.name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.times: list[float] = []
        self.ask(WARM_UP)

    def ask(self, steps: int) -> list[float]:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(steps, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(recipe: Recipe, rounds: int, steps: int) -> dict[str, dict[str, float]]:
    """Side -> {"median", "p10"} in milliseconds."""
    sides = [s for s in SIDES if s.startswith("mulgil") or (find_spec("torch") and (recipe.name == "cnn" or s == "torch"))]
    workers = {side: Worker(side, recipe) for side in sides}
    for _ in range(rounds):
        for worker in workers.values():
            worker.times += worker.ask(steps)
    for worker in workers.values():
        worker.close()
    return {s: {"median": float(np.median(w.times)), "p10": float(np.percentile(w.times, 10))} for s, w in workers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve, RECIPES[options.recipes[0]])
    figures = {}
    print(f"{'recipe':10} {'side':20} {'median ms':>10} {'p10 ms':>8}   ours / theirs (median, p10)")
    for name in options.recipes:
        figures[name] = result = compare(RECIPES[name], options.rounds, options.steps)
        ours = result["mulgil"]
        for side, t in result.items():
            ratio = "" if side == "mulgil" else f"   {ours['median'] / t['median']:.2f}, {ours['p10'] / t['p10']:.2f}"
            print(f"{name:10} {side:20} {t['median']:10.3f} {t['p10']:8.3f}{ratio}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if options.write:
        write_page(figures)
    return None


def write_page(figures: dict[str, dict[str, dict[str, float]]]) -> None:
    """docs/performance.md from the figures."""
    sides = [side for side in SIDES if any(side in result for result in figures.values())]
    lines = [
        "# Performance",
        "",
        "Milliseconds for one training step (zero_grad, forward, loss, backward, optimizer step) of each recipe, on one batch that",
        "lies ready. Each side runs in a process of its own while the others wait, in turns; median and, behind it, the 10th percentile.",
        "Made by",
        "",
        "```sh",
        "python -m benchmarks.step --write           # PyTorch's columns need torch==2.13.0",
        "```",
        "",
        f"mulgil {mulgil.__version__}, NumPy {np.__version__}, Python {platform.python_version()}, {processor()}, {os.cpu_count()} cores.",
        "The machine is shared: read the ratios, not the milliseconds.",
        "",
        f"| recipe | {' | '.join(sides)} | eager / best PyTorch | compiled / best PyTorch |",
        f"|---|{'---|' * (len(sides) + 2)}",
    ]
    for name, result in figures.items():
        cells = [f"{result[s]['median']:.2f} ({result[s]['p10']:.2f})" if s in result else "" for s in sides]
        rivals = [t["median"] for side, t in result.items() if side.startswith("torch")]
        ratios = [f"{result[s]['median'] / min(rivals):.2f}" if rivals else "" for s in ("mulgil", "mulgil-compiled")]
        lines.append(f"| `{name}` | {' | '.join([*cells, *ratios])} |")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines) + "\n")


def processor() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
