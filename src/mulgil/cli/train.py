"""`mulgil train`: train a recipe, then show and keep what came out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from mulgil.cli.options import DATA_NAMES, OPTIMIZER_NAMES, RECIPE_NAMES, Interval, PositiveFloat, data_root_option, device_option
from mulgil.cli.screen import console, echo, text

if TYPE_CHECKING:
    from mulgil.train.folder import RunFolder
    from mulgil.train.run import Run

MAY_CHANGE = ("data_root", "on_nan", "checkpoint_every", "keep")  # on resuming
NAMES = {"compiled": "--compile/--eager"}


@click.command()
@click.option("--recipe", type=click.Choice(RECIPE_NAMES), default="cnn", show_default=True, help="What to train; see `mulgil recipes`.")
@click.option(
    "--data",
    type=click.Choice(DATA_NAMES),
    default="auto",
    show_default=True,
    help="auto: MNIST if it can be had, else the embedded digits.",
)
@data_root_option
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Passes over the data (default: the recipe's).")
@click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Images in a step (default: the recipe's).")
@click.option("--lr", type=PositiveFloat(), metavar="X", help="Learning rate (default: the recipe's).")
@click.option("--optimizer", type=click.Choice(OPTIMIZER_NAMES), help="(default: the recipe's)")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="S", help="The same seed gives the same model.")
@device_option
@click.option("--out", metavar="DIR", type=click.Path(file_okay=False), help="A new folder for the run (default: runs/<time>-<recipe>).")
@click.option("--compile/--eager", "compiled", default=True, help="Compile the training step (default), or run each operation at once.")
@click.option(
    "--on-nan",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="A loss or gradient that is not finite: stop the run, or leave that step out.",
)
@click.option("--resume", metavar="RUN", help="Go on with the run in this folder, or from one of its checkpoint files.")
@click.option(
    "--checkpoint-every",
    type=Interval(),
    default="1min",
    show_default=True,
    metavar="TIME",
    help="500steps, 30s, 2min, or end: at the end alone. There is one at the end and at Ctrl-C in any case.",
)
@click.option("--keep", type=click.IntRange(min=1), default=3, show_default=True, metavar="K", help="Keep the newest K checkpoints.")
@click.option("--quiet", "-q", is_flag=True, help="Only the summary at the end.")
@click.option("--no-plots", is_flag=True, help="Draw no pictures and no report.")
def train(quiet: bool, no_plots: bool, out: str | None, resume: str | None, **choices: Any) -> int:
    """Train a classifier and show what it learned.

    Leaves the model, metrics.jsonl, summary.json, checkpoints, pictures and report.html in a folder of its own. Ctrl-C ends the
    training early and keeps what was reached; --resume goes on from there, also after the machine went down, to the same bits.
    """
    from mulgil.train.progress import progress_for
    from mulgil.train.run import TEST

    say = (lambda text: None) if quiet else echo
    begun = new_run(out, choices) if resume is None else resumed_run(resume, choices)
    if begun is None:
        return 0
    run, folder = begun
    with folder.lock():
        state = enter(run, folder, resume)
        say(heading(run, state))
        with stop_on_interrupt() as stop:
            run.train(folder, None if quiet else progress_for(part=TEST), stop.is_set, state=state)
            files = run.finish(folder, None if no_plots else pictures)
    report(run, folder, files)
    return 130 if run.interrupted else 0


def new_run(out: str | None, choices: dict[str, Any]) -> tuple[Run, RunFolder]:
    """The data first: where they cannot be had, no folder is made."""
    from mulgil.train.folder import RunFolder
    from mulgil.train.run import Options, prepare

    run = prepare(Options(**choices), note=echo)
    return run, RunFolder.create(out, run.recipe.name)


def resumed_run(resume: str, choices: dict[str, Any]) -> tuple[Run, RunFolder] | None:
    """The run in a folder; None, after a line that says so, if it is finished. Its own options hold: others are refused."""
    from mulgil.train.run import resumed
    from mulgil.train.runs import find_run

    context = click.get_current_context()
    asked = [name for name in (*choices, "out") if context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    given = [name for name in asked if name not in MAY_CHANGE]
    if given:
        names = ", ".join(NAMES.get(name, f"--{name.replace('_', '-')}") for name in given)
        raise click.UsageError(f"--resume goes on with the options that the run began with: leave out {names}")
    found = find_run(str(run_folder(resume)))
    if found.state == "finished":
        echo(f"{found.folder.path} is finished: {found.epochs} epochs, test accuracy {found.figure('test_accuracy') or 0:.4f}")
        return None
    return resumed(found.folder.path, echo, **{name: choices[name] for name in asked})


def run_folder(resume: str) -> Path:
    """`runs/x` of `runs/x` or of `runs/x/checkpoints/step-00000100.safetensors`."""
    path = Path(resume)
    return path.parent.parent if path.suffix == ".safetensors" else path


def enter(run: Run, folder: RunFolder, resume: str | None) -> dict[str, Any] | None:
    """Begin in the folder, which is held: note what is trained, or read the state to go on from."""
    from dataclasses import asdict

    from mulgil.train.run import read_state

    if resume is None:
        folder.write_config(asdict(run.options), run.settings())
        return None
    state = read_state(folder, run, Path(resume) if run_folder(resume) != Path(resume) else None)
    folder.tidy()
    for line in folder.changes():
        echo(f"note: {line}", err=True)
    return state


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """Ctrl-C sets an event, which the loop sees after its batch; a second Ctrl-C interrupts as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def first(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop.set()
        echo("\nstopping after this batch; what was reached is kept (Ctrl-C again: leave at once)", err=True)

    signal.signal(signal.SIGINT, first)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def heading(run: Run, state: dict[str, Any] | None = None) -> str:
    count = sum(p.numel() for p in run.model.parameters())
    data = f"{len(run.source.train):,} + {len(run.source.test):,} images of {run.source.name}"
    optimizer = f"{type(run.optimizer).__name__} lr {run.optimizer.param_groups[0]['lr']:g}"
    place = "" if state is None else "\ngoing on after step {step:,} (epoch {epoch}, batch {batch})".format(**state["position"])
    return (
        f"{run.recipe.name}: {run.recipe.summary} ({count:,} parameters)\n"
        f"{data}, batches of {run.batch_size}, {optimizer}, seed {run.options.seed}, {run.options.device}{place}"
    )


def pictures(run: Run, folder: RunFolder) -> list[Path]:
    """samples.png, mistakes.png and curves.png, unless matplotlib is missing, which a line says; report.html in any case."""
    from importlib.util import find_spec

    seen = run.interpret()
    page = run.report(folder, seen)
    if find_spec("matplotlib") is None:
        echo('no pictures: matplotlib is not installed (pip install "mulgil[plot]")')
        return [page]
    from mulgil import plot

    images, truth = test_arrays(run.source.test)
    predicted, classes = seen.predictions, run.source.classes
    name = f"{run.recipe.name} on {run.source.name}"
    figures = {
        "samples.png": plot.samples(images, predicted, truth, classes, seed=run.options.seed),
        "mistakes.png": plot.mistakes(images, predicted, truth, classes, seed=run.options.seed),
        "curves.png": plot.curves(run.records, name),
    }
    return [*(plot.save_png(figure, folder.path / file) for file, figure in figures.items()), page]


def test_arrays(dataset: Any) -> tuple[Any, Any]:
    """The raw images [N, 28, 28] and labels [N] of a data set, as NumPy arrays."""
    import numpy as np

    return np.asarray(dataset.data), np.asarray(dataset.targets)


def report(run: Run, folder: RunFolder, files: list[Path]) -> None:
    """The table at the end, and where everything is."""
    from rich.table import Table

    summary = run.summary()
    table = Table("", "loss", "accuracy", "images", box=None, pad_edge=False, header_style="bold")
    seen = {"train": run.trainer.train_metrics, "test": run.trainer.validation_metrics}
    for part, metrics in seen.items():
        loss, accuracy = summary[f"{part}_loss"], summary[f"{part}_accuracy"]
        images = metrics.samples if metrics is not None else summary[f"{part}_images"]
        table.add_row(part, f"{loss:.4f}", f"{accuracy:.4f}", f"{images:,}")
    screen = console()
    screen.print()
    screen.print(table)
    ended = "stopped in" if run.interrupted else "after"
    screen.print(f"\n{ended} epoch {summary['epochs']} of {run.epochs}, {run.trainer.seconds:.1f} s")
    if run.interrupted:
        screen.print(f"go on with: mulgil train --resume {text(str(folder.path))}")
    for path in (folder.model, *files, folder.summary):
        screen.print(f"  {path.stem:<9}{text(str(path))}")
