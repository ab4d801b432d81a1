"""A whole training run: data, model, trainer, and the folder that keeps what came out of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from mulgil import backend, nn
from mulgil.data import DataLoader
from mulgil.errors import DataError, MulgilError, OptionError
from mulgil.io import save
from mulgil.native.blas import set_num_threads
from mulgil.train.callbacks import Callback, StopIf, never
from mulgil.train.checkpoint import Checkpoint, Checkpoints
from mulgil.train.feed import EVAL_BATCH
from mulgil.train.folder import RunFolder, RunLog, read_lines, write_json
from mulgil.train.interpret import Interpretation, interpret
from mulgil.train.interrupt import REASON
from mulgil.train.preprocess import as_json, build_transform
from mulgil.train.recipes import SMALL_BATCH, Recipe, get_recipe, make_optimizer
from mulgil.train.report import write_report
from mulgil.train.sources import Source, load_source
from mulgil.train.state import position_of
from mulgil.train.trainer import Trainer

FIGURES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
POSITIVE = ("epochs", "batch_size", "lr", "keep")
TEST = "test"  # what the second set is called in files and on the screen: recipes are validated on the test set


@dataclass(frozen=True)
class Options:
    """What a person chooses; None: as the recipe has it. on_nan: see `Trainer`; checkpoint_every, keep: see `Checkpoint`."""

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
    on_nan: str = "stop"
    checkpoint_every: str = "1min"
    keep: int = 3

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Options:
        """The options of a config.json. Raises OptionError for names or values that no person could have chosen."""
        kinds = get_type_hints(cls)
        for name, value in found.items():
            fits = name in kinds and isinstance(value, kinds[name]) and isinstance(value, bool) == (kinds[name] is bool)
            fits = fits or (name == "lr" and type(value) is int)
            if not fits or (name in POSITIVE and value is not None and not 0 < value < math.inf) or (name == "seed" and value < 0):
                raise OptionError("config.json must hold the options of a run", f"{name}: {value!r:.100}", "start the run anew")
        return cls(**found)


@dataclass
class Run:
    """A prepared run. `train()` trains it with its `trainer`; then `records` holds its epochs and `summary()` the end."""

    options: Options
    recipe: Recipe
    source: Source
    model: nn.Module
    epochs: int
    batch_size: int
    optimizer: Any
    records: list[dict[str, Any]] = field(default_factory=list)  # the lines of metrics.jsonl
    trainer: Trainer = field(init=False)

    def __post_init__(self) -> None:
        compile, on_nan = self.options.compiled, self.options.on_nan
        self.trainer = Trainer(self.model, self.optimizer, nn.CrossEntropyLoss(), compile=compile, on_nan=on_nan)

    def train(
        self,
        folder: RunFolder,
        progress: Callback | None = None,
        should_stop: Callable[[], bool] = never,
        callbacks: Sequence[Callback] = (),
        state: dict[str, Any] | None = None,
    ) -> None:
        """Train, with lines of metrics.jsonl and checkpoints in `folder`. Ends early, in order, when `should_stop()` says so.

        state: of a checkpoint, to go on from. The folder must be held: `with folder.lock()`.
        """
        train_loader, test_loader = self.loaders()
        watching = [progress] if progress is not None else []
        checkpoint = Checkpoint(folder.checkpoints, self.options.checkpoint_every, self.options.keep, facts=self.settings())
        self.trainer.callbacks = [*watching, RunLog(folder, self.records, TEST), StopIf(should_stop), *callbacks, checkpoint]
        if state is not None:
            self._go_on(folder, state)
        # batches of 25 are too small to be shared between threads, which on a busy machine only wait for each other
        with set_num_threads(1) if self.batch_size <= SMALL_BATCH else nullcontext():
            self.trainer.fit(train_loader, test_loader, self.epochs)

    def _go_on(self, folder: RunFolder, state: dict[str, Any]) -> None:
        try:
            self.trainer.load_state_dict(state)
            if missing := [name for name in FIGURES if any(name not in row for row in self.records)]:
                raise OptionError("each epoch of a run's log has its figures", f"no {', '.join(missing)}")
        except (MulgilError, KeyError, IndexError, AttributeError, TypeError, ValueError, OverflowError) as error:
            rule = "a checkpoint goes with the model and the optimizer that it was made with"
            hint = "was config.json edited? else start the run anew, in another folder"
            raise OptionError(rule, f"{folder.checkpoints}: {error}", hint) from error

    def finish(self, folder: RunFolder, pictures: Callable[[Run, RunFolder], list[Path]] | None = None) -> list[Path]:
        """Keep the model, draw `pictures`, and at last write the summary, which says that all of it is there. Returns the pictures."""
        save(self.model, folder.model, info=self.model_info())
        try:
            return [] if pictures is None else pictures(self, folder)
        finally:
            if not isinstance(sys.exc_info()[1], (KeyboardInterrupt, SystemExit)):  # interrupted: a run that goes on draws them
                write_json(folder.summary, self.summary())

    def interpret(self) -> Interpretation:
        """What the model says of the test images."""
        return interpret(self.model, self.source.test, classes=self.source.classes)

    def report(self, folder: RunFolder, seen: Interpretation) -> Path:
        """Write report.html."""
        config = folder.read_config()
        return write_report(
            folder.report,
            title=f"{self.recipe.name} on {self.source.name}",
            summary=self.summary(),
            history=self.records,
            model=self.model,
            input_shape=np.asarray(self.source.test[0][0]).shape,
            interpretation=seen,
            images=np.asarray(self.source.test.data),
            settings=self.settings(),
            config={"Machine": config.get("machine") or {}, "Code": {"began": config.get("began"), **(config.get("code") or {})}},
        )

    def settings(self) -> dict[str, Any]:
        """What the choices came to; a run that goes on must have the same."""
        group = self.optimizer.param_groups[0]
        return {
            "recipe": self.recipe.name,
            "data": self.source.name,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "optimizer": type(self.optimizer).__name__,
            **{name: _plain(value) for name, value in group.items() if name not in ("params", "initial_lr")},
            "seed": self.options.seed,
            "device": self.options.device,
            "compiled": self.compiled,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "train_images": len(self.source.train),
            "test_images": len(self.source.test),
        }

    @property
    def interrupted(self) -> bool:
        """Whether it was asked to stop before its last epoch."""
        return self.trainer.stopped == REASON

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
            **{name: last[name] for name in FIGURES},
            "seconds": round(self.trainer.seconds, 3),
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
        """What stands in the model file beside what the model knows itself, so that it can be used: see `mulgil predict`.

        Nothing that differs between two runs of the same seed, such as the seconds: their files have the same bytes.
        """
        summary = self.summary()
        kept = ("recipe", "data", "seed", "epochs", "train_images", "batch_size", "optimizer", "settings")
        return {
            "classes": list(self.source.classes),
            "image_shape": list(self.source.image_shape),
            "preprocessing": as_json(self.recipe.transform),
            "training": {name: summary[name] for name in (*kept, *FIGURES)},
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


def resumed(path: str | Path, note: Callable[[str], None] = print, **changes: Any) -> tuple[Run, RunFolder]:
    """The run of a folder as it was prepared when it began; `read_state` gives the place to go on from.

    path: the folder. changes: options that may differ from then: data_root, on_nan, checkpoint_every, keep; and epochs, by which a
    run is trained longer, a finished one too.
    Raises DataError for a damaged config.json, OptionError where it no longer makes the run that it describes.
    """
    folder = RunFolder.existing(path)
    config = folder.read_config()
    settings = config["settings"]
    try:
        options = Options.read({**config["options"], "data": settings.get("data", "auto"), **changes})
    except OptionError as error:
        raise OptionError(error.rule, f"{folder.config}: {error.got}", error.hint) from None
    run = prepare(options, note)
    known = {**settings, "epochs": run.epochs} if "epochs" in changes else settings
    refuse_other(known, run.settings(), f"{folder.config} describes", "its options make")
    if run.epochs < len(read_lines(folder.metrics) if folder.metrics.exists() else ()):
        raise OptionError("a run can be trained longer, not shorter", f"--epochs {run.epochs}; more are done", "leave it out")
    return run, folder


def read_state(
    folder: RunFolder, run: Run, checkpoint: Path | None = None, fall_back: Callable[[str], None] | None = None
) -> dict[str, Any] | None:
    """The state to go on from: of `checkpoint`, or of the newest; None if the run died before the first.

    fall_back: take the newest that is whole where that one is damaged, or none, and say so by this function.
    Raises DataError for a damaged one, and names the newest that is whole; OptionError for one of another run.
    """
    files = Checkpoints(folder.checkpoints)
    if checkpoint is None and not files.all():
        return None
    try:
        found = files.read(checkpoint)
    except DataError as error:
        if fall_back is None:
            raise
        whole = files.newest_whole()
        fall_back(f"{error.got}; " + (f"falling back to {whole}" if whole else "none is whole: starting anew"))
        if whole is None:
            return None
        found = files.read(whole)
    facts = {**found["facts"], "epochs": run.epochs}  # it may be trained longer now
    refuse_other(run.settings(), facts, f"{folder.config} describes", "the checkpoint was made with")
    position_of(found["state"])
    return found["state"]


def refuse_other(mine: dict[str, Any], other: dict[str, Any], who: str, whose: str) -> None:
    """Raise OptionError, which names the settings that differ, unless the two agree."""
    wrong = [name for name in dict.fromkeys((*mine, *other)) if mine.get(name) != other.get(name)]
    if wrong:
        told = ", ".join(f"{name} {mine.get(name)!r}, {whose} {other.get(name)!r}" for name in wrong[:3])
        hint = "put config.json back as it was, or start a new run"
        raise OptionError("a run goes on with the settings that it began with", f"{who} {told}", hint)


def _plain(value: Any) -> Any:
    """A setting as JSON holds it."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
