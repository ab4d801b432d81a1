"""What a model knows besides its weights goes with it; the same model is the same file; other versions are named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mulgil import nn
from mulgil.autograd import Tensor
from mulgil.errors import ModelFileError
from mulgil.io import load, model_file, read_info, save

INFO: dict[str, Any] = {
    "classes": ["영", "one"],
    "preprocessing": [["ToTensor", {}], ["Normalize", {"mean": 0.5, "std": 0.5}]],
    "image_shape": [1, 28, 28],
    "training": {"epochs": 3, "test_accuracy": 0.98},
}


def model() -> nn.Module:
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    made.info.update(INFO)
    return made


def test_a_model_keeps_what_it_knows(tmp_path: Path) -> None:
    save(model(), tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.info == read_info(tmp_path / "m") == INFO
    again.info["classes"] = []
    save({"best": again, "epoch": 1}, tmp_path / "checkpoint")
    assert load(tmp_path / "checkpoint")["best"].info == INFO | {"classes": []} and read_info(tmp_path / "checkpoint") == {}


def test_what_save_is_given_joins_it(tmp_path: Path) -> None:
    made = model()
    save(made, tmp_path / "m", info={"classes": ["a", "b"], "author": "me"})
    assert load(tmp_path / "m").info == read_info(tmp_path / "m") == INFO | {"classes": ["a", "b"], "author": "me"}
    assert made.info == INFO
    save(made.state_dict(), tmp_path / "state", info={"author": "me"})
    assert read_info(tmp_path / "state") == {"author": "me"} and set(load(tmp_path / "state")) == set(made.state_dict())


def test_the_range_of_the_inputs_is_kept(tmp_path: Path) -> None:
    made = model()
    made(Tensor(np.random.default_rng(0).random((100, 3), np.float32))).sum().backward()
    save(made, tmp_path / "m")
    assert load(tmp_path / "m").info["input_range"] == made.info["input_range"] and b"_watch" not in (tmp_path / "m").read_bytes()


def test_info_that_cannot_be_saved_is_named(tmp_path: Path) -> None:
    made = model()
    made.info["training"] = {"optimizer": object()}
    with pytest.raises(ModelFileError, match=r"info\.training\.optimizer is a object"):
        save(made, tmp_path / "m")


class Stranger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.info = "a text of its own"


def test_info_is_read_without_the_class_and_a_name_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    save(Stranger(), tmp_path / "own", info={"a": 1})
    assert load(tmp_path / "own").info == "a text of its own" and read_info(tmp_path / "own") == {"a": 1}
    made = Stranger()
    made.info = {"classes": ["x"]}
    save(made, tmp_path / "m")
    code = "from mulgil.io import load, read_info; print(read_info('m')); load('m')"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.strip() == "{'classes': ['x']}" and "load(path, classes=[Stranger])" in result.stderr


PROGRAM = """
import numpy as np
import mulgil
from mulgil import nn
mulgil.manual_seed(1)
model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
x = mulgil.tensor(np.linspace(0, 1, 320, dtype="f4").reshape(20, 1, 4, 4))
model(x).sum().backward()
model.info["classes"] = ["a", "b"]
mulgil.save(model, "m", info={"b": 1, "a": 2})
"""


def test_the_same_model_is_the_same_bytes(tmp_path: Path) -> None:
    """In other processes too, where hashing, and with it the order of sets, is another."""
    contents = set()
    for seed in ("0", "1", "2"):
        subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        contents.add((tmp_path / "m").read_bytes())
    save(load(tmp_path / "m"), tmp_path / "again")
    save(load(tmp_path / "again"), tmp_path / "and again")
    assert len(contents) == 1 and (tmp_path / "again").read_bytes() == (tmp_path / "and again").read_bytes()


def test_the_header_is_a_whole_safetensors_header(tmp_path: Path) -> None:
    from safetensors import safe_open

    save(model(), tmp_path / "m", info={"name": "값" * 5})
    content = (tmp_path / "m").read_bytes()
    assert int.from_bytes(content[:8], "little") % 8 == 0
    with safe_open(tmp_path / "m", framework="np") as file:
        assert set(file.keys()) == set(model().state_dict()) and set(file.metadata()) == {"mulgil", "object", "crc32"}


@pytest.mark.parametrize(
    ("version", "says"), [("2", "upgrade mulgil"), ("17", "upgrade mulgil"), ("0", "that wrote it"), ("", "wrote it"), ("x" * 999, "it")]
)
def test_files_of_other_versions(version: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_file, "FORMAT", version)
    save(model(), tmp_path / "m")
    monkeypatch.undo()
    for read in (load, read_info):
        with pytest.raises(ModelFileError, match=rf"format 1\n.*\n.*{says}") as caught:
            read(tmp_path / "m")
        assert len(str(caught.value)) < 500


def test_a_header_too_large_to_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_file, "MAX_HEADER", 2000)
    with pytest.raises(ModelFileError, match="arrays of long lists"):
        save({"losses": [0.5] * 1000}, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_text_that_is_no_unicode_and_types_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    made = model()
    made[0].name = "half \ud800"
    with pytest.raises(ModelFileError, match=r"0\.name"):
        save(made, tmp_path / "m")
    made[0].name = np.str_
    with pytest.raises(ModelFileError, match=r"0\.name"):
        save(made, tmp_path / "m")
