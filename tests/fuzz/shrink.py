"""Making a failing program small: simpler ones are tried as long as they fail in the same way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from tests.fuzz.check import Verdict, judged


def shrunk(program: Any, verdict: Verdict, seconds: float = 60.0) -> tuple[Any, Verdict]:
    """The smallest program found, and how it fails. A program has `size()`, `smaller()` and `source()`."""
    end = time.monotonic() + seconds
    tried = {program.source()}
    found = True
    while found and time.monotonic() < end:
        found = False
        for candidate in _fresh(program, tried):
            if time.monotonic() > end:
                break
            outcome = judged(candidate)
            if outcome.way == verdict.way:
                program, verdict, found = candidate, outcome, True
                break
    return program, verdict


def _fresh(program: Any, tried: set[str]) -> Iterator[Any]:
    for candidate in program.smaller():
        if candidate.size() >= program.size():
            continue
        text = candidate.source()
        if text not in tried:
            tried.add(text)
            yield candidate
