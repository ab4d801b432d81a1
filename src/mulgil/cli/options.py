"""Options that several commands share."""

from __future__ import annotations

import math
from typing import Any

import click

# spelled out here so that `--help` need not import the data sets; a test holds them equal to those of train/
RECIPE_NAMES = ("cnn", "relu", "sigmoid", "softmax", "mlp", "deep-mlp")
DATA_NAMES = ("auto", "mnist", "fashion-mnist", "kmnist", "digits")
OPTIMIZER_NAMES = ("sgd", "adam", "adamw")


class PositiveFloat(click.ParamType):
    """A finite number above 0."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not (math.isfinite(number) and number > 0):
            self.fail(f"{value} must be above 0", param, ctx)
        return number


class Interval(click.ParamType):
    """How often checkpoints are written: 500steps, 30s, 2min, end."""

    name = "interval"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from mulgil.errors import OptionError
        from mulgil.train.checkpoint import Every

        try:
            Every.parse(value)
        except OptionError as error:
            self.fail(f"{error.got} is not a time ({error.hint})", param, ctx)
        return value


data_root_option = click.option(
    "--data-root", metavar="DIR", help="Folder of the data files (default: $MULGIL_DATA, then the user's cache)."
)
device_option = click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
