"""Errors that teach: the rule, what came, one hint.

Every error that mulgil raises on purpose is a `MulgilError` *and* the built-in exception that a Python programmer would
expect (`ShapeError` is a `ValueError`), so existing `except` clauses keep working.
"""

from __future__ import annotations

import re
from typing import Any

# What a terminal obeys or a reader cannot see: control characters, marks of direction, separators of lines, halves of letters.
HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
LONGEST = 4000  # letters of a row of an error


def visible(text: str, lines: bool = False, most: int | None = None) -> str:
    """Text that comes from a file, to be shown: what is hidden in it is written out, as in `\\x1b[31m`; nothing else changes.

    lines: whether it may have several lines. most: letters, of a longer one the beginning and the end.
    """
    if most is not None and len(text) > most:
        text = f"{text[: most * 3 // 4]} ... {text[-most // 8 :]}"
    return HIDDEN.sub(lambda found: found[0] if lines and found[0] in "\n\t" else found[0].encode("unicode_escape").decode(), text)


class MulgilError(Exception):
    """An error in three lines.

    Args:
        rule: what must hold, in one sentence.
        got: what came instead, for example `describe(x=x, weight=w)`.
        hint: one thing to try.

    `layer` is filled in by `nn.Module` while the error passes through a model: the dotted name and class of the layer.
    """

    def __init__(self, rule: str, got: str | None = None, hint: str | None = None):
        super().__init__(rule)
        self.rule, self.got, self.hint = rule, got, hint
        self.layer: str | None = None

    def __str__(self) -> str:
        rows = (("layer:", self.layer), ("got:  ", self.got), ("hint: ", self.hint))
        lines = [self.rule, *(f"  {label} {text}" for label, text in rows if text)]
        # a second line of a text is set in, so that none passes for a line of ours
        return "\n".join(visible(re.sub("\n(?! {8})", "\n        ", line), lines=True, most=LONGEST) for line in lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.rule, self.got, self.hint), {"layer": self.layer}


class ShapeError(MulgilError, ValueError):
    """Shapes that do not fit together."""


class AxisError(ShapeError, IndexError):
    """An axis that an array does not have (PyTorch: IndexError)."""


class IndexingError(MulgilError, IndexError):
    """An index that a tensor does not have."""


class ScalarError(ShapeError, TypeError):
    """A 0-d tensor where one with axes is needed: its length, or a loop over it (Python: TypeError)."""


class DTypeError(MulgilError, TypeError):
    """A dtype that the operation cannot use, such as integer images given to a layer."""


class DeviceError(MulgilError, RuntimeError):
    """Arrays on two devices, or a device that this machine does not have."""


class GradientError(MulgilError, RuntimeError):
    """A backward pass that cannot be done: not a scalar, done twice, a saved array that changed."""


class NonFiniteError(MulgilError, ArithmeticError):
    """A loss or gradient that is infinite or not a number. Nothing was updated with it.

    Of a `Trainer`: step, indices (the batch's samples in the data set, where known), and state, the run as it was before that step.
    """

    step: int | None = None
    indices: list[int] | None = None
    state: dict[str, Any] | None = None


class TraceError(MulgilError, RuntimeError):
    """A function that cannot be compiled."""


class DataError(MulgilError, RuntimeError):
    """A data file or download that is missing, damaged or not what it says; names the file and the remedy."""


class ModelFileError(MulgilError, RuntimeError):
    """A model file that cannot be read, or that asks for a class which is not there."""


class OptionError(MulgilError, ValueError):
    """An argument outside its range."""


class InputRangeWarning(UserWarning):
    """A model is used on inputs in another range than those it was trained on: pixels from 0 to 255 instead of 0 to 1."""


def describe(**arrays: Any) -> str:
    """`describe(x=x, weight=w)` -> "x[32, 1, 28, 28] float32, weight[10, 784] float32"."""
    return ", ".join(f"{name}{list(a.shape)} {a.dtype}" if hasattr(a, "shape") else f"{name}={a!r}" for name, a in arrays.items())
