"""A few threads that share the items of a kernel. Kernels release the interpreter's lock, so the threads run side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import pairwise
from threading import Lock, Thread
from typing import Any

from mulgil.backend import set_num_threads

WORTH = 15_000_000  # operations, about 0.1 ms of one core: less is not worth waking a thread

_busy = Lock()  # one shared kernel at a time; a second caller works alone


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count() -> int:
    """The threads of a kernel: as many as there are cores, at most $OMP_NUM_THREADS or what `set_num_threads` was given."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    count = set_num_threads.limit or (int(asked) if asked.isdigit() else cores())
    return max(1, min(cores(), count))


class Worker:
    """A thread that waits for work."""

    def __init__(self) -> None:
        self._work: Callable[[], None] | None = None
        self._start, self._done = Lock(), Lock()
        self._start.acquire()
        self._done.acquire()
        Thread(target=self._loop, name="mulgil kernels", daemon=True).start()

    def _loop(self) -> None:
        while True:
            self._start.acquire()
            self._work()  # type: ignore[misc]
            self._done.release()

    def start(self, work: Callable[[], None]) -> None:
        self._work = work
        self._start.release()

    def wait(self) -> None:
        self._done.acquire()


@cache
def workers() -> list[Worker]:
    """Started at first use; again in a forked process, which inherits no threads."""
    return [Worker() for _ in range(cores() - 1)]


def _after_fork() -> None:
    global _busy
    _busy = Lock()
    workers.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def shares(items: int, operations: int) -> list[tuple[int, int]]:
    """Ranges of items, one for each core: how many threads there are may change later, and changes no result."""
    threads = min(cores(), items) if operations >= WORTH else 1
    cuts = [items * k // threads for k in range(threads + 1)]
    return list(pairwise(cuts))


def together(functions: Sequence[Callable[..., None]]) -> Callable[..., None]:
    """A function that runs them all with its arguments."""
    return functions[0] if len(functions) == 1 else partial(run, functions)


def run(functions: Sequence[Callable[..., None]], *passed: Any) -> None:
    """Run the shares of a kernel, the last in this thread, with as many other threads as there may be."""
    lock, count = _busy, min(thread_count(), len(functions))
    if count == 1 or not lock.acquire(blocking=False):
        for function in functions:
            function(*passed)
        return
    try:
        helpers = workers()[: count - 1]
        for helper, function in zip(helpers, functions, strict=False):
            helper.start(partial(function, *passed) if passed else function)
        for function in functions[count - 1 :]:
            function(*passed)
        for helper in helpers:
            helper.wait()
    finally:
        lock.release()


# ---- BLAS


class SingleBlas:
    """Within the block, matrix products run on one thread.

    OpenBLAS' own threads go on spinning after each product, on the cores that the kernels' threads need.
    """

    def __init__(self) -> None:
        self._lock, self._users = Lock(), 0
        self._before: list[tuple[Any, int]] = []

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._before = [(library, library.get_num_threads()) for library in blas_libraries()]
                for library, _ in self._before:
                    library.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                for library, count in self._before:
                    library.set_num_threads(count)


single_blas = SingleBlas()


@cache
def blas_libraries() -> list[Any]:
    """The BLAS libraries of this process, as threadpoolctl's controllers."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas").lib_controllers
