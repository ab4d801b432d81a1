"""Seconds of whole programs, from the start of Python to its end: those of seeds 003 and 004, ours and PyTorch's.

    python -m benchmarks.programs [--programs deep-mlp cnn] [--program-epochs N] [--repeats 2] [--write]

The text is one and the same for both libraries: only what is imported differs, and mulgil's step and evaluation can be compiled
(two lines). PyTorch reads through its DataLoader from `vision.MNIST`. `mulgil-train` is the command `mulgil train` with the same recipe.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import page, tables
from benchmarks.sides.modules import build
from benchmarks.workloads import WORKLOADS

SIDES = ("mulgil-eager", "mulgil", "mulgil-train", "torch")


@dataclass(frozen=True)
class Plan:
    """seed: the document that the program comes from. padding: black pixels around the images. glorot: the gain of its initial weights."""

    seed: str
    epochs: int
    padding: int = 0
    glorot: float = 0.0


PROGRAMS = {"deep-mlp": Plan("003", 20), "cnn": Plan("004", 2, padding=2, glorot=2**0.5)}


def imports(library: str) -> tuple[Any, Any, Any, Any]:
    """(library, DataLoader, MNIST, transforms)."""
    torch = importlib.import_module(library)
    if library == "torch":
        vision = importlib.import_module("benchmarks.vision")
        return torch, torch.utils.data.DataLoader, vision.MNIST, vision
    data = importlib.import_module("mulgil.data")
    return torch, data.DataLoader, data.datasets.MNIST, data.transforms


def program(name: str, library: str, compiled: bool, root: str, epochs: int) -> dict[str, float]:
    """Train, evaluate after each epoch; the last epoch's test loss and accuracy."""
    plan, workload = PROGRAMS[name], WORKLOADS[name]
    torch, DataLoader, MNIST, transforms = imports(library)
    torch.manual_seed(0)
    transform = transforms.Compose([*([transforms.Pad(plan.padding)] if plan.padding else []), transforms.ToTensor()])
    train_set, test_set = MNIST(root, train=True, transform=transform), MNIST(root, train=False, transform=transform)
    train_loader = DataLoader(train_set, batch_size=workload.batch, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, batch_size=workload.batch)
    model = build(torch.nn, workload.layers)
    if plan.glorot:
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.xavier_uniform_(parameter, gain=plan.glorot)
            else:
                torch.nn.init.zeros_(parameter)
    criterion = torch.nn.CrossEntropyLoss()
    optimizers = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    optimizer = optimizers[workload.optimizer or "sgd"](model.parameters(), **workload.settings)

    def step(x: Any, y: Any) -> Any:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    def evaluate(x: Any, y: Any) -> Any:
        logits = model(x)
        return criterion(logits, y), (logits.argmax(dim=1) == y).sum()

    if compiled:
        step = torch.compile(step, state=[model, optimizer])
        evaluate = torch.compile(evaluate, state=[model])
    for _epoch in range(epochs):
        model.train()
        train_loss = 0.0
        for x, y in train_loader:
            train_loss += step(x, y).item()
        model.eval()
        test_loss, correct = 0.0, 0
        with torch.no_grad():
            for x, y in test_loader:
                loss, hits = evaluate(x, y)
                test_loss, correct = test_loss + loss.item(), correct + hits.item()
    return {"train_loss": train_loss / len(train_loader), "test_loss": test_loss / len(test_loader), "accuracy": correct / len(test_set)}


def command(name: str, side: str, root: str, epochs: int, out: str) -> list[str]:
    """The program's command line."""
    if side == "mulgil-train":
        options = ["--data", "mnist", "--data-root", root, "--recipe", name, "--epochs", str(epochs), "--out", out]
        return [sys.executable, "-m", "mulgil", "train", *options, "--quiet", "--no-plots"]
    return [sys.executable, "-m", "benchmarks.programs", "--serve", name, side, root, str(epochs)]


def measure(name: str, side: str, root: str, epochs: int, environment: dict[str, str]) -> dict[str, Any]:
    """{"seconds", "accuracy"} of a run, or {"missing": reason}."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        line = command(name, side, root, epochs, f"{folder}/run")
        done = subprocess.run(line, capture_output=True, text=True, cwd=Path(__file__).parents[1], env=environment)
        seconds = time.perf_counter() - start
        if done.returncode:
            return {"missing": (done.stderr.strip() or "no message").splitlines()[-1][:200]}
        if side == "mulgil-train":
            return {"seconds": seconds, "accuracy": json.loads(Path(folder, "run", "summary.json").read_text())["test_accuracy"]}
        return {"seconds": seconds, "accuracy": json.loads(done.stdout.splitlines()[-1])["accuracy"]}


def folder_of_mnist(root: str | None) -> str:
    """Where the four files are. Ends the program with what to do where they are not."""
    from mulgil.data import datasets

    info = datasets.info("mnist", root)
    if not info.available:
        raise SystemExit("MNIST is not on disk: `mulgil data download mnist`, or --data-root DIR")
    return str(info.folder)


def options_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=list(PROGRAMS))
    parser.add_argument("--program-sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--program-epochs", type=int, help="instead of the seeds' 20 and 2")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each program (default 2)")
    parser.add_argument("--data-root", help="the folder of MNIST's files")


def run(options: argparse.Namespace) -> None:
    """Measure, print, save; the sides take turns."""
    from benchmarks.arena import environment

    root = folder_of_mnist(options.data_root)
    results: dict[str, Any] = {}
    for name in options.programs:
        epochs = options.program_epochs or PROGRAMS[name].epochs
        title = f"{name} ({PROGRAMS[name].seed}), {epochs} epochs"
        runs: dict[str, list[dict]] = {side: [] for side in options.program_sides}
        for _ in range(options.repeats):
            for side, done in runs.items():
                done.append(measure(name, side, root, epochs, environment()))
        results[title] = {side: summary(done) for side, done in runs.items()}
        print(tables.programs({title: results[title]}), flush=True)
    page.save(options, programs=results)


def summary(runs: list[dict]) -> dict[str, Any]:
    """Of a side's runs: all seconds and the first accuracy, or why there are none."""
    missing = next((r for r in runs if "missing" in r), None)
    return missing or {"seconds": [r["seconds"] for r in runs], "accuracy": runs[0]["accuracy"]}


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        name, side, root, epochs = sys.argv[2:6]
        library = "torch" if side == "torch" else "mulgil"
        return print(json.dumps(program(name, library, side == "mulgil", os.path.abspath(root), int(epochs))))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options_of(parser)
    page.options_of(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    main()
