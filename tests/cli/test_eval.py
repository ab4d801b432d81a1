"""`mulgil eval`: what it prints and draws is what `interpret` says."""

from __future__ import annotations

from pathlib import Path

import pytest

import mulgil
from mulgil.cli.main import run
from mulgil.data import datasets, transforms
from mulgil.train import interpret
from mulgil.train.inputs import remember
from mulgil.train.recipes import softmax


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    mulgil.manual_seed(0)
    model = softmax()
    remember(model, datasets.Digits(transform=transforms.ToTensor()))
    mulgil.save(model, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_report_and_pictures(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("matplotlib")
    names = ("confusion", "mistakes", "top-losses")
    options = [word for name in names for word in (f"--{name}", str(tmp_path / f"{name}.png"))]
    assert run(["eval", str(saved), "--data", "digits", "--report", *options]) == 0
    out = capsys.readouterr().out
    wanted = interpret(mulgil.load(saved), datasets.Digits(train=False, transform=transforms.ToTensor()))
    assert f"loss {wanted.loss:.4f}  accuracy {wanted.accuracy:.4f}" in out and str(wanted.report()) in out
    true, predicted, count = wanted.most_confused(1)[0]
    assert f"{count} x {true} taken for {predicted}" in out
    for name in names:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_without_options_it_prints_a_line(saved: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["eval", str(saved), "--data", "digits"]) == 0
    assert capsys.readouterr().out.startswith("digits test: loss ")
