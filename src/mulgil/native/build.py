"""Compiling the kernels that the cache lacks: several at once in helper processes, with a line that says so.

A helper is a fresh Python (never a fork: threads may be running) that reads kernels as lines of JSON and answers each with
its machine code. What no helper can do is compiled in this process.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread, Timer
from typing import Any

from mulgil.native.cache import Entry
from mulgil.native.hardware import SWITCH
from mulgil.native.loader import Spec
from mulgil.native.threads import cores

FEW = 2  # kernels that are compiled here, quietly: a helper takes about half a second to start
LINGER = 15  # seconds that a helper waits for more kernels: it holds some 150 MB
PATIENCE = 120  # seconds without a kernel from any helper, after which this process goes on alone

_idle: list[tuple[str | None, subprocess.Popen]] = []  # helpers that wait, with the width of vectors that they compile for


def compile_all(specs: Sequence[Spec], folder: Path) -> dict[str, Entry]:
    """The machine code of each kernel, by its key. folder: where it will be kept, for the message."""
    quick = [spec for spec in specs if spec.language == "llvm"]  # milliseconds each
    made = {spec.key: compile_here(spec) for spec in quick}
    slow = [spec for spec in specs if spec.key not in made]
    with Progress(len(slow), folder) as progress:
        if len(slow) > FEW:
            progress.show(0)
            with closing(from_helpers(sorted(slow, key=lambda s: -len(s.source)))) as compiled:  # after Ctrl-C, too, no helper stays
                for key, entry in compiled:
                    made[key] = entry
                    progress.show(len(made) - len(quick))
        for spec in slow:
            if spec.key not in made:
                made[spec.key] = compile_here(spec)
                progress.show(len(made) - len(quick))
    return made


def compile_here(spec: Spec) -> Entry:
    """Compile in this process."""
    if spec.language == "llvm":
        from mulgil.native.llvm import machine_code
    else:
        from mulgil.native.jit import machine_code

    symbol = f"mulgil_{spec.key[:32]}"
    code, externals = machine_code(spec, symbol)
    return Entry(symbol, externals, spec.source, code)


class Progress:
    """A line on the standard error: kept up to date on a terminal, written once elsewhere."""

    def __init__(self, total: int, folder: Path):
        self.total, self.folder, self.start = total, folder, time.perf_counter()
        self.live = sys.stderr is not None and sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def show(self, done: int) -> None:
        if self.total <= FEW:
            return
        text = f"mulgil: compiling {self.total} kernels for this machine, once (kept in {self.folder})"
        if self.live:
            self._write(f"\r{text} ... {done}/{self.total}")
        elif not done:
            self._write(f"{text}\n")

    def __exit__(self, *_: object) -> None:
        if self.live and self.total > FEW:
            self._write(f", {time.perf_counter() - self.start:.1f} s\n")

    @staticmethod
    def _write(text: str) -> None:
        with suppress(OSError, ValueError, AttributeError):  # no standard error, or a closed one
            sys.stderr.write(text)
            sys.stderr.flush()


# ---- helpers


def from_helpers(specs: Sequence[Spec]) -> Generator[tuple[str, Entry], None, None]:
    """Compile in as many helpers as there are cores; gives what succeeds, as it comes."""
    todo: SimpleQueue[Spec] = SimpleQueue()
    done: SimpleQueue[tuple[str, Entry] | None] = SimpleQueue()
    for spec in specs:
        todo.put(spec)
    helpers = [helper for _ in range(min(cores(), len(specs))) if (helper := idle_helper() or start_helper())]
    threads = [Thread(target=serve, args=(helper, todo, done), daemon=True) for helper in helpers]
    try:
        for thread in threads:
            thread.start()
        ended = made = 0
        with suppress(Empty):
            while ended < len(threads):
                result = done.get(timeout=PATIENCE)
                if result is None:
                    ended += 1
                else:
                    made += 1
                    yield result
            if made == len(specs):  # all did what they were asked to
                helpers, threads = keep(helpers), []
    finally:  # also after Ctrl-C
        for helper in helpers:
            helper.kill()
        for thread in threads:
            with suppress(RuntimeError):  # one that was never started
                thread.join()
        for helper in helpers:
            with suppress(OSError, ValueError):  # a pipe that nobody reads
                helper.communicate()


def keep(helpers: list[subprocess.Popen]) -> list[subprocess.Popen]:
    """Let helpers wait for a while: a step, an evaluation and a last batch are compiled one soon after the other. Gives the dead ones."""
    alive = [helper for helper in helpers if helper.poll() is None]
    _idle.extend((os.environ.get(SWITCH), helper) for helper in alive)
    timer = Timer(LINGER, dismiss, [alive])
    timer.daemon = True
    timer.start()
    return [helper for helper in helpers if helper not in alive]


def idle_helper() -> subprocess.Popen | None:
    """One that waits and compiles for the same vectors."""
    for entry in _idle[:]:
        with suppress(ValueError):  # another thread took it
            if entry[0] == os.environ.get(SWITCH):
                _idle.remove(entry)
                if entry[1].poll() is None:
                    return entry[1]
    return None


@atexit.register
def dismiss(helpers: list[subprocess.Popen] | None = None) -> None:
    """End these helpers, or all, as far as they wait."""
    for entry in _idle[:]:
        if helpers is None or entry[1] in helpers:
            with suppress(ValueError, OSError):
                _idle.remove(entry)
                entry[1].kill()
                entry[1].communicate()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's


def start_helper() -> subprocess.Popen | None:
    paths = os.pathsep.join(path for path in (str(Path(__file__).parents[2]), *sys.path) if path)
    environment = {**os.environ, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "mulgil.native.build"]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    try:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, env=environment, text=True, encoding="utf-8")
    except (OSError, ValueError, TypeError):  # no interpreter to be had, as in a frozen program
        return None


def serve(helper: subprocess.Popen, todo: SimpleQueue, done: SimpleQueue) -> None:
    """Give a helper one kernel after the other; a thread for each helper. A None says that this one ends."""
    with suppress(Empty, OSError, ValueError):  # nothing is left, or the helper died
        while True:
            spec = todo.get_nowait()
            helper.stdin.write(json.dumps(spec.to_json()) + "\n")  # type: ignore[union-attr]
            helper.stdin.flush()  # type: ignore[union-attr]
            result = json.loads(helper.stdout.readline())  # type: ignore[union-attr]
            if result.get("key") == spec.key:
                code = base64.b64decode(result["code"])
                done.put((spec.key, Entry(result["symbol"], tuple(result["externals"]), spec.source, code)))
    done.put(None)


def answer(line: str | bytes) -> dict[str, Any]:
    """A helper's work: one kernel, from JSON to JSON."""
    try:
        spec = Spec.from_json(json.loads(line))
        entry = compile_here(spec)
    except Exception as error:  # the parent compiles it again and shows the error where the user's program is
        return {"error": str(error)}
    code = base64.b64encode(entry.code).decode()
    return {"key": spec.key, "symbol": entry.symbol, "externals": entry.externals, "code": code}


def main() -> None:
    """The helper: until the standard input ends. Whatever libraries print goes elsewhere."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        for line in sys.stdin.buffer:
            out.write(json.dumps(answer(line)) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
