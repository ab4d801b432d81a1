"""The range of the inputs that a model is trained on, and a warning when it is used on inputs in another one.

Pixels from 0 to 255 given to a model that was trained on 0 to 1 are no error, and make nonsense. So a model looks at its first
batches in training, keeps their range in `model.info`, and compares what comes later with it: now and then, for looking costs time.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mulgil.autograd import Tensor, is_grad_enabled
from mulgil.backend import to_device
from mulgil.errors import InputRangeWarning, visible
from mulgil.ops.function import observers

ENOUGH = 64  # samples of training that tell the range
FEW = 8  # with less than these nothing is said
PAUSE = 100  # times what a look took, until the next one at batches of one shape: looking costs one percent
QUIET = 1.0  # seconds: a warning is repeated when inputs were in order, or away, for so long
MARGIN = 0.45  # of the training's range; 0..1 against -1..1 is 0.5 of it
PACKAGE = str(Path(__file__).parents[1])


@dataclass(frozen=True)
class InputRange:
    """How large the values of some samples are.

    low, high: the smallest and the greatest value. least, most: mean and standard deviation, over the samples, of a sample's
    smallest and greatest value. samples: how many; those that are constant, such as a blank image, do not count.
    """

    low: float
    high: float
    least: tuple[float, float]
    most: tuple[float, float]
    samples: int

    @classmethod
    def of(cls, batch: Any) -> InputRange | None:
        """Of an array [N, ...], by its first rows; None where all of them are constant."""
        rows = batch[:ENOUGH].reshape(min(len(batch), ENOUGH), -1)
        least, most = (to_device(extreme, "cpu").astype(float) for extreme in (rows.min(1), rows.max(1)))
        vary = least < most
        if not vary.any():
            return None
        least, most = least[vary], most[vary]
        return cls(float(least.min()), float(most.max()), _moments(least), _moments(most), len(least))

    @classmethod
    def read(cls, known: Any) -> InputRange | None:
        """From `as_dict`'s form; None for anything else."""
        try:
            least, most = ((float(mean), float(std)) for mean, std in (known["least"], known["most"]))
            return cls(float(known["low"]), float(known["high"]), least, most, max(int(known["samples"]), 1))
        except (TypeError, ValueError, KeyError, OverflowError):
            return None

    def as_dict(self) -> dict[str, Any]:
        """As `model.info["input_range"]` holds it: plain JSON."""
        moments = {"least": list(self.least), "most": list(self.most)}
        return {"low": self.low, "high": self.high, **moments, "samples": self.samples}

    def joined(self, other: InputRange) -> InputRange:
        """The range of both together."""
        n, m = self.samples, other.samples
        least, most = _joined(self.least, n, other.least, m), _joined(self.most, n, other.most, m)
        return InputRange(min(self.low, other.low), max(self.high, other.high), least, most, n + m)

    def scaled(self, factor: float) -> InputRange:
        """The range of the same samples, multiplied by a positive number."""
        least, most = ((mean * factor, std * factor) for mean, std in (self.least, self.most))
        return InputRange(self.low * factor, self.high * factor, least, most, self.samples)

    def fits(self, other: InputRange) -> bool:
        """Whether samples of `other` could be such as these: their extremes lie where these have theirs, give or take `MARGIN`, and
        are no closer together than that share of these.

        A few samples may be odd ones, a dark image or an outlier, so there is room for three standard errors besides.
        """
        share = 3 * math.sqrt(1 / self.samples + 1 / other.samples)
        margin, pairs = MARGIN * (self.high - self.low), ((self.least, other.least), (self.most, other.most))
        moved = any(abs(theirs[0] - mine[0]) > margin + share * mine[1] for mine, theirs in pairs)
        flat = other._width() < MARGIN * self._width() - share * (self.least[1] + self.most[1])
        return not (moved or flat)

    def _width(self) -> float:
        return self.most[0] - self.least[0]

    def __str__(self) -> str:
        return f"{self.low:.3g} to {self.high:.3g}"


def _moments(values: Any) -> tuple[float, float]:
    return float(values.mean()), float(values.std())


def _joined(a: tuple[float, float], n: int, b: tuple[float, float], m: int) -> tuple[float, float]:
    """(mean, std) of n values with `a` and m values with `b`."""
    mean = (n * a[0] + m * b[0]) / (n + m)
    variance = (n * (a[1] ** 2 + (a[0] - mean) ** 2) + m * (b[1] ** 2 + (b[0] - mean) ** 2)) / (n + m)
    return mean, math.sqrt(variance)


class Calls(threading.local):
    """Whether a module is being called in this thread: one called within another sees no data."""

    inside = False


class Watch:
    """When a module looks at its inputs again, what it saw last, and when inputs last were in another range."""

    __slots__ = ("learning", "next", "shape", "strange")

    def __init__(self) -> None:
        self.learning, self.shape, self.next, self.strange = False, (), -math.inf, -math.inf


def look(module: Any, args: tuple) -> None:
    """Called before the outermost module's forward: learns the range in training, compares with it otherwise.

    Training is a call in training mode with gradients enabled; tests forget `eval()`, but then have a `no_grad()`. Inputs that carry
    gradients are another model's outputs, which change while it learns, and are left alone.
    """
    x = args[0] if args else None
    if not isinstance(x, Tensor) or x.requires_grad:
        return
    values = module.__dict__
    watch = values.get("_watch")
    if watch is None:
        watch = values["_watch"] = Watch()
    learning, now = values["training"] and is_grad_enabled(), time.perf_counter()
    if now < watch.next and learning is watch.learning and x.array.shape == watch.shape:
        return
    if learning is not watch.learning:
        watch.strange = -math.inf
    full = learn(module, x) if learning else check(module, x)
    watch.learning, watch.shape = learning, x.array.shape
    watch.next = now + PAUSE * (time.perf_counter() - now) if full else now


def learn(module: Any, x: Tensor) -> bool:
    """Add a batch of training to the range that `module` knows; begin it anew where it does not fit. Returns whether that is enough."""
    found = _range_of(module, x)
    if found is None:
        return True
    known = InputRange.read(module.info.get("input_range"))
    if known is None or not known.fits(found):
        known = found
        module.info["input_shape"] = list(x.shape[1:])
    elif known.samples < ENOUGH and not observers():  # a step that is compiled comes by at each trace, and only then: once is enough
        known = known.joined(found)
    else:
        return True
    module.info["input_range"] = known.as_dict()
    return known.samples >= ENOUGH


def check(module: Any, x: Tensor) -> bool:
    """Warn (`InputRangeWarning`) where a batch lies in another range than those of training, once while it stays so. Returns True."""
    found = _range_of(module, x)
    known = InputRange.read(module.info.get("input_range")) if found is not None else None
    if found is None or known is None or known.samples < FEW:
        return True
    watch, now = module.__dict__.setdefault("_watch", Watch()), time.perf_counter()
    if known.fits(found):
        watch.strange = -math.inf
        return True
    if now - watch.strange > QUIET:
        warnings.warn(_message(module, known, found), InputRangeWarning, stacklevel=_user_level())
    watch.strange = now
    return True


def _range_of(module: Any, x: Tensor) -> InputRange | None:
    """None for what has no range: whole numbers, such as words; a single sample without a batch's axis; constants."""
    if x.array.dtype.kind != "f" or x.ndim < 2 or not x.array.size or not isinstance(module.info, dict):
        return None
    return InputRange.of(x.array)


def _message(module: Any, known: InputRange, found: InputRange) -> str:
    hint = "divide them by 255" if known.fits(found.scaled(1 / 255)) else "prepare them as the training data were"
    if steps := module.info.get("preprocessing"):
        hint += f" (there: {', '.join(visible(str(name)) for name, *_ in steps)})"
    return (
        f"{type(module).__name__}: these inputs lie in another range than those of training, and the outputs will mean little\n"
        f"  got:  {found}; in training {known}\n"
        f"  hint: {hint}"
    )


def _user_level() -> int:
    """The `stacklevel` of the innermost line outside mulgil, for a warning given by the function that calls this one."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
