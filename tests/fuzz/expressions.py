"""Random expressions: what one is, and its text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

IMPORTS = {  # name -> the line that brings it
    "np": "import numpy as np",
    "SimpleNamespace": "from types import SimpleNamespace",
    "mulgil": "import mulgil",
    **{name: f"from mulgil import {name}" for name in ("Parameter", "Tensor", "nn", "optim")},
    "F": "from mulgil.nn import functional as F",
    "own": "from tests.fuzz import own",
    **{name: f"from tests.fuzz.values import {name}" for name in ("draw", "move", "moved")},
}
FOOT = """
if __name__ == "__main__":
    from tests.fuzz.check import told
    told(__file__)
"""


def module(lines: Sequence[str]) -> str:
    """The text of a program: these lines, the imports that they need, and what runs it as a script."""
    body = "\n".join(lines) + "\n"
    used = [line for name, line in IMPORTS.items() if re.search(rf"(?<![\w.]){name}\b", body)]
    return "\n".join(used) + "\n\n" + body + FOOT


def row(program: Any) -> str:
    """A program's data as the table of found programs holds it: without what is the default."""
    if isinstance(program, tuple):
        return f"({', '.join(map(row, program))}{',' * (len(program) == 1)})"
    if not hasattr(program, "__dataclass_fields__"):
        return repr(program)
    given = [(f.name, getattr(program, f.name)) for f in fields(program) if getattr(program, f.name) != f.default]
    return f"{type(program).__name__}({', '.join(f'{name}={row(value)}' for name, value in given)})"


@dataclass(frozen=True)
class Input:
    """What comes from outside an expression. role: "argument", "state", "parameter", or "static" (kind: a text for each call)."""

    name: str
    shape: tuple[int, ...] = ()
    dtype: str = "float64"
    kind: str = "normal"
    layout: str = "C"
    grad: bool = False
    role: str = "argument"

    def text(self, call: Call, number: int) -> str:
        if self.role == "static":
            values = self.kind.split("|")
            return values[call.seed % len(values)]
        shape = tuple(dict(call.lengths).get(n, n) for n in self.shape)
        data = f"draw({shape}, {self.dtype!r}, {10 * call.seed + number}"
        layout = call.layout if call.layout and self.role == "argument" else self.layout
        options = [f"kind={self.kind!r}"] * (self.kind != "normal") + [f"layout={layout!r}"] * (layout != "C")
        data = ", ".join([data, *options]) + ")"
        if self.role == "parameter":
            return f"Parameter({data}, requires_grad={self.grad})"
        return f"Tensor({data}, requires_grad=True)" if self.grad else f"Tensor({data})"


@dataclass(frozen=True)
class Line:
    """`target = text`, or a statement where the target is "". uses: names for {0}, {1}, ... shape, dtype: the value's."""

    target: str
    text: str
    uses: tuple[str, ...]
    shape: tuple[int, ...] = ()
    dtype: str = ""

    def render(self, noisy: bool) -> str:
        text = self.text.format(*self.uses)
        if not self.target:
            return text
        return f"{self.target} = move({', '.join([text, *self.uses])})" if noisy else f"{self.target} = {text}"


@dataclass(frozen=True)
class Call:
    """One call.

    seed: of its values. lengths: axes of this length get that length. layout: of all arguments, if any. twice: pairs of arguments
    (later, earlier), of which the later is the earlier one itself, or shares its memory if it is marked with "*".
    """

    seed: int
    lengths: tuple[tuple[int, int], ...] = ()
    layout: str = ""
    twice: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Expression:
    """A function as data.

    outputs: names that it returns. losses: (text, name), whose sum is differentiated. how: "grad", "backward", "second" (gradients of
    gradients), "outside" (of the results), or "". form: of the result. passing: of the arguments ("flat", "list", "dict" or "keywords").
    state: the text of what `compile` is told to own.
    """

    inputs: tuple[Input, ...]
    lines: tuple[Line, ...]
    outputs: tuple[str, ...]
    calls: tuple[Call, ...]
    losses: tuple[tuple[str, str], ...] = ()
    how: str = ""
    form: str = "tuple"
    passing: str = "flat"
    state: str = "list(vars(w).values())"

    # ---- text

    def source(self, counted: bool = False, noisy: bool = False) -> str:
        kept = [i for i in self.inputs if i.role in ("state", "parameter")]
        given = [i for i in self.inputs if i not in kept]
        body = ["ran()"] * counted + [f"{i.name} = w.{i.name}" for i in kept]
        names = [i.name for i in given]
        if self.passing == "list" and names:
            head, body = "given", [*body, f"[{', '.join(names)}] = given"]
        elif self.passing == "dict" and names:
            head, body = "given", [*body, *(f"{n} = given[{n!r}]" for n in names)]
        else:
            head = ", ".join(names)
        body += [line.render(noisy) for line in self.lines]
        body += self._gradients()
        number = {i.name: k for k, i in enumerate(self.inputs)}
        made = [f"{i.name}={i.text(self.calls[0], number[i.name])}" for i in kept]
        parts = ["def build():", f"    w = SimpleNamespace({', '.join(made)})", f"    def function({head}):"]
        parts += [f"        {line}" for line in body]
        parts += ["    return function, w", "", "def compiled(function, w):"]
        parts += [f"    return mulgil.compile(function, state={self.state})", ""]
        for k, call in enumerate(self.calls):
            values = self._values(call, {i.name: i.text(call, number[i.name]) for i in given})
            parts += [f"def call{k}(w):", f"    return {self._passed(values)}"]
        if self.how == "outside":
            parts += ["", "def after(w, result):", "    own.go_back(result)"]
        situations = len({(c.lengths, c.twice, *(i.text(c, 0) for i in self.inputs if i.role == "static")) for c in self.calls})
        parts += ["", f"CALLS = [{', '.join(f'call{k}' for k in range(len(self.calls)))}]", f"SITUATIONS = {situations}"]
        return module(parts)

    @staticmethod
    def _values(call: Call, texts: dict[str, str]) -> dict[str, str]:
        for later, earlier in call.twice:
            name = earlier.strip("*")
            if later in texts and name in texts and not texts[name].startswith("("):
                texts[later] = f"Tensor({name}.array)" if "*" in earlier else name
                texts[name] = f"({name} := {texts[name]})"
        return texts

    def _passed(self, values: dict[str, str]) -> str:
        if self.passing == "keywords" and values:
            return f"dict({', '.join(f'{n}={v}' for n, v in values.items())})"
        if self.passing == "list" and values:
            return f"([{', '.join(values.values())}],)"
        if self.passing == "dict" and values:
            return "({" + ", ".join(f"{n!r}: {v}" for n, v in values.items()) + "},)"
        return f"({''.join(f'{v}, ' for v in values.values())})"

    def _gradients(self) -> list[str]:
        wanted = [i.name for i in self.inputs if i.grad]
        results = list(self.outputs)
        lines = []
        if self.how and self.how != "outside" and wanted and self.losses:
            lines.append(f"loss = {' + '.join(text.format(name) for text, name in self.losses)}")
            results.append("loss")
            if self.how == "backward":
                lines.append("loss.backward()")
                results += [f"{name}.grad" for name in wanted]
            else:
                again = ", create_graph=True" if self.how == "second" else ""
                lines.append(f"grads = mulgil.grad(loss, [{', '.join(wanted)}], allow_unused=True{again})")
                if self.how == "second":
                    lines.append("again = sum((g * g).sum() for g in grads if g is not None)")
                    lines.append(f"more = mulgil.grad(again, [{', '.join(wanted)}], allow_unused=True) if again.requires_grad else None")
                    results.append("more")
                results.append("grads")
        return [*lines, f"return {self._returned(results)}"]

    def _returned(self, results: list[str]) -> str:
        if self.form == "single" and len(results) == 1:
            return results[0]
        if self.form == "list":
            return f"[{', '.join(results)}]"
        if self.form == "dict":
            return "{" + ", ".join(f"{r!r}: {r}" for r in results) + "}"
        if self.form == "nested" and results:
            return "{'first': " + results[0] + f", 'rest': [({''.join(f'{r}, ' for r in results[1:])})]}}"
        return f"({''.join(f'{r}, ' for r in results)})"

    # ---- smaller

    def size(self) -> int:
        shapes = sum(sum(i.shape) + (i.kind != "normal") + (i.layout != "C") + 2 * i.grad + (i.role != "argument") for i in self.inputs)
        calls = sum(3 + 2 * bool(c.lengths) + bool(c.layout) + bool(c.twice) for c in self.calls)
        return 20 * len(self.lines) + 5 * len(self.inputs) + shapes + calls + 4 * len(self.outputs) + 4 * len(self.losses) + len(self.how)

    def smaller(self) -> Iterator[Expression]:
        """Simpler expressions to try, the boldest first."""
        if self.how:
            yield self._clean(replace(self, how="", losses=()))
        for name in self.outputs if len(self.outputs) + bool(self.how) > 1 else ():
            yield self._clean(replace(self, outputs=(name,), how="", losses=()))
            yield self._clean(replace(self, outputs=tuple(n for n in self.outputs if n != name)))
        for loss in self.losses if len(self.losses) > 1 else ():
            yield self._clean(replace(self, losses=(loss,)))
        if len(self.calls) > 2:
            yield replace(self, calls=self.calls[:2])
        for k in range(len(self.calls) if len(self.calls) > 1 else 0):
            yield replace(self, calls=self.calls[:k] + self.calls[k + 1 :])
        yield from self._without_lines()
        yield from self._plainer_inputs()
        for k, call in enumerate(self.calls):
            if call.lengths or call.layout or call.twice:
                yield replace(self, calls=(*self.calls[:k], Call(call.seed), *self.calls[k + 1 :]))
            for plainer in (replace(call, lengths=()), replace(call, layout=""), replace(call, twice=())):
                yield replace(self, calls=(*self.calls[:k], plainer, *self.calls[k + 1 :]))
        if self.form not in ("tuple", "single") or self.passing != "flat":
            yield replace(self, form="tuple", passing="flat")
        if len(self.outputs) == 1 and not self.how and self.form != "single":
            yield replace(self, form="single")

    def _without_lines(self) -> Iterator[Expression]:
        for k in reversed(range(len(self.lines))):
            line = self.lines[k]
            rest = self.lines[:k] + self.lines[k + 1 :]
            if not line.target:
                yield self._clean(replace(self, lines=rest))
                continue
            wants = bool(self.how) and line.dtype.startswith("float")
            cut = Input(line.target, line.shape, line.dtype, grad=wants)
            yield self._clean(replace(self, lines=rest, inputs=(*self.inputs, cut)))
            for name in dict.fromkeys(line.uses):
                yield self._clean(replace(self, lines=rest)._renamed(line.target, name))

    def _renamed(self, old: str, new: str) -> Expression:
        def name(n: str) -> str:
            return new if n == old else n

        lines = tuple(replace(line, uses=tuple(map(name, line.uses))) for line in self.lines)
        return replace(self, lines=lines, outputs=tuple(map(name, self.outputs)), losses=tuple((t, name(n)) for t, n in self.losses))

    def _plainer_inputs(self) -> Iterator[Expression]:
        for k, i in enumerate(self.inputs):
            plainer = [replace(i, **change) for change in ({"kind": "normal"}, {"layout": "C"}, {"role": "argument"}, {"grad": False})]
            for axis, n in enumerate(i.shape):
                plainer += [replace(i, shape=(*i.shape[:axis], m, *i.shape[axis + 1 :])) for m in (1, 2) if m < n]
            if i.role == "static":
                plainer = [replace(i, kind=i.kind.partition("|")[0])]
            for other in plainer:
                if other != i:
                    yield replace(self, inputs=(*self.inputs[:k], other, *self.inputs[k + 1 :]))

    @staticmethod
    def _clean(e: Expression) -> Expression:
        """Without lines and inputs that nothing needs."""
        needed = {*e.outputs, *(name for _, name in e.losses)}
        lines: list[Line] = []
        for line in reversed(e.lines):
            if not line.target or line.target in needed:
                needed.update(line.uses)
                lines.insert(0, line)
        return replace(e, lines=tuple(lines), inputs=tuple(i for i in e.inputs if i.name in needed))
