"""A count of the changes that compiled plans must hear of: a layer replaced, a mode, a hook, `requires_grad`, the default dtype.

Who makes such a change calls `note()`. Who relies on there having been none compares `last`, one integer, and looks closer when it
has moved.
"""

from __future__ import annotations

from itertools import count

_numbers = count(1)
last = 0


def note() -> None:
    """Say that something has changed. Each number is given once, so that threads cannot undo each other's."""
    global last
    last = next(_numbers)
