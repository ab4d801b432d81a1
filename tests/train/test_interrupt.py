"""Signals: the first ends a run in order, the second at once but never within a batch, while kernels compile the first at once."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from mulgil import nn, optim
from mulgil.compile import Compiled
from mulgil.data import DataLoader
from mulgil.train import Callback, Trainer
from mulgil.train.checkpoint import Checkpoint, Checkpoints
from mulgil.train.interrupt import Terminated, watched
from tests.train.tools import blobs, net, weights

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")

NUMBERS = [signal.SIGINT, *(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))]
WHERE = ("batch", "epoch", "data", "validation")


class Raise(Callback):
    """Sends signals from within a batch's callbacks, or an epoch's."""

    def __init__(self, where: str, step: int, numbers: list[int]):
        self.where, self.step, self.numbers, self.survived = where, step, numbers, False

    def send(self, trainer: Any) -> None:
        if trainer.step == self.step:
            for number in self.numbers:
                os.kill(os.getpid(), number)
            self.survived = True

    def batch(self, trainer: Any) -> None:
        if self.where == "batch":
            self.send(trainer)

    def epoch(self, trainer: Any) -> None:
        if self.where == "epoch":
            self.send(trainer)


class Sending(DataLoader):
    """Sends them while a batch is fetched."""

    def fetch(self, indices: Any) -> Any:
        if getattr(self, "raising", None):
            self.raising.send(self.trainer)
        return super().fetch(indices)


def made(folder: Path, raising: Raise | None = None, compile: bool = False) -> tuple[Trainer, Any, Any]:
    model = net()
    callbacks = [Checkpoint(folder, every="1h"), *([raising] if raising else [])]
    trainer = Trainer(model, optim.Adam(model.parameters(), lr=0.02), nn.CrossEntropyLoss(), callbacks=callbacks, compile=compile)
    train, validation = Sending(blobs(), 16, shuffle=True), Sending(blobs(30, seed=1), 8)
    for data, where in ((train, "data"), (validation, "validation")):
        data.trainer, data.raising = trainer, raising if raising is not None and raising.where == where else None  # type: ignore[attr-defined]
    return trainer, train, validation


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("where", WHERE)
def test_what_is_whole_is_kept(tmp_path: Path, where: str, number: int, times: int) -> None:
    whole, train, validation = made(tmp_path / "whole")
    history = whole.fit(train, validation, epochs=3)
    step = 4 if where in ("epoch", "validation") else 6
    raising = Raise(where, step, [number] * times)
    trainer, train, validation = made(tmp_path / "part", raising)
    with pytest.raises(BaseException) as caught:
        trainer.fit(train, validation, epochs=3)
    assert isinstance(caught.value, KeyboardInterrupt if number == signal.SIGINT else Terminated)
    assert number == signal.SIGINT or caught.value.code == 128 + number  # type: ignore[attr-defined]
    assert raising.survived is (times == 1 or where in ("batch", "epoch"))  # within a batch, and what is told of it, nothing is torn
    assert all(signal.getsignal(n) in (signal.SIG_DFL, signal.default_int_handler) for n in NUMBERS)
    kept = Checkpoints(tmp_path / "part").read()
    assert kept["step"] == (7 if where == "data" and times == 1 else step)
    again, train, validation = made(tmp_path / "part")
    again.load_state_dict(kept["state"])
    assert again.fit(train, validation, epochs=3).tobytes() == history.tobytes() and weights(again.model) == weights(whole.model)


@pytest.mark.parametrize("at", ["eager", "compiled"])
def test_while_kernels_compile_the_first_signal_ends_it_and_the_batch_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    traced = Compiled.first

    def interrupted(self: Any, call: Any) -> Any:
        if at == "compiled":
            traced(self, call)  # the update is done, once, eagerly
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("not reached: the signal comes at once")

    trainer, train, _ = made(tmp_path, compile=True)
    before = weights(trainer.model)
    with monkeypatch.context() as patch:
        patch.setattr(Compiled, "first", interrupted)
        with pytest.raises(Terminated):
            trainer.fit(train, epochs=1)
    assert weights(trainer.model) == before and not trainer.optimizer.state
    assert (trainer.step, trainer.torn) == (0, False)


def test_a_third_signal_ends_it_wherever_it_is(tmp_path: Path) -> None:
    raising = Raise("batch", 6, [signal.SIGINT] * 3)
    trainer, train, _ = made(tmp_path, raising)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(train, epochs=3)
    assert not raising.survived and trainer.torn and Checkpoints(tmp_path).read()["step"] == 4


def test_signals_that_the_program_handles_stay_its_own(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        trainer, train, _ = made(tmp_path, Raise("batch", 2, [signal.SIGTERM]))
        trainer.fit(train, epochs=1)
        assert trainer.stopped is None and signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_nothing_is_touched(tmp_path: Path) -> None:
    trainer, train, _ = made(tmp_path)
    thread = threading.Thread(target=trainer.fit, args=(train,))
    thread.start()
    thread.join()
    assert trainer.step == 4 and not trainer.torn


def test_a_block_of_ones_own() -> None:
    told: list[str] = []
    with watched(told.append, ends=False) as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        with watched() as inner:
            assert inner is signals
    assert signals.code == 143 and len(told) == 1
    with pytest.raises(Terminated), watched():
        os.kill(os.getpid(), signal.SIGTERM)
