"""Files and folders that strangers made: links, pipes, devices, endless files, forged settings. Each is refused in a moment, by name."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mulgil import nn, summary
from mulgil.cli.main import run
from mulgil.errors import DataError, ModelFileError, MulgilError
from mulgil.files import open_regular, read_regular
from mulgil.io import load, save
from mulgil.io.model_file import MAX_HEADER
from mulgil.train.checkpoint import Checkpoints
from mulgil.train.folder import RunFolder
from mulgil.train.runs import list_runs, read_run

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
SECRET = b"precious\n"


# ---------------------------------------------------------------------- things that are no plain files
def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def dangling(path: Path, target: Path) -> None:
    path.symlink_to(target.with_name("nowhere"))


def hard_link(path: Path, target: Path) -> None:
    os.link(target, path)


def pipe(path: Path, target: Path) -> None:
    os.mkfifo(path)


def link_to_pipe(path: Path, target: Path) -> None:
    os.mkfifo(target.with_name("pipe"))
    path.symlink_to(target.with_name("pipe"))


def endless(path: Path, target: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path, target: Path) -> None:
    path.mkdir()


def local_socket(path: Path, target: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the address of a socket may have a hundred letters
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def sparse(path: Path, target: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 40)


READ = [link, dangling, pipe, link_to_pipe, endless, folder, local_socket, sparse]
WRITE = [link, dangling, hard_link, pipe, link_to_pipe, endless, folder, local_socket]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file of the user's own, which nothing here may change."""
    path = tmp_path / "own" / "target"
    path.parent.mkdir()
    path.write_bytes(SECRET)
    return path


@posix
@pytest.mark.parametrize("make", READ, ids=lambda f: f.__name__)
def test_only_plain_files_are_read_and_only_so_far(make: Callable, tmp_path: Path, target: Path) -> None:
    make(tmp_path / "x", target)
    with pytest.raises(OSError, match=r"link|pipe|folder|socket|bytes"):
        read_regular(tmp_path / "x", 1000)


@posix
@pytest.mark.parametrize("make", WRITE, ids=lambda f: f.__name__)
def test_only_plain_files_are_written(make: Callable, tmp_path: Path, target: Path) -> None:
    make(tmp_path / "x", target)
    for mode in ("ab", "a+b"):
        with pytest.raises(OSError, match=r"link|pipe|folder|socket|names"):
            open_regular(tmp_path / "x", mode)
    assert target.read_bytes() == SECRET and not target.with_name("nowhere").exists()


def test_a_link_that_the_user_names_is_followed_to_a_plain_file(tmp_path: Path, target: Path) -> None:
    link(tmp_path / "x", target)
    assert read_regular(tmp_path / "x", 1000, follow=True) == SECRET


# ---------------------------------------------------------------------- a run's folder
@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "first"
    arguments = ["train", "--recipe", "softmax", "--data", "digits", "--epochs", "2", "--eager", "--quiet", "--no-plots"]
    assert run([*arguments, "--out", str(path)]) == 0
    return path


@pytest.fixture
def stranger(finished: Path, tmp_path: Path) -> RunFolder:
    """A run that could go on, in a folder of runs of its own."""
    (tmp_path / "runs").mkdir()
    path = shutil.copytree(finished, tmp_path / "runs" / "x")
    (path / "summary.json").unlink()
    return RunFolder(path)


@posix
@pytest.mark.parametrize("make", READ, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "summary.json", ".lock"])
def test_runs_are_listed_whatever_lies_in_them(
    name: str, make: Callable, stranger: RunFolder, target: Path, capsys: pytest.CaptureFixture
) -> None:
    (stranger.path / name).unlink(missing_ok=True)
    make(stranger.path / name, target)
    begun = time.monotonic()
    for arguments in (["list"], ["show", "x"], ["compare", "x", "--no-plots"]):
        assert run(["runs", *arguments, "--dir", str(stranger.path.parent)]) in (0, 1)
        captured = capsys.readouterr()
        assert "x" in captured.out and "Traceback" not in captured.out + captured.err
        assert name == ".lock" or "damaged" in captured.out
    assert time.monotonic() - begun < 10 and target.read_bytes() == SECRET


@posix
@pytest.mark.parametrize("make", WRITE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "times.jsonl", "summary.json"])
def test_a_run_that_goes_on_writes_through_no_link(
    name: str, make: Callable, stranger: RunFolder, target: Path, capsys: pytest.CaptureFixture
) -> None:
    (stranger.path / name).unlink(missing_ok=True)
    make(stranger.path / name, target)
    code = run(["train", "--resume", str(stranger.path), "--quiet", "--no-plots"])
    assert target.read_bytes() == SECRET and not target.with_name("nowhere").exists()
    told = capsys.readouterr().err
    assert "Traceback" not in told and (code == 0 or name in told)


@pytest.mark.parametrize("part", ["", "checkpoints"])
def test_folders_that_are_links_are_not_entered(part: str, stranger: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    place = stranger.path / part if part else stranger.path
    elsewhere = shutil.move(place, tmp_path / "elsewhere")
    place.symlink_to(elsewhere)
    names = sorted(os.listdir(elsewhere))
    assert [(facts.name, facts.state) for facts in list_runs(stranger.path.parent)] == [("x", "damaged")]
    assert "link" in str(read_run(stranger.path).problems)
    assert run(["train", "--resume", str(stranger.path), "--quiet", "--no-plots"]) == 1
    assert "link" in capsys.readouterr().err and sorted(os.listdir(elsewhere)) == names


@posix
@pytest.mark.parametrize("make", READ, ids=lambda f: f.__name__)
def test_checkpoints_are_plain_files(make: Callable, stranger: RunFolder, target: Path) -> None:
    make(stranger.checkpoints / "step-99999999.safetensors", target)
    with pytest.raises(DataError, match="--resume"):  # names the one that is whole
        Checkpoints(stranger.checkpoints).read()


@posix
@pytest.mark.parametrize("make", [pipe, endless, folder, local_socket, link_to_pipe], ids=lambda f: f.__name__)
def test_models_images_and_data_are_plain_files(make: Callable, tmp_path: Path, target: Path) -> None:
    from mulgil.cli.images import read_image
    from mulgil.data.datasets import read_idx
    from mulgil.plot.metrics import load_metrics

    make(tmp_path / "x", target)
    for read in (load, read_image, read_idx, load_metrics):
        with pytest.raises(MulgilError, match=r"link|pipe|folder|socket|device"):
            read(tmp_path / "x")


# ---------------------------------------------------------------------- the length of a header
def sized(length: int) -> dict[str, Any]:
    """A checkpoint-like tree whose file has a header of `length` bytes."""
    return {"note": "x" * length, "w": np.arange(3.0)}


def header_length(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[:8], "little")


@pytest.mark.parametrize("length", [640, 896, 1152, 1408, 19280, 640 + 65536, 19280 + 65536, 1152 + 3 * 65536])
def test_a_header_whose_length_looks_like_a_pickle_or_a_zip(length: int, tmp_path: Path) -> None:
    path = tmp_path / "model"
    save(sized(0), path)
    save(sized(length - header_length(path)), path)
    assert header_length(path) == length
    assert load(path)["note"] == "x" * (len(load(path)["note"])) and load(path)["w"].tolist() == [0, 1, 2]


def test_headers_of_all_lengths_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "model", set()
    save(sized(0), path)
    shortest = header_length(path)
    monkeypatch.setattr(os, "fsync", lambda number: None)
    for length in range(shortest, shortest + 4096, 8):  # every multiple of 8 is a length that occurs
        save(sized(length - shortest), path)
        seen.add(header_length(path))
        assert len(load(path)["note"]) == length - shortest
    assert len(seen) == 512


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95", b"PK"])
def test_pickles_and_zips_are_still_told(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(start + bytes(100))
    with pytest.raises(ModelFileError, match="pickle"):
        load(tmp_path / "model.pt")


def test_a_header_without_end(tmp_path: Path) -> None:
    with open(tmp_path / "model", "wb") as file:
        file.write((MAX_HEADER + 8).to_bytes(8, "little") + b"{")
        file.truncate(1 << 40)
    with pytest.raises(ModelFileError, match="header"):
        load(tmp_path / "model")


# ---------------------------------------------------------------------- what a header says
def forge(path: Path, change: Callable[[dict], Any]) -> None:
    """Change the object in a model file's header, and mend the checksum, as somebody does who knows the format."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    metadata = header["__metadata__"]
    found = json.loads(metadata["object"])
    change(found)
    metadata["object"] = json.dumps(found)
    metadata["crc32"] = str(zlib.crc32(metadata["object"].encode()))
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def shared(levels: int, classname: str = "nn.Sequential") -> Callable[[dict], Any]:
    """Each level holds the next one twice: 2 ** levels calls."""

    def change(found: dict) -> None:
        entry = {"class": classname, "training": True, "attributes": {}, "transient": []}
        child = [{"$kind": "module", "index": i + 1} for i in range(levels)]
        found["modules"] = [{**entry, "members": [["0", "module", i], ["1", "module", i]]} for i in child]
        found["modules"].append({**entry, "class": "nn.Identity", "members": []})
        found["root"] = {"$kind": "module", "index": 0}

    return change


@pytest.mark.parametrize("levels", [15, 61, 95])
def test_a_tree_of_shared_modules_is_bounded(levels: int, tmp_path: Path) -> None:
    path = tmp_path / "model"
    save(nn.Sequential(nn.ReLU()), path)
    forge(path, shared(levels))
    with pytest.raises(ModelFileError, match="20,000 modules"):
        load(path)
    made: Any = nn.ReLU()
    for _ in range(levels):
        made = nn.Sequential(made, made)
    with pytest.raises(ModelFileError, match="20,000 modules"):  # what load refuses, save does not write
        save(made, tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_shared_modules_in_reason_are_kept(tmp_path: Path) -> None:
    made: Any = nn.ReLU()
    for _ in range(13):
        made = nn.Sequential(made, made)
    save(made, tmp_path / "model")
    found = load(tmp_path / "model")
    assert len(list(found.modules())) == 14 and len(repr(found)) > 8192


def test_deep_and_circular_models_are_not_written(tmp_path: Path) -> None:
    deep: Any = nn.ReLU()
    for _ in range(100):
        deep = nn.Sequential(deep)
    save(deep, tmp_path / "model")
    assert repr(load(tmp_path / "model")) == repr(deep)
    for made in (nn.Sequential(nn.Sequential(deep)), nn.Sequential(nn.ReLU())):
        if len(made) == 1 and isinstance(made[0], nn.ReLU):
            made.append(made)
        with pytest.raises(ModelFileError, match=r"levels deep|inside itself"):
            save(made, tmp_path / "own")


def test_layers_without_their_settings_are_not_loaded(tmp_path: Path) -> None:
    made = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2), nn.MaxPool2d(2), nn.Dropout(0.5), nn.Flatten())
    for number in range(1, 7):
        save(made, tmp_path / "m")
        forge(tmp_path / "m", lambda found, number=number: found["modules"][number]["attributes"].clear())
        with pytest.raises(ModelFileError, match="AttributeError"):
            load(tmp_path / "m")


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A model for images of 28 x 28 in three classes, and an image."""
    Image = pytest.importorskip("PIL.Image")
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    model.info.update(
        classes=["a", "b", "c"], image_shape=[1, 28, 28], input_shape=[784], preprocessing=[["ToTensor", {}], ["Flatten", {}]]
    )
    save(model, tmp_path / "model")
    Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save(tmp_path / "x.png")
    return tmp_path / "model"


BROKEN: dict[str, tuple[Any, ...]] = {
    "classes": (["a"], ["a"] * 4, "abc", 7, {"a": 1}, [[["x"]]], [None] * 3, ["\x1b[2J", "[red]", "\ud83d"]),
    "image_shape": (["x"], [-1, 28], [0, 0], [10**9, 10**9], [1e9, 2], "28", 28, [1] * 99, [[28], [28]], {"a": 1}),
    "input_shape": ([783], [10**6, 10**6], "784", {"a": 784}, [None], [-784]),
    "preprocessing": (
        [["Pad", {"padding": 10**6}]], [["Resize", {"size": [10**5, 10**5]}]], [["os.system", {}]], "ToTensor", [1], {"a": 1}, 5,
        [["Normalize", {"mean": "x", "std": []}]], [["Normalize", {"mean": 0, "std": 0}]], [["ToTensor", 3]], [[["ToTensor"], {}]],
        [["ToTensor", {"nothing": 1}]], [["Resize", {"size": -1}]], [["Flatten", {}]] * 3,
    ),
    "input_range": ("x", {"low": "a"}, {"low": 1e400, "high": float("-inf"), "least": [0, 0], "most": [1, 1], "samples": 10**400}),
    "training": ("x", {"data": ["mnist"]}, {"data": "../../etc"}, 3),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BROKEN)
def test_predict_with_broken_info(name: str, classifier: Path, capsys: pytest.CaptureFixture) -> None:
    for value in BROKEN[name]:
        forge(classifier, lambda found, value=value: found["info"].update({name: value}))
        began = time.monotonic()
        code = run(["predict", str(classifier), str(classifier.with_name("x.png"))])
        captured = capsys.readouterr()
        told = captured.out + captured.err
        assert code in (0, 1) and (code == 0 or "\n  got:" in captured.err), (value, told)
        assert "\x1b" not in told and "Traceback" not in told and time.monotonic() - began < 5, (value, told)


def test_predict_with_models_that_do_not_work(classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    flat = nn.Flatten()
    nan, one, attribute = (nn.Sequential(flat, nn.Linear(784, n)) for n in (3, 1, 3))
    nan[1].weight.array[...] = np.nan
    cases: dict[str, tuple[Any, str]] = {
        "nan": (nan, "finite"),
        "one class": (one, "score for each class"),
        "a list": (nn.ModuleList([flat]), "must work"),
        "other images": (nn.Sequential(nn.Linear(3, 3)), "Linear"),
        "images out": (nn.Conv2d(1, 1, 3), "score for each class"),
        "weights alone": (attribute.state_dict(), "weights without their model"),
        "no model": ([1, 2], "whole model"),
    }
    for name, (made, says) in cases.items():
        if isinstance(made, nn.Module):
            made.info.update(preprocessing=[["ToTensor", {}]])
        save(made, tmp_path / "m")
        assert run(["predict", str(tmp_path / "m"), str(tmp_path / "x.png")]) == 1, name
        assert says in capsys.readouterr().err, name
    for change in ({"start_dim": "x"}, {"start_dim": 99}, {"end_dim": None}, {"start_dim": [1]}):
        save(attribute, tmp_path / "m", info={"preprocessing": [["ToTensor", {}]]})
        forge(tmp_path / "m", lambda found, change=change: found["modules"][1]["attributes"].update(change))
        assert run(["predict", str(tmp_path / "m"), str(tmp_path / "x.png")]) == 1, change
        assert run(["eval", str(tmp_path / "m"), "--data", "digits"]) == 1, change
        assert "\n  got:" in capsys.readouterr().err, change


# ---------------------------------------------------------------------- metrics
def npz(header: bytes, data: bytes = b"", name: str = "sep.npy", **options: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", **options) as archive:
        archive.writestr(name, b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data)
    return out.getvalue()


PLAIN = b"{'descr': '%s', 'fortran_order': False, 'shape': (%s), }\n"
METRICS = {
    "nothing": b"",
    "no zip": b"PK\3\4" + bytes(50),
    "an unfinished header": npz(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,\n"),
    "deep brackets": npz(b"(" * 9000 + b"\n"),
    "deep minus": npz(b"-" * 9000 + b"1\n"),
    "a null byte": npz(b"{'descr': '<f8\0', 'fortran_order': False, 'shape': (), }\n"),
    "tokens": npz(b"{'descr': '''<f8\n"),
    "python 2": npz(b"{'descr': '<f8', 'fortran_order': False, 'shape': (3L,), }\n", bytes(24)),
    "objects": npz(PLAIN % (b"|O", b"1,"), b"\x80\4."),
    "records": npz(b"{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }\n", bytes(8)),
    "a petabyte": npz(PLAIN % (b"<f8", b"1000000000000,")),
    "a petabyte of letters": npz(PLAIN % (b"<U9999999", b"9999999,")),
    "nothing, a petabyte of it": npz(PLAIN % (b"<U0", b"999999999999999,")),
    "a short array": npz(PLAIN % (b"<f8", b"9,"), bytes(8)),
    "a long array": npz(PLAIN % (b"<f8", b"1,"), bytes(16)),
    "a bomb": npz(PLAIN % (b"|u1", b"90000000,"), bytes(90_000_000), compression=zipfile.ZIP_DEFLATED),
    "another packing": npz(PLAIN % (b"<f8", b"1,"), bytes(8), compression=zipfile.ZIP_LZMA),
}


@pytest.mark.parametrize("case", METRICS)
def test_no_metrics(case: str, tmp_path: Path) -> None:
    from mulgil.plot.metrics import load_metrics

    (tmp_path / "m.npz").write_bytes(METRICS[case])
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="not a file of metrics"):
            load_metrics(tmp_path / "m.npz")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_arrays_of_every_kind_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    from mulgil.npz import read_npz

    arrays = {f"{dtype} {order}": np.arange(12).reshape(3, 4).astype(dtype, order=order) for dtype in "?bhilBHILefdU" for order in "CF"}
    arrays |= {"none": np.array(3.5), "empty": np.zeros((2, 0)), "big": np.arange(3.0).astype(">f8"), "long": np.array(["a" * 300, "값"])}
    for pack in (np.savez, np.savez_compressed):
        pack(tmp_path / "a.npz", **arrays)
        found = read_npz((tmp_path / "a.npz").read_bytes())
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)


# ---------------------------------------------------------------------- runs
VALUES = (None, True, -1, 10**400, 1e308, "x", "\x1b[31m\n[red]", [], {}, [[[]]], {"a": {"b": [1e400, float("nan")]}}, "9" * 10**5)


@pytest.mark.parametrize("file", ["config.json", "summary.json", "metrics.jsonl"])
def test_runs_with_other_values_than_were_written(file: str, finished: Path, stranger: RunFolder, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("matplotlib")
    shutil.copy(finished / "summary.json", stranger.summary)
    path = stranger.path / file
    whole = json.loads(path.read_text().split("\n")[0] if file == "metrics.jsonl" else path.read_text())
    names = [*whole, *(f"{part}.{name}" for part in whole if isinstance(whole[part], dict) for name in whole[part])]
    random = np.random.default_rng(0)
    for turn, name in enumerate(names):
        value = VALUES[int(random.integers(len(VALUES)))]
        changed = json.loads(json.dumps(whole))
        part, _, key = name.partition(".")
        if key:
            changed[part][key] = value
        else:
            changed[name] = value
        path.write_text(json.dumps(changed) + "\n")
        for arguments in (["list"], ["show", "x"], ["compare", "x", "x", *(["--no-plots"] if turn % 8 else [])]):
            assert run(["runs", *arguments, "--dir", str(stranger.path.parent)]) in (0, 1), (name, value)
        if file == "config.json" and turn % 4 == 0:
            assert run(["train", "--resume", str(stranger.path), "--quiet", "--no-plots"]) in (0, 1), (name, value)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err and "\x1b" not in captured.out + captured.err, (name, value)


def test_a_sweep_leads_nowhere_else(tmp_path: Path) -> None:
    from mulgil.train.sweep import Sweep

    good = {"format": 1, "options": {"recipe": "mlp"}, "space": {"lr": {"values": [0.1, 0.01]}}, "search": "grid", "count": None, "seed": 0}
    for part, value in {
        "trials": [{"lr": "../../elsewhere"}], "space": {"../x": {"values": [1]}}, "options": {"out": "/"}, "search": "x", "seed": "x",
        "count": [], "format": 2,
    }.items():  # fmt: skip
        (tmp_path / "sweep.json").write_text(json.dumps({**good, "trials": [{"lr": 0.1}], part: value}))
        with pytest.raises(DataError, match=r"sweep\.json"):
            Sweep.existing(tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps({**good, "trials": [{"lr": 0.1}]}))
    assert Sweep.existing(tmp_path).trials == [{"lr": 0.1}]


# ---------------------------------------------------------------------- names that a terminal would obey
HOSTILE = "\x1b[31mred\x1b]8;;http://x\x07 [bold red]m[/] [link=http://x]l[/link] :skull: \u202egnp.exe\x9b2J\r\n\ud800"


def test_names_are_shown_and_not_obeyed(stranger: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """In every place where a name out of a file comes to the screen."""
    name = HOSTILE.replace("/", "|").replace("\ud800", "")
    path = shutil.move(stranger.path, stranger.path.with_name(name))
    config = json.loads((Path(path) / "config.json").read_text())
    config["settings"] |= {"recipe": HOSTILE, HOSTILE: HOSTILE}
    config["machine"] = {HOSTILE: {HOSTILE: [HOSTILE]}}
    (Path(path) / "config.json").write_text(json.dumps(config))
    (Path(path) / "metrics.jsonl").write_text(json.dumps({"epoch": 1, HOSTILE: 1.0}) + "\n" + HOSTILE.replace("\ud800", "") + "\n")
    base = ["--dir", str(Path(path).parent)]
    for arguments in (["runs", "list"], ["runs", "show", name], ["runs", "compare", name, "--no-plots"], ["runs", "show", HOSTILE + "?"]):
        run([*arguments, *base])
    model = nn.ModuleDict({"\x1b[2J[red]": nn.Linear(2, 2)})
    print(model, summary(nn.Sequential({"\x1b[2J[red]": nn.Linear(2, 2)}), (2,)))
    print(ModelFileError(HOSTILE, HOSTILE, HOSTILE))
    try:
        model.load_state_dict({HOSTILE: np.ones(2)})
    except MulgilError as error:
        print(error)
    captured = capsys.readouterr()
    told = captured.out + captured.err
    assert not [c for c in told if (ord(c) < 32 and c != "\n") or c in "\x7f\x9b\u202e"], repr(told)
    for part in ("\\x1b[31m", "[bold red]m[/]", "[link=http:", ":skull:", "\\u202e"):
        assert part in told
    for row in told.splitlines():
        assert not row.startswith(("gnp.exe", "2J"))


@pytest.mark.filterwarnings("error")
def test_pictures_take_names_for_names(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from mulgil import plot

    names = ["$\\frac{", "\x1b[2J", "a_{b}$x$"]
    images, truth = np.zeros((3, 28, 28)), np.arange(3)
    figure = plot.gallery(images, truth, truth, names, title="$\\bad")
    plot.save_png(figure, tmp_path / "x.png")
    plot.save_png(plot.confusion(np.eye(3, dtype=int), names), tmp_path / "y.png")
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_one_place_writes_to_the_screen() -> None:
    """In the command line all goes through cli/screen.py, which shows what a terminal would obey."""
    from mulgil import cli

    for path in Path(cli.__file__).parent.glob("*.py"):
        found = re.findall(
            r"\bclick\.s?echo\(|\bprint\((?!.*screen)|\bConsole\(", re.sub(r"\bscreen\.print\(|console\(\)\.print\(", "", path.read_text())
        )
        assert not found or path.name == "screen.py", (path.name, found)


def test_charts_of_a_terminal(tmp_path: Path) -> None:
    from mulgil.plot.terminal import chart

    text = chart("\x1b[2Jloss", ([0.0, 1.0, 2.0, 1e308], [1e308, -1e308, 3.0, float("nan")]), [])
    assert "\x1b" not in text and "\\x1b[2Jloss" in text


@pytest.mark.parametrize("change", ["position", "step", "records", "order"])
def test_a_checkpoint_of_other_values_is_refused(change: str, stranger: RunFolder, capsys: pytest.CaptureFixture) -> None:
    """A checkpoint with the right checksums, that no run wrote."""
    (*_, path) = Checkpoints(stranger.checkpoints).all()
    tree = load(path)
    state = tree["state"]
    if change == "position":
        del state["position"]
    elif change == "step":
        state["position"]["step"] = "x"
    elif change == "records":
        own = next(callback["state"] for callback in state["callbacks"] if "records" in callback["state"])
        own["records"] = [{name: [value] for name, value in row.items()} for row in own["records"]]
    else:
        state["position"].update(in_epoch=True, batch=0, epoch=1)
        state["order"] = {"indices": np.array([10**6, -1]), "sizes": np.array([2])}
    save(tree, path)
    assert run(["train", "--resume", str(stranger.path), "--quiet", "--no-plots"]) == 1
    assert "\n  got:" in capsys.readouterr().err
