"""Guard: the place in a training step where a loss or gradient that is not finite ends it, before anything is updated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mulgil.errors import NonFiniteError
from mulgil.ops import function
from mulgil.ops.function import Array, Function

WHOLE = 32768  # elements; of larger gradients the edges are looked at


@dataclass(frozen=True)
class Guard(Function):
    """Passes the gradients on as they are, or raises NonFiniteError: what reads them afterwards knows that they are finite.

    Inputs: loss (0-d), then `count` gradients, which it "overwrites" with themselves: so it stands before every update.
    """

    count: int

    @property
    def inplace(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(range(1, self.count + 1))

    def forward(self, ctx, loss, *gradients):
        check(loss, *gradients)
        return gradients


def guard(loss: Array, gradients: list[Array]) -> None:
    """Raise NonFiniteError unless the loss and all gradients are finite; recorded by who watches the step, as an update is."""
    if not function.observers():
        check(loss, *gradients)
    elif gradients:
        function.run_inplace(Guard(len(gradients)), loss, *gradients)


def check(loss: Array, *gradients: Array) -> None:
    """Raise NonFiniteError unless the loss and the gradients are finite.

    A gradient of more than 32,768 elements is judged by its first row and its first column: that of a weight is a product, so
    one value that is not finite on either side of it fills a row or a column. An overflow within the product shows in the
    loss of the next step.
    """
    if not math.isfinite(loss):
        raise NonFiniteError("the loss must be finite", str(float(loss)))
    total = 0.0
    for g in gradients:
        if g.size <= WHOLE:
            total += _square(g.reshape(-1))
        else:
            rows = g.reshape(len(g), -1)
            total += _square(rows[0]) + _square(rows[:, 0])
    if not math.isfinite(total) and not all(bool(np.isfinite(g).all()) for g in gradients):
        raise NonFiniteError("the gradients must be finite")


def _square(vector: Array) -> float:
    return vector.dot(vector)  # on a GPU the sum stays there until it is asked for
