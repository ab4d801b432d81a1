"""What of this machine's processor kernels use: all of it, or what a lesser one has.

$MULGIL_VECTOR_BYTES (16, 32 or 64) compiles as for a processor of x86 whose vectors are no wider, with no instruction that came
later, whoever chooses the instructions: so one machine tries what others will run. It is read whenever something is compiled.
"""

from __future__ import annotations

import os
import platform
from functools import cache

from mulgil.errors import OptionError

LEVELS = {16: "x86-64-v2", 32: "x86-64-v3", 64: "x86-64-v4"}  # bytes of a vector -> LLVM's name for such processors
NEEDED = {16: "sse4.2", 32: "avx2", 64: "avx512f"}
SWITCH = "MULGIL_VECTOR_BYTES"


@cache
def features() -> frozenset[str]:
    """What the processor has beyond its base, in LLVM's names."""
    import llvmlite.binding as llvm

    return frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)


def widths() -> tuple[int, ...]:
    """The values of the switch that this processor can run; none where it is not an x86."""
    return tuple(width for width, name in NEEDED.items() if name in features())


def vector_bytes() -> int:
    """Bytes of a vector in kernels that are compiled now. Raises OptionError for a switch that names none of `widths()`."""
    asked = os.environ.get(SWITCH, "")
    if not asked:
        return max(widths(), default=16)
    if asked not in map(str, widths()):
        can = ", ".join(map(str, widths())) or "none"
        raise OptionError(f"{SWITCH}: a number of bytes whose vectors this processor has", repr(asked), f"it can: {can}")
    return int(asked)


def level() -> str | None:
    """The lesser processor that kernels are compiled for now; None for this one."""
    return None if vector_bytes() == max(widths(), default=16) else LEVELS[vector_bytes()]


def has_half() -> bool:
    """Whether that processor converts float16: elsewhere that is a library's call, which is not there."""
    return ("f16c" in features() and vector_bytes() > 16) or platform.machine().lower() in ("aarch64", "arm64")
