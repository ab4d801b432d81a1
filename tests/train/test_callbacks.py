"""The callbacks: stopping, best weights, schedules, clipping, statistics, averages, files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mulgil import nn, optim
from mulgil.data import DataLoader
from mulgil.errors import OptionError
from mulgil.train import (
    EMA,
    SWA,
    BestWeights,
    Callback,
    CSVLogger,
    EarlyStopping,
    GradientClipping,
    GradientStatistics,
    MetricsFile,
    Schedule,
    TensorBoard,
    TimeLimit,
    Trainer,
    WeightStatistics,
)
from mulgil.train.control import Best
from tests.train.tools import StopAt, blobs, loader, net, trainer, weights


class Told:
    """As much of a trainer as `Best` looks at."""

    def __init__(self, column: str, values: list[float]):
        self.history = np.array([(v,) for v in values], [(column, float)])
        self.epoch, self.validation = len(values), object()


def follow(best: Best, values: list[float]) -> list[bool]:
    return [best.improved(Told(best.monitor, values[: i + 1])) for i in range(len(values))]


@pytest.mark.parametrize(
    ("monitor", "mode", "min_delta", "values", "expected"),
    [
        ("validation_loss", None, 0.0, [3, 2, 2, 1], [True, True, False, True]),
        ("validation_loss", None, 0.5, [3, 2.8, 2.4, 2.0], [True, False, True, False]),
        ("validation_accuracy", None, 0.0, [0.1, 0.3, 0.2], [True, True, False]),
        ("validation_mse", None, 0.0, [1, 2, 0.5], [True, False, True]),
        ("validation_loss", "max", 0.0, [1, 2, 0.5], [True, True, False]),
        ("validation_loss", None, 0.0, [np.nan, 2, np.nan, 1], [False, True, False, True]),
    ],
)
def test_best(monitor: str, mode: str | None, min_delta: float, values: list[float], expected: list[bool]) -> None:
    assert follow(Best(monitor, mode, min_delta), values) == expected


class Worsen(Callback):
    """Spoils the weights after each epoch from `first` on."""

    def __init__(self, first: int):
        self.first = first

    def batch(self, trainer: Trainer) -> None:
        if trainer.epoch >= self.first:
            trainer.model.weight.array[...] = 0
            trainer.model.bias.array[...] = [9, 0, 0]


def test_early_stopping() -> None:
    stopping = EarlyStopping(patience=2)
    run = trainer(callbacks=[Worsen(4), stopping])
    assert len(run.fit(loader(), blobs(30), epochs=20)) == 5 and "validation_loss" in str(run.stopped)
    with pytest.raises(OptionError, match="column"):
        trainer(callbacks=[EarlyStopping("nonsense")]).fit(loader(), epochs=1)
    with pytest.raises(OptionError, match="validation set"):
        trainer(callbacks=[EarlyStopping()]).fit(loader(), epochs=1)


class Fail(Callback):
    def batch(self, trainer: Trainer) -> None:
        if trainer.step == 14:
            raise KeyboardInterrupt


@pytest.mark.parametrize("ended_by", ["its last epoch", "early stopping", "stop", "an error"])
def test_the_best_weights_come_back_whatever_ended_the_run(ended_by: str) -> None:
    kept: list[Any] = []

    class Keep(Callback):
        def epoch(self, trainer: Trainer) -> None:
            kept.append(weights(trainer.model))

    best = BestWeights()
    more = {"early stopping": [EarlyStopping(patience=1)], "stop": [StopAt(14)], "an error": [Fail()]}.get(ended_by, [])
    run = trainer(nn.Linear(4, 3), callbacks=[Worsen(3), Keep(), best, *more])
    if ended_by == "an error":
        with pytest.raises(KeyboardInterrupt):
            run.fit(loader(), blobs(30), epochs=4)
    else:
        run.fit(loader(), blobs(30), epochs=4)
    assert best.best_epoch == 2 and weights(run.model) == kept[1]
    assert best.last is not None and best.last["weight"].tobytes() != kept[1][0]
    assert best.best_value == run.history["validation_loss"][1]


def test_schedules_and_limits() -> None:
    rates = []

    class Rates(Callback):
        def batch(self, trainer: Trainer) -> None:
            rates.append(trainer.optimizer.param_groups[0]["lr"])

    model = nn.Linear(4, 3)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    run = trainer(model, optimizer, callbacks=[Rates(), Schedule(optim.StepLR(optimizer, 1, 0.5))])
    assert run.fit(DataLoader(blobs(20), 10), epochs=3)["lr"].tolist() == [1, 0.5, 0.25]
    assert rates == [1, 1, 0.5, 0.5, 0.25, 0.25]
    run = trainer(callbacks=[TimeLimit(1e-9)])
    run.fit(loader(), epochs=3)
    assert run.step == 1 and "time limit" in str(run.stopped)
    for bad in (lambda: TimeLimit(0), lambda: Schedule(optim.StepLR(optimizer, 1), every="year"), lambda: EarlyStopping(patience=0)):
        with pytest.raises(OptionError):
            bad()


@pytest.mark.parametrize("compile", [False, True])
def test_clipping_happens_within_the_step(compile: bool) -> None:
    before, clipping, after = GradientStatistics(), GradientClipping(0.05), GradientStatistics()
    model = net()
    trainer(model, callbacks=[before, clipping, after], compile=compile).fit(loader(), epochs=2)
    assert before.names == [name for name, _ in model.named_parameters()] and before.norms.shape == (8, 6)
    joint = np.linalg.norm(before.norms, axis=1)
    assert (joint > 0.05).all() and clipping.norm == pytest.approx(joint[-1], rel=1e-5)
    np.testing.assert_allclose(np.linalg.norm(after.norms, axis=1), 0.05, rtol=1e-4)
    trainer(model, callbacks=[GradientClipping(max_value=1e-3), after], compile=compile).fit(loader(), epochs=1)
    assert 0 < after.norms[-1][0] <= 1e-3 * 32**0.5 * 1.0001
    for bad in ({}, {"max_norm": 1.0, "max_value": 1.0}, {"max_norm": -1.0}):
        with pytest.raises(OptionError):
            GradientClipping(**bad)


def test_gradient_norms_are_those_of_the_loop_written_out() -> None:
    model, statistics = nn.Linear(4, 3), GradientStatistics()
    data = blobs(10)
    loss = nn.CrossEntropyLoss()(model(data.tensors[0]), data.tensors[1])
    loss.backward()
    expected = [np.linalg.norm(p.grad.array) for p in model.parameters()]
    trainer(model, callbacks=[statistics]).fit(DataLoader(data, 10), epochs=1)
    np.testing.assert_allclose(statistics.norms[0], expected, rtol=1e-5)


def test_weight_statistics() -> None:
    statistics = WeightStatistics()
    run = trainer(callbacks=[statistics])
    run.fit(loader(), epochs=2)
    w = run.model.weight.array
    assert [record["epoch"] for record in statistics.records] == [1, 2]
    assert statistics.records[-1]["weight"] == pytest.approx(
        {"mean": w.mean(), "std": w.std(), "min": w.min(), "max": w.max(), "norm": np.linalg.norm(w)}, rel=1e-5
    )


def test_ema_follows_the_weights() -> None:
    seen: list[np.ndarray] = []

    class Keep(Callback):
        def batch(self, trainer: Trainer) -> None:
            seen.append(trainer.model.weight.array.copy())

    ema = EMA(0.5)
    run = trainer(callbacks=[Keep(), ema])
    run.fit(loader(), epochs=2)
    expected = seen[0]
    for n, w in enumerate(seen[1:], 1):
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * w
    np.testing.assert_allclose(run.model.weight.array, expected, rtol=1e-5)
    run.model.weight.array[...] = 0
    ema.swap(run.model)
    np.testing.assert_allclose(run.model.weight.array, expected, rtol=1e-5)
    assert not ema.average["weight"].any()


def test_swa_is_the_mean_and_renews_running_statistics() -> None:
    kept: list[np.ndarray] = []

    class Keep(Callback):
        def epoch(self, trainer: Trainer) -> None:
            kept.append(trainer.model[0].weight.array.copy())

    model, data = net(), DataLoader(blobs(60), 60)
    trainer(model, callbacks=[Keep(), SWA(first=2)]).fit(data, epochs=4)
    np.testing.assert_allclose(model[0].weight.array, np.mean(kept[1:], axis=0), rtol=1e-5)
    hidden = np.asarray(model[0](blobs(60).tensors[0]))
    np.testing.assert_allclose(model[1].running_mean.array, hidden.mean(0), rtol=1e-4, atol=1e-5)
    assert model[1].momentum == 0.1


def test_csv_and_json_lines(tmp_path: Path) -> None:
    run = trainer(callbacks=[CSVLogger(tmp_path / "h.csv"), MetricsFile(tmp_path / "m.jsonl")])
    history = run.fit(loader(), blobs(20), epochs=3)
    rows = list(csv.DictReader((tmp_path / "h.csv").open()))
    assert [float(row["validation_loss"]) for row in rows] == history["validation_loss"].tolist()
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [line["train_loss"] for line in lines] == history["train_loss"].tolist()
    assert lines[0]["epoch"] == 1 and lines[0]["complete"] is True and lines[0]["images_per_second"] > 0


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    history = trainer(callbacks=[TensorBoard(tmp_path, every=2)]).fit(loader(), blobs(20), epochs=3)
    events = reader.EventAccumulator(str(tmp_path))
    events.Reload()
    assert {"train/loss", "train/accuracy", "validation/loss", "validation/accuracy", "lr", "batch/loss"} <= set(events.Tags()["scalars"])
    loss = events.Scalars("validation/loss")
    assert [event.step for event in loss] == [4, 8, 12]
    np.testing.assert_allclose([event.value for event in loss], history["validation_loss"], rtol=1e-6)
    assert [event.step for event in events.Scalars("batch/loss")] == [2, 4, 6, 8, 10, 12]
