"""`mulgil train`: train a recipe, then show and keep what came out."""

from __future__ import annotations

from contextlib import nullcontext
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
@click.option("--resume", metavar="RUN", help="Go on with the run in this folder, or from a checkpoint file of it; longer with --epochs.")
@click.option("--fall-back", is_flag=True, help="With --resume: if the newest checkpoint is damaged, take the newest that is whole.")
@click.option(
    "--checkpoint-every",
    type=Interval(),
    default="1min",
    show_default=True,
    metavar="TIME",
    help="500steps, 30s, 2min, or end: at the end alone. There is one at the end and at Ctrl-C in any case, else also after epochs.",
)
@click.option("--keep", type=click.IntRange(min=1), default=3, show_default=True, metavar="K", help="Keep the newest K checkpoints.")
@click.option("--quiet", "-q", is_flag=True, help="Only the summary at the end.")
@click.option("--no-plots", is_flag=True, help="Draw no pictures and no report.")
def train(quiet: bool, no_plots: bool, out: str | None, resume: str | None, fall_back: bool, **choices: Any) -> int:
    """Train a classifier and show what it learned.

    Leaves the model, metrics.jsonl, summary.json, checkpoints, pictures and report.html in a folder of its own. Ctrl-C, SIGTERM and
    a closed terminal end the training early and keep what was reached; --resume goes on from there, also after the machine went down,
    to the same bits.
    """
    from mulgil.train.interrupt import say_on_stderr, watched
    from mulgil.train.progress import progress_for
    from mulgil.train.run import TEST

    say = (lambda text: None) if quiet else echo
    begun = new_run(out, choices) if resume is None else resumed_run(resume, choices)
    if begun is None:
        return 0
    run, folder, new = begun
    with folder.lock(), watched(say_on_stderr, ends=False) as signals:
        state = enter(run, folder, new, Path(resume) if resume and run_folder(resume) != Path(resume) else None, fall_back)
        say(heading(run, state))
        try:
            run.train(folder, None if quiet else progress_for(part=TEST), state=state)
            # who is told to end by the system has little time: the model, but no pictures
            files = run.finish(folder, None if no_plots or signals.code > 130 else pictures_at_leisure)
        except (KeyboardInterrupt, SystemExit):
            say_on_stderr(f"stopped; go on with: mulgil train --resume {folder.path}")
            return signals.code or 130
    report(run, folder, files)
    return signals.code or (130 if run.interrupted else 0)


def new_run(out: str | None, choices: dict[str, Any]) -> tuple[Run, RunFolder, bool]:
    """The data first: where they cannot be had, no folder is made. True: it is new."""
    from mulgil.train.folder import RunFolder
    from mulgil.train.run import Options, prepare

    run = prepare(Options(**choices), note=echo)
    return run, RunFolder.create(out, run.recipe.name), True


def resumed_run(resume: str, choices: dict[str, Any]) -> tuple[Run, RunFolder, bool] | None:
    """The run in a folder, or a new one where nothing was begun; None, after a line that says so, if it is finished.

    A run's own options hold: others are refused, but for those of `MAY_CHANGE`, and more epochs.
    """
    from mulgil.train.folder import RunFolder
    from mulgil.train.run import resumed
    from mulgil.train.runs import find_run

    context = click.get_current_context()
    asked = [name for name in (*choices, "out") if context.get_parameter_source(name) == ParameterSource.COMMANDLINE]
    folder = RunFolder(run_folder(resume))
    if not folder.config.exists() and (folder.path.is_dir() or asked):  # it died before it wrote what it was told, or is yet to begin
        refuse([name for name in asked if name == "out"])
        echo(f"{folder.path}: no run was begun there yet: starting anew")
        return new_run(str(folder.path), choices)
    found = find_run(str(folder.path))
    own = found.config.get("options") or {}
    refuse([name for name in asked if name not in (*MAY_CHANGE, "epochs") and choices.get(name, resume) != own.get(name)])
    longer = "epochs" in asked and choices["epochs"] != found.settings.get("epochs")
    if found.state == "finished" and not longer:
        echo(f"{found.folder.path} is finished: {found.epochs} epochs, test accuracy {found.figure('test_accuracy') or 0:.4f}")
        echo(f"train it longer with: mulgil train --resume {found.folder.path} --epochs N")
        return None
    changes = {name: choices[name] for name in asked if name in MAY_CHANGE or (name == "epochs" and longer)}
    return *resumed(found.folder.path, echo, **changes), False


def refuse(given: list[str]) -> None:
    """Refuse options that a run which goes on has already, and has otherwise."""
    if given:
        names = ", ".join(NAMES.get(name, f"--{name.replace('_', '-')}") for name in given)
        raise click.UsageError(f"--resume goes on with the options that the run began with: leave out {names}")


def run_folder(resume: str) -> Path:
    """`runs/x` of `runs/x` or of `runs/x/checkpoints/step-00000100.safetensors`."""
    path = Path(resume)
    return path.parent.parent if path.suffix == ".safetensors" else path


def enter(run: Run, folder: RunFolder, new: bool, checkpoint: Path | None, fall_back: bool) -> dict[str, Any] | None:
    """Begin in the folder, which is held: note what is trained, or read the state to go on from."""
    from dataclasses import asdict

    from mulgil.train.run import read_state

    if new:
        folder.write_config(asdict(run.options), run.settings())
        return None
    state = read_state(folder, run, checkpoint, echo if fall_back else None)
    if state is None and not fall_back:
        echo(f"{folder.path}: nothing was kept yet: starting anew")
    folder.lengthen(run.epochs)
    folder.tidy()
    for line in folder.changes():
        echo(f"note: {line}", err=True)
    return state


def heading(run: Run, state: dict[str, Any] | None = None) -> str:
    count = sum(p.numel() for p in run.model.parameters())
    data = f"{len(run.source.train):,} + {len(run.source.test):,} images of {run.source.name}"
    optimizer = f"{type(run.optimizer).__name__} lr {run.optimizer.param_groups[0]['lr']:g}"
    place = "" if state is None else "\ngoing on after step {step:,} (epoch {epoch}, batch {batch})".format(**state["position"])
    return (
        f"{run.recipe.name}: {run.recipe.summary} ({count:,} parameters)\n"
        f"{data}, batches of {run.batch_size}, {optimizer}, seed {run.options.seed}, {run.options.device}{place}"
    )


def pictures_at_leisure(run: Run, folder: RunFolder) -> list[Path]:
    """The pictures; the model is kept by now, so a first signal ends the drawing at once."""
    from mulgil.train.interrupt import asked, at_once

    with nullcontext() if asked() else at_once():
        return pictures(run, folder)


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
