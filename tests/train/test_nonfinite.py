"""A loss or gradient that is not finite: named, nothing updated, left out or the end."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from mulgil import nn, optim
from mulgil.autograd import Tensor
from mulgil.data import DataLoader, TensorDataset
from mulgil.errors import NonFiniteError
from mulgil.ops.guard import check
from mulgil.train import Callback, GradientClipping, Trainer, make_step
from mulgil.train.nonfinite import where_not_finite
from tests.train.tools import blobs, net, trainer, weights

BAD = 33  # the sample with a hole


def spoiled(n: int = 60) -> TensorDataset:
    x, y = (np.asarray(t).copy() for t in blobs(n).tensors)
    x[BAD, 2] = np.nan
    return TensorDataset(x, y)


class SteepRoot(nn.Module):
    """A finite output whose gradient is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last((self.first(x) * 0.0).abs().sqrt())


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, lr=0.1), lambda p: optim.Adam(p, lr=0.01)])
def test_it_stops_with_everything_that_helps(compile: bool, make: Any) -> None:
    told = []

    class Notice(Callback):
        def nonfinite(self, trainer: Trainer, error: NonFiniteError) -> None:
            told.append(error.state)

    model = net()
    run = trainer(model, make(model.parameters()), compile=compile, callbacks=[Notice()])
    with pytest.raises(NonFiniteError, match=r"step (?s:.)*inputs") as caught:
        run.fit(DataLoader(spoiled(), 6, shuffle=True), epochs=3)
    error = caught.value
    assert BAD in error.indices and error.step == run.state_dict()["position"]["step"] + 1 and error.layer == "the inputs"
    assert told == [error.state] and run.stopped == "NonFiniteError"
    assert all(np.isfinite(array).all() for array in error.state["model"].values())
    assert [value.array.tobytes() for value in model.state_dict().values()] == [a.tobytes() for a in error.state["model"].values()]


@pytest.mark.parametrize("compile", [False, True])
def test_a_skipped_step_leaves_no_trace(compile: bool) -> None:
    """Training with the bad batch equals training on the same batches without it, to the bit."""
    results = []
    for bad in (True, False):
        batches = [tuple(batch) for batch in DataLoader(spoiled(), 6)]
        batches = batches if bad else [b for i, b in enumerate(batches) if i != BAD // 6]
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
        model.load_state_dict(net().state_dict())  # net() seeds, too
        run = trainer(model, optim.Adam(model.parameters(), lr=0.01), compile=compile, on_nan="skip")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = run.fit(batches, epochs=3)
        assert run.skipped == (3 if bad else 0) and len(caught) == (1 if bad else 0)
        results.append((weights(model), history.tobytes()))
    assert results[0] == results[1]


@pytest.mark.parametrize("compile", [False, True])
def test_an_infinite_gradient_of_a_finite_loss(compile: bool) -> None:
    model = SteepRoot()
    before = weights(model)
    with pytest.raises(NonFiniteError, match="gradients") as caught, np.errstate(all="ignore"):
        trainer(model, compile=compile, callbacks=[GradientClipping(1.0)]).fit(DataLoader(blobs(), 20), epochs=1)
    assert caught.value.layer == "the gradient of bias of layer first (Linear)" and caught.value.step == 1
    assert weights(model) == before


def test_a_compiled_step_raises_where_it_ran_well_before() -> None:
    model = net()
    step = make_step(model, optim.Adam(model.parameters()), nn.CrossEntropyLoss(), compiled=True, guarded=True)
    x, y = (Tensor(np.asarray(t)) for t in blobs(20).tensors)
    for _ in range(3):
        step(x, y)
    before = [p.array.copy() for p in model.parameters()]
    bad = np.asarray(x).copy()
    bad[3, 1] = np.inf
    with pytest.raises(NonFiniteError, match="loss"), np.errstate(all="ignore"):
        step(Tensor(bad), y)
    for p, array in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.array, array)
    for buffer in model.buffers():  # of these a Trainer takes care
        buffer.array[...] = 0
    assert np.isfinite(float(step(x, y)[1]))


def test_skip_gives_up_when_nothing_else_is_left() -> None:
    model = nn.Linear(4, 3)
    model.weight.array[...] = np.nan
    with pytest.warns(RuntimeWarning, match="left out"), pytest.raises(NonFiniteError, match="step 50") as caught:
        trainer(model, on_nan="skip").fit(DataLoader(blobs(), 10), epochs=100)
    assert caught.value.layer == "parameter weight, before the step"


def test_ignore_looks_away() -> None:
    history = trainer(on_nan="ignore").fit(DataLoader(spoiled(), 6), epochs=1)
    assert np.isnan(history["train_loss"]).all()


def test_where() -> None:
    x, y = blobs(8).tensors
    model, loss = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), nn.CrossEntropyLoss()
    assert where_not_finite(model, loss, x, y) == ""
    model[2].weight.array[...] = 1e38
    model[0].bias.array[...] = 1e5
    assert where_not_finite(model, loss, x, y) == "the output of layer 2 (Linear)"
    assert "loss" in where_not_finite(nn.Linear(4, 3), lambda logits, y: (logits.sum() * 0.0).log() * 0.0, x, y)


@pytest.mark.parametrize("shape", [(5,), (40_000,), (300, 200), (200, 20, 5, 5)])
def test_the_guard_sees_a_filled_row_or_column(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for place in ((slice(None),), (-1,), (slice(None), -1)):
        g = rng.normal(size=shape).astype(np.float32)
        check(np.float32(1), g)
        if len(shape) >= len(place):
            g[place] = np.nan
            with pytest.raises(NonFiniteError):
                check(np.float32(1), g)
    with np.errstate(over="ignore"):
        check(np.float32(1), np.full(shape, 1e30, np.float32))  # large, and finite
