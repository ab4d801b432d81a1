"""`auto`: MNIST from the disk, MNIST from a mirror, or the digits with one line that says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mulgil.data.datasets import MNIST, Digits
from mulgil.data.datasets.idx import write_idx
from mulgil.errors import DataError
from mulgil.train import sources


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without data and without network."""
    monkeypatch.delenv("MULGIL_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(MNIST, "mirrors", ("http://127.0.0.1:9/",))
    return tmp_path


def test_auto_without_network_takes_the_digits_and_says_so(nowhere: Path) -> None:
    notes: list[str] = []
    source = sources.load_source("auto", None, None, notes.append)
    assert source.name == "digits" and len(source.train) + len(source.test) == 1797
    assert len(notes) == 1 and "\n" not in notes[0] and "digits" in notes[0]


def test_mnist_insists(nowhere: Path) -> None:
    with pytest.raises(DataError):
        sources.load_source("mnist", None, None)


def test_auto_finds_mnist_on_disk(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = nowhere / "files"
    folder.mkdir()
    for part in ("train", "t10k"):
        write_idx(folder / f"{part}-images-idx3-ubyte", np.zeros((3, 28, 28), np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(3, dtype=np.uint8))
    for root, environment in ((str(folder), None), (None, str(folder))):
        if environment:
            monkeypatch.setenv("MULGIL_DATA", environment)
        notes: list[str] = []
        source = sources.load_source("auto", root, None, notes.append)
        assert source.name == "mnist" and len(source.train) == 3 and not notes
        assert source.classes == tuple("0123456789")


def test_damaged_files_make_auto_fall_back_with_the_reason(nowhere: Path) -> None:
    for part in ("train", "t10k"):
        (nowhere / f"{part}-images-idx3-ubyte").write_bytes(b"nonsense")
        (nowhere / f"{part}-labels-idx1-ubyte").write_bytes(b"nonsense")
    notes: list[str] = []
    assert sources.load_source("auto", str(nowhere), None, notes.append).name == "digits"
    assert "idx3-ubyte" in notes[0] and len(notes) == 1


def test_the_names_are_those_of_the_command_line() -> None:
    from mulgil.cli import options
    from mulgil.train.recipes import OPTIMIZERS, RECIPES

    assert sources.NAMES == options.DATA_NAMES
    assert tuple(RECIPES) == options.RECIPE_NAMES and tuple(OPTIMIZERS) == options.OPTIMIZER_NAMES
    assert all(kind.name == name for name, kind in sources.SETS.items()) and Digits in sources.SETS.values()
