"""Damaged and forged files: a ModelFileError, or the very model that was saved; never another one, another error or much memory."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mulgil import nn
from mulgil.autograd import Tensor
from mulgil.errors import ModelFileError
from mulgil.io import load, read_info, save

MANY = 10**15


def model() -> nn.Module:
    made = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Dropout(0.25), nn.Linear(8, 8), nn.Linear(8, 8))
    made.info.update(classes=["a", "b"], preprocessing=[["ToTensor", {}]], input_range={"low": 0.0, "high": 1.0})
    rng = np.random.default_rng(0)
    for tensor in (*made.parameters(), *made.buffers()):
        tensor.array[...] = 9 * rng.random(size=tensor.shape)  # no two alike
    return made


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, str]:
    path = tmp_path_factory.mktemp("saved") / "model"
    save(model(), path, info={"recipe": "none"})
    return path, path.read_bytes(), meaning(load(path))


def meaning(found: Any) -> str:
    """Everything that a loaded model is."""
    if not isinstance(found, nn.Module):
        return type(found).__name__
    state = {name: (value.dtype.name, value.tolist()) for name, value in found.state_dict().items()}
    settings = [{k: v for k, v in vars(m).items() if isinstance(v, (int, float, str, tuple, bool))} for m in found.modules()]
    return repr((found, found.info, sorted(state.items()), settings))


# ---------------------------------------------------------------------- what can happen to bytes
def flip(data: bytearray, r: random.Random) -> None:
    for _ in range(r.choice((1, 1, 2, 50))):
        data[r.randrange(len(data))] ^= 1 << r.randrange(8)


def flip_early(data: bytearray, r: random.Random) -> None:
    data[r.randrange(min(200, len(data)))] ^= 1 << r.randrange(8)


def cut(data: bytearray, r: random.Random) -> None:
    del data[r.randrange(len(data)) :]


def drop(data: bytearray, r: random.Random) -> None:
    at = r.randrange(len(data))
    del data[at : at + r.choice((1, 8, 300))]


def insert(data: bytearray, r: random.Random) -> None:
    at = r.choice((len(data), r.randrange(len(data))))
    data[at:at] = r.randbytes(r.choice((1, 8, 300)))


def blank(data: bytearray, r: random.Random) -> None:
    at = r.randrange(len(data))
    data[at : at + 512] = bytes(len(data[at : at + 512]))


def move(data: bytearray, r: random.Random) -> None:
    """A block of a disk in the wrong place."""
    a, b = r.randrange(len(data)), r.randrange(len(data))
    data[a : a + 64] = bytes(data[b : b + 64])


def length(data: bytearray, r: random.Random) -> None:
    data[:8] = struct.pack("<Q", r.choice((0, 1, r.randrange(len(data)), 2**31, 2**63, 2**64 - 1, r.randrange(2**64))))


def nested(data: bytearray, r: random.Random) -> None:
    deep = r.choice((b"[", b'{"a":')) * r.choice((100, 5000, 200_000))
    data[:] = struct.pack("<Q", len(deep)) + deep


# ---------------------------------------------------------------------- what can happen to the header
def header_edit(change: Callable[[dict, random.Random], None]) -> Callable[[bytearray, random.Random], None]:
    def edit(data: bytearray, r: random.Random) -> None:
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        change(header, r)
        text = json.dumps(header).encode()
        data[:end] = struct.pack("<Q", len(text)) + text

    edit.__name__ = change.__name__
    return edit


def pick(header: dict, r: random.Random) -> dict:
    return header[r.choice([name for name in header if name != "__metadata__"])]


@header_edit
def swap_tensors(header: dict, r: random.Random) -> None:
    header["5.weight"], header["6.weight"] = header["6.weight"], header["5.weight"]


@header_edit
def swap_equal_shapes(header: dict, r: random.Random) -> None:
    a, b = r.sample(["1.weight", "1.bias", "1.running_mean", "1.running_var", "0.bias"], 2)  # of layers that are easily confused
    header[a], header[b] = header[b], header[a]


@header_edit
def other_shape(header: dict, r: random.Random) -> None:
    entry = pick(header, r)
    entry["shape"] = r.choice((entry["shape"][::-1], [*entry["shape"], 1], [-1], [MANY, MANY], [2**63, 2], [0], "x", None))


@header_edit
def other_dtype(header: dict, r: random.Random) -> None:
    pick(header, r)["dtype"] = r.choice(("I32", "U32", "F64", "BF16", "F8_E4M3", "I64", "C64", "object", 3))


@header_edit
def other_place(header: dict, r: random.Random) -> None:
    pick(header, r)["data_offsets"] = r.choice(([0, MANY], [MANY, MANY + 8], [8, 0], [0, 0], [-8, 8], [0], [0, 2**64]))


@header_edit
def rename(header: dict, r: random.Random) -> None:
    name = r.choice([name for name in header if name != "__metadata__"])
    header[r.choice((name.upper() + "x", "", "../" + name, "$kind", "0.weight"))] = header.pop(name)


@header_edit
def lose(header: dict, r: random.Random) -> None:
    del header[r.choice([name for name in header if name != "__metadata__"])]


@header_edit
def other_metadata(header: dict, r: random.Random) -> None:
    metadata = header["__metadata__"]
    name = r.choice(sorted(metadata))
    metadata[name] = r.choice(("", "0", "2", "-1", "9" * 30, "null", "{}", metadata[name] + " ", metadata[name][:-1]))


@header_edit
def no_metadata(header: dict, r: random.Random) -> None:
    names = sorted(header["__metadata__"])
    for name in r.sample(names, r.randrange(1, len(names))):
        del header["__metadata__"][name]


@header_edit
def edited_settings(header: dict, r: random.Random) -> None:
    """Somebody edits the text of the model by hand, and does not know of the checksum."""
    metadata = header["__metadata__"]
    old, new = r.choice((("0.25", "0.75"), ('"a"', '"b"'), ("nn.ReLU", "nn.Tanh"), ("true", "false"), ("nn.Flatten", "nn.Identity")))
    assert old in metadata["object"]
    metadata["object"] = metadata["object"].replace(old, new)


@header_edit
def forged(header: dict, r: random.Random) -> None:
    """The same with the right checksum, and worse: deep, circular, enormous."""
    metadata = header["__metadata__"]
    text = json.loads(metadata["object"])
    item = r.choice(text["modules"])
    nonsense = r.choice(
        (
            None, -1, MANY, [], {}, "x", [[]], {"$kind": "module", "index": 0}, {"$kind": "module", "index": MANY}, {"$kind": "x"},
            {"$kind": "dtype", "name": f"V{2**30}"}, {"$kind": "dtype", "name": f"({2**30},)f8"}, {"$kind": "device", "name": "tpu"},
            {"$kind": "tensor", "name": "none", "type": "Tensor"}, {"$kind": "float", "value": "1_0e"}, {"$kind": "tuple", "items": 1},
            {"$kind": "pairs", "items": [[[], 1]]}, {"$kind": "function", "name": "__import__"}, json.loads("[" * 400 + "]" * 400),
        )
    )  # fmt: skip
    text["root"] = {"$kind": "tuple", "items": [text["root"], {"$kind": "strange", "value": nonsense}]}  # never to be loaded
    item[r.choice(sorted(item))] = nonsense
    metadata["object"] = json.dumps(text)
    metadata["crc32"] = str(zlib.crc32(metadata["object"].encode()))


@header_edit
def deep_object(header: dict, r: random.Random) -> None:
    metadata, depth = header["__metadata__"], r.choice((300, 3000, 100_000))
    metadata["object"] = '{"root": ' + "[" * depth + "]" * depth + ', "modules": [], "checksums": {}, "info": {}}'
    metadata["crc32"] = str(zlib.crc32(metadata["object"].encode()))


DAMAGE = (
    flip, flip_early, cut, drop, insert, blank, move, length, nested, swap_tensors, swap_equal_shapes, other_shape, other_dtype,
    other_place, rename, lose, other_metadata, no_metadata, edited_settings, forged, deep_object,
)  # fmt: skip
ALWAYS_AN_ERROR = {cut, nested, swap_tensors, swap_equal_shapes, lose, no_metadata, edited_settings, forged, deep_object}


def outcome(damage: Callable, path: Path, content: bytes, original: str, r: random.Random) -> str:
    """ "refused" or "the same"; an AssertionError for a wrong model, any other error as it comes."""
    data = bytearray(content)
    damage(data, r)
    broken = path.with_name("broken")
    broken.write_bytes(bytes(data))
    try:
        found = load(broken)
    except ModelFileError as error:
        assert "load:" in str(error) and len(str(error)) < 2000
        return "refused"
    if bytes(data) != content:
        assert damage not in ALWAYS_AN_ERROR
    assert meaning(found) == original
    return "the same"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.sampled_from(DAMAGE), r=st.randoms(use_true_random=False))
def test_a_damaged_file_is_refused_or_means_the_same(saved: tuple, damage: Callable, r: random.Random) -> None:
    outcome(damage, *saved, r)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda f: f.__name__)
def test_damage_of_each_kind_is_noticed_and_takes_no_memory(saved: tuple, damage: Callable) -> None:
    tracemalloc.start()
    try:
        found = [outcome(damage, *saved, random.Random(seed)) for seed in range(8)]
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
    assert "refused" in found


def test_read_info_refuses_them_too(saved: tuple) -> None:
    path, content, _ = saved
    for damage in DAMAGE:
        for seed in range(4):
            data = bytearray(content)
            damage(data, random.Random(seed))
            broken = path.with_name("broken")
            broken.write_bytes(bytes(data))
            with suppress(ModelFileError):
                assert isinstance(read_info(broken), dict)


def test_a_checkpoint_is_as_safe(tmp_path: Path) -> None:
    """A tree of dicts, lists and arrays, as `Trainer.state_dict` gives it."""
    state = {"model": {"w": np.arange(6.0)}, "position": {"epoch": 3}, "history": {"loss": np.ones(4)}, "random": '{"a": 1}', "other": [{}]}
    path = tmp_path / "checkpoint"
    save(state, path)
    content = path.read_bytes()
    for damage in (flip, flip_early, cut, drop, insert, blank, move, length, nested, other_shape, other_dtype, other_place, rename, lose):
        for seed in range(10):
            data = bytearray(content)
            damage(data, random.Random(seed))
            path.write_bytes(bytes(data))
            try:
                found = load(path)
            except ModelFileError:
                continue
            assert repr(found) == repr(state), (damage, seed)


def test_a_plain_file_of_weights_is_read_as_such(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.ones(3, "f4")}, tmp_path / "plain", {"format": "pt"})
    (value,) = load(tmp_path / "plain").values()
    assert isinstance(value, Tensor) and value.tolist() == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a worker is bounded by what Linux counts")
def test_mutated_files_of_every_kind() -> None:
    """The short form of `python -m tests.io.mutate --count 20000`."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])}
    command = [sys.executable, "-m", "tests.io.mutate", "--count", "200", "--seed", "0"]
    found = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
