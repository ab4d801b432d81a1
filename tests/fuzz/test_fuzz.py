"""Compiled equals eager on programs that nobody wrote. The long form: `python -m tests.fuzz --expressions 3000 --networks 300 --seed 7`."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import fields
from random import Random

import pytest

from tests.fuzz import growth, networks
from tests.fuzz.check import Text, judged
from tests.fuzz.expressions import Call, Expression, Input, Line, row
from tests.fuzz.found import FOUND
from tests.fuzz.layers import Layer
from tests.fuzz.shrink import shrunk
from tests.fuzz.vocabulary import EXPRESSIONS, STATEMENTS


@pytest.mark.parametrize("program", FOUND.values(), ids=FOUND.keys())
def test_what_was_wrong_once_is_right(program):
    verdict = judged(program)
    assert not verdict.failed, f"{verdict.kind}: {verdict.reason}\n{program.source()}"


# ---- new programs: the same at each run, others with another seed

SEED = os.environ.get("MULGIL_FUZZ_SEED", "1")
SECONDS = 40  # of one test; the rest of its programs is left out, with a warning


def check_some(generate, count: int, chunk: int) -> None:
    """Check `count` programs; the first that fails is made small and shown."""
    end = time.monotonic() + SECONDS
    for i in range(count):
        if time.monotonic() > end:
            warnings.warn(f"only {i} of {count} programs in {SECONDS} s", stacklevel=2)
            return
        program = generate(f"{SEED}-{chunk}-{i}")
        verdict = judged(program)
        if verdict.failed:
            small, verdict = shrunk(program, verdict, 30)
            raise AssertionError(f"{verdict.kind}: {verdict.reason}\n# row: {row(small)}\n{small.source()}")


@pytest.mark.parametrize("chunk", range(1))
def test_random_expressions(chunk):
    check_some(growth.generate, 25, chunk)


@pytest.mark.parametrize("chunk", range(2))
def test_random_networks(chunk):
    check_some(networks.generate, 8, chunk)


# ---- the fuzzer itself: it sees what it has to see

COMPILED = "mulgil.compile(function, state=list(vars(w).values()))"
PROGRAM = Expression(
    (Input("a0", (2, 3), grad=True), Input("s1", (3,), role="state")),
    (
        Line("v0", "{0}.sin()", ("a0",), (2, 3), "float64"),
        Line("", "with mulgil.no_grad(): {0} += {1}[0]", ("s1", "v0")),
        Line("v1", "{0}.sum(0)", ("v0",), (3,), "float64"),
        Line("v2", "{0}.argmax(0)", ("v1",), (), "int64"),
    ),
    ("v1", "v2"),
    (Call(0), Call(1), Call(2)),
    (("{0}.sum()", "v1"),),
    "grad",
)
SILENT = "lambda *a: function(*a)"
NONE = "type('Plain', (), {'programs': {1: None}, '__call__': lambda self, *a: function(*a)})()"
FAULTS = {  # what becomes of the right result r -> the verdict
    "(r[0] * (1 + 1e-12), *r[1:])": "wrong",
    "(r[0].float(), *r[1:])": "wrong",
    "(r[0].unsqueeze(0), *r[1:])": "wrong",
    "list(r)": "wrong",
    "(*r[:-1], (None,))": "wrong",
    "1 / 0": "wrong",
    "(r, w.s1.copy_(0))[0]": "wrong",
    "(r, a[0].data.copy_(0))[0]": "wrong",
    "(r, mulgil.rand(1))[0]": "wrong",
}


def faulty(change: str) -> str:
    """What stands in for compile: the function, whose result is changed."""
    return f"lambda *a: (lambda r: {change})(function(*a))"


@pytest.mark.parametrize(
    "stand_in, kind",
    [(SILENT, "silent"), (NONE, "silent"), *((faulty(c), kind) for c, kind in FAULTS.items())],
    ids=["silent", "None", *FAULTS],
)
def test_each_kind_of_fault_is_seen(stand_in, kind):
    text = PROGRAM.source()
    assert COMPILED in text
    verdict = judged(Text(text.replace(COMPILED, stand_in)))
    assert verdict.kind == kind, verdict


def test_what_rounding_explains_is_no_fault():
    """What a program makes of its last bits is no fault; the same distance where no rounding explains it is one."""
    off_by_a_little = PROGRAM.source().replace(COMPILED, faulty("(r[0] + 1e-10, *r[1:])"))
    for line, kind in (("(a0.sum(0) - a0[0]) * 1e6", "silent"), ("v0.sum(0) + 1e6", "silent"), ("v0.sum(0)", "wrong")):
        text = off_by_a_little.replace("v1 = v0.sum(0)", f"v1 = {line}")
        assert judged(Text(text)).kind == kind, line


def test_a_failing_program_is_made_small():
    class Faulty(Expression):
        def source(self, counted=False, noisy=False):
            return super().source(counted, noisy).replace(COMPILED, faulty("(r[0] * 1.001, *r[1:])"))

    program = Faulty(**{f.name: getattr(PROGRAM, f.name) for f in fields(PROGRAM)})
    small, verdict = shrunk(program, judged(program))
    assert verdict.kind == "wrong" and len(small.lines) <= 1 and len(small.calls) == 1 and small.size() < PROGRAM.size() / 3
    assert judged(Text(small.source())).way == verdict.way


@pytest.mark.parametrize("row", [*(r for rows in EXPRESSIONS.values() for r in rows), *STATEMENTS])
def test_every_row_of_the_vocabulary_can_be_drawn(row):
    for seed in range(200):
        growing = growth.Growth(Random(seed))
        growing.try_row(row, row in STATEMENTS)
        if growing.lines and not growing.over:
            return
    raise AssertionError("eager mode refuses this row each time")


@pytest.mark.parametrize("generate", [growth.generate, networks.generate], ids=["expression", "network"])
def test_a_seed_is_a_program(generate):
    """The same seed gives the same text, another seed another; its row makes it again; and the text alone runs."""
    program = generate("3-4")
    assert program.source() == generate("3-4").source() != generate("3-5").source()
    assert all(isinstance(smaller.source(noisy=True), str) for seed in range(20) for smaller in generate(f"4-{seed}").smaller())
    names = {c.__name__: c for c in (Expression, Input, Line, type(program), type(program.calls[0]), Layer)}
    assert eval(row(program), names) == program
    assert judged(Text(program.source())).kind != "invalid"
