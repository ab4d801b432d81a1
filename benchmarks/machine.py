"""The machine under the figures: its processor, its versions, and the peaks that the floors are computed with."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

import mulgil
from mulgil.compile.profile import peaks


def processor() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def describe() -> dict[str, Any]:
    """gflops: of a product of large float32 matrices. gbytes: read and written per second by a copy of a large array."""
    gflops, gbytes = peaks()
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gflops": round(gflops, 1),
        "gbytes": round(gbytes, 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "mulgil": mulgil.__version__,
        "system": platform.system(),
    }
