"""Shapes, dtypes and numbers as the short text that stands in a picture."""

from __future__ import annotations

from typing import Any

import numpy as np


def shape_text(shape: Any) -> str:
    """`(256, 10)` -> "[256, 10]"; no axes -> "scalar"."""
    return f"[{', '.join(map(str, shape))}]" if len(shape) else "scalar"


def dtype_text(dtype: Any) -> str:
    """`float32` -> "f32", as in a compiled graph."""
    return np.dtype(dtype).name.replace("float", "f").replace("uint", "u").replace("int", "i")


def number_text(number: Any) -> str:
    """At most four digits."""
    return f"{number:.4g}" if isinstance(number, float) else str(number)
