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
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from mulgil.train.recipes import RECIPES, Recipe, make_optimizer

SIDES = ("mulgil", "torch", "torch-channels-last")
WARM_UP = 10


def batch(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Random images in the shape that the recipe's model takes, and labels."""
    rng = np.random.default_rng(0)
    size = 32 if recipe.name == "cnn" else 28
    return rng.random((recipe.batch_size, 1, size, size), dtype=np.float32), rng.integers(10, size=recipe.batch_size)


def mulgil_step(recipe: Recipe) -> Callable[[], None]:
    from mulgil import Tensor, nn

    model = recipe.model()
    optimizer = make_optimizer(recipe, model)
    criterion = nn.CrossEntropyLoss()
    x, t = map(Tensor, batch(recipe))

    def step() -> None:
        optimizer.zero_grad()
        criterion(model(x), t).backward()
        optimizer.step()

    return step


def torch_model(recipe: Recipe) -> Any:
    """The recipe's model in PyTorch, read off ours: the layers have the same names and arguments."""
    from torch import nn

    layers = []
    for layer in recipe.model():  # type: ignore[attr-defined]
        args, kwargs = layer._arguments
        layers.append(getattr(nn, type(layer).__name__)(*args, **kwargs))
    return nn.Sequential(*layers)


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
    step = mulgil_step(recipe) if side == "mulgil" else torch_step(recipe, side == "torch-channels-last")
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
    sides = [s for s in SIDES if s == "mulgil" or (find_spec("torch") and (recipe.name == "cnn" or s == "torch"))]
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
            print(f"{name:10} {side:20} {t['median']:10.3f} {t['p10']:8.3f}{ratio}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
