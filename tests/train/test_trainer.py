"""Trainer: the stream of events, exact figures, modes, compiled and eager alike, and runs that go on in mid-epoch."""

from __future__ import annotations

import json
import os
import signal
import warnings
from typing import Any

import numpy as np
import pytest

from mulgil import backend, nn, optim
from mulgil.autograd import Tensor
from mulgil.data import DataLoader, TensorDataset
from mulgil.errors import MulgilError, OptionError
from mulgil.train import Callback, EarlyStopping, GradientStatistics, History, Schedule, Trainer, evaluate, make_step, train_epoch
from mulgil.train.metrics import Meter, named
from tests.train.tools import StopAt, blobs, loader, net, trainer, weights


class Log(Callback):
    """Writes down what it was told."""

    def __init__(self, fail_at: int = 0):
        self.events: list[Any] = []
        self.fail_at = fail_at

    def start(self, trainer: Trainer) -> None:
        self.events.append("start")

    def batch(self, trainer: Trainer) -> None:
        self.events.append((trainer.epoch, trainer.batch, trainer.step, len(trainer.indices or ()), trainer.meter.samples))
        if trainer.step == self.fail_at:
            raise RuntimeError("as asked")

    def epoch(self, trainer: Trainer) -> None:
        self.events.append(("epoch", trainer.epoch, trainer.complete, len(trainer.history)))

    def end(self, trainer: Trainer) -> None:
        self.events.append(("end", trainer.stopped))


# ---------------------------------------------------------------------- events
def test_the_stream_of_events() -> None:
    log = Log()
    trainer(callbacks=[log]).fit(DataLoader(blobs(40), 16, shuffle=True), blobs(10), epochs=2)
    first = [(1, 1, 1, 16, 16), (1, 2, 2, 16, 32), (1, 3, 3, 8, 40), ("epoch", 1, True, 1)]
    second = [(2, 1, 4, 16, 16), (2, 2, 5, 16, 32), (2, 3, 6, 8, 40), ("epoch", 2, True, 2)]
    assert log.events == ["start", *first, *second, ("end", None)]


def test_end_is_told_whatever_ended_it() -> None:
    failing, other = Log(fail_at=2), Log()
    run = trainer(callbacks=[failing, other])
    with pytest.raises(RuntimeError, match="as asked"):
        run.fit(loader(), epochs=3)
    assert failing.events[-1] == other.events[-1] == ("end", "RuntimeError")


def test_stop_ends_the_epoch_after_its_batch() -> None:
    log = Log()
    run = trainer(callbacks=[log, StopAt(6)])
    history = run.fit(loader(60, 16), blobs(10), epochs=5)
    assert run.stopped == "test" and not run.complete and run.step == 6 and len(history) == 2
    assert log.events[-2:] == [("epoch", 2, False, 2), ("end", "test")]
    assert np.isfinite(history["validation_loss"]).all() and run.train_metrics.samples == 32


def test_late_callbacks_are_called_last() -> None:
    order: list[str] = []

    class Named(Callback):
        def __init__(self, name: str, late: bool):
            self.name, self.late = name, late

        def epoch(self, trainer: Trainer) -> None:
            order.append(self.name)

    trainer(callbacks=[Named("a", True), Named("b", False)]).fit(loader(), epochs=1)
    assert order == ["b", "a"]


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_waits_for_the_batch() -> None:
    class Interrupt(Callback):
        def batch(self, trainer: Trainer) -> None:
            if trainer.step == 2:
                os.kill(os.getpid(), signal.SIGINT)

    log = Log()
    run = trainer(callbacks=[Interrupt(), log])
    with pytest.raises(KeyboardInterrupt):
        run.fit(loader(), epochs=3)
    assert log.events[-1] == ("end", "interrupted") and run.step == 2 and run.state_dict()["position"]["batch"] == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_fit_goes_on_counting() -> None:
    run = trainer()
    run.fit(loader(), epochs=2)
    history = run.fit(loader(), epochs=1)
    assert history["epoch"].tolist() == [1, 2, 3] and run.epochs == 3


# ---------------------------------------------------------------------- figures
def test_fit_equals_the_loop_written_out() -> None:
    data, models = blobs(40), [nn.Linear(4, 3), nn.Linear(4, 3)]
    models[1].load_state_dict(models[0].state_dict())
    history = trainer(models[0], compile=False).fit(DataLoader(data, 16), blobs(30, seed=1), epochs=3)
    loss = nn.CrossEntropyLoss()
    step = make_step(models[1], optim.SGD(models[1].parameters(), lr=0.1), loss)
    for row in history:
        train = train_epoch(models[1], DataLoader(data, 16), step)
        test = evaluate(models[1], DataLoader(blobs(30, seed=1), 7), loss)
        assert (row["train_loss"], row["train_accuracy"]) == (train.loss, train.accuracy)
        assert row["validation_loss"] == pytest.approx(test.loss, rel=1e-6) and row["validation_accuracy"] == test.accuracy
    assert weights(models[0]) == weights(models[1])


def hits(logits: Tensor, targets: Tensor) -> Tensor:
    """A metric of one's own: the batch's mean."""
    return (logits.argmax(1) == targets).float().mean()


@pytest.mark.parametrize("batch_size", [1, 7, 49, 50])
def test_evaluation_is_exact_whatever_the_batches_and_the_same_compiled(batch_size: int) -> None:
    model, data = net(), blobs(50)
    whole = evaluate(model, [data.tensors], nn.CrossEntropyLoss())
    for compile in (False, True):
        run = trainer(model, compile=compile, metrics=["accuracy", "top5", hits])
        seen = run.evaluate(DataLoader(data, batch_size))
        assert seen.loss == pytest.approx(whole.loss, rel=1e-5) and seen.accuracy == whole.accuracy
        assert seen.values["top5"] == 1 and seen.values["hits"] == pytest.approx(whole.accuracy, rel=1e-6)
        np.testing.assert_array_equal(seen.predictions, whole.predictions)


def test_evaluate_and_predict_switch_modes_and_back() -> None:
    model = net()
    model[1].eval()  # a layer that is kept frozen stays so
    run, before = trainer(model), weights(model)
    x = np.asarray(blobs(20).tensors[0])
    first, second = run.predict(x), run.predict(x)
    np.testing.assert_array_equal(first, second)
    run.evaluate(blobs(20))
    assert weights(model) == before and [m.training for m in model.modules()] == [True, True, False, True, True, True]


def test_predict_takes_what_there_is() -> None:
    data, run = blobs(30), trainer()
    x = np.asarray(data.tensors[0])
    expected = np.asarray(run.model(data.tensors[0]))
    batches = [(Tensor(x[:20]), None), (Tensor(x[20:]), None)]
    for given in (x, x.astype(np.float64), Tensor(x), data, DataLoader(data, 7), DataLoader(TensorDataset(x), 8), batches):
        np.testing.assert_allclose(run.predict(given), expected, rtol=1e-5, atol=1e-6)
    chances = run.predict(x, probabilities=True)
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(chances.argmax(1), expected.argmax(1))
    with pytest.raises(OptionError, match="loader"):
        run.predict(3)


def test_metrics_by_name_and_function() -> None:
    outputs, targets = Tensor(np.array([[1.0, 2.0], [3.0, 4.0]])), Tensor(np.array([[1.0, 1.0], [1.0, 3.0]]))
    meter = Meter(named(["mse", "mae"]))
    meter.add(outputs, targets, Tensor(0.0))
    assert list(meter.values.items()) == [("mse", 1.5), ("mae", 1.0)]
    binary = Meter()
    binary.add(Tensor(np.array([1.0, -1.0, 2.0])), Tensor(np.array([1.0, 1.0, 1.0])), Tensor(0.0))
    assert binary.accuracy == pytest.approx(2 / 3)
    for bad in (["nonsense"], ["accuracy", "accuracy"]):
        with pytest.raises(OptionError):
            named(bad)
    with pytest.raises(MulgilError, match="accuracy"):
        Meter().add(Tensor(np.zeros((4, 2))), Tensor(np.zeros((4, 3))), Tensor(0.0))


def test_history_is_a_structured_array() -> None:
    history = trainer().fit(loader(), epochs=2)
    assert isinstance(history, History)
    assert history.dtype.names == ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "lr")
    assert np.isnan(history["validation_loss"]).all() and history["epoch"].tolist() == [1, 2] and (history["lr"] == 0.1).all()
    again = History.empty().with_columns(history.columns())
    assert again.tobytes() == history.tobytes() and again.rows()[0]["epoch"] == 1


def test_history_draws_itself() -> None:
    pytest.importorskip("matplotlib")
    history = trainer(metrics=["accuracy", "top5"]).fit(loader(), blobs(20), epochs=2)
    figure = history.plot("three panels")
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "Accuracy", "Right among the first five"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 2, 2]
    assert [len(axes.lines) for axes in trainer().fit(loader(), epochs=1).plot().axes] == [1, 1]


# ---------------------------------------------------------------------- compiled
def test_compiled_and_eager_agree() -> None:
    results = []
    for compile in (True, False):
        model = net()
        run = trainer(model, optim.SGD(model.parameters(), lr=0.1, momentum=0.9), compile=compile)
        history = run.fit(loader(), blobs(50, seed=1), epochs=4)
        results.append((history["train_loss"], history["validation_loss"], np.asarray(model[0].weight)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{"momentum": 0.9, "dampening": 0.5}, {"momentum": 0.9, "nesterov": True}, {"weight_decay": 0.1}])
def test_a_compiled_optimizer_goes_on_as_an_eager_one(settings: dict[str, Any]) -> None:
    """Its first step may be another than the later ones."""
    results = []
    for compile in (True, False):
        backend.manual_seed(0)
        model = nn.Linear(4, 3)
        trainer(model, optim.SGD(model.parameters(), lr=0.1, **settings), compile=compile).fit(DataLoader(blobs(), 20), epochs=2)
        results.append(np.asarray(model.weight))
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_compiled_runs_eagerly() -> None:
    class Deciding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) if x.sum().item() > 0 else self.layer(x) * 2

    with pytest.warns(UserWarning, match="eagerly"):
        history = trainer(Deciding()).fit(loader(), blobs(20), epochs=2)
    assert np.isfinite(history["validation_loss"]).all()


def test_replaced_arrays_get_new_plans() -> None:
    """What a plan was compiled for may be replaced between calls: weights by `to`, the optimizer's state by a load."""
    model = nn.Linear(4, 3)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    run = trainer(model, optimizer)
    run.fit(DataLoader(blobs(), 20), epochs=2)
    saved = {name: value.array.copy() for name, value in model.state_dict().items()}, optimizer.state_dict()
    saved = saved[0], {**saved[1], "state": {k: {n: Tensor(t.array.copy()) for n, t in v.items()} for k, v in saved[1]["state"].items()}}
    run.fit(DataLoader(blobs(), 20), epochs=1)
    first = weights(model)
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    run.fit(DataLoader(blobs(), 20), epochs=1)
    assert weights(model) == first
    x = np.asarray(blobs().tensors[0])
    before = run.predict(x)
    model.weight.array = model.weight.array * 2
    assert not np.allclose(run.predict(x), before)


def test_settings_that_change_are_seen_by_a_compiled_step() -> None:
    class Momentum(Callback):
        def epoch(self, trainer: Trainer) -> None:
            trainer.optimizer.param_groups[0]["momentum"] = 0.9 - 0.3 * trainer.epoch

    results = []
    for compile in (True, False):
        backend.manual_seed(0)
        model = nn.Linear(4, 3)
        run = trainer(model, optim.SGD(model.parameters(), lr=0.05, momentum=0.9), compile=compile, callbacks=[Momentum()])
        run.fit(DataLoader(blobs(), 20), epochs=3)
        results.append(np.asarray(model.weight))
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)
    model = nn.Linear(4, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    cycle = Schedule(optim.OneCycleLR(optimizer, 0.1, total_steps=40), every="batch")
    with warnings.catch_warnings(action="error"):
        trainer(model, optimizer, callbacks=[cycle]).fit(loader(), epochs=5)


# ---------------------------------------------------------------------- going on
OPTIMIZERS = {
    "sgd": lambda m: optim.SGD(m.parameters(), lr=0.1),
    "momentum": lambda m: optim.SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda m: optim.Adam(m.parameters(), lr=0.01),
}


def whole_run(optimizer: str, more: list[Callback] | None = None) -> tuple[Trainer, Any]:
    model = net()
    made = OPTIMIZERS[optimizer](model)
    callbacks = [Schedule(optim.StepLR(made, 3), every="batch"), EarlyStopping("train_loss", patience=9), GradientStatistics()]
    run = Trainer(model, made, nn.CrossEntropyLoss(), callbacks=[*callbacks, *(more or [])])
    return run, run.fit(loader(40, 12), blobs(30, seed=1), epochs=3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("step", [1, 3, 4, 6, 12])
def test_a_run_that_goes_on_ends_with_the_same_bits(optimizer: str, step: int) -> None:
    expected, history = whole_run(optimizer)
    cut, _ = whole_run(optimizer, [StopAt(step)])
    state = cut.state_dict()
    assert state["position"]["step"] == step
    model = net(seed=9)  # other weights, another random state
    made = OPTIMIZERS[optimizer](model)
    callbacks = [Schedule(optim.StepLR(made, 3), every="batch"), EarlyStopping("train_loss", patience=9), GradientStatistics()]
    again = Trainer(model, made, nn.CrossEntropyLoss(), callbacks=callbacks)
    again.load_state_dict(state)
    went_on = again.fit(loader(40, 12), blobs(30, seed=1), epochs=3)
    assert went_on.tobytes() == history.tobytes() and weights(model) == weights(expected.model)
    assert callbacks[2].norms.tobytes() == expected.callbacks[2].norms.tobytes()
    assert again.step == expected.step == 12 and again.stopped is None


def test_the_state_is_a_plain_tree_of_copies() -> None:
    run, _ = whole_run("adam")
    state = run.state_dict()

    def plain(tree: Any) -> Any:
        if isinstance(tree, dict):
            assert all(isinstance(key, str) for key in tree)
            return {key: plain(value) for key, value in tree.items()}
        if isinstance(tree, list):
            return [plain(value) for value in tree]
        return tree.tolist() if isinstance(tree, np.ndarray) else tree

    json.dumps(plain(state))
    before = state["model"]["0.weight"].copy()
    run.fit(loader(), epochs=1)
    np.testing.assert_array_equal(state["model"]["0.weight"], before)


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    run, _ = whole_run("adam")
    state = run.state_dict()
    model = net(seed=4)
    other, before = trainer(model, optim.Adam(model.parameters())), weights(model)
    with pytest.raises(OptionError, match="callbacks"):
        other.load_state_dict(state)
    with pytest.raises(OptionError, match="format"):
        other.load_state_dict({**state, "format": 99})
    state["callbacks"] = []
    with pytest.raises(OptionError, match="groups"):
        other.load_state_dict({**state, "optimizer": {"state": {}, "param_groups": []}})
    with pytest.raises(OptionError, match="metrics"):
        trainer(model, metrics=["top5"]).load_state_dict(state)
    assert weights(model) == before
    other.load_state_dict(state)
    assert weights(model) == weights(run.model)


def test_the_loaders_order_is_drawn_once_and_indices_are_known() -> None:
    data, seen = blobs(20), []

    class Check(Callback):
        def batch(self, trainer: Trainer) -> None:
            seen.extend(trainer.indices)

    trainer(callbacks=[Check()]).fit(DataLoader(data, 6, shuffle=True), epochs=1)
    assert sorted(seen) == list(range(20)) != seen
    backend.manual_seed(5)
    orders = [list(DataLoader(range(20), 6, shuffle=True).order())]
    backend.manual_seed(5)
    orders.append([batch.tolist() for batch in DataLoader(range(20), 6, shuffle=True)])
    assert orders[0] == orders[1]
    with pytest.raises(OptionError, match="batch"):
        DataLoader(range(3), batch_size=None).order()


def test_lists_and_generators_of_batches() -> None:
    batches = [tuple(batch) for batch in DataLoader(blobs(20), 6)]
    run = trainer()
    assert run.fit(batches, batches, epochs=2)["validation_accuracy"].shape == (2,) and run.indices is None
    assert len(trainer().fit((batch for batch in batches), epochs=1)) == 1
    assert len(trainer().fit((np.ones((9, 4)), np.zeros(9, np.int64)), epochs=1)) == 1


def test_an_unknown_choice() -> None:
    with pytest.raises(OptionError, match="on_nan"):
        trainer(on_nan="nonsense")
    with pytest.raises(OptionError, match="epochs"):
        trainer().fit(loader(), epochs=0)
