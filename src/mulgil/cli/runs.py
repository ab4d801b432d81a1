"""`mulgil runs`: the runs in their folders, listed, shown and compared."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from mulgil.cli.screen import MANY, console, echo, text

if TYPE_CHECKING:
    from mulgil.train.runs import RunFacts

STYLES = {"finished": "green", "running": "cyan", "damaged": "red"}

folder_option = click.option("--dir", "base", default="runs", show_default=True, metavar="DIR", help="The folder of the runs.")


@click.group()
def runs() -> None:
    """List, show and compare the runs that `mulgil train` left."""


@runs.command(name="list")
@folder_option
def list_command(base: str) -> None:
    """The runs, the oldest first."""
    from rich.table import Table

    from mulgil.train.runs import list_runs

    found = list_runs(base)
    if not found:
        echo(f"no runs in {base}; mulgil train makes one")
        return
    table = Table("run", "recipe", "data", "state", box=None, pad_edge=False, header_style="bold")
    for name in ("epochs", "test accuracy", "test loss", "seconds"):
        table.add_column(name, justify="right")
    for run in found:
        facts = (run.name, run.settings.get("recipe"), run.settings.get("data"))
        table.add_row(*map(text, facts), state(run), text(run.epochs), *figures(run))
    console().print(table)
    if any(run.state in ("unfinished", "stopped") for run in found):
        echo(f"\na run that is stopped or unfinished goes on with: mulgil train --resume {base}/RUN")


@runs.command()
@click.argument("name", metavar="RUN")
@folder_option
def show(name: str, base: str) -> int:
    """What RUN (a folder, or its name in --dir) was told, how it went, what lies in it."""
    from rich.table import Table

    from mulgil.train.runs import find_run

    run = find_run(name, base)
    screen = console()
    screen.print(f"[bold]{text(str(run.folder.path))}[/bold]  {state(run)}  epochs {text(run.epochs)}")
    for problem in run.problems:
        screen.print(f"  [red]{text(problem)}[/red]")
    for heading in ("settings", "machine", "code"):
        values = found if isinstance(found := run.config.get(heading), dict) else {}
        table = Table(box=None, pad_edge=False, show_header=False)
        for key, value in list(values.items())[: 10 * MANY]:
            table.add_row(f"  {text(key)}", text(value))
        if values:
            screen.print(f"\n{heading}", table, sep="\n")
    if run.lines:
        screen.print("\nepochs", epochs_table(run), sep="\n")
    screen.print(f"\nfiles: {', '.join(text(file) for file in files(run)) or 'none'}")
    return 1 if run.state == "damaged" else 0


@runs.command()
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@folder_option
@click.option("--out", metavar="PNG", help="Where to draw the curves (default: <dir>/compare.png).")
@click.option("--no-plots", is_flag=True, help="Draw no picture.")
def compare(names: tuple[str, ...], base: str, out: str | None, no_plots: bool) -> None:
    """The figures of several runs side by side, the settings in which they differ, and their curves in one picture."""
    from rich.table import Table

    from mulgil.train.runs import differences, find_run

    found = [find_run(name, base) for name in names]
    table = Table("run", "state", box=None, pad_edge=False, header_style="bold")
    for name in (differing := differences(found)[:MANY]):
        table.add_column(text(name.replace("_", " ")))
    for name in ("epochs", "test accuracy", "test loss", "seconds"):
        table.add_column(name, justify="right")
    for run in found:
        table.add_row(text(run.name), state(run), *(text(run.settings.get(name)) for name in differing), text(run.epochs), *figures(run))
    console().print(table)
    if not no_plots:
        draw(found, out or f"{base}/compare.png")


def draw(found: list[RunFacts], out: str) -> None:
    """The picture, where matplotlib is there and some run has figures."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        echo('no picture: matplotlib is not installed (pip install "mulgil[plot]")')
        return
    from mulgil import plot
    from mulgil.plot.compare import compare as picture

    curves = {run.name: run.lines for run in found if run.lines}
    if curves:
        echo(f"\ncurves: {plot.save_png(picture(curves), out)}")


def epochs_table(run: RunFacts, most: int = 12) -> Any:
    """The first and the last epochs."""
    from rich.table import Table

    names = [name for name, value in run.lines[0].items() if isinstance(value, (int, float)) and not isinstance(value, bool)][:MANY]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(text(name.replace("_", " ")), justify="right")
    lines = list(run.lines)
    for line in lines if len(lines) <= most else [*lines[: most // 2], {}, *lines[-most // 2 :]]:
        table.add_row(*(text(line.get(name)) for name in names) if line else ["..."] * len(names))
    return table


def files(run: RunFacts) -> list[str]:
    """What lies in the folder, checkpoints among it."""
    if run.folder.is_link():
        return []
    here = sorted(path.name for path in run.folder.path.iterdir() if os.path.isfile(path) and not path.name.startswith("."))
    names = here + sorted(f"checkpoints/{path.name}" for path in run.folder.checkpoints.glob("*.safetensors"))
    return names if len(names) <= 10 * MANY else [*names[: 10 * MANY], f"and {len(names) - 10 * MANY:,} more"]


def figures(run: RunFacts) -> list[str]:
    values = [run.figure(name) for name in ("test_accuracy", "test_loss", "seconds")]
    return ["-" if value is None else form.format(value) for form, value in zip(("{:.4f}", "{:.4f}", "{:.1f}"), values, strict=True)]


def state(run: RunFacts) -> str:
    style = STYLES.get(run.state, "yellow")
    return f"[{style}]{run.state}[/{style}]"
