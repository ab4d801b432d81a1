"""Ctrl-C between batches instead of within one, so that weights and optimizer always belong together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupt_between_batches(stop: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C within the block calls `stop("interrupted")`, and KeyboardInterrupt comes at its end; a second one comes at once.

    Does nothing outside the main thread, and where the program handles the signal itself.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    asked = False

    def first(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop("interrupted")

    signal.signal(signal.SIGINT, first)
    try:
        yield
        if asked:
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
