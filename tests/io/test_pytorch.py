"""Weights go from PyTorch to mulgil and back through safetensors; the outputs are the same, and what does not fit is named by both."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mulgil import nn
from mulgil.autograd import Tensor, no_grad
from mulgil.errors import ModelFileError
from mulgil.io import load, save

torch = pytest.importorskip("torch")
files = pytest.importorskip("safetensors.torch")

rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(6, 1, 12, 12)).astype(np.float32)


def dense(lib: Any) -> Any:
    return lib.Sequential(lib.Flatten(), lib.Linear(144, 20), lib.ReLU(), lib.Linear(20, 10, bias=False))


def convolutional(lib: Any) -> Any:
    """Nested, with running statistics and their counter."""
    first = lib.Sequential(lib.Conv2d(1, 4, 3, padding=1), lib.BatchNorm2d(4), lib.ReLU(), lib.MaxPool2d(2))
    second = lib.Sequential(lib.Conv2d(4, 6, 3, stride=2, bias=False), lib.BatchNorm2d(6), lib.Tanh())
    head = [lib.Linear(24, 8), lib.BatchNorm1d(8), lib.Dropout(0.5), lib.Linear(8, 3)]
    return lib.Sequential(lib.Sequential(first, second), lib.Flatten(), *head)


def of_ones_own(lib: Any) -> Any:
    class Net(lib.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.features = lib.ModuleList([lib.Conv2d(1, 2, 3), lib.Conv2d(2, 2, 3, groups=2)])
            self.head = lib.Linear(128, 4)

        def forward(self, x: Any) -> Any:
            for layer in self.features:
                x = layer(x)
            return self.head(x.reshape(len(x), -1))

    return Net()


MODELS = [dense, convolutional, of_ones_own]


def pair(make: Any) -> tuple[Any, Any]:
    """(mulgil's, PyTorch's), with weights that differ and running statistics of a few batches."""
    mine, theirs = make(nn), make(torch.nn)
    for _ in range(3):
        mine(Tensor(IMAGES + 1))
        theirs(torch.tensor(IMAGES - 1))
    return mine.eval(), theirs.eval()


def outputs(mine: Any, theirs: Any) -> tuple[np.ndarray, np.ndarray]:
    with no_grad(), torch.no_grad():
        return np.asarray(mine(Tensor(IMAGES))), theirs(torch.tensor(IMAGES)).numpy()


@pytest.mark.parametrize("make", MODELS)
def test_pytorchs_state_dict_loads_into_mulgil(make: Any, tmp_path: Path) -> None:
    mine, theirs = pair(make)
    files.save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    state = load(tmp_path / "w.safetensors")
    assert str(mine.load_state_dict(state)) == "<All keys matched successfully>"
    assert set(state) == set(mine.state_dict()) == set(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(mine.state_dict()[name].array, value.numpy())
        assert mine.state_dict()[name].array.dtype == value.numpy().dtype
    np.testing.assert_allclose(*outputs(mine, theirs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("whole", [False, True], ids=["state_dict", "model"])
@pytest.mark.parametrize("make", MODELS)
def test_mulgils_weights_load_into_pytorch(make: Any, whole: bool, tmp_path: Path) -> None:
    mine, theirs = pair(make)
    save(mine if whole else mine.state_dict(), tmp_path / "w.safetensors")
    theirs.load_state_dict(files.load_file(tmp_path / "w.safetensors"))  # strict
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(mine.state_dict()[name].array, value.numpy())
    np.testing.assert_allclose(*outputs(mine, theirs), rtol=1e-4, atol=1e-5)


def test_there_and_back_is_bit_identical(tmp_path: Path) -> None:
    mine, theirs = pair(convolutional)
    before = {name: value.tolist() for name, value in mine.state_dict().items()}
    save(mine.state_dict(), tmp_path / "a")
    theirs.load_state_dict(files.load_file(tmp_path / "a"))
    files.save_file(theirs.state_dict(), tmp_path / "b")
    other = convolutional(nn)
    other.load_state_dict(load(tmp_path / "b"))
    assert {name: value.tolist() for name, value in other.state_dict().items()} == before


def test_what_is_missing_or_too_much_is_named_as_pytorch_names_it() -> None:
    mine, theirs = pair(convolutional)
    names = sorted(theirs.state_dict())
    for seed in range(20):
        r = random.Random(seed)
        gone, extra = r.sample(names, r.randrange(3)), r.sample(["extra", "5.scale", "0.0.0.weights"], r.randrange(3))
        state = {name: value.numpy() for name, value in theirs.state_dict().items() if name not in gone} | dict.fromkeys(extra, np.zeros(1))
        found = mine.load_state_dict(state, strict=False)
        expected = theirs.load_state_dict({name: torch.tensor(value) for name, value in state.items()}, strict=False)
        assert found.missing_keys == expected.missing_keys and set(found.unexpected_keys) == set(expected.unexpected_keys)
        if found.missing_keys or extra:
            with pytest.raises(RuntimeError) as mistake:  # the class that PyTorch raises
                mine.load_state_dict(state)
            assert all(name in str(mistake.value) for name in (*found.missing_keys, *extra))
            assert ("missing" in str(mistake.value), "unexpected" in str(mistake.value)) == (bool(found.missing_keys), bool(extra))
    wrong = dict(mine.state_dict()) | {"5.weight": np.zeros((3, 9))}
    with pytest.raises(RuntimeError, match=r"5\.weight is \[3, 9\], the model's is \[3, 8\]"):
        mine.load_state_dict(wrong)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "complex64"])
def test_a_dtype_that_numpy_does_not_have_is_named(dtype: str, tmp_path: Path) -> None:
    files.save_file({"a": torch.zeros(2), "layer.weight": torch.zeros(3, dtype=getattr(torch, dtype))}, tmp_path / "w")
    with pytest.raises(ModelFileError, match=r"layer\.weight is .*\n.*model\.float\(\)"):
        load(tmp_path / "w")


def test_half_precision_is_read(tmp_path: Path) -> None:
    files.save_file({"a": torch.arange(3, dtype=torch.float16)}, tmp_path / "w")
    assert load(tmp_path / "w")["a"].array.dtype == np.float16
