"""summary: the numbers, and that nothing is left behind."""

from __future__ import annotations

import numpy as np
import pytest

import mulgil
from mulgil import nn
from mulgil.errors import OptionError, ShapeError


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 10, 5)
        self.norm, self.drop, self.relu, self.pool = nn.BatchNorm2d(20), nn.Dropout(), nn.ReLU(), nn.MaxPool2d(2)
        self.dense1, self.dense2 = nn.Linear(250, 20), nn.Linear(20, 10)

    def forward(self, x):
        x = self.pool(self.relu(self.norm(self.conv1(x))))
        x = self.pool(self.relu(self.conv2(x)))
        return self.dense2(self.relu(self.drop(self.dense1(x.flatten(1)))))


def test_numbers():
    result = mulgil.summary(Cnn(), (1, 32, 32))
    rows = {row.name: row for row in result.rows}
    assert rows["conv1"].output_shape == (-1, 20, 28, 28) and rows["conv1"].parameters == 520
    assert rows["conv1"].multiply_adds == 20 * 28 * 28 * 25
    assert rows["conv2"].multiply_adds == 10 * 10 * 10 * 500
    assert rows["dense1"].multiply_adds == 5000 and rows["norm"].parameters == 40
    assert [row.name for row in result.rows].count("relu") == 3
    assert result.parameters == sum(p.numel() for p in Cnn().parameters()) == sum(row.parameters for row in result.rows)
    assert result.multiply_adds == 392000 + 500000 + 5000 + 200


def test_the_table_of_seed_002():
    net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    text = str(mulgil.summary(net, (784,)))
    for part in ("0 (Linear)", "[-1, 128]", "100,480", "1,290", "Parameters: 101,770 (101,770 trainable, 0 frozen)", "101,632"):
        assert part in text
    assert len({len(line) for line in text.splitlines()[:3]}) == 1


def test_no_side_effects():
    model = Cnn().train()
    model.conv2.eval()
    calls = []
    model.register_forward_hook(lambda *a: calls.append(1))
    before = {name: value.array.copy() for name, value in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    mulgil.manual_seed(3)
    random = mulgil.default_generator.get_state()
    mulgil.summary(model, (1, 32, 32))
    assert mulgil.default_generator.get_state() == random
    assert [m.training for m in model.modules()] == modes and not calls
    assert len(model._forward_hooks) == 1 and not model.conv1._forward_hooks and not model.conv1._forward_pre_hooks
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.array, before[name])
    assert all(p.grad is None for p in model.parameters())


def test_open_layers_stay_open():
    model = nn.MLP((30, 10))
    random = mulgil.default_generator.get_state()
    assert mulgil.summary(model, (784,)).parameters == 784 * 30 + 30 + 310
    assert model.layers[0].in_features is None and model.layers[0].weight.array is None
    assert mulgil.default_generator.get_state() == random
    model(mulgil.zeros(2, 5))
    assert model.layers[0].weight.array.any()  # the initialisers still ran


def test_frozen_shared_and_several_inputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, a, b):
            return self.layer(a), {"b": self.layer(b)}

    model = Two().requires_grad_(False)
    result = mulgil.summary(model, [(3,), (4, 3)])
    assert result.parameters == 8 and result.trainable == 0
    assert [row.parameters for row in result.rows] == [0, 8, 0]
    assert "[[-1, 2], [[-1, 4, 2]]]" in str(result)


def test_wrong_sizes_are_explained():
    with pytest.raises(ShapeError, match="without the batch axis"):
        mulgil.summary(Cnn(), (64, 1, 32, 32))
    with pytest.raises(OptionError, match="shape of one sample"):
        mulgil.summary(Cnn(), (1, -1, 32))


def test_double_models():
    assert mulgil.summary(nn.Linear(3, 2).double(), 3).parameters == 8
