"""The command line: `mulgil train`, `eval`, `predict`, `data`, `recipes`."""

from __future__ import annotations

from mulgil.cli.main import main

__all__ = ["main"]
