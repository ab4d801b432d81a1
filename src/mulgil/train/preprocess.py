"""Preprocessing as plain data, so that it can stand in a model file beside the weights that need it.

A description is a sequence of (name, arguments): `(("ToTensor", {}), ("Normalize", {"mean": 0.5, "std": 0.5}))`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mulgil.data import transforms
from mulgil.errors import ModelFileError

Steps = Sequence[tuple[str, dict[str, Any]]]

MOST = 4096  # of a whole number in a step: pixels
ALLOWED = ("ToTensor", "Normalize", "Pad", "Resize", "Flatten")  # what a file may name


def build_transform(steps: Steps) -> transforms.Compose:
    """The transform that a description stands for. Raises ModelFileError for a step that is not one of `ALLOWED`."""
    made = []
    for step in steps:
        try:
            name, arguments = step
            if name not in ALLOWED:
                raise ValueError(f"unknown step {name!r}")
            _refuse_large(arguments)
            made.append(getattr(transforms, name)(**arguments))
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            hint = f"known steps: {', '.join(ALLOWED)}"
            raise ModelFileError("preprocessing is a list of (name, arguments)", f"{step!r:.200}: {error}", hint) from None
    return transforms.Compose(made)


def _refuse_large(value: Any) -> None:
    """A border of a million pixels in a stranger's file would take all memory."""
    if isinstance(value, (dict, list, tuple)):
        for part in value.values() if isinstance(value, dict) else value:
            _refuse_large(part)
    elif isinstance(value, int) and abs(value) > MOST:
        raise ValueError(f"{value} is more than {MOST}")


def as_json(steps: Steps) -> list:
    """The description as JSON holds it."""
    return [[name, dict(arguments)] for name, arguments in steps]


def describe_transform(transform: Callable | None) -> list | None:
    """The description of a transform, as JSON holds it: [] for None. None for one that holds other steps than `ALLOWED`."""
    if transform is None:
        return []
    if type(transform) is transforms.Compose:
        parts = [describe_transform(step) for step in transform.transforms]
        return None if None in parts else [step for part in parts for step in part or ()]
    name = type(transform).__name__
    if name not in ALLOWED or type(transform) is not getattr(transforms, name):
        return None
    settings = {key: getattr(transform, key) for key in inspect.signature(type(transform)).parameters}
    if name == "Normalize":
        settings.pop("inplace")  # how, not what
    return [[name, json.loads(json.dumps(settings, default=lambda value: np.asarray(value).tolist()))]]
