"""`mulgil data`: list, download and describe the data sets."""

from __future__ import annotations

import os
from typing import Any

import click

from mulgil.cli.options import DATA_NAMES, data_root_option
from mulgil.cli.screen import console, echo

SETS = [name for name in DATA_NAMES if name != "auto"]


@click.group()
def data() -> None:
    """List, download and describe the data sets."""


@data.command(name="list")
@data_root_option
def list_sets(data_root: str | None) -> None:
    """The data sets, and which of them are on this machine."""
    from rich.table import Table

    from mulgil.train.sources import SETS as KINDS

    table = Table("name", "here", "what", box=None, pad_edge=False, header_style="bold")
    for name, kind in KINDS.items():
        table.add_row(name, "yes" if where(kind, data_root) else "no", kind.about)
    screen = console()
    screen.print(table)
    screen.print("\nfetch one with: mulgil data download NAME")


@data.command()
@click.argument("name", type=click.Choice([name for name in SETS if name != "digits"]))
@data_root_option
def download(name: str, data_root: str | None) -> None:
    """Fetch a data set, checked, into --data-root or the user's cache."""
    from mulgil.train.sources import SETS as KINDS

    for path in KINDS[name].download(data_root):
        echo(path)


@data.command()
@click.argument("name", type=click.Choice(SETS))
@data_root_option
def info(name: str, data_root: str | None) -> None:
    """What a data set holds and where it lies."""
    import numpy as np

    from mulgil.train.sources import SETS as KINDS

    kind = KINDS[name]
    echo(f"{name}: {kind.about}")
    place = where(kind, data_root)
    if place is None:
        echo(f"not on this machine: mulgil data download {name}")
        return
    echo(f"place: {place}")
    for part, train in (("train", True), ("test", False)):
        dataset = kind(data_root, train=train)
        images, counts = np.asarray(dataset.data), np.bincount(np.asarray(dataset.targets), minlength=len(kind.classes))
        echo(f"{part}: {len(images):,} images {list(images.shape[1:])} {images.dtype}, {counts.min():,} to {counts.max():,} a class")
    echo(f"classes: {', '.join(kind.classes)}")


def where(kind: Any, root: str | None) -> str | None:
    """The folder of a data set on this machine; None where it is not there."""
    if not hasattr(kind, "find"):
        return "inside the package"
    found = [kind.find(root, train) for train in (True, False)]
    return None if None in found else os.fspath(found[0][0].parent)
