"""How a random expression grows: each row is filled, tried eagerly on the values that there are, and kept if eager mode can do it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from random import Random
from string import Formatter
from typing import Any

import numpy as np

import mulgil
from mulgil import Parameter, Tensor
from tests.fuzz import own
from tests.fuzz.check import play
from tests.fuzz.expressions import Call, Expression, Input, Line
from tests.fuzz.operands import OPERANDS, OPTIONS, PASSED
from tests.fuzz.values import LAYOUTS, draw
from tests.fuzz.vocabulary import EXPRESSIONS, LOSSES, STATEMENTS

LARGEST = 20000  # elements of a value
RAISES = 0.02  # how often a line that eager mode refuses stays, as the last one


class Growth:
    """An expression on its way."""

    def __init__(self, rng: Random):
        self.rng = rng
        self.inputs: list[Input] = []
        self.lines: list[Line] = []
        self.scope: dict[str, Any] = {"np": np, "mulgil": mulgil, "own": own}
        self.values: dict[str, Tensor] = {}
        self.kind = rng.choice(["normal"] * 14 + ["ties", "ties", "rare", "large", "special", "positive"])
        self.wants_gradients = rng.random() < 0.6
        self.in_place = rng.random() < 0.25
        self.strange_layouts = rng.random() < 0.4
        self.over = False

    # ---- lines

    def grow(self, length: int) -> None:
        for _ in range(8 * length):
            if self.over or sum(1 for line in self.lines) >= length:
                return
            if self.in_place and self.values and self.rng.random() < 0.2:
                self.try_row(self.rng.choice(STATEMENTS), statement=True)
            else:
                self.try_row(self.rng.choice(EXPRESSIONS[self.rng.choice(list(EXPRESSIONS))]), statement=False)

    def try_row(self, row: str, statement: bool) -> None:
        before = list(self.inputs)
        try:
            text, uses = self.fill(row)
        except Refused:
            self._forget(before)
            return
        target = "" if statement else f"v{len(self.lines)}"
        try:
            value = self._run(text.format(*uses), statement)
        except Exception:
            if self.rng.random() > RAISES:
                self._forget(before)
                return
            self.over, value = True, None
        if not statement and not self.over and not (isinstance(value, Tensor) and value.numel() <= LARGEST):
            self._forget(before)
            return
        shape, dtype = (value.shape, str(value.dtype)) if isinstance(value, Tensor) else ((), "")
        self.lines.append(Line(target, text, uses, shape, dtype))
        if isinstance(value, Tensor):
            self.values[target] = self.scope[target] = value

    def _run(self, text: str, statement: bool) -> Any:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return exec(text, self.scope) if statement else eval(text, self.scope)

    def _forget(self, inputs: list[Input]) -> None:
        for i in self.inputs[len(inputs) :]:
            self.values.pop(i.name, None)
            self.scope.pop(i.name)
        self.inputs = inputs

    # ---- filling a row

    def fill(self, row: str) -> tuple[str, tuple[str, ...]]:
        fields = [(name, spec) for _, name, spec, _ in Formatter().parse(row) if name is not None]
        operands: dict[str, str] = {}
        for name, spec in sorted(fields, key=lambda f: f[0] != "x"):
            if len(name) == 1 and name not in operands:
                operands[name] = self.operand(spec or "", self.values[operands["x"]] if operands else None)
        x = self.values[operands["x"]]
        uses: list[str] = []
        text = ""
        for literal, name, _, _ in Formatter().parse(row):
            text += literal
            if name is None:
                continue
            used = operands.get(name) or self.static(name)
            if used:
                if used not in uses:
                    uses.append(used)
                text += f"{{{uses.index(used)}}}"
            else:
                text += str(OPTIONS[name](self.rng, x))
        return text, tuple(uses)

    def operand(self, kind: str, x: Tensor | None) -> str:
        """The name of a value of this kind, among the latest rather; a new input where there is none, and sometimes for a change."""
        rule = OPERANDS[kind]
        fitting = [n for n, t in self.values.items() if rule.accepts(t, t if x is None else x)]
        if fitting and (self.rng.random() < 0.85 or len(self.inputs) >= 6):
            used = {name for line in self.lines for name in line.uses}
            open_ends = [n for n in fitting if n not in used]
            return self.rng.choice(open_ends if open_ends and self.rng.random() < 0.75 else fitting)
        if len(self.inputs) >= 9:
            raise Refused
        shape, dtype, values = rule.make(self.rng, Tensor(0.0) if x is None else x)
        return self.new(shape, dtype, values)

    def new(self, shape: tuple[int, ...], dtype: str, kind: str) -> str:
        rng, floats = self.rng, dtype.startswith("float")
        role = rng.choices(("argument", "state", "parameter"), (16, 2, 2 if floats else 0))[0]
        i = Input(
            f"{role[0]}{len(self.inputs)}",
            shape,
            dtype,
            self.kind if kind == "normal" else kind,
            rng.choice(list(LAYOUTS)) if self.strange_layouts and role == "argument" and rng.random() < 0.5 else "C",
            self.wants_gradients and floats and role != "state" and rng.random() < 0.8,
            role,
        )
        data = draw(shape, dtype, len(self.inputs), i.kind, i.layout)
        value = Parameter(data, i.grad) if role == "parameter" else Tensor(data, requires_grad=i.grad)
        self.inputs.append(i)
        self.values[i.name] = self.scope[i.name] = value
        return i.name

    def static(self, option: str) -> str | None:
        """The name of an argument that is not a Tensor and holds this option, now and then."""
        if option not in PASSED or self.rng.random() > 0.04 or len(self.inputs) >= 9:
            return None
        i = Input(f"n{len(self.inputs)}", kind=self.rng.choice(PASSED[option]), role="static")
        self.inputs.append(i)
        self.scope[i.name] = eval(i.kind.split("|")[0], {"np": np})
        return i.name


class Refused(Exception):
    """A row cannot be filled here."""


def generate(seed: str) -> Expression:
    """The expression of a seed."""
    rng = Random(seed)
    growth = Growth(rng)
    while not growth.lines:
        growth.grow(rng.randint(3, 14))
    used = {name for line in growth.lines for name in line.uses}
    values = [line.target for line in growth.lines if line.target]
    ends = [n for n in values if n not in used] or values[-1:] or [growth.inputs[0].name]
    outputs = list(dict.fromkeys([*ends[-3:], *rng.sample(values, min(len(values), rng.randint(0, 2)))]))
    floats = [n for n in outputs if n in growth.values and growth.values[n].dtype.kind == "f"]
    losses = tuple((rng.choice(LOSSES), n) for n in floats[:2])
    how = rng.choice(("grad", "grad", "backward", "backward", "second", "outside", "outside")) if growth.wants_gradients and losses else ""
    calls = [Call(k) for k in range(rng.randint(3, 6))]
    if rng.random() < 0.1:
        calls = _given_twice(growth.inputs, calls, rng)
    if rng.random() < 0.15:
        calls = [replace(c, layout=rng.choice(list(LAYOUTS))) if rng.random() < 0.6 else c for c in calls]
    made = Expression(
        tuple(growth.inputs),
        tuple(growth.lines),
        tuple(outputs),
        tuple(calls),
        losses if how else (),
        how,
        rng.choice(("single", "tuple", "tuple", "list", "dict", "nested")),
        rng.choice(("flat", "flat", "flat", "flat", "list", "dict", "keywords")),
        rng.choice(("list(vars(w).values())", "list(vars(w).values())", "vars(w)", "w")),
    )
    return _other_lengths(_differentiable(_steady(made), rng), rng)


def _given_twice(inputs: list[Input], calls: list[Call], rng: Random) -> list[Call]:
    """At some calls one Tensor is given for two arguments, or two Tensors share memory."""
    given = [i for i in inputs if i.role == "argument"]
    alike = [
        (b.name, a.name) for k, a in enumerate(given) for b in given[k + 1 :] if (a.shape, a.dtype, a.grad) == (b.shape, b.dtype, b.grad)
    ]
    if not alike:
        return calls
    later, earlier = rng.choice(alike)
    pair = ((later, earlier if rng.random() < 0.6 else earlier + "*"),)
    return [replace(c, twice=pair) if rng.random() < 0.5 else c for c in calls]


def _steady(e: Expression) -> Expression:
    """With arguments that keep their value where eager mode refuses another one."""
    if not any(i.role == "static" for i in e.inputs) or not _raises(replace(e, how="", losses=())):
        return e
    return replace(e, inputs=tuple(replace(i, kind=i.kind.partition("|")[0]) if i.role == "static" else i for i in e.inputs))


def _differentiable(e: Expression, rng: Random) -> Expression:
    """Without its gradients where eager mode refuses them, most of the time."""
    if not e.how or rng.random() < 0.05 or not _raises(e):
        return e
    return next((tried for how in ("grad", "") if not _raises(tried := replace(e, how=how))), replace(e, how="", losses=()))


def _other_lengths(e: Expression, rng: Random) -> Expression:
    """With other shapes in some calls, where the expression bears it."""
    lengths = sorted({n for i in e.inputs if i.role == "argument" for n in i.shape})
    if not lengths or rng.random() < 0.5 or len(e.calls) < 3:
        return e
    for _ in range(3):
        old, new = rng.choice(lengths), rng.choice((1, 2, 3, 4, 6))
        calls = tuple(replace(c, lengths=((old, new),)) if k and k % 2 == 0 else c for k, c in enumerate(e.calls))
        tried = replace(e, calls=calls)
        if old != new and not _raises(tried):
            return tried
    return e


def _raises(e: Expression) -> bool:
    return any("raised" in call for call in play(e.source(), False).calls)
