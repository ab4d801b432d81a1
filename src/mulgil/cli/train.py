"""`mulgil train`: train a recipe, then show and keep what came out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mulgil.cli.options import DATA_NAMES, OPTIMIZER_NAMES, RECIPE_NAMES, PositiveFloat, data_root_option, device_option

if TYPE_CHECKING:
    from mulgil.train.run import Run


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
@click.option("--out", metavar="DIR", type=click.Path(file_okay=False), help="Folder for what comes out (default: runs/<time>-<recipe>).")
@click.option("--compile/--eager", "compiled", default=True, help="Compile the training step (default), or run each operation at once.")
@click.option("--quiet", "-q", is_flag=True, help="Only the summary at the end.")
@click.option("--no-plots", is_flag=True, help="Draw no pictures.")
def train(quiet: bool, no_plots: bool, out: str | None, **choices: Any) -> int:
    """Train a classifier and show what it learned.

    Leaves the model (model.safetensors), metrics.jsonl, summary.json and pictures in a folder. Ctrl-C ends the training early
    and keeps what was reached.
    """
    from mulgil.train.progress import Silent, progress_for
    from mulgil.train.run import Options, new_folder, prepare

    say = (lambda text: None) if quiet else click.echo
    run = prepare(Options(**choices), note=click.echo)
    folder = new_folder(out, run.recipe.name)
    say(heading(run))
    with stop_on_interrupt() as stop:
        run.train(folder, Silent() if quiet else progress_for(), stop.is_set)
        keep(run, folder)
    files = [] if no_plots else pictures(run, folder)
    report(run, folder, files)
    return 130 if run.interrupted else 0


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
        click.echo("\nstopping after this batch; what was reached is kept (Ctrl-C again: leave at once)", err=True)

    signal.signal(signal.SIGINT, first)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def heading(run: Run) -> str:
    count = sum(p.numel() for p in run.model.parameters())
    data = f"{len(run.source.train):,} + {len(run.source.test):,} images of {run.source.name}"
    optimizer = f"{type(run.optimizer).__name__} lr {run.optimizer.param_groups[0]['lr']:g}"
    return (
        f"{run.recipe.name}: {run.recipe.summary} ({count:,} parameters)\n"
        f"{data}, batches of {run.batch_size}, {optimizer}, seed {run.options.seed}, {run.options.device}"
    )


def keep(run: Run, folder: Path) -> None:
    """The model first, then the summary that says it is there."""
    from mulgil.io import save
    from mulgil.train.run import write_json

    save(run.model, folder / "model.safetensors", info=run.model_info())
    write_json(folder / "summary.json", run.summary())


def pictures(run: Run, folder: Path) -> list[Path]:
    """samples.png, mistakes.png and curves.png; none, with a line that says so, without matplotlib."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        click.echo('no pictures: matplotlib is not installed (pip install "mulgil[plot]")')
        return []
    from mulgil import plot

    images, truth = test_arrays(run.source.test)
    predicted, classes = run.records[-1].test.predictions, run.source.classes
    name = f"{run.recipe.name} on {run.source.name}"
    figures = {
        "samples.png": plot.samples(images, predicted, truth, classes, seed=run.options.seed),
        "mistakes.png": plot.mistakes(images, predicted, truth, classes, seed=run.options.seed),
        "curves.png": plot.curves([record.as_dict() for record in run.records], name),
    }
    return [plot.save_png(figure, folder / file) for file, figure in figures.items()]


def test_arrays(dataset: Any) -> tuple[Any, Any]:
    """The raw images [N, 28, 28] and labels [N] of a data set, as NumPy arrays."""
    import numpy as np

    return np.asarray(dataset.data), np.asarray(dataset.targets)


def report(run: Run, folder: Path, files: list[Path]) -> None:
    """The table at the end, and where everything is."""
    from rich.console import Console
    from rich.table import Table

    summary = run.summary()
    table = Table("", "loss", "accuracy", "images", box=None, pad_edge=False, header_style="bold")
    for part in ("train", "test"):
        loss, accuracy = summary[f"{part}_loss"], summary[f"{part}_accuracy"]
        table.add_row(part, f"{loss:.4f}", f"{accuracy:.4f}", f"{summary[f'{part}_images']:,}")
    console = Console(highlight=False, soft_wrap=True)
    console.print()
    console.print(table)
    ended = "stopped in" if run.interrupted else "after"
    console.print(f"\n{ended} epoch {summary['epochs']} of {run.epochs}, {run.seconds:.1f} s")
    for path in (folder / "model.safetensors", *files, folder / "summary.json"):
        console.print(f"  {path.stem:<9}{path}")
