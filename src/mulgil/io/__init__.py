"""Models on disk: `save` and `load`, one safetensors file, no pickle."""

from __future__ import annotations

from mulgil.io.model_file import load, read_info, save

__all__ = ["load", "read_info", "save"]
