"""The live plot as a callback: the numbers of the run, and the same ones after a resume."""

from __future__ import annotations

import numpy as np
import pytest

import mulgil
from mulgil import nn, optim
from mulgil.train import Trainer
from mulgil.train.callbacks import Callback
from mulgil.train.callbacks_plot import LivePlotCallback

matplotlib = pytest.importorskip("matplotlib")


class StopAt(Callback):
    def __init__(self, step: int):
        self.step = step

    def batch(self, trainer) -> None:
        if trainer.step == self.step:
            trainer.stop("enough")


@pytest.fixture
def data():
    matplotlib.use("Agg")
    random = np.random.default_rng(0)
    x = random.standard_normal((50, 4)).astype(np.float32)
    yield x, (x[:, 0] > 0).astype(np.int64)
    from matplotlib import pyplot as plt

    plt.close("all")


def trainer_of(*callbacks: Callback) -> Trainer:
    mulgil.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    return Trainer(model, optimizer, nn.CrossEntropyLoss(), callbacks=callbacks, compile=False)


def loaders(data):
    from mulgil.data import DataLoader, TensorDataset

    whole = TensorDataset(*map(mulgil.tensor, data))
    return DataLoader(whole, batch_size=16, shuffle=True), DataLoader(whole, batch_size=20)


def test_lines_and_dots_are_those_of_the_history(data, tmp_path) -> None:
    callback = LivePlotCallback(png=tmp_path / "live.png")
    trainer = trainer_of(callback)
    train, validation = loaders(data)
    history = trainer.fit(train, validation, epochs=3)
    plotter = callback.plotter
    assert plotter.metrics == ("loss", "accuracy") and plotter.num_train_batch == 12
    batches = plotter.train_metrics["accuracy"]["batch_data"]
    whole = batches * np.tile([16, 16, 16, 2], 3)  # hits of each batch
    np.testing.assert_allclose(whole, whole.round(), atol=1e-9)
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(plotter.train_metrics[name]["epoch_data"], history[f"train_{name}"], rtol=1e-12)
        np.testing.assert_allclose(plotter.test_metrics[name]["epoch_data"], history[f"validation_{name}"], rtol=1e-12)
    assert plotter.test_metrics["loss"]["epoch_domain"].tolist() == [4, 8, 12]
    assert (tmp_path / "live.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("step", [2, 4, 7])
def test_a_resumed_run_draws_the_same_curves(data, step: int) -> None:
    whole, first, second = (LivePlotCallback() for _ in range(3))
    train, validation = loaders(data)
    trainer_of(whole, StopAt(99)).fit(train, validation, epochs=3)
    train, validation = loaders(data)
    cut = trainer_of(first, StopAt(step))
    cut.fit(train, validation, epochs=3)
    state = cut.state_dict() if cut.cut is None else cut.cut
    again = trainer_of(second, StopAt(99))
    again.load_state_dict(state)
    train, validation = loaders(data)
    again.fit(train, validation, epochs=3)
    np.testing.assert_equal(second.plotter.to_dict(), whole.plotter.to_dict())
