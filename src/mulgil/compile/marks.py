"""What a graph holds besides calls of a program's own ops: arrays made of numbers, actions, and memory that changed under another name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mulgil.ops.function import Array, Function


@dataclass(frozen=True, eq=False)
class Constant(Function):
    """An array that the step made of Python's numbers: a new copy of it, from nothing."""

    array: Array

    def __repr__(self) -> str:
        return f"Constant({str(self.array) if self.array.size < 5 else ''})"

    def forward(self, ctx):
        return self.array.copy()


@dataclass(frozen=True, eq=False)
class Action(Function):
    """Something besides arithmetic that a replay does again, such as a schedule's step. Takes and gives nothing."""

    action: Callable[[], Any]
    pure = False

    def __repr__(self) -> str:
        return f"Action({getattr(self.action, '__qualname__', '')})"

    def forward(self, ctx):
        self.action()
        return ()


class Renew(Function):
    """x as it is now. Inputs: x, and what has been written into x's memory, or a part of it, through a view. Nothing is computed."""

    view = True
    shape_only = True

    def forward(self, ctx, x, written):
        return x
