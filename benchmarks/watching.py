"""What watching costs: the deep-mlp recipe with nobody looking, and with a live display, history, CSV and JSON lines.

    python -m benchmarks.watching [--rounds 9] [--epochs 6]

Three sides take turns, `rounds` times, `epochs` epochs each; the figures are medians of the seconds of a turn:
loop (`train_epoch`: the batches, the compiled step, exact loss and accuracy), trainer (`Trainer.fit` without callbacks: events,
history, the look-out for what is not finite), watched (the same with a display on a terminal and two files). The target: watched is at most
2 % slower than trainer. A busy machine blurs that difference, so the time that passes within the callbacks is added up
as well. The images are random, in the shape and number of MNIST's.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from mulgil import backend, nn
from mulgil.data import DataLoader, transforms
from mulgil.data.datasets.images import ImageDataset
from mulgil.train import RECIPES, Callback, CSVLogger, MetricsFile, Trainer, make_step, train_epoch
from mulgil.train.progress import LiveProgress
from mulgil.train.recipes import make_optimizer

IMAGES = 60_000


def sides(folder: Path, epochs: int) -> tuple[dict[str, Callable[[], object]], tuple[list[Timed], Callable[[], object]]]:
    """Each side's turn, with a model of its own; and callbacks whose time is taken, with a turn of theirs."""
    recipe, rng = RECIPES["deep-mlp"], np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 28, 28), dtype=np.uint8)
    data = ImageDataset(images, rng.integers(0, 10, IMAGES), transform=transforms.ToTensor())
    loader = DataLoader(data, recipe.batch_size, shuffle=True, drop_last=True)

    def trainer(*callbacks: object) -> Callable[[], object]:
        backend.manual_seed(0)
        model = recipe.model()
        made = Trainer(model, make_optimizer(recipe, model), nn.CrossEntropyLoss(), callbacks=list(callbacks))  # type: ignore[arg-type]
        return lambda: made.fit(loader, epochs=epochs)

    def loop() -> Callable[[], object]:
        backend.manual_seed(0)
        model = recipe.model()
        step = make_step(model, make_optimizer(recipe, model), nn.CrossEntropyLoss(), compiled=True)
        return lambda: [train_epoch(model, loader, step) for _ in range(epochs)]

    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    watching = [LiveProgress(terminal), CSVLogger(folder / "history.csv"), MetricsFile(folder / "metrics.jsonl")]
    timed = [Timed(callback) for callback in watching]
    return {"loop": loop(), "trainer": trainer(), "watched": trainer(*watching)}, (timed, trainer(*timed))


class Timed(Callback):
    """Adds up the seconds that the events of another callback take."""

    def __init__(self, callback: Callback):
        self.callback, self.seconds = callback, 0.0

    def _timed(self, event: str, trainer: Trainer) -> None:
        start = time.perf_counter()
        getattr(self.callback, event)(trainer)
        self.seconds += time.perf_counter() - start

    def start(self, trainer: Trainer) -> None:
        self._timed("start", trainer)

    def batch(self, trainer: Trainer) -> None:
        self._timed("batch", trainer)

    def epoch(self, trainer: Trainer) -> None:
        self._timed("epoch", trainer)

    def end(self, trainer: Trainer) -> None:
        self._timed("end", trainer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        turns, (timed, timed_turn) = sides(Path(folder), options.epochs)
        for turn in turns.values():
            turn()  # compiles
        for number in range(options.rounds):
            names = list(turns)
            for name in names if number % 2 else names[::-1]:
                start = time.perf_counter()
                turns[name]()
                seconds.setdefault(name, []).append(time.perf_counter() - start)
        start = time.perf_counter()
        timed_turn()
        share = sum(callback.seconds for callback in timed) / (time.perf_counter() - start)
    steps = options.epochs * (IMAGES // RECIPES["deep-mlp"].batch_size)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    figures = {f"{name}_ms_per_step": round(1000 * value / steps, 4) for name, value in median.items()}
    figures["within_callbacks_percent"] = round(100 * share, 2)
    for other in ("trainer", "loop"):
        pairs = [watched / bare - 1 for watched, bare in zip(seconds["watched"], seconds[other], strict=True)]
        figures[f"watched_over_{other}_percent"] = round(100 * statistics.median(pairs), 2)
        figures[f"watched_over_{other}_percent_of_medians"] = round(100 * (median["watched"] / median[other] - 1), 2)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
