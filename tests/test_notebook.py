"""examples/mnist_cnn.ipynb runs from top to bottom in a kernel, on the embedded digits, and its live plot is one picture that filled."""

from __future__ import annotations

import base64
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest

from mulgil.data.datasets import Digits
from mulgil.data.datasets.idx import write_idx

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
image = pytest.importorskip("matplotlib.image")

NOTEBOOK = Path(__file__).parents[1] / "examples" / "mnist_cnn.ipynb"


def pictures(cell) -> list[np.ndarray]:
    found = [o["data"]["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
    return [image.imread(io.BytesIO(base64.b64decode(data)), format="png") for data in found]


def coloured(picture: np.ndarray, colour: str) -> int:
    """How many pixels have a colour, nearly."""
    wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return int((abs(picture[..., :3] - wanted).max(-1) < 0.02).sum())


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    assert NOTEBOOK.stat().st_size < 30_000


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, train in (("train", True), ("t10k", False)):
        digits = Digits(train=train)
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", np.asarray(digits.data))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.asarray(digits.targets).astype(np.uint8))
    monkeypatch.setenv("MULGIL_DATA", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1] / "src"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    for long, short in (("EPOCHS = 2", "EPOCHS = 12"), ("BATCH_SIZE = 100", "BATCH_SIZE = 25")):
        assert settings.source.count(long) == 1
        settings.source = settings.source.replace(long, short)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()

    said = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", []))
    assert 0.7 <= float(re.search(r"test accuracy: ([\d.]+)", said).group(1)) <= 1  # type: ignore[union-attr]
    made, trained = (next(cell for cell in notebook.cells if text in cell.source) for text in ("create_plot(", "set_train_batch("))
    (live,) = pictures(made)
    assert coloured(live, "#4878a8") > 500 and coloured(live, "#d1653e") > 500  # lines and dots of training and test
    assert not pictures(trained)
    assert any("image/svg+xml" in o.get("data", {}) for cell in notebook.cells for o in cell.get("outputs", []))
    assert sum(len(pictures(cell)) for cell in notebook.cells if "outputs" in cell) == 4  # images, live plot, mistakes, filters
