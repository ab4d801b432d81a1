"""The doorway of the command line: finds the command, turns errors into lines and exit codes.

Exit codes: 0 well; 1 a MulgilError (its three lines); 2 wrong options (one line); 128 + n stopped by signal n, 130 by Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from shutil import get_terminal_size
from typing import Any

import click

from mulgil import __version__
from mulgil.cli.screen import echo, encodable
from mulgil.errors import MulgilError, visible

COMMANDS = {
    "train": ("mulgil.cli.train:train", "Train a classifier and show what it learned."),
    "eval": ("mulgil.cli.evaluate:evaluate", "Loss and accuracy of a saved model on a test set."),
    "predict": ("mulgil.cli.predict:predict", "What a saved model sees in image files."),
    "sweep": ("mulgil.cli.sweep:sweep", "Train with many settings and see what they do."),
    "runs": ("mulgil.cli.runs:runs", "List, show and compare the runs that were kept."),
    "data": ("mulgil.cli.data:data", "List, download and describe the data sets."),
    "cache": ("mulgil.cli.cache:cache", "The kernels that were compiled for this machine."),
    "recipes": ("mulgil.cli.recipes:recipes", "The programs that `mulgil train` can run."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called: `mulgil --help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        return getattr(import_module(module), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: mulgil train",
)
@click.version_option(__version__, message="mulgil %(version)s")
def cli() -> None:
    """mulgil: train image classifiers on ordinary computers, see where they fail, keep and use them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        encodable(stream)
    try:
        columns = get_terminal_size().columns
        narrow: dict[str, Any] = {"terminal_width": max(columns - 2, 20)} if columns < 52 else {}  # click's help stops at 50
        code = cli.main(None if arguments is None else list(arguments), prog_name="mulgil", standalone_mode=False, **narrow)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        echo(error.ctx.get_help() if error.ctx else error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        name = context.command_path if context else "mulgil"
        message = " ".join(error.format_message().split()).rstrip(".")
        echo(f"{name}: {message}. What it takes: {name} --help", err=True)
        return 2
    except MulgilError as error:
        echo(str(error), err=True)
        return 1
    except (KeyboardInterrupt, click.Abort):
        echo("stopped", err=True)
        return 130
    except BrokenPipeError:  # `mulgil recipes | head -1`
        sys.stderr.close()
        return 1
    except MemoryError:
        echo("mulgil: this takes more memory than there is", err=True)
        return 1
    except OSError as error:
        echo(f"mulgil: {visible(str(error.filename or 'file'))}: {error.strerror or error}", err=True)
        return 1
