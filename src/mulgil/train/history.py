"""What each epoch gave, as a NumPy structured array that can draw itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class History(np.ndarray):
    """A row an epoch; the columns are `epoch`, `train_loss`, `train_accuracy`, `validation_loss`, `validation_accuracy`, `lr`.

    Other metrics have columns of their names instead of accuracy's. What there was not, such as a validation, is not a number.
    A NumPy structured array, so `history["train_loss"]` is a column and `history[-1]` the last epoch.

    Example:
        >>> history = Trainer(model, optimizer, loss).fit(train, validation, epochs=5)   # doctest: +SKIP
        >>> history["validation_accuracy"].max()                                         # doctest: +SKIP
        >>> history.plot().savefig("history.png")                                        # doctest: +SKIP
    """

    @classmethod
    def empty(cls, metrics: Iterable[str] = ("accuracy",)) -> History:
        """No epochs yet."""
        values = [f"{part}_{name}" for part in ("train", "validation") for name in ("loss", *metrics)]
        return np.zeros(0, [("epoch", np.int64), *((name, np.float64) for name in values), ("lr", np.float64)]).view(cls)

    def with_row(self, row: Mapping[str, Any]) -> History:
        """This history and one epoch more; what `row` does not name is not a number."""
        longer = np.zeros(len(self) + 1, self.dtype)
        longer[: len(self)] = self
        longer[-1] = tuple(row.get(name, np.nan) for name in self.dtype.names or ())
        return longer.view(type(self))

    def columns(self) -> dict[str, np.ndarray]:
        """Each column as a plain array, for a file."""
        return {name: np.array(self[name]) for name in self.dtype.names or ()}

    def with_columns(self, columns: Mapping[str, Any]) -> History:
        """A history of this one's columns with the values of `columns()`."""
        made = np.zeros(len(columns["epoch"]), self.dtype)
        for name in self.dtype.names or ():
            made[name] = columns.get(name, np.nan)
        return made.view(type(self))

    def rows(self) -> list[dict[str, Any]]:
        """Each epoch as a dict of plain numbers."""
        return [dict(zip(self.dtype.names or (), row, strict=True)) for row in self.tolist()]

    def plot(self, title: str = "") -> Figure:
        """A matplotlib figure: the losses on the left, the accuracies (or the first metric) on the right. Needs mulgil[plot]."""
        from mulgil.plot.training import history

        return history(self, title)
