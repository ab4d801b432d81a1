"""The one place where the command line writes: names out of files are shown, whatever they hold, and never obeyed."""

from __future__ import annotations

import sys
from typing import Any

import click

from mulgil.errors import visible

MANY = 20  # values of a list that are shown, or columns of a table: a file may hold a million


def echo(text: Any = "", err: bool = False) -> None:
    """A line, or several, without what a terminal would obey. Names in it that must stay in their line: `visible(name)`."""
    click.echo(visible(str(text), lines=True), file=sys.stderr if err else sys.stdout)


def encodable(stream: Any) -> None:
    """Let a stream write every letter: what its encoding lacks, such as Hangul on a terminal of ASCII, comes as `\\ud55c`."""
    if hasattr(stream, "reconfigure") and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


def console() -> Any:
    """A rich console for tables. It reads markup, so what comes out of a file goes through `text`."""
    from rich.console import Console

    screen = Console(highlight=False, soft_wrap=True, emoji=False)
    if not screen.is_terminal:  # a file has no width that tables must fit
        screen.width = 240
    return screen


def text(value: Any) -> str:
    """A value as a cell of a table, or a name, for `console`: in one line, without markup; `-` for none."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{text(str(key))} {text(item)}" for key, item in list(value.items())[:MANY])
    if isinstance(value, list):
        return ", ".join(text(item) for item in value[:MANY])
    from rich.markup import escape

    return f"{value:.5g}" if isinstance(value, float) else escape(visible(str(value), most=200))
