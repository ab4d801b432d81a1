"""`mulgil sweep`: a recipe with many settings, a table and a picture of what they did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mulgil.cli.options import DATA_NAMES, OPTIMIZER_NAMES, RECIPE_NAMES, PositiveFloat, data_root_option
from mulgil.cli.screen import console, echo, text

if TYPE_CHECKING:
    from pathlib import Path

    from mulgil.train.sweep import Sweep

NOT_TRAINING = ("jobs", "out", "resume", "search", "settings", "trials", "no_plots")


@click.command()
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUES", help="What to vary: lr=1e-3,1e-2 (values) or lr=1e-4..1e-1 (a range)."
)
@click.option("--search", type=click.Choice(["grid", "random", "optuna"]), default="grid", show_default=True, help="How to choose.")
@click.option("--trials", type=click.IntRange(min=1), metavar="N", help="How many, for random and optuna.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="At a time; they share the cores.")
@click.option("--resume", metavar="SWEEP", help="Go on with the sweep in this folder: what is finished stays.")
@click.option("--out", metavar="DIR", type=click.Path(file_okay=False), help="A new folder for it (default: sweeps/<time>-<recipe>).")
@click.option("--recipe", type=click.Choice(RECIPE_NAMES), help="What to train (default: cnn).")
@click.option("--data", type=click.Choice(DATA_NAMES), help="(default: auto)")
@data_root_option
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Passes over the data (default: the recipe's).")
@click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Images in a step (default: the recipe's).")
@click.option("--lr", type=PositiveFloat(), metavar="X", help="Learning rate (default: the recipe's).")
@click.option("--optimizer", type=click.Choice(OPTIMIZER_NAMES), help="(default: the recipe's)")
@click.option("--seed", type=click.IntRange(min=0), metavar="S", help="Of the trials, and of the search (default: 0).")
@click.option("--no-plots", is_flag=True, help="Draw no picture.")
def sweep(**options: Any) -> int:
    """Train a recipe with many settings.

    Each trial is a run folder, as `mulgil train` leaves it; the table is kept as results.csv, the picture as sweep.png. Ctrl-C keeps
    what was reached.

    \b
    mulgil sweep --recipe mlp --epochs 5 --set batch_size=32,128,500
    mulgil sweep --recipe cnn --set lr=1e-3..1e-1 --search random --trials 10 --jobs 2
    """
    from mulgil.train.search import parse_space
    from mulgil.train.sweep import Sweep

    training = {name: value for name, value in options.items() if name not in NOT_TRAINING}
    if options["resume"] is not None:
        if options["settings"] or any(value is not None for value in training.values()):
            raise click.UsageError("--resume goes on with what the sweep began with: leave out the other options")
        chosen = Sweep.existing(options["resume"])
    else:
        space = parse_space(options["settings"])
        if training["recipe"] is None and "recipe" not in space:
            training["recipe"] = "cnn"
        chosen = Sweep.create(options["out"], training, space, options["search"], options["trials"])
    echo(f"{chosen.path}: {' x '.join(chosen.space)}, {chosen.search}, {len(chosen.trials) or chosen.count} trials")
    whole = chosen.run(options["jobs"], echo)
    show(chosen)
    if not whole:
        echo(f"\nstopped; the rest: mulgil sweep --resume {chosen.path}", err=True)
    elif not options["no_plots"]:
        draw(chosen)
    return 0 if whole else 130


def show(chosen: Sweep) -> None:
    """The table; the trial with the highest test accuracy is marked."""
    from rich.table import Table

    rows = chosen.results()
    best = max((row["test_accuracy"] for row in rows if row["test_accuracy"] is not None), default=None)
    table = Table("trial", *(text(name.replace("_", " ")) for name in chosen.space), "state", box=None, pad_edge=False, header_style="bold")
    for name in ("train loss", "test loss", "test accuracy", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        figures = [f"{row[name]:.4f}" if row[name] is not None else "-" for name in ("train_loss", "test_loss", "test_accuracy")]
        seconds = f"{row['seconds']:.1f}" if row["seconds"] is not None else "-"
        mark = " *" if best is not None and row["test_accuracy"] == best else "  "
        settings = [text(row[name]) for name in chosen.space]
        table.add_row(str(row["trial"]), *settings, row["state"], *figures[:2], figures[2] + mark, seconds)
    console().print("", table, sep="\n")
    echo(f"\n  results  {chosen.path / 'results.csv'}")


def draw(chosen: Sweep) -> Path | None:
    """sweep.png, where matplotlib is there and some trial has figures."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        echo('no picture: matplotlib is not installed (pip install "mulgil[plot]")')
        return None
    from mulgil import plot
    from mulgil.plot.sweep import sweep as picture

    rows = [row for row in chosen.results() if row["test_accuracy"] is not None]
    if not rows:
        return None
    title = f"{chosen.options.get('recipe') or 'recipes'}: impact of {' and '.join(chosen.space).replace('_', ' ')}"
    path = plot.save_png(picture(rows, list(chosen.space), title), chosen.path / "sweep.png")
    echo(f"  picture  {path}")
    return path
