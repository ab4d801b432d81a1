"""NumPy's messages in our words: where an op's array code refuses its inputs, the error has the rule, the shapes and a hint.

Read on the failing path only: `run` and the plan of a compiled step come here when NumPy has raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from mulgil.errors import AxisError, DTypeError, IndexingError, MulgilError, OptionError, ShapeError, describe

Inputs = Sequence[tuple[str, Any]]  # name, array (or whatever else was given)

WORDS = {
    "Concatenate": "cat",
    "IndexPut": "assignment",
    "Assign": "assignment",
    "AssignNumber": "assignment",
    "Draw": "random numbers",
    "Index": "index",
    "FloorDiv": "floor division",
}


def explain(op: Any, arrays: Sequence[Any], error: Exception) -> None:
    """Raise the error of ours that `error` stands for, if NumPy raised it in a forward text of ours; else return."""
    if isinstance(error, MulgilError) or not _raised_by_us(error):
        return
    inputs = list(zip(_names(op, len(arrays)), arrays, strict=True))
    if not inputs:
        inputs.append(("settings", op))
    if hasattr(op, "key"):
        inputs.append(("key", Written(op.key)))
    name = getattr(op, "sign", None) or WORDS.get(type(op).__name__, type(op).__name__.lower())
    ours = explained(name, inputs, error)
    if ours is not None:
        raise ours from None


def explained(name: str, inputs: Inputs, error: Exception) -> MulgilError | None:
    """The error of ours for a NumPy message about `name` of these inputs; None for a TypeError that is about something else."""
    message = str(error)
    got = ", ".join(describe(**{label: given}) for label, given in inputs)
    for pattern, kind, rule, hint in TABLE:
        if found := re.search(pattern, message):
            told = hint(inputs) if callable(hint) else hint
            return kind(f"{name}: {rule.format(*found.groups(), **_limits(found))}", got, told)
    if isinstance(error, TypeError):
        return None
    return (IndexingError if isinstance(error, IndexError) else OptionError)(
        f"{name}: {message}", got, "the rule is NumPy's: its documentation of this function has more"
    )


def _limits(found: re.Match) -> dict[str, int]:
    """What an index may be, of a message that names the length of the axis."""
    length = found.groupdict().get("length")
    return {} if length is None else {"last": int(length) - 1}


def _raised_by_us(error: Exception) -> bool:
    """Whether the call that NumPy refused stands in a file of ours: in an op from outside the reader sees her own line."""
    frame, ours = error.__traceback__, False
    while frame is not None:
        module = frame.tb_frame.f_globals.get("__name__", "")
        if not module.startswith("numpy"):
            ours = module.startswith("mulgil.") or frame.tb_frame.f_code.co_filename == PLAN
        frame = frame.tb_next
    return ours


PLAN = "<mulgil plan>"  # the file name of a compiled step's text


def _names(op: Any, count: int) -> list[str]:
    """What `forward(self, ctx, x, *arrays)` calls its inputs; the rest are "array"."""
    code = op.forward.__code__
    named = code.co_varnames[2 : code.co_argcount][:count]
    rest = code.co_varnames[code.co_argcount].rstrip("s") if count > len(named) else ""
    return [*named, *[rest] * (count - len(named))]


class Written(tuple):
    """An index, shown as it is written: `[:, 0, ...]`; tensors as they come in `got`."""

    def __repr__(self) -> str:
        return f"[{', '.join(map(_part, self))}]"


def _part(part: Any) -> str:
    if isinstance(part, slice):
        ends = ["" if end is None else str(end) for end in (part.start, part.stop, part.step)]
        return ":".join(ends if ends[2] else ends[:2])
    return "..." if part is ... else "tensor" if repr(part) == "[...]" else repr(part)


def _fitting(inputs: Inputs) -> str:
    """How two shapes that do not broadcast could."""
    arrays = [(name, tuple(a.shape)) for name, a in inputs if getattr(a, "shape", ())]
    (first, one), (second, other) = arrays[-2:] if len(arrays) > 1 else [("a", ()), ("b", ())]
    if len(one) == len(other) == 2 and one == other[::-1]:
        return f"transpose one of them: {second}.T"
    for (name, short), long in (((second, other), one), ((first, one), other)):
        if len(short) == 1 and len(long) == 2 and short[0] == long[0]:
            return f"one number for each row: {name}[:, None]"
    if one != other and one[1:] == other[1:] and len(one) == len(other) > 1:
        return f"the first axes differ, {one[0]} and {other[0]}: take as many of both, for example of one batch"
    return f"compare the shapes; {second}.reshape(...), {second}.unsqueeze(axis) or a sum over an axis makes them fit"


LAST_AXIS = "shapes must broadcast: counted from the last axis, lengths are equal, or one of them is 1"
Hint = str | Callable[[Inputs], str]

#: (NumPy's message, class, rule, hint); groups of the message are filled in
TABLE: tuple[tuple[str, type[MulgilError], str, Hint], ...] = (
    (
        r"index (-?\d+) is out of bounds for (?:axis (\d+) with )?size (?P<length>\d+)",
        IndexingError,
        "{0} is outside the axis, whose {2} elements are 0 to {last} (or -1 to -{2}, from the end)",
        "indices count from 0; the last element is x[-1]",
    ),
    (
        r"too many indices.*array is (\d+)-dimensional, but (\d+)",
        IndexingError,
        "{1} indices for a tensor of {0} axes",
        "one index for each axis at most; a 0-d tensor's number is x.item()",
    ),
    (
        r"boolean index did not match",
        IndexingError,
        "a mask must have the lengths of the axes that it picks from",
        "make the mask from the tensor itself, x[x > 0], or of one axis, x[:, mask]",
    ),
    (
        r"indexing arrays could not be broadcast|indexing result of shape",
        IndexingError,
        "index tensors, and what is written there, must broadcast together",
        "as many of each, or a grid: x[rows[:, None], columns]",
    ),
    (
        r"only integers, slices|used as indices must be|only int indices|invalid index",
        IndexingError,
        "an index is made of integers, slices, ..., None, and tensors of integers or booleans",
        "convert it: int(i), or i.long() of a tensor",
    ),
    (r"input array dimensions|same number of dimensions", ShapeError, "shapes must be equal but for the axis to join", _fitting),
    (r"could not (?:be )?broadcast|remapped shapes|core dimension|shape mismatch|cannot be broadcast", ShapeError, LAST_AXIS, _fitting),
    (
        r"axis (-?\d+) is out of bounds for array of dimension (\d+)",
        AxisError,
        "the axis must be from -{1} to {1} - 1, and is {0}",
        "axes count from 0; -1 is the last",
    ),
    (r"read-only", OptionError, "the memory is read-only, such as what expand() shares", "write to a copy: x.clone()"),
    (r"cannot reshape", ShapeError, "the number of elements must stay the same", "one length may be -1: it is worked out"),
    (r"zero-size array|empty sequence", ShapeError, "of no elements there is none", "leave out the empty axis"),
    (r"negative dimensions", OptionError, "the lengths of axes are 0 or more", "check how the size was computed"),
    (
        r"not supported for the input types",
        DTypeError,
        "not for these dtypes: &, |, ^ and ~ take integers and booleans",
        "compare first: x > 0",
    ),
)
