"""The programs of examples/ run as they stand, but for their number of epochs, on a small data set with MNIST's file names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mulgil.data.datasets import Digits
from mulgil.data.datasets.idx import write_idx

pytest.importorskip("matplotlib")

SEED = "import mulgil, numpy; mulgil.manual_seed(3); numpy.random.seed(3)\n"  # the same run every time
EXAMPLES = Path(__file__).parents[1] / "examples"

# program, the text that is shortened, what it becomes, how the last accuracy is printed, and the least it must be
PROGRAMS = [
    ("sigmoid.py", "max_epoch = 5", "max_epoch = 12", r"test loss: [\d.]+, accuracy: ([\d.]+)", 0.3),
    ("relu.py", "max_epoch = 5", "max_epoch = 2", r"test loss: [\d.]+, accuracy: ([\d.]+)", 0.85),
    ("softmax.py", "training_epochs = 15", "training_epochs = 3", r"Accuracy: ([\d.]+)", 0.75),
    ("mlp.py", "num_epochs = 100", "num_epochs = 6", r"val_acc:\s+([\d.]+)", 0.15),
    ("deep_mlp.py", "N_EPOCH = 20", "N_EPOCH = 3", r"Test accuracy: ([\d.]+)", 0.5),
    ("cnn.py", "in range(2):", "in range(5):", r"test accuracy: ([\d.]+)", 0.7),
]


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded digits as four IDX files."""
    folder = tmp_path_factory.mktemp("mnist")
    for part, train in (("train", True), ("t10k", False)):
        digits = Digits(train=train)
        write_idx(folder / f"{part}-images-idx3-ubyte", np.asarray(digits.data))
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.asarray(digits.targets).astype(np.uint8))
    return folder


def test_every_example_is_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {name for name, *_ in PROGRAMS}


@pytest.mark.parametrize(("name", "long", "short", "pattern", "least"), PROGRAMS, ids=[p[0] for p in PROGRAMS])
def test_example(name: str, long: str, short: str, pattern: str, least: float, data_folder: Path, tmp_path: Path) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert text.count(long) == 1
    (tmp_path / name).write_text(SEED + text.replace(long, short), encoding="utf-8")
    environment = {**os.environ, "MPLBACKEND": "Agg", "MULGIL_DATA": str(data_folder), "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, name]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    accuracies = [float(found) for found in re.findall(pattern, result.stdout)]
    assert accuracies and least <= accuracies[-1] <= 1, result.stdout[-2000:]
    if name == "deep_mlp.py":  # the model that was loaded is the model that was saved
        last = re.findall(r"Val Accuracy: ([\d.]+)", result.stdout)[-1]
        assert float(last) == accuracies[-1]
        assert (tmp_path / "models" / "mnist" / "mnist_mlp.pth").stat().st_size > 400_000
