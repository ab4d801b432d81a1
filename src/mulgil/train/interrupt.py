"""Signals that end a program: Ctrl-C, SIGTERM (Slurm, `docker stop`, shutdown) and SIGHUP (a closed terminal). The one place for them.

The first one ends a run in order, after the batch under way. A second one ends it at once, but never within a batch, so that
weights and optimizer belong together; a third one ends it wherever it is. While kernels compile already the first one ends it at once.
What ends a run at last is KeyboardInterrupt for Ctrl-C, and `Terminated` with the exit code 128 + n for the others.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

SIGNALS = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}
REASON = "interrupted"


class Terminated(SystemExit):
    """The system asked the program to end. code: 128 + the signal's number, as a shell has it."""


def ending(number: int) -> BaseException:
    """The exception that ends a program after this signal."""
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(128 + number)


class Interrupts:
    """The signals of a block of the program.

    number: the first one that came, or None. Used as a context manager it is a part that no second signal ends, such as a batch.
    """

    def __init__(self, say: Callable[[str], None] | None = None):
        self.number: int | None = None
        self.count = 0
        self.say = say
        self._told: list[Callable[[str], None]] = []
        self._whole = self._at_once = 0
        self._screens = [fd for fd in (0, 1, 2) if _is_screen(fd)]

    @property
    def code(self) -> int:
        """The exit code: 130 for Ctrl-C, 128 + n for signal n; 0 where none came."""
        return 0 if self.number is None else 128 + self.number

    @contextmanager
    def telling(self, stop: Callable[[str], None]) -> Iterator[None]:
        """Within the block the first signal calls `stop("interrupted")`; at once if it has come."""
        self._told.append(stop)
        if self.number is not None:
            stop(REASON)
        try:
            yield
        finally:
            self._told.remove(stop)

    def __enter__(self) -> None:
        self._whole += 1

    def __exit__(self, kind: Any, *error: object) -> None:
        self._whole -= 1
        if self.count > 1 and not self._whole and kind is None:
            raise ending(self.number)  # type: ignore[arg-type]

    def handle(self, number: int, frame: Any) -> None:
        """A signal has come."""
        self.number, self.count = self.number or number, self.count + 1
        self._forget_lost_screens()
        if self.count == 1:
            for stop in self._told:
                stop(REASON)
            if self.say is not None:
                self.say("stopping after this batch; what was reached is kept (Ctrl-C again: leave at once)")
        if self._at_once or self.count > 2 or (self.count == 2 and not self._whole):
            raise ending(self.number)

    def _forget_lost_screens(self) -> None:
        """Writing to a terminal that was closed is an error, in the middle of whatever writes: write into nothing instead."""
        for fd in self._screens:
            if not _is_screen(fd):
                with suppress(OSError):
                    nothing = os.open(os.devnull, os.O_RDWR)
                    os.dup2(nothing, fd)
                    os.close(nothing)


_active: Interrupts | None = None  # of the main thread


@contextmanager
def watched(say: Callable[[str], None] | None = None, ends: bool = True) -> Iterator[Interrupts]:
    """The block's signals; within such a block already: that one's.

    A signal that the program handles or ignores itself (`nohup`) stays as it is, and so do all of them outside the main thread.
    ends: the block that was entered first raises, at its end, the exception of the signal that came.
    """
    global _active
    if threading.current_thread() is not threading.main_thread():
        yield Interrupts()
        return
    if _active is not None:
        yield _active
        return
    usual = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number, handler in usual.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    _active = mine = Interrupts(say)
    for number in ours:
        signal.signal(number, mine.handle)
    try:
        yield mine
    finally:
        _active = None
        for number in ours:
            signal.signal(number, usual[number])
    if ends and mine.number is not None:
        raise ending(mine.number)


def asked() -> bool:
    """Whether a signal has come, within a watched block."""
    return _active is not None and _active.number is not None


@contextmanager
def at_once() -> Iterator[None]:
    """Within the block, which can be taken back as a whole, the first signal raises already."""
    active = _active if threading.current_thread() is threading.main_thread() else None
    if active is None:
        yield
        return
    if active.number is not None:
        raise ending(active.number)
    active._at_once += 1
    try:
        yield
    finally:
        active._at_once -= 1


def say_on_stderr(text: str) -> None:
    """A line, written from within a signal's handler: past Python's own buffers, which may be in use just now."""
    with suppress(OSError):
        os.write(2, f"\n{text}\n".encode())


def _is_screen(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False
