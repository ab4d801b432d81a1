"""Facts about this machine's processor."""

from __future__ import annotations

import platform
from functools import cache


@cache
def features() -> frozenset[str]:
    """What the processor has beyond its base, in LLVM's names."""
    import llvmlite.binding as llvm

    return frozenset(name for name, there in llvm.get_host_cpu_features().items() if there)


@cache
def has_half() -> bool:
    """Whether it converts float16: elsewhere that is a library's call, which is not there."""
    return "f16c" in features() or platform.machine().lower() in ("aarch64", "arm64")
