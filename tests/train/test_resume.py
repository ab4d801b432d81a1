"""Runs that are killed go on to the same bits: the weights, the figures, the pictures."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.train.kill_many import ask_many, kill_many


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize(("recipe", "epochs"), [("cnn", "4"), ("deep-mlp", "15")])
def test_killed_runs_end_with_the_same_bits(tmp_path: Path, recipe: str, epochs: str) -> None:
    arguments = ["--recipe", recipe, "--data", "digits", "--epochs", epochs, "--checkpoint-every", "7steps"]
    said: list[str] = []
    assert kill_many(tmp_path, arguments, kills=3, say=said.append) == 3, "\n".join(said)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
def test_runs_that_are_asked_to_end_keep_all(tmp_path: Path) -> None:
    arguments = ["--recipe", "softmax", "--data", "digits", "--epochs", "30", "--checkpoint-every", "30s", "--no-plots", "--eager"]
    said: list[str] = []
    assert ask_many(tmp_path, arguments, ["TERM", "HUP", "INT"], 3, say=said.append) == 3, "\n".join(said)
