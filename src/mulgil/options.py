"""Checks of arguments: a number in its range, a count, one of a few names. What does not fit is an OptionError, where it was given."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any

from mulgil.errors import OptionError

Range = tuple[float, float]
ANY, NOT_NEGATIVE, SHARE = (-math.inf, math.inf), (0.0, math.inf), (0.0, 1.0)


def check_number(
    name: str, value: Any, within: Range = ANY, above: float | None = None, below: float | None = None, finite: bool = True
) -> None:
    """Raise OptionError unless `value` is one number of the range.

    within: the range, both ends of it included. above, below: ends that are not included. finite: whether infinity is none.
    A text is no number, nor is True; a Tensor or array of a single element is one.
    """
    low, high = within
    rule = f"{name} {_rule(low, high, above, below, finite)}"
    if isinstance(value, (str, bool)) or not (isinstance(value, numbers.Real) or getattr(value, "shape", None) == ()):
        hint = f"without quotes: {value}" if isinstance(value, str) and _is_number(value) else None
        raise OptionError(rule, repr(value), hint)
    number = float(value)
    fits = low <= number <= high and (above is None or number > above) and (below is None or number < below)
    if not fits or (finite and math.isinf(number)):  # not a number fits nowhere
        raise OptionError(rule, repr(value))


def check_count(name: str, value: Any, optional: bool = False, least: int = 1) -> None:
    """Raise OptionError unless `value` is a whole number of at least `least` (or None where that is allowed)."""
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        what = {1: "a positive whole number, at least 1", 0: "a whole number of at least 0"}.get(least, "a whole number")
        raise OptionError(f"{name} must be {what}", repr(value), "for example 100")


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raise OptionError unless `value` is one of `choices`."""
    choices = tuple(choices)
    if not isinstance(value, (str, bool, type(None))) or value not in choices:
        named = [f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in choices]
        raise OptionError(f"{name} must be {', '.join(named[:-1])} or {named[-1]}", repr(value))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _rule(low: float, high: float, above: float | None, below: float | None, finite: bool) -> str:
    kind = "a finite number" if finite else "a number"
    if (low, high) == SHARE:
        return f"must be between 0 and 1: {kind}"
    if (low, high, below) == (*NOT_NEGATIVE, None):
        return f"must not be negative: {kind}"
    ends = [f"at least {low:g}"] if low > -math.inf else []
    ends += [f"above {above:g}"] if above is not None else []
    ends += [f"at most {high:g}"] if high < math.inf else []
    ends += [f"below {below:g}"] if below is not None else []
    return f"must be {kind}" + (", " if ends else "") + " and ".join(ends)
