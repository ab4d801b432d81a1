"""Files and folders that strangers made: links, pipes, devices, endless files, forged settings. Each is refused in a moment, by name."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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


def in_time(arguments: list[str], seconds: float = 60) -> subprocess.CompletedProcess:
    """The command line in a process of its own, for what would hang."""
    command = [sys.executable, "-m", "mulgil", *arguments]
    return subprocess.run(command, capture_output=True, timeout=seconds, text=True, errors="replace")


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


def test_headers_of_all_lengths_are_read(tmp_path: Path) -> None:
    path, seen = tmp_path / "model", set()
    save(sized(0), path)
    shortest = header_length(path)
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
