"""Arrays for programs: every kind of value, layout and dtype from a seed; and their last bits moved, to learn what that changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from mulgil import Tensor

FLOATS = ("float64", "float32", "float16")
INTEGERS = ("int64", "int32", "uint8")

_moved: list[np.random.Generator] = []  # the generator that moves last bits, while there is one


def _special(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    return rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.5, 0.25], shape)


def _rare(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    values = rng.standard_normal(shape)
    return np.where(rng.random(shape) < 0.15, rng.choice([np.nan, np.inf, -np.inf], shape), values)


KINDS: dict[str, Callable[[np.random.Generator, tuple], Any]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: rng.random(shape) + 0.5,
    "ties": lambda rng, shape: rng.integers(-1, 2, shape) * 1.0,
    "zeros": lambda rng, shape: np.zeros(shape),
    "ones": lambda rng, shape: np.ones(shape),
    "large": lambda rng, shape: rng.standard_normal(shape) * 300,
    "special": _special,
    "rare": _rare,  # mostly normal, some nan and inf
    "labels2": lambda rng, shape: rng.integers(0, 2, shape),
    "labels3": lambda rng, shape: rng.integers(0, 3, shape),
    "labels5": lambda rng, shape: rng.integers(0, 5, shape),
    "beyond": lambda rng, shape: np.full(shape, 99),  # no such class
    "ignored": lambda rng, shape: np.full(shape, -100),
    "logarithms": lambda rng, shape: -rng.random(shape) * 3 - 0.1,
}


def _strided(a: np.ndarray) -> np.ndarray:
    wide = np.zeros(tuple(2 * n for n in a.shape), a.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in a.shape)]
    view[...] = a
    return view


def _reversed(a: np.ndarray) -> np.ndarray:
    turned = tuple(slice(None, None, -1) for _ in a.shape)
    return np.ascontiguousarray(a[turned])[turned]


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda a: a,
    "reversed": _reversed,
    "strided": _strided,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape) if len(a) else a,
}


def draw(shape: tuple[int, ...], dtype: str, seed: int, kind: str = "normal", layout: str = "C") -> np.ndarray:
    """An array. kind: one of KINDS (integers and booleans are rounded from twice the values). layout: one of LAYOUTS."""
    rng = np.random.default_rng(seed)
    values = np.asarray(KINDS[kind](rng, shape))
    if dtype == "bool":
        values = np.nan_to_num(values) > 0
    elif dtype in INTEGERS and values.dtype.kind == "f":
        values = np.clip(np.rint(np.nan_to_num(values, posinf=9, neginf=-9) * 2), 0 if dtype == "uint8" else -8, 8)
    made = np.asarray(moved(values.astype(dtype)))
    return LAYOUTS[layout](made) if made.ndim else made


def moved(a: np.ndarray) -> np.ndarray:
    """`a`; within `moving`, with every float moved by up to two units in the last place."""
    if not _moved or a.dtype.kind != "f":
        return a
    with np.errstate(all="ignore"):
        return np.asarray(a * (1 + np.finfo(a.dtype).eps * _moved[-1].uniform(-2, 2, a.shape)).astype(a.dtype)).astype(a.dtype)


def move(x: Any, *operands: Any) -> Any:
    """A Tensor that was made of `operands`, with its last bits moved by an op whose gradient passes. A view and an operand stay."""
    if not _moved or not isinstance(x, Tensor) or x.dtype.kind != "f" or x.array.base is not None or any(x is o for o in operands):
        return x
    return x * Tensor(moved(np.ones(x.shape, x.dtype)))


@contextmanager
def moving(seed: int) -> Iterator[None]:
    """Within, `draw` and `move` move the last bits of what they give."""
    _moved.append(np.random.default_rng(seed))
    try:
        yield
    finally:
        _moved.pop()
