"""A whole training run: data, model, loop, and the folder that keeps what came out of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mulgil import backend, nn
from mulgil.data import DataLoader
from mulgil.files import atomic_file
from mulgil.train.loop import EpochRecord, fit, never
from mulgil.train.preprocess import as_json, build_transform
from mulgil.train.progress import Progress, Silent
from mulgil.train.recipes import SMALL_BATCH, Recipe, get_recipe, make_optimizer
from mulgil.train.sources import Source, load_source

EVAL_BATCH = 500  # large enough to be quick, small enough for the caches and for little memory


@dataclass(frozen=True)
class Options:
    """What a person chooses; None: as the recipe has it."""

    recipe: str = "cnn"
    data: str = "auto"
    data_root: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    optimizer: str | None = None
    seed: int = 0
    device: str = "cpu"
    compiled: bool = True


@dataclass
class Run:
    """A prepared run. `train()` trains it; then `records` holds its epochs and `summary()` the end."""

    options: Options
    recipe: Recipe
    source: Source
    model: nn.Module
    epochs: int
    batch_size: int
    optimizer: Any
    records: list[EpochRecord] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0

    def train(
        self,
        folder: Path,
        progress: Progress | None = None,
        should_stop: Callable[[], bool] = never,
    ) -> None:
        """Train, with a line of `metrics.jsonl` in `folder` after each epoch. Ends early, in order, when `should_stop()` says so."""
        # batches of 25 are too small to be shared between threads, which on a busy machine only wait for each other
        with backend.set_num_threads(1) if self.batch_size <= SMALL_BATCH else nullcontext():
            self._train(folder, progress or Silent(), should_stop)

    def _train(self, folder: Path, progress: Progress, should_stop: Callable[[], bool]) -> None:
        train_loader, test_loader = self.loaders()
        progress.start(self.epochs, len(train_loader))
        start = time.perf_counter()
        try:
            with open(folder / "metrics.jsonl", "w", encoding="utf-8") as metrics:
                for record in fit(
                    self.model,
                    train_loader,
                    test_loader,
                    self.optimizer,
                    nn.CrossEntropyLoss(),
                    self.epochs,
                    progress.batch,
                    should_stop,
                    self.compiled,
                ):
                    self.records.append(record)
                    metrics.write(json.dumps(record.as_dict()) + "\n")
                    metrics.flush()
                    progress.epoch(record)
        finally:
            progress.close()
        self.seconds = time.perf_counter() - start
        self.interrupted = should_stop()

    @property
    def compiled(self) -> bool:
        """Whether the training step is compiled: as chosen, on the CPU."""
        return self.options.compiled and self.options.device == "cpu"

    def loaders(self) -> tuple[DataLoader, DataLoader]:
        """The training batches, shuffled, and the test batches, in order."""
        train = DataLoader(self.source.train, batch_size=self.batch_size, shuffle=True, drop_last=self.recipe.drop_last)
        return train, DataLoader(self.source.test, batch_size=EVAL_BATCH)

    def summary(self) -> dict[str, Any]:
        """What `summary.json` holds."""
        last = self.records[-1]
        settings = {name: value for name, value in self.optimizer.param_groups[0].items() if isinstance(value, (int, float))}
        return {
            "recipe": self.recipe.name,
            "data": self.source.name,
            "seed": self.options.seed,
            "epochs": len(self.records),
            "train_loss": last.train.loss,
            "train_accuracy": last.train.accuracy,
            "test_loss": last.test.loss,
            "test_accuracy": last.test.accuracy,
            "seconds": round(self.seconds, 3),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "interrupted": self.interrupted,
            "planned_epochs": self.epochs,
            "batch_size": self.batch_size,
            "optimizer": type(self.optimizer).__name__,
            "settings": settings,
            "device": self.options.device,
            "compiled": self.compiled,
            "train_images": len(self.source.train),
            "test_images": len(self.source.test),
        }

    def model_info(self) -> dict[str, Any]:
        """What stands in the model file beside the weights, so that the model can be used: see `mulgil predict`."""
        return {
            "recipe": self.recipe.name,
            "data": self.source.name,
            "classes": list(self.source.classes),
            "input_shape": list(self.source.image_shape),
            "preprocessing": as_json(self.recipe.transform),
            "test_accuracy": self.records[-1].test.accuracy,
        }


def prepare(options: Options, note: Callable[[str], None] = print) -> Run:
    """Load the data and make model and optimizer, everything drawn from `options.seed`. `note` gets lines meant for a person.

    Raises OptionError for a choice that is not there, DataError where the data cannot be had, DeviceError without a GPU.
    """
    recipe = get_recipe(options.recipe)
    source = load_source(options.data, options.data_root, build_transform(recipe.transform), note)
    backend.manual_seed(options.seed)
    model = recipe.model().to(options.device)
    small = source.name == "digits"
    return Run(
        options,
        recipe,
        source,
        model,
        epochs=options.epochs or (recipe.small_epochs if small else recipe.epochs),
        batch_size=options.batch_size or (SMALL_BATCH if small else recipe.batch_size),
        optimizer=make_optimizer(recipe, model, options.optimizer, options.lr),
    )


def new_folder(out: str | None, recipe: str) -> Path:
    """The folder of a run: `out`, or runs/<time>-<recipe>, which is new."""
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    base = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{recipe}"
    for n in range(1, 1000):
        folder = base if n == 1 else base.with_name(f"{base.name}-{n}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:  # two runs in one second
            continue
    raise FileExistsError(f"{base}: too many runs of this second")


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    with atomic_file(path) as file:
        file.write((json.dumps(value, indent=2) + "\n").encode())
