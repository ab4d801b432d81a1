"""The machine under the figures: its processor, its versions, and the peaks that the floors are computed with."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

import mulgil
from mulgil.compile.profile import peaks
from mulgil.native.threads import cores
from mulgil.train.machine import processor


def describe() -> dict[str, Any]:
    """gflops: of a product of large float32 matrices. gbytes: read and written per second by a copy of a large array."""
    gflops, gbytes = peaks()
    return {
        "processor": processor(),
        "cores": cores(),
        "gflops": round(gflops, 1),
        "gbytes": round(gbytes, 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "mulgil": mulgil.__version__,
        "system": platform.system(),
    }
