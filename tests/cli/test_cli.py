"""The command line as a person uses it: what comes out, one line for wrong options, Ctrl-C, a model that is used again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mulgil.cli.main import COMMANDS, run
from mulgil.io import load, read_info

SUMMARY = {
    "recipe",
    "data",
    "seed",
    "epochs",
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "seconds",
    "parameters",
    "interrupted",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short real run."""
    folder = tmp_path_factory.mktemp("runs") / "deep"
    assert run(["train", "--recipe", "deep-mlp", "--data", "digits", "--epochs", "12", "--out", str(folder), "--quiet"]) == 0
    return folder


def test_train_leaves_everything(trained: Path) -> None:
    pytest.importorskip("matplotlib")
    assert {p.name for p in trained.iterdir() if p.name != ".lock"} == {
        "checkpoints",
        "config.json",
        "model.safetensors",
        "metrics.jsonl",
        "report.html",
        "times.jsonl",
        "summary.json",
        "samples.png",
        "mistakes.png",
        "curves.png",
    }
    summary = json.loads((trained / "summary.json").read_text())
    assert set(summary) >= SUMMARY
    assert (summary["recipe"], summary["data"], summary["epochs"], summary["parameters"]) == ("deep-mlp", "digits", 12, 109_386)
    assert summary["test_accuracy"] > 0.85 and summary["interrupted"] is False and summary["seconds"] > 0
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 13))
    assert lines[-1]["test_loss"] == summary["test_loss"]
    for name in ("samples", "mistakes", "curves"):
        assert (trained / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_train_prints_a_line_an_epoch_and_where_things_are(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = [
        "train",
        "--recipe",
        "softmax",
        "--data",
        "digits",
        "--epochs",
        "2",
        "--batch-size",
        "50",
        "--lr",
        "0.2",
        "--optimizer",
        "adam",
    ]
    assert run([*arguments, "--seed", "3", "--no-plots", "--out", str(tmp_path / "o")]) == 0
    out = capsys.readouterr().out
    assert [line[:9] for line in out.splitlines() if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
    assert str(tmp_path / "o" / "model.safetensors") in out and ".png" not in out
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert (summary["batch_size"], summary["optimizer"], summary["settings"]["lr"], summary["seed"]) == (50, "Adam", 0.2, 3)


def test_eval_repeats_the_summary(trained: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["eval", str(trained / "model.safetensors")]) == 0
    summary = json.loads((trained / "summary.json").read_text())
    assert f"loss {summary['test_loss']:.4f}  accuracy {summary['test_accuracy']:.4f}" in capsys.readouterr().out


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    from mulgil.data.datasets import Digits

    digits = Digits(train=False)
    return np.asarray(digits.data), np.asarray(digits.targets)


def test_predict_reads_images_of_any_kind(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Image = pytest.importorskip("PIL.Image")
    images, truth = digit_images()
    model, right, files = load(trained / "model.safetensors"), 0, []
    assert read_info(trained / "model.safetensors")["classes"] == list("0123456789")
    import mulgil

    with mulgil.no_grad():
        known = np.asarray(model.eval()(mulgil.tensor(images[:, None] / np.float32(255)))).argmax(1)
    for i in range(8):
        small = Image.fromarray(images[i])
        large = Image.fromarray(255 - np.asarray(small.resize((280, 280)))).convert("RGB")  # ink on paper
        scan = Image.new("RGB", (500, 400), (250, 245, 230))
        scan.paste(large, (150, 80))
        see_through = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
        see_through.putalpha(small.resize((100, 100)))
        for name, image in (
            ("same", small),
            ("scan", scan),
            ("alpha", see_through),
            ("deep", Image.fromarray(images[i].astype(np.uint16) * 200)),
        ):
            files.append(tmp_path / f"{i}-{name}.png")
            image.save(files[-1])
    assert run(["predict", str(trained / "model.safetensors"), *map(str, files)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(files)
    for line, file in zip(lines, files, strict=True):
        label = line.removeprefix(f"{file}: ").split()[0]
        i = int(file.name[0])
        if "same" in file.name:
            assert label == str(known[i])
        assert ("inverted" in line) == ("scan" in file.name or "alpha" in file.name)
        right += label == str(truth[i])
    assert right >= 0.8 * len(files)


def test_a_blank_image_is_told(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Image = pytest.importorskip("PIL.Image")
    files = [tmp_path / f"{side}-{shade}.png" for side in (28, 40, 8) for shade in (0, 128, 255)]
    for file in files:
        side, shade = map(int, file.stem.split("-"))
        Image.new("L", (side, side), shade).save(file)
    drawn = Image.new("L", (28, 28), 0)
    drawn.paste(200, (12, 4, 16, 24))
    drawn.save(tmp_path / "drawn.png")
    assert run(["predict", str(trained), *map(str, files), str(tmp_path / "drawn.png")]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == len(files) and all("the image is blank, so the answer means nothing" in line for line in lines)
    assert "the image is blank" not in last


@pytest.mark.parametrize(
    "settings", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}]
)
def test_a_terminal_of_ascii_and_40_columns(settings: dict, trained: Path, tmp_path: Path) -> None:
    """A Korean name goes through every command; letters that the terminal lacks come as escapes, and nothing crashes."""
    (tmp_path / "runs").mkdir()
    shutil.copytree(trained, tmp_path / "runs" / "한글")
    Image = pytest.importorskip("PIL.Image")
    Image.new("L", (40, 40), 255).save(tmp_path / "흰.png")
    environment = {**os.environ, "LC_ALL": "C", "COLUMNS": "40", **settings}
    commands = {
        "train --recipe softmax --data digits --epochs 1 --eager --no-plots --out runs/새로": (0, "runs/"),
        "runs list": (0, "deep-mlp"),
        "runs show runs/한글": (0, "finished"),
        "predict runs/한글 흰.png": (0, "the image is blank"),
        "predict runs/한글 없는.png": (1, "hint"),
        "없는": (2, "No such command"),
        "--help": (0, "Commands"),
        "train --help": (0, "--epochs"),
    }
    program = "import sys; from mulgil.cli.main import run; [print('left with', run(line.split()), flush=True) for line in sys.argv[1:]]"
    result = subprocess.run([sys.executable, "-c", program, *commands], cwd=tmp_path, env=environment, capture_output=True)
    written = result.stdout.decode("ascii") + result.stderr.decode("ascii")
    assert result.returncode == 0 and "Traceback" not in written and all(shown in written for _, shown in commands.values()), written
    assert re.findall(r"left with (\d)", written) == [str(code) for code, _ in commands.values()]
    usage = written[written.index("Usage: mulgil [OPTIONS]") : written.index("Usage: mulgil train")]
    assert max(map(len, usage.splitlines())) <= 40


def test_predict_names_what_it_cannot_read_and_goes_on(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Image = pytest.importorskip("PIL.Image")
    (tmp_path / "text.png").write_text("no image")
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    good = str(tmp_path / "blank.png")
    assert run(["predict", str(trained / "model.safetensors"), str(tmp_path / "text.png"), str(tmp_path / "missing.png"), good]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("hint:") == 2 and "blank" in captured.out


def test_recipes_and_data(capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("MULGIL_DATA", raising=False)
    assert run(["recipes"]) == 0
    assert all(name in capsys.readouterr().out for name in ("cnn",))
    assert run(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("mnist", "fashion-mnist", "kmnist", "digits"))
    assert run(["data", "info", "digits"]) == 0
    assert "1,438 images [28, 28] uint8" in capsys.readouterr().out
    assert run(["data", "info", "kmnist"]) == 0
    assert "data download kmnist" in capsys.readouterr().out


WRONG = [
    (["train", "--recipe", "nonsense"], "nonsense"),
    (["train", "--data", "imagenet"], "imagenet"),
    (["train", "--epochs", "0"], "--epochs"),
    (["train", "--epochs", "many"], "many"),
    (["train", "--batch-size", "-1"], "--batch-size"),
    (["train", "--lr", "0"], "--lr"),
    (["train", "--lr", "nan"], "--lr"),
    (["train", "--lr", "fast"], "fast"),
    (["train", "--optimizer", "lion"], "lion"),
    (["train", "--seed", "x"], "--seed"),
    (["train", "--device", "tpu"], "tpu"),
    (["train", "--learning-rate", "1"], "--learning-rate"),
    (["train", "more"], "more"),
    (["dance"], "dance"),
    (["predict"], "MODEL"),
    (["predict", "m"], "IMAGE"),
    (["eval"], "MODEL"),
    (["data", "download", "digits"], "digits"),
    (["data", "dance"], "dance"),
]


@pytest.mark.parametrize(("arguments", "named"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_options_are_one_line_and_exit_code_2(arguments: list, named: str, capsys: pytest.CaptureFixture) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1 and named in captured.err


def test_a_mulgil_error_is_its_three_lines_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "m").write_bytes(b"nonsense")
    assert run(["eval", str(tmp_path / "m")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[1].startswith("  got:") and lines[2].startswith("  hint:")


def test_a_folder_that_cannot_be_made_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert run(["train", "--data", "digits", "--recipe", "softmax", "--out", str(tmp_path / "file" / "x")]) == 1
    assert "file" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help(command: list, capsys: pytest.CaptureFixture) -> None:
    assert run([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Usage: mulgil")
    if not command:
        assert all(f"  {name} " in out for name in COMMANDS)


def test_without_a_command_help_comes_and_exit_code_2(capsys: pytest.CaptureFixture) -> None:
    assert run([]) == 2
    assert "Usage: mulgil" in capsys.readouterr().err


def test_python_m_mulgil() -> None:
    result = subprocess.run([sys.executable, "-m", "mulgil", "--version"], capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.startswith("mulgil ")


def test_ctrl_c_ends_in_order_with_what_was_reached(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ["train", "--recipe", "softmax", "--data", "digits", "--epochs", "100000", "--out", str(folder), "--no-plots"]
    process = subprocess.Popen([sys.executable, "-m", "mulgil", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = folder / "metrics.jsonl"
    until = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err and "kept" in err and "model.safetensors" in out
    summary = json.loads((folder / "summary.json").read_text())
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert summary["interrupted"] is True and summary["epochs"] == len(lines) and lines[-1]["complete"] in (True, False)
    assert load(folder / "model.safetensors")[1].weight.shape == (10, 784)
    left = {".lock", "checkpoints", "config.json", "metrics.jsonl", "model.safetensors", "summary.json", "times.jsonl"}
    assert set(os.listdir(folder)) == left


# ------------------------------------------------------------------ going on, going back
def digits(folder: Path, *more: str) -> list[str]:
    return ["train", "--recipe", "softmax", "--data", "digits", "--eager", "--no-plots", "--quiet", "--out", str(folder), *more]


def same(one: Path, two: Path) -> bool:
    return all((one / name).read_bytes() == (two / name).read_bytes() for name in ("metrics.jsonl", "model.safetensors"))


def test_a_finished_run_is_trained_longer_to_the_same_bits(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    short, whole = tmp_path / "short", tmp_path / "whole"
    assert run(digits(short, "--epochs", "2")) == run(digits(whole, "--epochs", "5")) == 0
    assert run(["train", "--resume", str(short)]) == 0 and "--epochs N" in capsys.readouterr().out
    assert run(["train", "--resume", str(short), "--epochs", "1"]) == 1 and "longer, not shorter" in capsys.readouterr().err
    assert run(["train", "--resume", str(short), "--epochs", "5", "--no-plots"]) == 0
    assert "going on after step 114" in capsys.readouterr().out and same(short, whole)
    assert json.loads((short / "config.json").read_text())["settings"]["epochs"] == 5
    assert run(["train", "--resume", str(short)]) == 0 and "5/5" in capsys.readouterr().out


def test_resuming_where_nothing_is_begins_anew(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole, there, nowhere = tmp_path / "whole", tmp_path / "there", tmp_path / "nowhere"
    assert run(digits(whole, "--epochs", "2")) == 0
    there.mkdir()
    options = [option for option in digits(there, "--epochs", "2") if option not in ("--out", str(there))]
    for folder in (there, nowhere):  # killed before it had a config.json, or before it had a folder
        assert run([*options, "--resume", str(folder)]) == 0
        assert f"{folder}: no run was begun there yet: starting anew" in capsys.readouterr().out and same(folder, whole)
    assert run(["train", "--resume", str(tmp_path / "typo")]) == 1  # without a word on what to train
    for path in (there / "checkpoints").iterdir():
        path.unlink()
    (there / "summary.json").unlink()
    assert run([*options, "--resume", str(there)]) == 0  # the same words as at first are no contradiction
    assert "nothing was kept yet: starting anew" in capsys.readouterr().out and same(there, whole)
    assert run([*options, "--resume", str(there), "--seed", "3"]) == 2 and "leave out --seed" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_passed_over_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert run(digits(whole, "--epochs", "3")) == run(digits(part, "--epochs", "3")) == 0
    (part / "summary.json").unlink()
    checkpoints = sorted((part / "checkpoints").glob("step-*"))
    assert len(checkpoints) >= 2  # one after the first epoch, one at the end
    checkpoints[-1].write_bytes(checkpoints[-1].read_bytes()[:-3])
    assert run(["train", "--resume", str(part)]) == 1
    assert "--fall-back" in capsys.readouterr().err
    assert run(["train", "--resume", str(part), "--fall-back", "--no-plots"]) == 0
    assert f"falling back to {checkpoints[-2]}" in capsys.readouterr().out and same(part, whole)
    for path in (part / "checkpoints").glob("step-*"):
        path.write_bytes(b"x")
    (part / "summary.json").unlink()
    assert run(["train", "--resume", str(part), "--fall-back", "--no-plots"]) == 0
    assert "none is whole: starting anew" in capsys.readouterr().out and same(part, whole)


def test_eval_and_predict_take_a_run(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Image = pytest.importorskip("PIL.Image")
    Image.fromarray(digit_images()[0][0]).save(tmp_path / "x.png")
    for command in (["eval"], ["predict"]):
        more = [str(tmp_path / "x.png")] if command == ["predict"] else []
        assert run([*command, str(trained / "model.safetensors"), *more]) == 0
        expected = capsys.readouterr().out.partition("images/s")[0].partition("(")[0]
        assert run([*command, str(trained), *more]) == 0
        assert capsys.readouterr().out.startswith(expected)
        assert run([*command, str(tmp_path), *more]) == 1
        assert "holds its model" in capsys.readouterr().err
