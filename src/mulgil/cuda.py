"""The GPU, through CuPy: `cuda.is_available()`, and the array module of an array. CuPy is imported only when it is asked for."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mulgil.backend import manual_seed, xp_of
from mulgil.names import lookup


@cache
def device_count() -> int:
    """How many CUDA devices CuPy can use; 0 where CuPy or a driver is missing."""
    from importlib.util import find_spec

    if find_spec("cupy") is None:
        return 0
    try:
        import cupy

        return int(cupy.cuda.runtime.getDeviceCount())
    except Exception:  # a broken driver raises errors of many kinds, and the answer to all is "no GPU"
        return 0


def is_available() -> bool:
    """Whether `.to("cuda")` will work here."""
    return device_count() > 0


def get_array_module(x: Any) -> ModuleType:
    """numpy or cupy, whichever `x` (an array or a Tensor) belongs to."""
    return xp_of(getattr(x, "array", x))


def manual_seed_all(seed: int) -> None:
    """Seed every device's random numbers (they share one generator, see `mulgil.manual_seed`)."""
    manual_seed(seed)


def synchronize() -> None:
    """Wait until the GPU has done all that it was asked to; needed around timings."""
    if is_available():
        import cupy

        cupy.cuda.runtime.deviceSynchronize()


if not TYPE_CHECKING:  # a checker would take any name for known
    __getattr__ = lookup(__name__)
