"""Constructor arguments as plain data: what `mulgil.save` keeps of a model besides its class and weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from mulgil.nn.tree import ModuleTree


def plain(value: Any) -> Any:
    """A copy of `value` made of None, bools, numbers, strings, tuples, lists, dicts and Modules; None if it holds anything else."""
    try:
        return _copy(value)
    except TypeError:
        return None


def _copy(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str, ModuleTree)):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    if type(value) in (tuple, list):
        return type(value)(_copy(item) for item in value)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _copy(item) for key, item in value.items()}
    raise TypeError(type(value).__name__)
