"""One program run eagerly and compiled: do they give the same, and does the compiled one run what it compiled, or say that it does not?

A program is a text that defines `build()` -> (function, world), `compiled(function, world)`, `CALLS`, a list of functions that change
the world (a namespace of models, optimizers, tensors) between calls and return the arguments of the next, and `SITUATIONS`, how many
plans those changes may ask for; perhaps also `after(world, result)`, what is done with a result. After each call everything that a
user can see is compared: results, the arguments, their gradients, and the whole world. One thing may differ: a step that clears the
gradients before it makes them and uses them up in an update (`CLEARS`) may leave None instead of what the next step would throw away.

Tolerance. Compiled code sums in another order and contracts multiplications, so last bits differ, and a program may amplify them without
bound (x - x, Adam's quotient of two roundings, argmax of equals). No fixed figure is honest for all programs. So values are first compared
within 8 units in the last place. One that differs by more is judged by the program itself: it runs eagerly MOVED more times with the last
bits of its inputs, parameters and intermediate values moved at random, and may differ by 16 times what that changes (a sum of n numbers
may be off by n roundings in one order, by about sqrt(n) in such a run). An element whose nan or inf, or whose integer comes and goes when
last bits move, says nothing. All else is wrong.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import numpy as np

import mulgil
from mulgil import Tensor, nn, optim
from tests.fuzz.values import moving

ULPS, MOVED, AMPLE = 8, 4, 16
BEGINNINGS = 2  # calls that may make state, as an optimizer's first step does, so that a plan of them would not hold
EAGERLY = "runs eagerly"  # what a compiled function says when it gives up
REFUSALS = ("compile:",)  # what the reasons that are rules begin with; any other reason is a fault of the compiler


class Program(Protocol):
    """What can be checked."""

    def source(self, counted: bool = False, noisy: bool = False) -> str:
        """The program's text. counted: the function calls `ran()` first. noisy: each value is wrapped in `move()`."""


@dataclass
class Seen:
    """What one run of a program showed: for each call, path -> array or text; how often the function's Python ran; what was said."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    ran: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    plans: list[Any] = field(default_factory=list)
    situations: int = 1
    clears: bool = False


@dataclass
class Verdict:
    """kind: "equal", "wrong", "silent" (runs eagerly and does not say so), "fault" (the compiler fell over), "invalid" (eager cannot).

    reason: in words. eagerly: why it said that it runs eagerly, or "".
    """

    kind: str
    reason: str = ""
    eagerly: str = ""

    @property
    def failed(self) -> bool:
        return self.kind not in ("equal", "invalid")

    @property
    def way(self) -> tuple[str, str]:
        """What must stay the same while a program is made smaller."""
        words = self.reason.split(" [", 1)[0]
        return self.kind, "".join(c for c in words if not c.isdigit())


def judged(program: Program) -> Verdict:
    """Run the program both ways and compare."""
    try:
        eager = play(program.source(), False)
    except Exception as error:  # build() or the changes between calls: the generator's fault or a shrinking that went too far
        return Verdict("invalid", f"{type(error).__name__}: {error}")
    try:
        mine = play(program.source(counted=True), True)
    except Exception as error:
        return Verdict("fault", f"{type(error).__name__} outside a call: {error}")
    eagerly = "; ".join(mine.said)
    differences = list(compared(eager, mine))
    if any(soft for _, soft in differences):
        runs = []
        for seed in range(MOVED):
            with moving(seed):
                runs.append(play(program.source(noisy=True), False))
        differences = list(compared(eager, mine, runs))
    if differences:
        return Verdict("wrong", min(differences, key=_rank)[0], eagerly)
    faults = [reason for reason in mine.said if not reason.startswith(REFUSALS)]
    if faults:
        return Verdict("fault", faults[0], eagerly)
    if silent := silently_eager(mine):
        return Verdict("silent", silent, eagerly)
    if changing := changing_graph(mine):
        return Verdict("wrong", changing, eagerly)
    return Verdict("equal", "", eagerly)


# ---- running


def play(text: str, compile_it: bool) -> Seen:
    """Run a program's calls and write down what can be seen after each."""
    counter = count()
    scope: dict[str, Any] = {"ran": counter.__next__, "__name__": "program"}
    seen = Seen()
    with warnings.catch_warnings(record=True) as said, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        exec(compile(text, "<program>", "exec"), scope)
        mulgil.manual_seed(5)
        function, world = scope["build"]()
        step = scope["compiled"](function, world) if compile_it else function
        kept: list[Any] = []
        seen.situations, seen.clears = scope["SITUATIONS"], scope.get("CLEARS", False)
        for call in scope["CALLS"]:
            arguments = call(world)
            ran = next(counter)
            shown: dict[str, Any] = {}
            try:
                result = step(**arguments) if isinstance(arguments, dict) else step(*arguments)
                if "after" in scope:
                    scope["after"](world, result)
                kept.append(result)
                shown.update(leaves(result, "result"))
            except Exception as error:
                shown["raised"] = type(error).__name__
                shown["message"] = f"{error}"
            shown.update(leaves(arguments, "argument"))
            shown.update(leaves(vars(world), "state"))
            seen.calls.append(shown)
            seen.ran.append(next(counter) - ran - 1)
            seen.plans.append([id(p) for p in step.programs.values()] if compile_it and hasattr(step, "programs") else [])
        seen.calls.append(dict(leaves(kept, "kept")))  # nobody overwrote an earlier result
        seen.calls[-1]["drawn"] = np.asarray(mulgil.default_generator.numpy.random())  # and the same numbers were drawn
        seen.ran.append(0)
    for warning in said:
        words = str(warning.message)
        if EAGERLY in words and words.partition("\n")[2] not in seen.said:
            seen.said.append(words.partition("\n")[2] or words)
    return seen


def leaves(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, a copy of the array or a text) of everything that a user can see in a value."""
    if isinstance(tree, Tensor):
        yield path, None if tree.array is None else np.array(tree.array)
        yield f"{path}.requires_grad", str(tree.requires_grad)
        grad = tree.grad
        yield f"{path}.grad", None if grad is None else np.array(grad.array)
    elif isinstance(tree, nn.Module):
        for name, tensor in tree.state_dict(keep_vars=True).items():
            yield from leaves(tensor, f"{path}.{name}")
        yield f"{path}.training", str([m.training for m in tree.modules()])
    elif isinstance(tree, optim.Optimizer):
        yield from leaves(tree.state_dict(), path)
    elif isinstance(tree, dict):
        yield f"{path} keys", str(list(tree))
        for key, value in tree.items():
            yield from leaves(value, f"{path}[{key!r}]")
    elif isinstance(tree, (list, tuple)):
        yield f"{path} type", f"{type(tree).__name__} of {len(tree)}"
        for i, value in enumerate(tree):
            yield from leaves(value, f"{path}[{i}]")
    elif hasattr(tree, "last_epoch"):
        yield path, str((tree.last_epoch, tree.get_last_lr()))
    elif isinstance(tree, np.ndarray):
        yield path, tree.copy()
    else:
        yield path, repr(tree)


# ---- comparing


def compared(eager: Seen, mine: Seen, moved: list[Seen] | None = None) -> Iterator[tuple[str, bool]]:
    """(what differs, whether it may be rounding). moved: runs whose last bits were moved, which tell what rounding may do."""
    for i, (expected, got) in enumerate(zip(eager.calls, mine.calls, strict=True)):
        raised, also = expected.get("raised"), got.get("raised")
        if raised != also:
            news = f"raises {also}" if raised is None else f"does not raise {raised}" if also is None else f"raises {also}, not {raised}"
            yield f"{news} [call {i}: {got.get('message', expected.get('message'))}]", False
            return
        for path in expected.keys() | got.keys():
            if path == "message" or (path.endswith(".requires_grad") and path.startswith(("result", "kept"))):
                continue  # a compiled function's results are values; whether they are so at each call is asked below
            a, b = expected.get(path), got.get(path)
            if eager.clears and b is None and path.startswith("state") and path.endswith(".grad"):
                continue
            others = [run.calls[i].get(path) for run in moved] if moved else None
            if words := difference(a, b, others):
                yield f"{_kind(path)}: {words[0]} [call {i}, {path}{words[2]}]", words[1]


def _rank(difference: tuple[str, bool]) -> tuple[bool, str, bool]:
    """Which of several differences tells most: the earliest call, and there a result before the state; gradients that stay come last."""
    words = difference[0]
    return "gradient" in words, words.partition("[call ")[2][:1], words.startswith("state")


def _kind(path: str) -> str:
    kind = path.partition("[")[0].partition(".")[0]
    return f"{kind}'s gradient" if path.endswith(".grad") else kind


def difference(a: Any, b: Any, moved: list[Any] | None) -> tuple[str, bool, str] | None:
    """How b differs from the expected a: (in words, whether that may be rounding, details); None if it does not."""
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
        if isinstance(a, str) and isinstance(b, str):
            return None if a == b else ("text differs", False, f": {b}, not {a}")
        if a is None and b is None:
            return None
        short = [None if v is None else "an array" if isinstance(v, np.ndarray) else v for v in (a, b)]
        return f"is {short[1]}, not {short[0]}", False, ""
    if a.dtype != b.dtype:
        return f"dtype {b.dtype}, not {a.dtype}", False, ""
    if a.shape != b.shape:
        return "shape differs", False, f": {b.shape}, not {a.shape}"
    others = [m for m in moved or () if isinstance(m, np.ndarray) and m.shape == a.shape]
    if moved and len(others) < len(moved):
        return None  # whether it is there at all depends on last bits
    bad = _apart(a, b, others)
    if not bad.any():
        return None
    at = tuple(int(i[0]) for i in np.nonzero(bad)) if a.ndim else ()
    return "values differ", True, f" at {at} of {a.shape} {a.dtype}: {b[at]!s}, not {a[at]!s}"


def _apart(a: np.ndarray, b: np.ndarray, moved: list[np.ndarray]) -> np.ndarray:
    """Where b is further from a than rounding explains."""
    if a.dtype.kind != "f":
        return np.asarray((a != b) & ~np.any([m != a for m in moved], axis=0)) if moved else np.asarray(a != b)
    with np.errstate(all="ignore"):
        x, y = a.astype(np.float64), b.astype(np.float64)
        alike = (x == y) | (np.isnan(x) & np.isnan(y))
        finite = np.isfinite(x) & np.isfinite(y)
        room = np.finfo(a.dtype)
        allowed = ULPS * (room.eps * np.abs(x) + room.tiny)
        free = np.zeros(a.shape, bool)
        if moved:
            runs = np.stack([m.astype(np.float64) for m in moved])
            free = np.any(np.isfinite(runs) != np.isfinite(x), axis=0) | np.any(np.isnan(runs) != np.isnan(x), axis=0)
            felt = np.nan_to_num(np.abs(runs - x)).max(axis=0)
            allowed = allowed + AMPLE * np.maximum(felt, np.median(felt) if felt.size else 0)
        return np.asarray(~alike & ~free & ~(finite & (np.abs(x - y) <= allowed)))


def silently_eager(mine: Seen) -> str:
    """Whether the function's own Python ran more often than the situations asked for, and nobody was told."""
    if mine.said:
        return ""
    known: set[int] = set()
    unplanned = 0
    for i, (ran, plans) in enumerate(zip(mine.ran, mine.plans, strict=False)):
        fresh = set(plans) - known
        known |= fresh
        if id(None) in plans:
            return f"a plan is None, without a warning [call {i}]"
        unplanned += "raised" not in mine.calls[i] and ran > 0 and not fresh
    if unplanned > BEGINNINGS:
        return f"the function ran as Python, made no plan, and nothing was said [at {unplanned} calls]"
    if len(known) > mine.situations + 1:
        return f"a new plan at almost each call [{len(known)} plans for {mine.situations} situations]"
    return ""


def changing_graph(mine: Seen) -> str:
    """Whether a result can be differentiated at one call and not at another. A function that said that it runs eagerly may do as eager."""
    if mine.said:
        return ""
    for path in mine.calls[0]:
        if path.startswith("result") and path.endswith(".requires_grad"):
            flags = [call[path] for call in mine.calls[:-1] if path in call]
            if len(set(flags)) > 1:
                return f"a result requires grad at one call and not at another [{path}: {', '.join(flags)}]"
    return ""


def told(path: str) -> None:
    """Run a printed program, whose text is in a file, and say how it fares."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    print(judged(Text(text)))


@dataclass(frozen=True)
class Text:
    """A program that is only its text, as one that was printed."""

    text: str

    def source(self, counted: bool = False, noisy: bool = False) -> str:
        lines = []
        for line in self.text.splitlines():
            lines.append(line)
            if counted and line.startswith("    def function("):
                lines.append("        ran()")
        return "\n".join(lines) + "\n"
