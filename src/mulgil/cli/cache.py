"""`mulgil cache`: the kernels that were compiled for this machine, and are kept for the next run."""

from __future__ import annotations

import click

from mulgil.cli.screen import echo


@click.group()
def cache() -> None:
    """The kernels that were compiled for this machine.

    They lie in MULGIL_CACHE, or in the user's cache folder. Removing them is safe: what is needed is compiled again.
    """


@cache.command()
def info() -> None:
    """Where the compiled kernels lie, how many there are, and what they are made for."""
    from mulgil.native.cache import Store, machine

    facts, made_for = Store().info(), machine()
    echo(f"folder    {facts['folder']}")
    echo(f"kernels   {facts['entries']:,}, {facts['bytes'] / 2**20:.1f} MB of at most {facts['limit'] >> 20} MB")
    echo(f"machine   {made_for['cpu'].split()[1]}, {made_for['cpu'].split()[0]}")
    echo("versions  " + ", ".join(f"{name} {made_for[name]}" for name in ("numba", "llvmlite", "numpy", "mulgil")))
    if facts["fault"]:
        echo(f"not used  {facts['fault']}")


@cache.command()
def clear() -> None:
    """Remove every compiled kernel."""
    from mulgil.native.cache import Store

    store = Store()
    count = store.clear()
    echo(f"{count} kernel{'s' if count != 1 else ''} removed from {store.folder}")
