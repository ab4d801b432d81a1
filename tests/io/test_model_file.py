"""mulgil.save and mulgil.load: what is written comes back, what is damaged or foreign is refused, nothing is run."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import textwrap
from collections import namedtuple
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mulgil import nn, optim
from mulgil.autograd import Parameter, Tensor
from mulgil.errors import DataError, ModelFileError
from mulgil.io import load, read_info, save

rng = np.random.default_rng(0)


class Net(nn.Module):
    """A class of the user's: settings of many kinds, a shared weight, a list, a function."""

    def __init__(self, size: int, scale: float = 2.0):
        super().__init__()
        self.size, self.scale, self.names, self.table = size, scale, ("a", "b"), {"deep": [1, 2.5, None, True]}
        self.first, self.second = nn.Linear(4, size), nn.Linear(size, 4)
        self.head = nn.Linear(4, size)
        self.head.weight = self.first.weight
        self.activation = nn.functional.relu
        self.offset = np.arange(4.0)
        self.limit = float("inf")
        self.register_buffer("mean", Tensor(np.ones(4, np.float32)))
        self.register_buffer("temporary", Tensor(np.zeros(2, np.float32)), persistent=False)

    def forward(self, x):
        return self.head(self.second(self.activation(self.first(x))) * self.scale)


def constructor_must_not_run(self, *args, **kwargs):
    raise AssertionError("load called a constructor")


def test_a_class_of_ones_own_comes_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Net(3)
    model.scale, model.second = 0.5, nn.Linear(3, 4, bias=False)  # changed after it was made
    model.eval()
    x = Tensor(rng.normal(size=(2, 4)).astype(np.float32))
    save(model, tmp_path / "net.any")
    monkeypatch.setattr(Net, "__init__", constructor_must_not_run)
    again = load(tmp_path / "net.any")
    assert type(again) is Net and repr(again) == repr(model) and again.training is False
    assert (again.size, again.scale, again.names, again.table, again.limit) == (3, 0.5, ("a", "b"), model.table, float("inf"))
    assert again.head.weight is again.first.weight and again.activation is nn.functional.relu
    np.testing.assert_array_equal(again.offset, model.offset)
    np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(model(x)))
    assert list(again.state_dict()) == list(model.state_dict())
    assert [n for n, _ in again.named_buffers()] == ["mean", "temporary"] and "temporary" not in again.state_dict()
    assert all(isinstance(p, Parameter) and p.requires_grad for p in again.parameters())


LAYERS = [
    nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 16, 10)
    ),
    nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3), nn.Softmax(dim=1)),
    nn.ModuleList([nn.Linear(3, 3), nn.Sigmoid()]),
    nn.Sequential(nn.Flatten(), nn.MLP((5, 2), activation=nn.functional.relu, in_features=256)),
]


@pytest.mark.parametrize("model", LAYERS, ids=lambda m: type(m).__name__)
def test_built_in_layers(model: nn.Module, tmp_path: Path) -> None:
    save(model, tmp_path / "m")
    again = load(tmp_path / "m")
    assert repr(again) == repr(model)
    assert {k: v.tolist() for k, v in again.state_dict().items()} == {k: v.tolist() for k, v in model.state_dict().items()}
    if isinstance(model, nn.Sequential):
        x = Tensor(rng.normal(size=(3, 1, 16, 16)).astype(np.float32))
        np.testing.assert_array_equal(np.asarray(again.eval()(x)), np.asarray(model.eval()(x)))
        again.train()(x).sum().backward()  # and it can be trained on
        assert all(p.grad is not None for p in again.parameters())


def test_the_kind_that_is_asked_for_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model"
    save(nn.Sequential(nn.Linear(2, 3)), path)
    assert type(load(path, kind=nn.Sequential)) is nn.Sequential and isinstance(load(path, kind=nn.Module), nn.Module)
    with pytest.raises(ModelFileError, match=r"a dict\b[^$]*holds a Sequential"):
        load(path, kind=dict)
    save({"epoch": 3}, path)
    assert load(path, kind=dict) == {"epoch": 3}


def test_a_layer_used_twice_is_one_layer_again(tmp_path: Path) -> None:
    layer = nn.Linear(3, 3)
    save(nn.Sequential(layer, nn.ReLU(), layer), tmp_path / "m")
    again = load(tmp_path / "m")
    assert again[0] is again[2]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_tensors_of_every_kind(dtype: str, shape: tuple, tmp_path: Path) -> None:
    array = rng.integers(0, 2, shape).astype(dtype)
    save({"a": Tensor(array), "b": array.T[..., ::-1] if array.ndim else array}, tmp_path / "t")
    again = load(tmp_path / "t")
    assert again["a"].array.dtype == array.dtype and again["a"].shape == shape
    np.testing.assert_array_equal(again["a"].array, array)
    np.testing.assert_array_equal(again["b"], array.T[..., ::-1] if array.ndim else array)


def test_state_dicts_and_checkpoints(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    save(model.state_dict(), tmp_path / "state.pt")
    other = nn.Linear(4, 2)
    other.load_state_dict(load(tmp_path / "state.pt"))
    np.testing.assert_array_equal(other.weight.array, model.weight.array)
    save({"epoch": 3, "model": model.state_dict(), "losses": [0.5, float("nan")], "net": model}, tmp_path / "checkpoint.pt")
    again = load(tmp_path / "checkpoint.pt", map_location="cpu", weights_only=False)
    assert again["epoch"] == 3 and np.isnan(again["losses"][1]) and isinstance(again["net"], nn.Linear)


def test_names_are_those_of_the_state_dict_for_any_reader(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    save(model, tmp_path / "m.safetensors")
    arrays = load_file(tmp_path / "m.safetensors")
    assert set(arrays) == set(model.state_dict())
    save_file(arrays, tmp_path / "elsewhere.safetensors")  # without mulgil's header, as other programs write
    state = load(tmp_path / "elsewhere.safetensors")
    assert all(isinstance(value, Tensor) for value in state.values())
    model.load_state_dict(state)
    assert read_info(tmp_path / "elsewhere.safetensors") == {}


def test_info(tmp_path: Path) -> None:
    info = {"classes": ["영", "one"], "input_shape": [1, 28, 28], "preprocessing": [["ToTensor", {}]]}
    save(nn.Linear(1, 1), tmp_path / "m", info=info)
    assert read_info(tmp_path / "m") == info
    with pytest.raises(ModelFileError, match="plain JSON"):
        save(nn.Linear(1, 1), tmp_path / "m", info={"x": object()})
    assert read_info(tmp_path / "m") == info  # the failed save left the file alone


def test_a_checkpoint_of_model_and_optimizer_comes_back(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters())
    model(Tensor(np.ones((1, 3), "float32"))).sum().backward()
    optimizer.step()
    save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), 3: "step"}, tmp_path / "checkpoint")
    found = load(tmp_path / "checkpoint")
    other = optim.Adam(nn.Linear(3, 2).parameters())
    other.load_state_dict(found["optimizer"])
    assert found[3] == "step" and set(found["optimizer"]["state"]) == {0, 1}
    for key, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            np.testing.assert_array_equal(other.state_dict()["state"][key][name].array, value.array)


Pair, Mode = namedtuple("Pair", "a b"), IntEnum("Mode", "ONE TWO")
UNKNOWN = [lambda x: x, object(), {(1,): 2}, np.array([object()]), np.array(["a"]), {"a": {1, 2}}, print, np.float32(1).astype]
UNKNOWN += [Pair(1, 2), Mode.ONE, b"bytes", 1j, Path("."), [nn.Linear(1, 1), {"deep": range(3)}], np.array([1j]), np.random.default_rng()]


@pytest.mark.parametrize("value", UNKNOWN, ids=lambda value: type(value).__name__)
def test_what_cannot_be_saved_is_named(value: object, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(2, 2)))
    model[1][0].strange = value
    with pytest.raises(ModelFileError) as caught:
        save(model, tmp_path / "new" / "m")
    assert "1.0.strange" in str(caught.value) and not (tmp_path / "new" / "m").exists()


def test_an_object_that_contains_itself_is_refused(tmp_path: Path) -> None:
    circle: list = []
    circle.append(circle)
    with pytest.raises(ModelFileError, match="contain itself"):
        save({"circle": circle}, tmp_path / "m")


def test_open_layers_are_refused_before_their_first_batch(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(None, 3))
    with pytest.raises(ModelFileError, match=r"0\.weight"):
        save(model, tmp_path / "m")
    model(Tensor(np.ones((1, 5), np.float32)))
    save(model, tmp_path / "m")
    assert load(tmp_path / "m")[0].weight.shape == (3, 5)


def test_save_is_atomic_and_says_why_it_failed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError):
        save(nn.Linear(1, 1), tmp_path / "file" / "m")
    save(nn.Linear(1, 1), tmp_path / "deep" / "er" / "m")
    assert os.listdir(tmp_path / "deep" / "er") == ["m"]


def run_program(text: str, folder: Path) -> subprocess.CompletedProcess:
    (folder / "program.py").write_text(textwrap.dedent(text))
    return subprocess.run([sys.executable, "program.py"], cwd=folder, capture_output=True, text=True)


CLASS = """
    from mulgil import nn
    from mulgil.io import load, save

    class MnistModel(nn.Module):
        def __init__(self):
            super().__init__()
            self.lr1 = nn.Linear(6, 2)
            self.relu = nn.ReLU()
        def forward(self, x):
            return self.relu(self.lr1(x))
"""


def test_a_class_of_main_in_its_own_program_and_in_others(tmp_path: Path) -> None:
    result = run_program(CLASS + "    save(MnistModel(), 'm.pth'); print(type(load('m.pth')) is MnistModel)", tmp_path)
    assert result.stdout.split() == ["True"], result.stderr
    with pytest.raises(ModelFileError, match=r"classes=\[MnistModel\]"):
        load(tmp_path / "m.pth")

    class Elsewhere(nn.Module):
        pass

    assert type(load(tmp_path / "m.pth", classes={"MnistModel": Elsewhere})) is Elsewhere
    Elsewhere.__qualname__ = "MnistModel"
    assert type(load(tmp_path / "m.pth", classes=[Elsewhere])) is Elsewhere
    assert type(load(tmp_path / "m.pth")) is Elsewhere  # a class of that name is imported now
    with pytest.raises(ModelFileError, match=r"subclasses of nn\.Module"):
        load(tmp_path / "m.pth", classes=[dict])


def test_pickles_and_other_strangers(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.pth"
    bomb.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    with pytest.raises(ModelFileError, match="pickle"):
        load(bomb)
    for content in (b"", b"short", b"PK\x03\x04 zip", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\xff" * 8 + b"{}", bytes(8)):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ModelFileError):
            load(tmp_path / "x")
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ModelFileError):
            load(path)


def rewritten(source: Path, target: Path, change) -> Path:
    """The file with its header changed by `change(header)` and its checksums made right again: a forger's file."""
    import zlib

    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(source, framework="np") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = json.loads(metadata["object"])
    change(header)
    text = json.dumps(header)
    save_file(arrays, target, {**metadata, "object": text, "crc32": str(zlib.crc32(text.encode()))})
    return target


FORGERIES = {
    "class is no module": lambda h: h["modules"][0].update({"class": "nn.init"}),
    "class is a builtin": lambda h: h["modules"][0].update({"class": "builtins:eval"}),
    "class of os": lambda h: h["modules"][0].update({"class": "os:system"}),
    "class is private": lambda h: h["modules"][0].update({"class": "nn.__loader__"}),
    "method replaced": lambda h: h["modules"][0]["attributes"].update({"forward": 1}),
    "dunder": lambda h: h["modules"][0]["attributes"].update({"__class__": "x"}),
    "bookkeeping": lambda h: h["modules"][0]["attributes"].update({"_kinds": {"$kind": "dict", "items": {}}}),
    "circle": lambda h: h["modules"][0]["members"].append(["x", "module", {"$kind": "module", "index": 0}]),
    "negative index": lambda h: h.update(root={"$kind": "module", "index": -1}),
    "index too large": lambda h: h.update(root={"$kind": "module", "index": 10**9}),
    "unknown kind": lambda h: h.update(root={"$kind": "eval", "text": "1"}),
    "function from elsewhere": lambda h: h.update(root={"$kind": "function", "name": "lru_cache"}),
    "no such tensor": lambda h: h.update(root={"$kind": "tensor", "name": "nope", "type": "Tensor"}),
    "tensor of another type": lambda h: h.update(root={"$kind": "tensor", "name": "0.weight", "type": "Module"}),
    "member of the wrong kind": lambda h: h["modules"][0]["members"].__setitem__(
        0, ["0", "module", {"$kind": "tensor", "name": "0.weight", "type": "Tensor"}]
    ),
    "too deep": lambda h: h.update(root=json.loads("[" * 500 + "]" * 500)),
    "no modules": lambda h: h.pop("modules"),
    "modules is a dict": lambda h: h.update(modules={}),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_headers(name: str, tmp_path: Path) -> None:
    save(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), tmp_path / "m")
    forged = rewritten(tmp_path / "m", tmp_path / "forged", FORGERIES[name])
    with pytest.raises(ModelFileError):
        load(forged)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab$kind.", max_size=5), inner, max_size=3) | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=values)
def test_plain_values_come_back_equal(value: object, tmp_path: Path) -> None:
    save({"value": value}, tmp_path / "v")
    again = load(tmp_path / "v")["value"]
    assert again == value and type(again) is type(value)
