"""What stands in the braces of the vocabulary: which Tensors fit a kind, what to make where none does, and options that fit a Tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from mulgil import Tensor
from tests.fuzz.values import FLOATS, INTEGERS

Wanted = tuple[tuple[int, ...], str, str]  # shape, dtype, kind of values: what to make


@dataclass(frozen=True)
class Operand:
    """A kind of operand. accepts(candidate, x): whether a Tensor fits beside the first operand x. make(rng, x) describes one that does."""

    accepts: Callable[[Tensor, Tensor], bool]
    make: Callable[[Random, Tensor], Wanted]


LENGTHS = (1, 1, 2, 3, 3, 4, 5)


def some_shape(rng: Random, least: int = 0, most: int = 3) -> tuple[int, ...]:
    """A shape; one axis in fifty has length 0, and one in fifty is long."""
    return tuple(
        0 if (p := rng.random()) < 0.02 else rng.choice((33, 130)) if p > 0.98 else rng.choice(LENGTHS)
        for _ in range(rng.randint(least, most))
    )


def some_dtype(rng: Random) -> str:
    return rng.choice(("float64", "float64", "float32", "float32", "float32", "float16", "int64", "int32", "uint8", "bool"))


def beside(rng: Random, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts with `shape`: some axes 1, some leading ones gone, some of length 1 grown."""
    chosen = [1 if rng.random() < 0.3 else rng.choice((2, 3)) if n == 1 and rng.random() < 0.3 else n for n in shape]
    return tuple(chosen[rng.randint(0, len(chosen)) :] if rng.random() < 0.3 else chosen)


def like(rng: Random, x: Tensor) -> Wanted:
    dtype = str(x.dtype) if rng.random() < 0.75 and x.dtype != bool else rng.choice((*FLOATS, *INTEGERS))
    return beside(rng, x.shape), dtype, "normal"


def broadcasts(y: Tensor, x: Tensor) -> bool:
    try:
        return np.prod(np.broadcast_shapes(y.shape, x.shape)) < 20000
    except ValueError:
        return False


def _number(t: Tensor) -> bool:
    return t.dtype.kind != "b"


def _multiplied(rng: Random, x: Tensor) -> Wanted:
    inner, lead = x.shape[-1] if x.ndim else 1, x.shape[:-2]
    shape = rng.choice([(inner,), (inner, 2), (inner, 1), (*lead, inner, 3), (2, inner, 2)])
    return shape, str(x.dtype), "normal"


def _joined(rng: Random, x: Tensor) -> Wanted:
    return x.shape, str(x.dtype) if rng.random() < 0.8 else rng.choice(FLOATS), "normal"


def _float(rng: Random, least: int, most: int) -> Wanted:
    return some_shape(rng, least, most), rng.choice(FLOATS[:2] * 2 + FLOATS), "normal"


OPERANDS: dict[str, Operand] = {
    "": Operand(lambda t, x: True, lambda rng, x: (some_shape(rng), some_dtype(rng), "normal")),
    "real": Operand(lambda t, x: _number(t), lambda rng, x: (some_shape(rng), rng.choice(FLOATS * 3 + INTEGERS), "normal")),
    "float": Operand(lambda t, x: t.dtype.kind == "f", lambda rng, x: _float(rng, 0, 3)),
    "bool": Operand(lambda t, x: t.dtype == bool, lambda rng, x: (some_shape(rng), "bool", "normal")),
    "bits": Operand(
        lambda t, x: t.dtype.kind in "iub", lambda rng, x: (some_shape(rng), rng.choice((*INTEGERS, "bool", "bool")), "normal")
    ),
    "some": Operand(lambda t, x: t.ndim > 0, lambda rng, x: (some_shape(rng, 1), some_dtype(rng), "normal")),
    "deep": Operand(lambda t, x: t.ndim > 1 and t.dtype.kind == "f", lambda rng, x: _float(rng, 2, 4)),
    "vector": Operand(lambda t, x: t.ndim == 1 and t.dtype.kind == "f", lambda rng, x: _float(rng, 1, 1)),
    "rowed": Operand(
        lambda t, x: t.ndim > 0 and t.numel() and t.shape[-1] > 0 and t.dtype.kind == "f", lambda rng, x: ((2, 3), "float64", "normal")
    ),
    "scalar": Operand(lambda t, x: t.ndim == 0 and t.dtype.kind == "f", lambda rng, x: ((), rng.choice(FLOATS[:2]), "normal")),
    "like": Operand(lambda t, x: _number(t) and broadcasts(t, x), like),
    "alike": Operand(lambda t, x: t.dtype.kind == "f" and t.shape == x.shape, lambda rng, x: (x.shape, str(x.dtype), "normal")),
    "other": Operand(
        lambda t, x: _number(t) and broadcasts(t, x) and t.dtype != x.dtype,
        lambda rng, x: (beside(rng, x.shape), rng.choice((*FLOATS, *INTEGERS)), "normal"),
    ),
    "likebits": Operand(
        lambda t, x: t.dtype == x.dtype and broadcasts(t, x), lambda rng, x: (beside(rng, x.shape), str(x.dtype), "normal")
    ),
    "same": Operand(lambda t, x: t.shape == x.shape and t.dtype == x.dtype, lambda rng, x: (x.shape, str(x.dtype), "ties")),
    "fits": Operand(lambda t, x: t.shape in (x.shape, ()) and t.dtype == x.dtype, lambda rng, x: (x.shape, str(x.dtype), "normal")),
    "mask": Operand(lambda t, x: t.dtype == bool and broadcasts(t, x), lambda rng, x: (beside(rng, x.shape), "bool", "normal")),
    "rows": Operand(lambda t, x: False, lambda rng, x: ((2,), "int64", "labels2" if x.shape[0] > 1 else "zeros")),
    "rowmask": Operand(lambda t, x: t.dtype == bool and t.shape == x.shape[:1], lambda rng, x: (x.shape[:1], "bool", "normal")),
    "joined": Operand(lambda t, x: t.shape == x.shape, _joined),
    "multiplied": Operand(
        lambda t, x: t.ndim > 0 and t.dtype == x.dtype and t.shape[-2 if t.ndim > 1 else -1] == (x.shape or (0,))[-1], _multiplied
    ),
    "weights": Operand(
        lambda t, x: t.ndim == 2 and t.shape[-1:] == x.shape[-1:] and t.dtype == x.dtype,
        lambda rng, x: ((3, (x.shape or (1,))[-1]), str(x.dtype), "normal"),
    ),
    "bias": Operand(lambda t, x: t.shape == (3,) and t.dtype == x.dtype, lambda rng, x: ((3,), str(x.dtype), "normal")),
    "images": Operand(
        lambda t, x: t.ndim == 4 and t.dtype.kind == "f" and min(t.shape[2:]) >= 2,
        lambda rng, x: ((rng.choice((1, 2)), rng.choice((1, 2)), 4, rng.choice((3, 5))), rng.choice(FLOATS[:2]), "normal"),
    ),
    "filters": Operand(lambda t, x: False, lambda rng, x: ((2, x.shape[1], 2, 2), str(x.dtype), "normal")),
    "classes": Operand(lambda t, x: False, lambda rng, x: (some_shape(rng, 1, 2), "int64", "labels5")),
    "logits": Operand(
        lambda t, x: t.ndim == 2 and t.dtype.kind == "f" and t.shape[1] > 2,
        lambda rng, x: ((rng.choice((1, 2, 4)), 3), rng.choice(FLOATS[:2]), "normal"),
    ),
    "labels": Operand(lambda t, x: False, lambda rng, x: (x.shape[:1], "int64", "labels3")),
}


# ---- options


def _axis(rng: Random, x: Tensor) -> int:
    return rng.randrange(-x.ndim, x.ndim) if x.ndim else -1


def _axes(rng: Random, x: Tensor) -> str:
    if rng.random() < 0.25 or not x.ndim:
        return "None"
    if rng.random() < 0.5 or x.ndim == 1:
        return str(_axis(rng, x))
    return str(tuple(sorted(rng.sample(range(x.ndim), rng.randint(2, x.ndim)))))


def _newshape(rng: Random, x: Tensor) -> str:
    size = int(np.prod(x.shape))
    choices: list[tuple[int, ...]] = [(*x.shape, 1), (1, *x.shape), (size,), x.shape[::-1]]
    if size:
        choices += [(-1, n) for n in (1, 2, 3, 4, 6) if size % n == 0]
    if x.ndim > 1:
        choices += [(-1, *x.shape[2:]), (x.shape[0], -1)] if size else []
    return str(rng.choice(choices))


def _slice(rng: Random, n: int, empty: bool = False) -> str:
    return rng.choice([":", "1:", ":-1", "::2", "::-1", "-2:", "::-2", "0:1", *(["2:2"] if empty else [])])


def _index1(rng: Random, n: int) -> str:
    return str(rng.randrange(-n, n)) if n and rng.random() < 0.4 else _slice(rng, n, rng.random() < 0.03)


def _index(rng: Random, x: Tensor) -> str:
    count = rng.randint(1, max(1, x.ndim))
    parts = [_index1(rng, n) for n in x.shape[:count]]
    if rng.random() < 0.15:
        parts.insert(rng.randint(0, len(parts)), "None")
    return ", ".join(parts)


def _positions(rng: Random, n: int, length: int | None = None) -> list[int]:
    return [rng.randrange(-n, n) for _ in range(length or rng.randint(1, 3))] if n else []


def _wider(rng: Random, x: Tensor) -> str:
    grown = [rng.choice((2, 3)) if n == 1 and rng.random() < 0.8 else rng.choice((-1, n)) for n in x.shape]
    return str((rng.choice((1, 2)), *grown) if rng.random() < 0.4 else tuple(grown))


def _widths(rng: Random, x: Tensor) -> str:
    return str(tuple(rng.choice((0, 0, 1, 2)) for _ in range(2 * rng.randint(1, x.ndim))))


# Options that are passed to the function now and then, as arguments whose values change from call to call.
PASSED: dict[str, tuple[str, ...]] = {
    "scalar": ("2|2|3", "0.5|1|1.0", "True|1|1.0", "-1", "2|0.5", "np.float32(2)|np.float32(3)"),
    "flag": ("True|False",),
    "axis": ("0|-1|0", "-1|0"),
    "axes": ("0|(0,)|None", "None|0"),
    "correction": ("0|1",),
    "share": ("0.5|0.1|0.5",),
    "number": ("2|10|2",),
    "index": ("slice(None, None, 2)|slice(1, None)", "0|-1|0", "(0,)|(-1,)"),
    "mode": ("'sum'|'mean'|'sum'",),
}

OPTIONS: dict[str, Callable[[Random, Tensor], Any]] = {
    "scalar": lambda rng, x: rng.choice(("2", "0.5", "-1", "3", "1.0", "0", "-0.25", "True", "1e-3")),
    "number": lambda rng, x: rng.choice(("2", "10", "0.5", "-1.5")),
    "number2": lambda rng, x: rng.choice(("3", "7", "0.25")),
    "share": lambda rng, x: rng.choice(("0.5", "0.1", "0.9")),
    "power": lambda rng, x: rng.choice(("2", "3")),
    "exponent": lambda rng, x: rng.choice(("2", "2", "3", "0.5", "1", "0", "-1", "2.0")),
    "base": lambda rng, x: rng.choice(("2", "0.5", "2.5")),
    "divisor": lambda rng, x: rng.choice(("2", "3", "-2", "0.7")),
    "low": lambda rng, x: rng.choice(("-1", "-0.5", "0", "0.0")),
    "high": lambda rng, x: rng.choice(("1", "0.5", "2")),
    "sign": lambda rng, x: rng.choice(("<", "<=", ">", ">=", "==", "!=")),
    "unary": lambda rng, x: rng.choice(("exp", "sqrt", "sin", "tanh", "sigmoid", "relu", "abs", "square", "log1p")),
    "dtype": lambda rng, x: rng.choice(("float16", "float32", "float64", "int64", "int32", "uint8")),
    "flag": lambda rng, x: rng.choice(("True", "False")),
    "correction": lambda rng, x: rng.choice(("0", "1", "2")),
    "mode": lambda rng, x: rng.choice(('"mean"', '"sum"', '"none"')),
    "pad": lambda rng, x: rng.choice((0, 1)),
    "stride": lambda rng, x: rng.choice((1, 2)),
    "length": lambda rng, x: rng.choice((1, 2, 4)),
    "sizes": lambda rng, x: some_shape(rng, 0, 2),
    "last": lambda rng, x: (x.shape or (1,))[-1],
    "shapeof": lambda rng, x: x.shape,
    "axis": _axis,
    "axis2": _axis,
    "axes": _axes,
    "newaxis": lambda rng, x: rng.randrange(-x.ndim - 1, x.ndim + 1),
    "newshape": _newshape,
    "start": lambda rng, x: rng.randrange(max(1, x.ndim)),
    "order": lambda rng, x: tuple(rng.sample(range(x.ndim), x.ndim)),
    "wider": _wider,
    "widths": _widths,
    "width": lambda rng, x: [(rng.choice((0, 1)), rng.choice((0, 2))) for _ in range(x.ndim)],
    "index": _index,
    "index1": lambda rng, x: _index1(rng, x.shape[-1]),
    "positions": lambda rng, x: _positions(rng, x.shape[0]),
    "positions2": lambda rng, x: _positions(rng, x.shape[1]),
    "position2": lambda rng, x: rng.randrange(x.shape[1]) if x.shape[1] else 0,
}
