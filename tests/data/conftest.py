"""A small data set on disk, and a machine that finds no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mulgil.data.datasets import write_idx

COUNTS = {"train": 30, "t10k": 10}


def write_set(folder: Path, ending: str = "", seed: int = 0) -> Path:
    """Four IDX files like MNIST's, with random images; returns the folder."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in COUNTS.items():
        write_idx(folder / f"{split}-images-idx3-ubyte{ending}", random.integers(256, size=(count, 28, 28), dtype=np.uint8))
        write_idx(folder / f"{split}-labels-idx1-ubyte{ending}", random.integers(10, size=count, dtype=np.uint8))
    return folder


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No MULGIL_DATA, an empty cache: what a test finds is what it put there. Returns the cache folder."""
    monkeypatch.delenv("MULGIL_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mulgil"
