"""Predictions for a few samples have kernels of their own: they give what eager mode gives, and read the weights as they are now."""

from __future__ import annotations

import numpy as np
import pytest

import mulgil
from mulgil import Tensor, nn

NETS = {
    "cnn": ((1, 20, 20), lambda: [nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 10, 5), nn.ReLU(), nn.MaxPool2d(2)]),
    "stride and padding": ((3, 11, 13), lambda: [nn.Conv2d(3, 40, 3, padding=1, stride=2)]),
    "stride, dilation, pool": (
        (2, 21, 90),
        lambda: [nn.Conv2d(2, 9, 5, stride=(3, 2), padding=1, dilation=(1, 3)), nn.ReLU(), nn.MaxPool2d((3, 2))],
    ),
    "wide": ((2, 9, 71), lambda: [nn.Conv2d(2, 3, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(3, 2, (1, 4))]),
    "wide windows": ((1, 12, 40), lambda: [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d((2, 3)), nn.Conv2d(8, 8, 1), nn.MaxPool2d((5, 1))]),
    "dilation": ((2, 9, 9), lambda: [nn.Conv2d(2, 5, 3, padding=(2, 1), dilation=2), nn.ReLU()]),
    "norm between": ((2, 9, 8), lambda: [nn.Conv2d(2, 7, 1, bias=False), nn.BatchNorm2d(7), nn.ReLU(), nn.MaxPool2d((3, 2))]),
    "pool without relu": ((1, 9, 9), lambda: [nn.Conv2d(1, 3, 2), nn.MaxPool2d(2), nn.Sigmoid()]),
    "groups": ((4, 7, 7), lambda: [nn.Conv2d(4, 6, 3, groups=2)]),
    "dense": ((37,), lambda: [nn.Linear(37, 9), nn.ReLU(), nn.Linear(9, 3), nn.Sigmoid(), nn.Linear(3, 1, bias=False)]),
    "long dense": ((784,), lambda: [nn.Linear(784, 130), nn.ReLU(), nn.Linear(130, 64), nn.ReLU(), nn.Linear(64, 10)]),
    "shared value": ((70,), lambda: [nn.Linear(70, 70), Residual()]),
}
OWN = {"ConvFew", "DenseFew"}


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(70, 70)

    def forward(self, x):
        y = self.inner(x)
        return y.relu() + y


def calls(compiled):
    return {type(s.op).__name__ for p in compiled.programs.values() for s in p.steps if hasattr(s, "op")}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_predictions_equal_eager(name, count, dtype):
    shape, layers = NETS[name]
    mulgil.manual_seed(1)
    model = nn.Sequential(*layers()).eval()
    if dtype == "float64":
        model.double()

    @mulgil.no_grad()
    def predict(x):
        return model(x)

    compiled = mulgil.compile(predict, state=[model], strict=True)
    rng = np.random.default_rng(0)
    for round in range(3):
        x = Tensor(rng.normal(size=(count, *shape)).astype(dtype))
        expected = predict(x).array
        tolerance = 1e-12 if dtype == "float64" else 1e-5 * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(compiled(x).array, expected, rtol=0, atol=tolerance)
        for p in model.parameters():  # training goes on elsewhere
            p.array[...] += 0.01 * round
    assert (calls(compiled) & OWN) or name == "groups"


def test_nan_is_not_hidden():
    model = nn.Sequential(nn.Linear(40, 5), nn.ReLU()).eval()

    @mulgil.no_grad()
    def predict(x):
        return model(x)

    compiled = mulgil.compile(predict, state=[model], strict=True)
    x = np.ones((1, 40), np.float32)
    compiled(Tensor(x))
    x[0, 3] = np.nan
    assert np.isnan(compiled(Tensor(x)).array).all()
