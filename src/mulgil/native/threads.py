"""A few threads that share the items of a kernel.

A kernel's items are cut into shares. The caller publishes them, does one, and then takes what nobody else has taken; helpers,
which look for work without the interpreter's lock, take the others. So a helper that the system runs too late costs no more than
its help. A helper that has found nothing for a while sleeps: waking it takes tens of microseconds, as long as many a kernel.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np

from mulgil.errors import OptionError
from mulgil.native.blas import set_num_threads

WORTH = 1_500_000  # operations, some 10 microseconds of one core: less is not worth the handing over
OPERATIONS_A_BYTE = 15  # as many as a core does in the time in which it moves a byte
PATIENCE = 300e-6  # seconds without work after which a helper sleeps
LINE = 64  # bytes of a cache line
MOST = 3  # arrays that a shared kernel may be given at each call

_X86, _ARM = ("llvm.x86.sse2.pause", "", ""), ("llvm.aarch64.hint", "i32 1", "i32")
PAUSES = {"x86_64": _X86, "amd64": _X86, "aarch64": _ARM, "arm64": _ARM}  # the instruction for a loop that waits: name, argument, its type


class Common(ctypes.Structure):
    """What the caller and its helpers have in common; threads.ll says what for."""

    _fields_ = [
        ("work", ctypes.c_int64),
        ("job", ctypes.c_void_p * (2 + MOST)),
        ("rest_of_line", ctypes.c_int64 * 2),
        ("done", ctypes.c_int64),
        ("busy", ctypes.c_int64),
        ("rest_of_another", ctypes.c_int64 * 6),
        ("helpers", ctypes.c_int64),
    ]


class Job(ctypes.Structure):
    """A kernel and a table of its arrays' addresses for each share."""

    _fields_ = [("function", ctypes.c_void_p), ("tables", ctypes.c_void_p), ("shares", ctypes.c_int64)]


_memory: Any = np.zeros(ctypes.sizeof(Common) + LINE, np.uint8)
_common = Common.from_buffer(_memory, -_memory.ctypes.data % LINE)
_allowed: int | None = 0  # the limit that `_common` knows; none yet
_asleep: list[Helper] = []


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count() -> int:
    """The threads of a kernel: as many as there are cores, at most $OMP_NUM_THREADS or what `set_num_threads` was given."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    count = set_num_threads.limit or (int(asked) if asked.isdigit() else cores())
    return max(1, min(cores(), count))


def worth(operations: int, nbytes: int) -> bool:
    """Whether a kernel of so many operations, on arrays of so many bytes, is worth sharing."""
    return max(operations, OPERATIONS_A_BYTE * nbytes) >= WORTH


def shares(items: int, operations: int, nbytes: int) -> list[tuple[int, int]]:
    """Ranges of items, one for each core: how many threads there are may change later, and changes no result."""
    threads = min(cores(), items) if worth(operations, nbytes) else 1
    cuts = [items * k // threads for k in range(threads + 1)]
    return list(pairwise(cuts))


def shared(function: int, tables: Sequence[int], passed: int) -> Callable[..., None]:
    """A kernel whose shares run side by side.

    function: where its machine code lies. tables: for each share, where the table of its arrays' addresses does.
    passed: how many arrays it is given at each call.
    """
    if passed > MOST:
        raise OptionError(f"a shared kernel takes at most {MOST} arrays at each call", str(passed), "give the others a fixed place")
    pointers = (ctypes.c_void_p * len(tables))(*tables)
    job = Job(function, ctypes.addressof(pointers), len(tables))
    launch = partial(native()["launch"], ctypes.addressof(_common), ctypes.addressof(job))
    rest = (None,) * (MOST - passed)

    def call(*arrays: Any) -> None:
        if _asleep:
            wake()
        launch(*arrays, *rest)

    call.kept = pointers, job  # type: ignore[attr-defined]  # the memory lives as long as the function
    return call


# ---- helpers


class Helper:
    """A thread that takes shares; it sleeps when there have been none for a while."""

    def __init__(self, number: int):
        self.number, self.alarm = number, Lock()
        self.alarm.acquire()
        Thread(target=self._loop, name="mulgil kernels", daemon=True).start()

    def _loop(self) -> None:
        serve, rounds = native()["serve"], patience()
        while True:
            serve(ctypes.addressof(_common), self.number, rounds)
            _asleep.append(self)
            self.alarm.acquire()


@cache
def helpers() -> list[Helper]:
    """Started at first use; again in a forked process, which inherits no threads."""
    native(), patience()
    return [Helper(number) for number in range(cores() - 1)]


def wake() -> None:
    """Wake the helpers that are asked for."""
    for helper in _asleep[:]:
        if helper.number < _common.helpers:
            with suppress(ValueError):  # another caller was quicker
                _asleep.remove(helper)
                helper.alarm.release()


def allow() -> None:
    """Let the kernels use `thread_count()` threads; quick where nothing has changed."""
    global _allowed
    if _allowed is not set_num_threads.limit:
        _allowed, count = set_num_threads.limit, thread_count()
        if count > 1:
            helpers()
        _common.helpers = count - 1


def _after_fork() -> None:
    global _allowed
    _allowed = 0
    ctypes.memset(ctypes.addressof(_common), 0, ctypes.sizeof(_common))
    _asleep.clear()
    helpers.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _rest() -> None:
    """No helper may be in machine code when the interpreter takes it away."""
    _common.helpers = 0
    started = len(helpers()) if helpers.cache_info().currsize else 0
    deadline = time.monotonic() + 1
    while len(_asleep) < started and time.monotonic() < deadline:
        time.sleep(1e-4)


# ---- machine code


@cache
def native() -> dict[str, Any]:
    """`serve` and `launch` of threads.ll."""
    from mulgil.native.loader import add_assembly

    name, given, kind = PAUSES.get(platform.machine().lower(), ("", "", ""))
    give_way = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
    text = Path(__file__).with_suffix(".ll").read_text(encoding="utf-8").replace("@yield(", f"@{give_way}(")
    text += f"declare i32 @{give_way}()\n" + (f"declare void @{name}({kind})\n" if name else "")
    text += "define void @pause() {\n" + (f"call void @{name}({given})\n" if name else "") + "ret void\n}\n"
    find = add_assembly(text)
    return {
        "serve": ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(find("serve")),
        "launch": ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.py_object] * MOST)(find("launch")),
    }


@cache
def patience() -> int:
    """The rounds of looking for work that last `PATIENCE`, by the quickest of some tries."""
    serve, nobody, rounds, seconds = native()["serve"], Common(helpers=1), 2000, []
    for _ in range(5):
        start = time.perf_counter()
        serve(ctypes.addressof(nobody), 0, rounds)
        seconds.append(time.perf_counter() - start)
    return max(1, int(rounds * PATIENCE / min(seconds)))
