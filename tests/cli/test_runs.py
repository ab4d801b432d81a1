"""`mulgil runs`, and `mulgil train` where it keeps and resumes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from mulgil.cli.main import run

ARGUMENTS = ["train", "--recipe", "softmax", "--data", "digits", "--epochs", "2", "--eager", "--quiet", "--no-plots"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: two finished ones, one that died, one that is damaged."""
    folder = tmp_path_factory.mktemp("runs")
    for name, more in (("first", []), ("second", ["--lr", "0.3"])):
        assert run([*ARGUMENTS, *more, "--out", str(folder / name)]) == 0
    shutil.copytree(folder / "first", folder / "died")
    (folder / "died" / "summary.json").unlink()
    shutil.copytree(folder / "first", folder / "damaged")
    (folder / "damaged" / "config.json").write_text('{"format": 1')
    return folder


def test_list(base: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["runs", "list", "--dir", str(base)]) == 0
    out = capsys.readouterr().out
    states = {line.split()[0]: line for line in out.splitlines() if line.split()}
    for name, state in (("first", "finished"), ("second", "finished"), ("died", "unfinished"), ("damaged", "damaged")):
        assert state in states[name]
    assert "softmax" in states["first"] and "2/2" in states["first"] and "--resume" in out
    assert run(["runs", "list", "--dir", str(base / "nothing")]) == 0
    assert "mulgil train makes one" in capsys.readouterr().out


def test_show(base: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["runs", "show", "first", "--dir", str(base)]) == 0
    out = capsys.readouterr().out
    for part in ("finished", "settings", "machine", "epochs", "numpy", "model.safetensors", "checkpoints/best.safetensors"):
        assert part in out
    assert re.search(r"lr +0\.1", out)
    assert run(["runs", "show", str(base / "damaged")]) == 1
    out = capsys.readouterr().out
    assert "damaged" in out and "config.json" in out and "Traceback" not in out
    assert run(["runs", "show", "nowhere", "--dir", str(base)]) == 1
    assert "no such run" in capsys.readouterr().err


def test_compare(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "c.png"
    assert run(["runs", "compare", "first", "second", "damaged", "--dir", str(base), "--out", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "0.1" in out and "0.3" in out and " lr " in out and str(picture) in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run(["runs", "compare", "first", "--dir", str(base), "--no-plots"]) == 0
    assert "png" not in capsys.readouterr().out


@pytest.mark.parametrize("file", ["config.json", "metrics.jsonl", "summary.json"])
@pytest.mark.parametrize("content", ["", "{", "{}", "null", "[1]\n", '{"format": 1, "settings": []}', '{"epochs": "x"}\n', "\x00"])
def test_half_written_folders_never_raise(base: Path, tmp_path: Path, file: str, content: str, capsys: pytest.CaptureFixture) -> None:
    folder = shutil.copytree(base / "first", tmp_path / "x")
    (folder / file).write_text(content)
    for arguments in (["list"], ["show", "x"], ["compare", "x", "--no-plots"]):
        assert run(["runs", *arguments, "--dir", str(tmp_path)]) in (0, 1)
        captured = capsys.readouterr()
        assert "x" in captured.out and not captured.err
    assert run(["train", "--resume", str(folder), "--no-plots", "--quiet"]) in (0, 1)  # goes on, or says why not


# ------------------------------------------------------------------ train --resume
def test_resume_a_finished_run(base: Path, capsys: pytest.CaptureFixture) -> None:
    before = (base / "first" / "summary.json").read_bytes()
    assert run(["train", "--resume", str(base / "first")]) == 0
    assert "is finished: 2/2 epochs" in capsys.readouterr().out
    assert (base / "first" / "summary.json").read_bytes() == before


def test_resume_does_the_rest(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = shutil.copytree(base / "died", tmp_path / "x")
    (folder / "model.safetensors").unlink()
    assert run(["train", "--resume", str(folder), "--no-plots"]) == 0
    assert "going on after step 114 (epoch 2, batch 57)" in capsys.readouterr().out
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (folder / name).read_bytes() == (base / "first" / name).read_bytes()
    assert json.loads((folder / "summary.json").read_text())["epochs"] == 2


def test_resume_from_a_checkpoint_file(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = shutil.copytree(base / "died", tmp_path / "x")
    *others, checkpoint = sorted((folder / "checkpoints").glob("step-*"))
    for other in others:
        other.unlink()
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:-100])
    shutil.copy(folder / "checkpoints" / "best.safetensors", checkpoint.with_name("step-00000050.safetensors"))
    assert run(["train", "--resume", str(folder), "--no-plots"]) == 1
    error = capsys.readouterr().err
    offered = re.search(r"--resume (\S+)", error)
    assert str(checkpoint) in error and offered is not None and "step-00000050" in offered[1]
    assert run(["train", "--resume", offered[1], "--no-plots"]) == 0
    assert (folder / "metrics.jsonl").read_bytes() == (base / "first" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--lr", "0.5"], "--lr"),
        (["--batch-size", "9", "--seed", "1"], "--batch-size, --seed"),
        (["--epochs", "9", "--recipe", "mlp"], "--recipe"),
        (["--out", "y"], "--out"),
    ],
)
def test_options_of_a_run_that_goes_on_are_its_own(base: Path, options: list, named: str, capsys: pytest.CaptureFixture) -> None:
    assert run(["train", "--resume", str(base / "died"), *options]) == 2
    assert named in capsys.readouterr().err and not (base / "died" / "summary.json").exists()


def test_no_run_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A folder without a run begins anew, see test_cli; a name of nothing is a slip."""
    assert run(["train", "--resume", str(tmp_path / "nothing")]) == 1
    assert "hint:" in capsys.readouterr().err


def test_a_folder_that_holds_a_run_is_refused(base: Path, capsys: pytest.CaptureFixture) -> None:
    assert run([*ARGUMENTS, "--out", str(base / "first")]) == 1
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["often", "0s", "5 parsecs"])
def test_a_wrong_interval(text: str, capsys: pytest.CaptureFixture) -> None:
    assert run(["train", "--checkpoint-every", text]) == 2
    assert "--checkpoint-every" in capsys.readouterr().err
