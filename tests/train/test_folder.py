"""Run folders: one run at a time, clear refusals, and damaged ones shown as what they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mulgil.errors import DataError, MulgilError, OptionError
from mulgil.files import read_json
from mulgil.train.checkpoint import Checkpoints
from mulgil.train.folder import RunFolder, read_lines, write_json
from mulgil.train.machine import code_version, machine
from mulgil.train.run import Options, Run, prepare, read_state, resumed
from mulgil.train.runs import differences, find_run, list_runs, read_run


def trained(path: Path, epochs: int = 2, stop_after: int | None = None, **options: Any) -> tuple[Run, RunFolder]:
    """A short real run; with `stop_after` stopped after so many batches."""
    run = prepare(Options("softmax", data="digits", epochs=epochs, compiled=False, **options), note=lambda text: None)
    folder, asked = RunFolder.create(path, "softmax"), []
    with folder.lock():
        folder.write_config(asdict(run.options), run.settings())
        run.train(folder, should_stop=lambda: asked.append(0) or len(asked) == stop_after)  # type: ignore[func-returns-value]
        run.finish(folder)
    return run, folder


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained(tmp_path_factory.mktemp("runs") / "a")[1]


@pytest.fixture
def copy(done: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(done.path, tmp_path / "copy"))


def test_a_run_is_repeatable_and_keeps_its_figures(done: RunFolder, tmp_path: Path) -> None:
    run, again = trained(tmp_path / "b")
    assert again.metrics.read_bytes() == done.metrics.read_bytes() and again.model.read_bytes() == done.model.read_bytes()
    lines, times = read_lines(done.metrics), read_lines(done.times)
    assert [line["epoch"] for line in lines] == [line["epoch"] for line in times] == [1, 2]
    assert not set(lines[0]) & {"seconds", "images_per_second"} and set(times[0]) == {"epoch", "seconds", "images_per_second"}
    summary = read_json(again.summary)
    assert summary == json.loads(json.dumps(run.summary())) and summary["test_accuracy"] == lines[-1]["test_accuracy"]
    assert (summary["parameters"], summary["interrupted"]) == (7850, False)


def test_config_says_what_and_where(done: RunFolder) -> None:
    config = done.read_config()
    assert config["options"] == asdict(Options("softmax", data="digits", epochs=2, compiled=False))
    assert (config["settings"]["lr"], config["settings"]["batch_size"], config["settings"]["train_images"]) == (0.1, 25, 1438)
    assert config["machine"] == machine() and config["machine"]["cores"] >= 1
    assert config["code"] == code_version() and len(config["code"]["sources"]) == 16
    assert done.changes() == []


def test_changes_of_machine_and_code_are_told(copy: RunFolder) -> None:
    config = copy.read_config()
    config["machine"]["numpy"] = "1.0"
    config["code"]["sources"] = "0" * 16
    write_json(copy.config, config)
    first, second = copy.changes()
    assert "numpy was '1.0'" in first and "sources" in second


def test_new_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = {RunFolder.create(None, "cnn").path for _ in range(3)}
    assert len(made) == 3 and all(path.parent == Path("runs") and "-cnn" in path.name for path in made)


def test_a_folder_that_holds_a_run_is_refused(done: RunFolder) -> None:
    before = sorted(os.listdir(done.path))
    with pytest.raises(OptionError, match="holds a run already"):
        RunFolder.create(done.path, "cnn")
    with pytest.raises(OptionError, match="holds a run already"):
        done.write_config({}, {})
    assert sorted(os.listdir(done.path)) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    for path in (tmp_path / "closed", tmp_path / "closed" / "new"):
        with pytest.raises(DataError, match="must be writable"):
            RunFolder.create(path, "cnn")


def test_a_folder_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(DataError, match="must be writable"):
            RunFolder.create(path, "cnn")
    monkeypatch.setattr(os, "access", lambda *arguments, **options: False)
    with pytest.raises(DataError, match="Permission denied"):
        RunFolder.create(tmp_path / "closed", "cnn")


HOLD = """
import sys, time
from mulgil.train.folder import RunFolder
with RunFolder(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_runs_cannot_share_a_folder_and_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    folder = RunFolder.create(tmp_path / "x", "cnn")
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert folder.is_held() and read_run(folder.path).state == "running"
        with pytest.raises(OptionError, match=f"in use by process {process.pid}"), folder.lock():
            pass
    finally:
        process.kill()
        process.communicate()
    assert not folder.is_held()
    with folder.lock():
        assert folder.is_held()
    assert not folder.is_held()


# ------------------------------------------------------------------ going on
def go_on(folder: RunFolder, **changes: Any) -> Run:
    run, found = resumed(folder.path, lambda text: None, **changes)
    with found.lock():
        state = read_state(found, run)
        found.tidy()
        run.train(found, state=state)
        run.finish(found)
    return run


@pytest.mark.parametrize("batches", [1, 30, 58, 60])
def test_a_stopped_run_goes_on_to_the_same_files(done: RunFolder, tmp_path: Path, batches: int) -> None:
    run, folder = trained(tmp_path / "part", stop_after=batches)
    assert run.interrupted and read_run(folder.path).state == "stopped"
    (folder.path / ".metrics.jsonl.1-ab.part").write_text("half")
    go_on(folder)
    assert folder.metrics.read_bytes() == done.metrics.read_bytes() and folder.model.read_bytes() == done.model.read_bytes()
    assert [line["epoch"] for line in read_lines(folder.times)] == [1, 2]
    assert read_run(folder.path).state == "finished" and not list(folder.path.glob(".*.part"))


def test_a_run_that_died_before_its_first_checkpoint_begins_anew(done: RunFolder, copy: RunFolder) -> None:
    shutil.rmtree(copy.checkpoints)
    copy.summary.unlink()
    copy.metrics.write_text('{"epoch": 1, "train_l')
    go_on(copy)
    assert copy.metrics.read_bytes() == done.metrics.read_bytes() and copy.model.read_bytes() == done.model.read_bytes()


def edited(folder: RunFolder, part: str, **changes: Any) -> None:
    config = read_json(folder.config)
    config[part].update(changes)
    write_json(folder.config, config)


@pytest.mark.parametrize(
    ("part", "changes", "named"),
    [
        ("options", {"recipe": "deep-mlp"}, "recipe"),
        ("options", {"batch_size": 50}, "batch_size 25, its options make 50"),
        ("settings", {"lr": 0.5}, "lr 0.5"),
        ("settings", {"train_images": 60000}, "train_images"),
        ("options", {"nonsense": 1}, "nonsense"),
        ("options", {"recipe": "nonsense"}, "nonsense"),
    ],
)
def test_a_configuration_that_no_longer_matches(copy: RunFolder, part: str, changes: dict, named: str) -> None:
    edited(copy, part, **changes)
    with pytest.raises(OptionError, match=named):
        resumed(copy.path, lambda text: None)


def test_a_configuration_edited_throughout_does_not_match_its_checkpoints(copy: RunFolder) -> None:
    edited(copy, "options", batch_size=50)
    edited(copy, "settings", batch_size=50)
    run, folder = resumed(copy.path, lambda text: None)
    with pytest.raises(OptionError, match="batch_size 50, the checkpoint was made with 25"):
        read_state(folder, run)


def test_a_checkpoint_of_another_model(copy: RunFolder) -> None:
    run, folder = resumed(copy.path, lambda text: None)
    state = read_state(folder, run)
    assert state is not None
    state["model"] = {"other.weight": state["model"]["1.weight"]}
    with pytest.raises(OptionError, match="goes with the model"):
        run.train(folder, state=state)


def test_a_damaged_checkpoint_offers_the_one_before(copy: RunFolder) -> None:
    files = Checkpoints(copy.checkpoints)
    *_, newest = files.all()
    older = newest.with_name("step-00000113.safetensors")
    shutil.copy(newest, older)
    newest.write_bytes(newest.read_bytes()[:-7])
    run, folder = resumed(copy.path, lambda text: None)
    with pytest.raises(DataError, match=f"--resume {older}"):
        read_state(folder, run)
    assert read_state(folder, run, older) is not None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"format": 2, "options": {}, "settings": {}}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_configuration(copy: RunFolder, content: bytes) -> None:
    copy.config.write_bytes(content)
    with pytest.raises(MulgilError):
        resumed(copy.path)
    assert read_run(copy.path).state == "damaged"


def test_there_is_no_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DataError, match=r"config\.json"):
            resumed(path)


# ------------------------------------------------------------------ many runs
def test_runs_are_listed_whatever_their_state(done: RunFolder, tmp_path: Path) -> None:
    base = tmp_path / "runs"
    for name in ("a", "b", "c", "d", "e"):
        shutil.copytree(done.path, base / name)
    (base / "b" / "summary.json").unlink()
    (base / "c" / "config.json").write_text("{")
    (base / "d" / "metrics.jsonl").write_text('{"epoch": 1}\nnonsense\n')
    (base / "e" / "summary.json").write_bytes(b"\x80")
    (base / "empty").mkdir()
    (base / "f").mkdir()
    (base / "f" / "model.safetensors").write_text("")
    (base / "file").write_text("")
    found = {run.name: run for run in list_runs(base)}
    states = {"a": "finished", "b": "unfinished", "c": "damaged", "d": "damaged", "e": "damaged", "f": "damaged"}
    assert {name: run.state for name, run in found.items()} == states
    assert all(bool(run.problems) is (run.state == "damaged") for run in found.values())
    assert found["a"].epochs == found["b"].epochs == "2/2" and found["c"].epochs == "2/?"
    assert found["b"].figure("test_accuracy") == found["a"].figure("test_accuracy") and found["f"].figure("test_loss") is None
    assert list_runs(tmp_path / "nothing") == []
    assert find_run("a", base).folder.path == base / "a" == find_run(str(base / "a"), "elsewhere").folder.path
    with pytest.raises(DataError, match="no such run"):
        find_run("g", base)


def test_a_last_line_that_was_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert read_lines(path) == [{"epoch": 1}, {"epoch": 2}]
    path.write_text('{"epoch": 1}\n3\n')
    with pytest.raises(DataError, match="line 2"):
        read_lines(path)


def test_differences_of_runs(done: RunFolder, tmp_path: Path) -> None:
    other = trained(tmp_path / "o", seed=3, lr=0.2)[1]
    assert differences([read_run(done.path), read_run(other.path)]) == ["lr", "seed"]
