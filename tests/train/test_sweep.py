"""Sweeps: what is tried, how trials run beside each other, what stays when one is interrupted."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mulgil.cli.main import run
from mulgil.errors import DataError, OptionError
from mulgil.train.search import OptunaSearch, parse_space, plan
from mulgil.train.sweep import Sweep

SMALL = ["sweep", "--recipe", "softmax", "--data", "digits", "--no-plots"]


def test_a_space_as_text() -> None:
    space = parse_space(["lr=1e-3, 1e-2,1e-3", "batch-size=32,128", "seed=1..9", "optimizer=adam,sgd"])
    assert space == {
        "lr": {"values": [0.001, 0.01]},
        "batch_size": {"values": [32, 128]},
        "seed": {"low": 1, "high": 9},
        "optimizer": {"values": ["adam", "sgd"]},
    }


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["lr"],
        ["lr="],
        ["lr=fast"],
        ["lr=0"],
        ["lr=nan"],
        ["lr=-1..1"],
        ["lr=1..0.1"],
        ["lr=0.1,"],
        ["batch_size=1.5"],
        ["batch_size=0"],
        ["optimizer=lion"],
        ["optimizer=a..b"],
        ["momentum=0.9"],
        ["lr=1", "lr=2"],
    ],
    ids=str,
)
def test_a_space_that_makes_no_sense(texts: list) -> None:
    with pytest.raises(OptionError):
        parse_space(texts)


def test_a_grid_is_all_combinations_in_order() -> None:
    trials = plan(parse_space(["lr=0.1,0.2", "batch_size=8,16,32"]), "grid", None, 0)
    assert [tuple(trial.values()) for trial in trials] == [(lr, size) for lr in (0.1, 0.2) for size in (8, 16, 32)]


def test_a_random_search_repeats_itself_and_stays_inside() -> None:
    space = parse_space(["lr=1e-4..1e-1", "batch_size=16..512", "optimizer=adam,sgd"])
    trials = plan(space, "random", 200, seed=3)
    assert trials == plan(space, "random", 200, seed=3) != plan(space, "random", 200, seed=4)
    assert all(1e-4 <= t["lr"] <= 1e-1 and 16 <= t["batch_size"] <= 512 and isinstance(t["batch_size"], int) for t in trials)
    assert {t["optimizer"] for t in trials} == {"adam", "sgd"}
    assert 60 < sum(t["lr"] < 10**-2.5 for t in trials) < 140  # evenly on a logarithmic scale
    assert len(plan(parse_space(["lr=1,2", "seed=1,2"]), "random", 50, 0)) == 4  # no trial twice


def test_searches_that_make_no_sense() -> None:
    space = parse_space(["lr=1e-4..1e-1"])
    for search, count in (("grid", None), ("random", None), ("optuna", None), ("luck", 3)):
        with pytest.raises(OptionError):
            plan(space, search, count, 0)
    with pytest.raises(OptionError, match="all combinations"):
        plan(parse_space(["lr=1,2"]), "grid", 3, 0)


def test_optuna_is_asked_for_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(OptionError, match="needs Optuna"):
        OptunaSearch(parse_space(["lr=1e-4..1e-1"]), 0)


def test_optuna_learns_from_what_it_is_told() -> None:
    pytest.importorskip("optuna.trial")
    space = parse_space(["lr=1e-4..1", "batch_size=8,16"])
    search, found = OptunaSearch(space, 0), []
    for _ in range(30):
        trial = search.ask()
        found.append((trial, -abs(trial["lr"] - 0.1)))
        search.tell(*found[-1])
    assert max(value for _, value in found[15:]) > -0.05
    again = OptunaSearch(space, 0, found)
    trial = again.ask()
    again.tell(trial, None)
    again.tell({"lr": 0.1, "batch_size": 8}, 0.5)  # of an earlier part


def results(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "results.csv").read_text().splitlines()))


def test_a_sweep_leaves_runs_a_table_and_a_picture(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    pytest.importorskip("matplotlib")
    folder = tmp_path / "s"
    arguments = ["--epochs", "1", "--set", "batch_size=25,100", "--set", "lr=0.1,0.5", "--jobs", "2", "--out", str(folder)]
    assert run([*SMALL[:-1], *arguments]) == 0
    out = capfd.readouterr().out
    assert "4/4" in out and out.count("finished") == 4 and out.count(" *") >= 1
    rows = results(folder)
    assert [(row["batch_size"], row["lr"], row["state"]) for row in rows] == [
        (size, lr, "finished") for size in ("25", "100") for lr in ("0.1", "0.5")
    ]
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")
    alone = tmp_path / "alone"
    arguments = ["--epochs", "1", "--batch-size", "100", "--lr", "0.5", "--out", str(alone)]
    assert run(["train", *SMALL[1:], "--quiet", *arguments]) == 0
    trial = folder / "004-batch_size=100-lr=0.5"
    one, two = (json.loads((path / "summary.json").read_text()) for path in (trial, alone))
    assert one["test_loss"] == pytest.approx(two["test_loss"], rel=1e-4) and one["settings"] == two["settings"]
    # a second time nothing is trained again; a trial that died goes on
    before = {path.name: (path / "summary.json").stat().st_mtime_ns for path in folder.iterdir() if path.is_dir()}
    (trial / "summary.json").unlink()
    capfd.readouterr()
    assert run(["sweep", "--resume", str(folder), "--no-plots"]) == 0
    assert "3 of 4 trials are finished already" in capfd.readouterr().out
    after = {path.name: (path / "summary.json").stat().st_mtime_ns for path in folder.iterdir() if path.is_dir()}
    assert [name for name in before if before[name] != after[name]] == [trial.name]
    assert [row["test_loss"] for row in results(folder)] == [row["test_loss"] for row in rows]


def test_a_trial_that_fails_is_told_and_the_rest_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "001-lr=0.1").write_text("in the way")
    assert run([*SMALL, "--epochs", "1", "--set", "lr=0.1,0.2", "--out", str(folder)]) == 0
    out = capfd.readouterr().out
    assert "lr 0.1: failed" in out and "lr 0.2: test accuracy" in out
    assert [row["state"] for row in results(folder)] == ["to do", "finished"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_ctrl_c_keeps_what_was_reached(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    arguments = [*SMALL, "--epochs", "100000", "--set", "lr=0.1,0.2,0.3", "--jobs", "2", "--out", str(folder)]
    process = subprocess.Popen([sys.executable, "-m", "mulgil", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while len(list(folder.glob("*/metrics.jsonl"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in err and "Traceback" not in err, err
    assert [row["state"] for row in results(folder)] == ["stopped", "stopped", "to do"]
    assert all(list(path.glob("checkpoints/step-*")) for path in folder.glob("00[12]-*"))
    assert not list(folder.glob("003-*")) and "finished" not in out


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "s"
    for arguments, code, named in (
        ([], 1, "--set"),
        (["--set", "lr=0.1,0.2", "--lr", "0.3"], 1, "either swept or fixed"),
        (["--set", "lr=0.1", "--trials", "3"], 1, "all combinations"),
        (["--set", "lr=0.1", "--jobs", "0"], 2, "--jobs"),
        (["--resume", str(folder)], 2, "leave out"),
    ):
        assert run([*SMALL, *arguments, *([] if "--resume" in arguments else ["--out", str(folder)])]) == code
        assert named in capsys.readouterr().err and not folder.exists()
    assert run(["sweep", "--resume", str(tmp_path)]) == 1
    assert "sweep.json" in capsys.readouterr().err
    sweep = Sweep.create(folder, {"recipe": "softmax"}, parse_space(["lr=1,2"]), "grid", None)
    assert Sweep.existing(folder) == sweep
    with pytest.raises(OptionError, match="holds one already"):
        Sweep.create(folder, {"recipe": "softmax"}, parse_space(["lr=1,2"]), "grid", None)
    for content in ("{", "{}", '{"format": 9}', "[]"):
        sweep.file.write_text(content)
        with pytest.raises(DataError):
            Sweep.existing(folder)


def test_threads_are_shared_among_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mulgil.train import sweep as module

    seen: list[Any] = []

    class Child:
        returncode = 1

        def __init__(self, command: list, env: dict, **options: Any):
            seen.append((command, env))

        def communicate(self) -> tuple[str, None]:
            return "no", None

    monkeypatch.setattr(module.subprocess, "Popen", Child)
    monkeypatch.setattr(module, "cores", lambda: 8)
    made = Sweep.create(tmp_path / "s", {"recipe": "cnn", "epochs": 3, "lr": None}, parse_space(["batch_size=1,2"]), "grid", None)
    assert made.run(jobs=3, say=lambda text: None)
    assert len(seen) == 2 and all(env[name] == "2" for _, env in seen for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"))
    assert {"--recipe=cnn", "--epochs=3", "--batch-size=1"} <= set(seen[0][0]) and not any("--lr" in part for part in seen[0][0])
    made.run(jobs=1, say=lambda text: None)
    assert seen[-1][1].get("OMP_NUM_THREADS") == os.environ.get("OMP_NUM_THREADS")
