"""Checkpoints: whole or not there, the newest kept, damage named, full disks survived."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mulgil import backend, nn, optim
from mulgil.autograd import Tensor
from mulgil.data import DataLoader, TensorDataset
from mulgil.errors import DataError, MulgilError, OptionError
from mulgil.io import save
from mulgil.train import Callback, Trainer
from mulgil.train.checkpoint import Checkpoint, Checkpoints, Every

STATE = {"model": {"w": np.arange(200, dtype=np.float32)}, "step": 3, "list": [1, 2.5, None, "x", float("inf")]}


@pytest.mark.parametrize(
    ("text", "steps", "seconds"),
    [
        ("500steps", 500, None),
        ("7", 7, None),
        (12, 12, None),
        ("30s", None, 30),
        ("2min", None, 120),
        ("1.5 h", None, 5400),
        ("end", None, None),
    ],
)
def test_every(text: Any, steps: int | None, seconds: float | None) -> None:
    every = Every.parse(text)
    assert (every.steps, every.seconds) == (steps, seconds) and Every.parse(every) is every
    assert every.due(steps or 0, seconds or 0.0) is (text != "end") and not every.due((steps or 1) - 1, (seconds or 1) - 1)


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "1.5steps", "often", "5 parsecs", "nan", "inf s", "1e3"])
def test_every_refuses(text: str) -> None:
    with pytest.raises(OptionError, match="every so many"):
        Every.parse(text)


def test_the_newest_are_kept_and_come_back(tmp_path: Path) -> None:
    files = Checkpoints(tmp_path / "new" / "folder", keep=2)
    for step in (5, 10, 15, 20):
        files.write({**STATE, "step": step}, step, {"lr": 0.1})
    files.write({**STATE, "step": 7}, 7, name="best")
    assert sorted(os.listdir(files.folder)) == ["best.safetensors", "step-00000015.safetensors", "step-00000020.safetensors"]
    found = files.read()
    assert (found["step"], found["facts"], found["state"]["step"]) == (20, {"lr": 0.1}, 20)
    assert found["state"]["list"] == STATE["list"] and found["state"]["model"]["w"].tobytes() == STATE["model"]["w"].tobytes()  # type: ignore[index]
    assert files.read(files.best)["step"] == 7 and files.read(files.all()[0])["step"] == 15


def test_a_run_that_goes_on_from_an_older_one_leaves_no_future(tmp_path: Path) -> None:
    files = Checkpoints(tmp_path, keep=3)
    for step in (5, 10, 15):
        files.write(STATE, step)
    files.write(STATE, 7)
    assert [path.name for path in files.all()] == ["step-00000005.safetensors", "step-00000007.safetensors"]


def test_bad_options(tmp_path: Path) -> None:
    for keep in (0, -1, True):
        with pytest.raises(OptionError, match="at least one"):
            Checkpoints(tmp_path, keep=keep)
    with pytest.raises(DataError, match="newest checkpoint"):
        Checkpoints(tmp_path / "nothing").read()


@pytest.mark.parametrize("damage", ["cut", "empty", "bit", "text", "model"])
def test_a_damaged_one_is_named_and_the_one_before_is_offered(tmp_path: Path, damage: str) -> None:
    files = Checkpoints(tmp_path)
    for step in (5, 10, 15):
        files.write(STATE, step)
    first, middle, last = files.all()
    content = last.read_bytes()
    if damage == "model":
        save(nn.Linear(2, 2), last)
    else:
        flipped = bytearray(content)
        flipped[-20] ^= 4
        last.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "bit": bytes(flipped), "text": b"nonsense"}[damage])
    with pytest.raises(DataError) as caught:
        files.read()
    assert str(last) in str(caught.value) and f"--resume {middle}" in str(caught.value)
    assert files.read(middle)["step"] == 10
    middle.write_bytes(content[:100])
    with pytest.raises(DataError, match=first.name):
        files.read()
    first.unlink()
    with pytest.raises(DataError, match="start the run anew"):
        files.read()


def test_corruptions_are_noticed(tmp_path: Path) -> None:
    """Any byte changed, any length cut: a MulgilError, never another exception and never wrong values."""
    files, chance = Checkpoints(tmp_path), random.Random(0)
    path = files.write(STATE, 1)
    content = path.read_bytes()
    unnoticed = 0
    for _ in range(150):
        broken = bytearray(content)
        if chance.random() < 0.3:
            del broken[chance.randrange(len(broken)) :]
        else:
            for _ in range(chance.choice((1, 1, 8))):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
        path.write_bytes(bytes(broken))
        try:
            found = files.read()
        except MulgilError:
            continue
        unnoticed += bytes(broken) != content
        assert found["state"]["model"]["w"].tobytes() == STATE["model"]["w"].tobytes()  # type: ignore[index]
    assert unnoticed < 15  # white space of a header may change


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    files = Checkpoints(tmp_path, keep=1)
    files.write(STATE, 5)

    def full(*arguments: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if where == "write":
            patch.setattr("builtins.open", full)
        else:
            patch.setattr(f"os.{where}", full)
        with pytest.raises(DataError) as caught:
            files.write(STATE, 10)
    assert "free some space" in str(caught.value) and "step-00000005" in str(caught.value)
    assert os.listdir(tmp_path) == ["step-00000005.safetensors"] and files.read()["step"] == 5


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on a file's size")
def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path: Path) -> None:
    code = f"""
import resource, numpy as np
from mulgil.errors import DataError
from mulgil.train.checkpoint import Checkpoints
files = Checkpoints({str(tmp_path)!r})
files.write({{"w": np.zeros(10)}}, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    files.write({{"w": np.zeros(100000)}}, 2)
except DataError as error:
    print(error)
print(files.read()["step"])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "the checkpoint cannot be written" in out and "free some space" in out and out.splitlines()[-1] == "1"
    assert os.listdir(tmp_path) == ["step-00000001.safetensors"]


# ------------------------------------------------------------------ the callback
def blobs(n: int = 60) -> TensorDataset:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    return TensorDataset(Tensor((rng.normal(size=(n, 4)) + 3 * np.eye(3, 4)[labels]).astype(np.float32)), Tensor(labels))


def trainer(*callbacks: Callback) -> tuple[Trainer, DataLoader]:
    backend.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 3))
    made = Trainer(model, optim.Adam(model.parameters(), lr=0.02), nn.CrossEntropyLoss(), callbacks=callbacks, compile=False)
    return made, DataLoader(blobs(), batch_size=8, shuffle=True)


def weights(made: Trainer) -> bytes:
    return b"".join(p.array.tobytes() for p in made.model.parameters())


class StopAt(Callback):
    def __init__(self, step: int):
        self.at = step

    def batch(self, trainer: Any) -> None:
        if trainer.step == self.at:
            trainer.stop("test")


@pytest.mark.parametrize("every", ["3steps", "end", "1h"])
@pytest.mark.parametrize("stop", [1, 7, 8, 16, 23])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path: Path, every: str, stop: int) -> None:
    whole, data = trainer(Checkpoint(tmp_path / "whole", every))
    whole.fit(data, data, epochs=3)
    part, data = trainer(Checkpoint(tmp_path / "part", every), StopAt(stop))
    part.fit(data, data, epochs=3)
    found = Checkpoints(tmp_path / "part").read()
    assert found["step"] == stop
    rest, data = trainer(Checkpoint(tmp_path / "part", every))
    rest.load_state_dict(found["state"])
    history = rest.fit(data, data, epochs=3)
    assert weights(rest) == weights(whole) and history.tobytes() == whole.history.tobytes() and len(history) == 3
    for name in ("step-00000024", "best"):
        one, two = (Checkpoints(tmp_path / folder).read(tmp_path / folder / f"{name}.safetensors") for folder in ("whole", "part"))
        assert one["step"] == two["step"]
        assert all(one["state"]["model"][key].tobytes() == two["state"]["model"][key].tobytes() for key in one["state"]["model"])


def test_best_is_the_epoch_with_the_lowest_validation_loss(tmp_path: Path) -> None:
    made, data = trainer(Checkpoint(tmp_path, "2steps", keep=1))
    history = made.fit(data, data, epochs=6)
    best = Checkpoints(tmp_path).read(Checkpoints(tmp_path).best)
    assert best["step"] == 8 * (1 + int(history["validation_loss"].argmin()))
    assert len(Checkpoints(tmp_path).all()) == 1
    other, data = trainer(Checkpoint(tmp_path / "b", "2steps"))
    other.load_state_dict(best["state"])
    assert other.evaluate(data).loss == pytest.approx(float(history["validation_loss"].min()), rel=1e-6)  # in another order


def test_a_checkpoint_that_cannot_be_written_ends_the_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, data = trainer(Checkpoint(tmp_path, "4steps"))
    calls = []
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(DataError, match="cannot be written"):
        made.fit(data, epochs=3)
    assert len(calls) == 2 and Checkpoints(tmp_path).read()["step"] == 4


def test_an_error_in_the_middle_of_a_batch_is_not_saved(tmp_path: Path) -> None:
    class Fails(Callback):
        def batch(self, trainer: Any) -> None:
            if trainer.step == 5:
                raise ValueError("mine")

    made, data = trainer(Checkpoint(tmp_path, "2steps"), Fails())
    with pytest.raises(ValueError, match="mine"):
        made.fit(data, epochs=3)
    assert Checkpoints(tmp_path).read()["step"] == 4


def test_the_state_before_a_step_that_is_not_finite_is_kept(tmp_path: Path) -> None:
    from mulgil.errors import NonFiniteError

    made, _ = trainer(Checkpoint(tmp_path, "end"))
    x = np.ones((32, 4), np.float32)
    x[20] = np.nan
    with pytest.raises(NonFiniteError) as caught:
        made.fit(DataLoader(TensorDataset(Tensor(x), Tensor(np.zeros(32, np.int64))), batch_size=8), epochs=1)
    path = tmp_path / "nonfinite.safetensors"
    assert str(path) in str(caught.value)
    assert Checkpoints(tmp_path).read(path)["state"]["position"]["step"] == 2 and not Checkpoints(tmp_path).all()
