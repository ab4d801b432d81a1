"""Guard: the place in a training step where a loss or gradient that is not finite ends it, before anything is updated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mulgil.errors import NonFiniteError, ShapeError
from mulgil.ops import function
from mulgil.ops.function import Array, Function

WHOLE = 32768  # elements; of larger gradients the edges are looked at


@dataclass(frozen=True)
class Guard(Function):
    """Passes the gradients on as they are, or raises NonFiniteError: what reads them afterwards knows that they are finite.

    Inputs: loss (0-d), then `count` gradients, which it "overwrites" with themselves: so it stands before every update.
    """

    count: int
    raises = True

    @property
    def inplace(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(range(1, self.count + 1))

    def forward(self, ctx, loss, *gradients):
        return self.overwrite(ctx, loss, *gradients)

    def overwrite(self, ctx, loss, *gradients):
        check(loss, *gradients)
        return gradients


@dataclass(frozen=True)
class Classes(Function):
    """Raises ShapeError unless every label is a class, 0 to classes - 1, or `ignore_index`. Gives nothing.

    target: integers of any shape. name: of the function that was given them.
    """

    name: str
    classes: int
    ignore_index: int
    composed = ("forward",)
    raises = True

    def forward(self, ctx, target):
        limits = np.iinfo(target.dtype)
        bad = [target >= self.classes] if self.classes <= limits.max else []
        bad += [target < 0] if limits.min else []
        if not bad:
            return ()
        wrong = bad[0] | bad[-1]
        if not 0 <= self.ignore_index < self.classes and limits.min <= self.ignore_index <= limits.max:
            wrong = wrong & (target != self.ignore_index)
        Refuse(self)(wrong.astype("float32").sum(), target)
        return ()

    def explain(self, target: Array) -> None:
        """Raise the error, if there is something to refuse: it names the first label that is wrong."""
        bad = ((target < 0) | (target >= self.classes)) & (target != self.ignore_index)
        if not bad.any():
            return
        index = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
        place, value, largest = index[0] if len(index) == 1 else index, int(target[index]), int(target.max())
        hint = f"give the last layer {largest + 1} outputs, or correct the labels" if value > 0 else "correct the labels"
        if largest == self.classes and int(target[target != self.ignore_index].min()) == 1:
            hint = "labels count from 0: target - 1"
        rule = f"{self.name}: labels must be 0 to {self.classes - 1}, for the prediction has {self.classes} classes"
        raise ShapeError(rule, f"target[{place}] = {value}", hint)


@dataclass(frozen=True)
class Refuse(Function):
    """Has the rule explain what is wrong with x, where the number of faults is not 0. Gives nothing. Inputs: that number, x."""

    rule: Classes
    raises = True

    def forward(self, ctx, faults, x):
        if faults:
            self.rule.explain(x)
        return ()


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
