"""Compiled convolutions and pools equal eager ones: every geometry, batch size and pattern, forward and training."""

from __future__ import annotations

import numpy as np
import pytest

import mulgil
from mulgil import Tensor, nn, optim
from mulgil.compile.kernels import conv
from mulgil.compile.kernels.op import KernelOp
from tests.compile.tools import squared, training_step


# name: (input [C, H, W], layers, the calls that its training step is expected to have)
class Residual(nn.Module):
    """Two batch norms and a sum."""

    def __init__(self, channels):
        super().__init__()
        self.first, self.second = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x):
        x = self.first(x).relu()
        return (self.second(self.conv(x)) + x).relu()


NETS = {
    "conv": ((3, 9, 8), lambda: [nn.Conv2d(3, 4, 3)], {"ConvForward", "ConvWeightGradient"}),
    "conv without bias": ((2, 7, 7), lambda: [nn.Conv2d(2, 3, 3, bias=False)], {"ConvForward", "ConvWeightGradient"}),
    "one pixel": ((5, 4, 4), lambda: [nn.Conv2d(5, 7, 1), nn.Conv2d(7, 2, 1)], {"ConvForward", "ConvInputGradient"}),
    "padding": ((2, 6, 7), lambda: [nn.Conv2d(2, 5, 3, padding=1), nn.Conv2d(5, 4, (3, 5), padding=(1, 2))], {"ConvInputGradient"}),
    "more padding than filter": ((1, 4, 4), lambda: [nn.Conv2d(1, 3, 2, padding=3), nn.Conv2d(3, 2, 2, padding=2)], {"ConvInputGradient"}),
    "stride": (
        (2, 17, 19),
        lambda: [nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Conv2d(4, 3, 3, stride=(1, 2)), nn.Conv2d(3, 2, 2, stride=(2, 3), dilation=2)],
        {"ConvInputGradient"},
    ),
    "dilation": (
        (2, 11, 10),
        lambda: [nn.Conv2d(2, 4, 3, dilation=2), nn.Conv2d(4, 3, 2, dilation=(1, 3), padding=1)],
        {"ConvInputGradient"},
    ),
    "groups": ((4, 7, 7), lambda: [nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(6, 6, 3, groups=6, padding=1)], {"ConvInputGradient"}),
    "wide filter": ((1, 14, 14), lambda: [nn.Conv2d(1, 2, 13)], set()),
    "conv relu": ((2, 8, 8), lambda: [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU()], {"ConvInputGradient"}),
    "conv pool": ((2, 9, 9), lambda: [nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2), nn.MaxPool2d(2)], {"MaxPoolBackward"}),
    "conv relu pool": (
        (1, 14, 15),
        lambda: [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2)],
        {"MaxPoolBackward"},
    ),
    "pool of 3x2": ((2, 11, 9), lambda: [nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d((3, 2))], {"ConvWeightGradient"}),
    "overlapping pool": (
        (2, 10, 9),
        lambda: [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(3, stride=2)],
        {"MaxPoolForward", "MaxPoolBackward"},
    ),
    "padded pool": ((2, 9, 9), lambda: [nn.Conv2d(2, 4, 3), nn.MaxPool2d(3, stride=1, padding=1)], {"MaxPoolForward", "MaxPoolBackward"}),
    "pool before relu": ((2, 9, 9), lambda: [nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.ReLU()], {"ConvWeightGradient"}),
    "average": ((2, 9, 9), lambda: [nn.Conv2d(2, 4, 3), nn.AvgPool2d(2), nn.Conv2d(4, 2, 2)], {"AvgPoolForward", "AvgPoolBackward"}),
    "average at the end": ((2, 9, 9), lambda: [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.AvgPool2d(7)], {"AvgPoolForward", "AvgPoolBackward"}),
    "overlapping average": (
        (2, 10, 9),
        lambda: [nn.Conv2d(2, 4, 3), nn.AvgPool2d((3, 2), stride=(2, 1), padding=1), nn.AvgPool2d(2, stride=1)],
        {"AvgPoolForward", "AvgPoolBackward"},
    ),
    "average without padding": (
        (2, 9, 9),
        lambda: [nn.Conv2d(2, 4, 3), nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)],
        {"AvgPoolForward", "AvgPoolBackward"},
    ),
    "average of the input": ((2, 9, 9), lambda: [nn.AvgPool2d(2), nn.Conv2d(2, 4, 3)], {"ConvWeightGradient"}),
    "sigmoid between": ((2, 8, 8), lambda: [nn.Conv2d(2, 4, 3), nn.Sigmoid(), nn.Conv2d(4, 3, 3)], {"ConvInputGradient"}),
    "batch norm": (
        (2, 8, 8),
        lambda: [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 2)],
        {"MaxPoolForward"},
    ),
    "large loops": ((1, 36, 36), lambda: [nn.Conv2d(1, 8, 3), nn.Sigmoid(), nn.Conv2d(8, 2, 3)], {"ConvInputGradient"}),
    "large residual": ((1, 36, 36), lambda: [nn.Conv2d(1, 8, 3), Residual(8), nn.AvgPool2d(34)], {"ConvInputGradient"}),
    "large batch norm": (  # what is large is made again for each reader, and threads share it
        (1, 36, 36),
        lambda: [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.BatchNorm2d(8), nn.MaxPool2d(2)],
        {"MaxPoolForward", "MaxPoolBackward"},
    ),
}


def build(layers, dtype):
    mulgil.manual_seed(1)
    model = nn.Sequential(*layers(), nn.Flatten())
    if dtype == "float64":
        model.double()
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return model, optimizer, training_step(model, optimizer, squared)


def data(shape, model, batch, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = Tensor(rng.normal(size=(batch, *shape)).astype(dtype))
    with mulgil.no_grad():
        out = model(x).shape
    return x, Tensor(rng.normal(size=out).astype(dtype))


def same(a, b, dtype):
    scale = max(1e-3, float(np.abs(b).max()))
    np.testing.assert_allclose(a, b, rtol=0, atol=scale * (2e-5 if dtype == "float32" else 1e-12))


def calls(compiled):
    return {type(s.op).__name__ for p in compiled.programs.values() for s in p.steps if isinstance(getattr(s, "op", None), KernelOp)}


IN_FLOAT32 = ("pool of 3x2", "padding", "conv relu", "large loops", "large batch norm", "large residual")
CASES = [(name, 7, "float64") for name in NETS] + [(name, 33, "float32") for name in IN_FLOAT32]


@pytest.mark.parametrize("name, batch, dtype", CASES)
def test_training_equals_eager(name, batch, dtype):
    shape, layers, expected = NETS[name]
    model, optimizer, step = build(layers, dtype)
    eager, _, eager_step = build(layers, dtype)
    x, t = data(shape, eager, batch, dtype)
    for p, q in zip(model.buffers(), eager.buffers(), strict=True):  # batch norm's statistics saw one batch more
        p.array[...] = q.array
    compiled = mulgil.compile(step, state=[model, optimizer], strict=True)
    for _ in range(4):
        same(compiled(x, t).array, eager_step(x, t).array, dtype)
    for p, q in zip(model.parameters(), eager.parameters(), strict=True):
        same(p.array, q.array, dtype)
    assert expected <= calls(compiled)


def test_signatures_of_one_function():
    """Batches of several sizes, one after the other, share the state."""
    shape, layers, _ = NETS["pool of 3x2"]
    model, optimizer, step = build(layers, "float32")
    eager, _, eager_step = build(layers, "float32")
    compiled = mulgil.compile(step, state=[model, optimizer], strict=True, verify=1)
    for seed, batch in enumerate([100, 1, 100, 7, 1, 7, 100]):
        x, t = data(shape, eager, batch, "float32", seed)
        same(compiled(x, t).array, eager_step(x, t).array, "float32")
    assert len(compiled.programs) == 3
    for p, q in zip(model.parameters(), eager.parameters(), strict=True):
        same(p.array, q.array, "float32")


@pytest.mark.parametrize("name", ["conv relu pool", "padded pool", "stride", "batch norm", "average"])
def test_inference(name):
    shape, layers, _ = NETS[name]
    model, _, _ = build(layers, "float32")
    model.eval()

    def predict(x):
        with mulgil.no_grad():
            return model(x)

    compiled = mulgil.compile(predict, state=[model], strict=True)
    for seed in range(3):
        x, _ = data(shape, model, 20, "float32", seed)
        same(compiled(x).array, predict(x).array, "float32")


def test_gradient_of_the_input_and_frozen_weights():
    model, _, _ = build(lambda: [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2)], "float64")
    model[0].weight.requires_grad_(False)
    model[0].bias.requires_grad_(False)

    def saliency(x):
        return mulgil.grad([model(x).sum()], [x])[0]

    compiled = mulgil.compile(saliency, state=[model], strict=True)
    x = Tensor(np.random.default_rng(0).normal(size=(5, 2, 8, 8)), requires_grad=True)
    for _ in range(2):
        same(compiled(x).array, saliency(x).array, "float64")


@pytest.mark.parametrize("name", ["padding", "stride"])
def test_order_of_work_for_large_images(name, monkeypatch):
    monkeypatch.setattr(conv, "LARGE", 0)
    test_training_equals_eager(name, 5, "float64")


def test_padding_lanes_stay_zero(monkeypatch):
    """Loops and kernels write zeros into the lanes beyond the batch, whatever lay there: sums over the batch read them."""
    monkeypatch.setattr("mulgil.compile.passes.memory._fitting", lambda free, nbytes: None)  # no buffer serves twice
    monkeypatch.setattr("mulgil.compile.passes.memory._block", lambda nbytes: np.full(nbytes, 77, np.uint8))
    shape, layers, _ = NETS["batch norm"]
    model, optimizer, step = build(layers, "float32")
    compiled = mulgil.compile(step, state=[model, optimizer], strict=True)
    x, t = data(shape, model, 21, "float32")
    for _ in range(3):
        compiled(x, t)
    (program,) = compiled.programs.values()
    values = [v for v in program.graph.values() if v.lanes and v.dtype.kind == "f" and program._array(v) is not None]
    assert len(values) > 5
    for v in values:
        padding = program._array(v).reshape(v.vectors, -1, v.lanes)[-1, :, 21 % v.lanes :]
        assert padding.size and not padding.any(), v


def test_nan_is_not_hidden():
    """A NaN pixel reaches the result through ReLU and max-pooling, as in eager mode."""
    model, _, _ = build(lambda: [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2)], "float32")

    def predict(x):
        with mulgil.no_grad():
            return model(x)

    compiled = mulgil.compile(predict, state=[model], strict=True)
    x = np.random.default_rng(0).normal(size=(20, 1, 10, 10)).astype("float32")
    compiled(Tensor(x))
    x[3, 0, 5, 5] = np.nan
    np.testing.assert_array_equal(np.isnan(compiled(Tensor(x)).array), np.isnan(predict(Tensor(x)).array))


@pytest.mark.parametrize("name", ["conv relu pool", "large loops", "large batch norm", "large residual"])
def test_threads_change_no_bit(name, three_cores):
    """Shares only say who computes a sum, never in which order."""
    shape, layers, _ = NETS[name]
    results = []
    for count in (1, 2, 3):
        with mulgil.set_num_threads(count):
            model, optimizer, step = build(layers, "float32")
            compiled = mulgil.compile(step, state=[model, optimizer], strict=True)
            x, t = data(shape, model, 40, "float32")
            for _ in range(5):
                compiled(x, t)
        results.append([p.array.copy() for p in model.parameters()])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("channels, width, kw", [(1, 1, 1), (10, 14, 5), (64, 28, 3), (7, 5, 11), (512, 2, 3)])
def test_tiles_divide_the_channels(channels, width, kw):
    for block, wide in (conv.tile(channels, width), conv.tile(channels, width, reserved=kw)):
        assert channels % block == 0
        assert 1 <= wide <= width
    assert channels % conv.tile(channels, width, rows=2, fixed=2)[0] == 0
