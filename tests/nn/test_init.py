"""Initial weights: their bounds and moments, PyTorch's defaults, generators."""

from __future__ import annotations

import math

import numpy as np
import pytest

import mulgil
from mulgil import nn
from mulgil.backend import Generator
from mulgil.errors import OptionError, ShapeError
from mulgil.nn import init

SHAPE = (300, 20, 3, 5)  # fan_in 300, fan_out 4500
FAN_IN, FAN_OUT = 300, 4500

CASES = [
    ("lecun_uniform_", {}, 1 / FAN_IN),
    ("lecun_normal_", {}, 1 / FAN_IN),
    ("xavier_uniform_", {}, 2 / (FAN_IN + FAN_OUT)),
    ("xavier_uniform_", {"gain": math.sqrt(2)}, 4 / (FAN_IN + FAN_OUT)),
    ("xavier_normal_", {"gain": 5 / 3}, 25 / 9 * 2 / (FAN_IN + FAN_OUT)),
    ("kaiming_uniform_", {}, 2 / FAN_IN),
    ("kaiming_uniform_", {"a": math.sqrt(5)}, 1 / 3 / FAN_IN),
    ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}, 2 / FAN_OUT),
    ("kaiming_normal_", {"nonlinearity": "tanh"}, 25 / 9 / FAN_IN),
    ("uniform_", {"a": -1.0, "b": 3.0}, 16 / 12),
    ("normal_", {"mean": 1.0, "std": 0.5}, 0.25),
]


@pytest.mark.parametrize(("name", "options", "variance"), CASES)
def test_variance_and_bounds(name, options, variance):
    weight = nn.Parameter(np.empty(SHAPE, np.float32))
    assert getattr(init, name)(weight, generator=Generator(0), **options) is weight
    values = weight.array.astype(np.float64)
    mean = options.get("mean", (options.get("a", 0) + options["b"]) / 2 if "b" in options else 0.0)
    assert values.var() == pytest.approx(variance, rel=0.02)
    assert values.mean() == pytest.approx(mean, abs=0.02 * math.sqrt(variance))
    bound = math.sqrt(3 * variance)
    if "uniform" in name:
        assert bound * 0.999 < abs(values - mean).max() <= bound * (1 + 1e-6)
    else:
        assert abs(values - mean).max() > 3 * math.sqrt(variance)
    assert weight.grad is None and weight.is_leaf


@pytest.mark.parametrize("name", ["xavier_uniform_", "kaiming_uniform_"])
def test_bounds_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    ours, theirs = nn.Parameter(np.empty(SHAPE, np.float32)), torch.empty(SHAPE)
    getattr(init, name)(ours)
    getattr(torch.nn.init, name)(theirs)
    assert abs(ours.array).max() == pytest.approx(abs(theirs).max().item(), rel=1e-3)


@pytest.mark.parametrize("text", ["nn.Linear(400, 300)", "nn.Conv2d(16, 60, 5)"])
def test_default_bounds_are_pytorchs(text):
    torch = pytest.importorskip("torch")
    ours, theirs = eval(text), eval(text, {"nn": torch.nn})
    assert abs(ours.weight.array).max() == pytest.approx(1 / 20, rel=1e-3) == pytest.approx(abs(theirs.weight).max().item(), rel=1e-3)
    assert 0.045 < abs(ours.bias.array).max() <= 0.05


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu", "conv2d"])
def test_gain_is_pytorchs(name):
    torch = pytest.importorskip("torch")
    assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


def test_constants_and_in_place():
    weight = nn.Parameter(np.full((2, 3), 9.0, np.float32))
    array = weight.array
    assert init.ones_(weight).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert init.zeros_(weight).array is array
    assert init.constant_(weight, 0.25).tolist() == [[0.25] * 3] * 2


def test_the_seed_decides():
    def draw():
        mulgil.manual_seed(5)
        return nn.Linear(10, 3).weight.array.copy()

    np.testing.assert_array_equal(draw(), draw())
    before = mulgil.default_generator.get_state()
    init.normal_(nn.Parameter(np.empty((3, 3))), generator=Generator(1))
    assert mulgil.default_generator.get_state() == before


def test_authors_names_and_shape_taking_forms():
    assert init.glorot_uniform_ is init.xavier_uniform_ and init.he_normal_ is init.kaiming_normal_
    weight = init.glorot_uniform(20, 1, 5, 5, gain=np.sqrt(2))
    assert isinstance(weight, nn.Parameter) and weight.shape == (20, 1, 5, 5)
    assert abs(weight.array).max() <= math.sqrt(2) * math.sqrt(6 / (25 + 500))


def test_what_cannot_be():
    with pytest.raises(ShapeError, match="at least two axes"):
        init.xavier_uniform_(nn.Parameter(np.zeros(3)))
    with pytest.raises(OptionError, match="mode"):
        init.kaiming_normal_(nn.Parameter(np.zeros((3, 3))), mode="fan")
    with pytest.raises(OptionError, match="known gain"):
        init.calculate_gain("swishy")
