"""`mulgil recipes`."""

from __future__ import annotations

import click

from mulgil.cli.screen import console


@click.command()
def recipes() -> None:
    """The programs that `mulgil train` can run."""
    from rich.table import Table

    from mulgil.train.recipes import RECIPES

    table = Table("recipe", "model", "optimizer", "batch", "epochs", box=None, pad_edge=False, header_style="bold")
    for recipe in RECIPES.values():
        settings = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in recipe.settings.items())
        table.add_row(recipe.name, recipe.summary, f"{recipe.optimizer}: {settings}", str(recipe.batch_size), str(recipe.epochs))
    screen = console()
    screen.print(table)
    screen.print("\ntrain one with: mulgil train --recipe NAME")
