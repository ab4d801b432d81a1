# ruff: noqa: E501  (the tables are easier to read in long rows)
"""The usual mistakes: each error states the rule, what came, and one hint."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import mulgil
from mulgil import nn
from mulgil.backend import device
from mulgil.errors import DeviceError, DTypeError, MulgilError, OptionError, ShapeError
from mulgil.nn import functional as F
from mulgil.nn import loss_functions


def zeros(*shape, dtype=np.float32):
    return mulgil.tensor(np.zeros(shape, dtype))


LINEAR, CONV = nn.Linear(784, 10), nn.Conv2d(3, 4, 3)
LOGITS = zeros(4, 10)

#        (call, error, rule, got, hint)
MISTAKES = {
    "image not flattened": (lambda: LINEAR(zeros(32, 1, 28, 28)), ShapeError, "Linear: x must be [batch, 784]", "x[32, 1, 28, 28] float32, weight[10, 784]", "nn.Flatten()"),
    "one image": (lambda: LINEAR(zeros(28, 28)), ShapeError, "x must be [batch, 784]", "x[28, 28]", "x.reshape(1, -1)"),
    "other image": (lambda: LINEAR(zeros(32, 3, 8, 8)), ShapeError, "x must be [batch, 784]", "x[32, 3, 8, 8]", "nn.Linear(192, 10)"),
    "other features": (lambda: LINEAR(zeros(32, 100)), ShapeError, "x must be [batch, 784]", "x[32, 100]", "nn.Linear(100, 10)"),
    "a number": (lambda: LINEAR(mulgil.tensor(1.0)), ShapeError, "x must be [batch, 784]", "x[]", "nn.Linear"),
    "integers into Linear": (lambda: LINEAR(zeros(2, 784, dtype=np.uint8)), DTypeError, "Linear: x must hold floating numbers", "uint8", "x.float() / 255"),
    "integers into Conv2d": (lambda: CONV(zeros(2, 3, 8, 8, dtype=np.uint8)), DTypeError, "Conv2d: x must hold floating", "uint8", "ToTensor()"),
    "integers into pooling": (lambda: nn.MaxPool2d(2)(zeros(2, 3, 8, 8, dtype=int)), DTypeError, "MaxPool2d: x must hold", "int64", "float()"),
    "integers into batch norm": (lambda: nn.BatchNorm2d(3)(zeros(2, 3, 8, 8, dtype=int)), DTypeError, "BatchNorm2d: x must hold", "int64", "float()"),
    "float64 input": (lambda: LINEAR(np.zeros((2, 784))), DTypeError, "x and weight must have one dtype", "float64", "x.float()"),
    "float32 into double": (lambda: nn.Linear(2, 2).double()(zeros(1, 2)), DTypeError, "one dtype", "float64", "x.double()"),
    "wrong channels": (lambda: CONV(zeros(2, 1, 8, 8)), ShapeError, "Conv2d: x must be [batch, 3, height, width]", "x[2, 1, 8, 8]", "nn.Conv2d(1, 4, ...)"),
    "channels last": (lambda: CONV(zeros(2, 8, 8, 3)), ShapeError, "[batch, 3, height, width]", "x[2, 8, 8, 3]", "x.permute(0, 3, 1, 2)"),
    "colour into gray": (lambda: nn.Conv2d(1, 4, 3)(zeros(2, 3, 8, 8)), ShapeError, "[batch, 1, height, width]", "x[2, 3, 8, 8]", "gray"),
    "no batch axis, Conv2d": (lambda: CONV(zeros(3, 8, 8)), ShapeError, "[batch, 3, height, width]", "x[3, 8, 8]", "x[None]"),
    "no channel axis, Conv2d": (lambda: nn.Conv2d(1, 4, 3)(zeros(100, 28, 28)), ShapeError, "[batch, 1, height, width]", "x[100, 28, 28]", "x[:, None]"),
    "flat images, Conv2d": (lambda: nn.Conv2d(1, 4, 3)(zeros(100, 784)), ShapeError, "[batch, 1, height, width]", "x[100, 784]", "x.view(-1, 1, 28, 28)"),
    "no batch axis, MaxPool2d": (lambda: nn.MaxPool2d(2)(zeros(1, 8, 8)), ShapeError, "MaxPool2d: x must be [batch, channels, height, width]", "x[1, 8, 8]", "x[None]"),
    "no batch axis, BatchNorm2d": (lambda: nn.BatchNorm2d(3)(zeros(3, 8, 8)), ShapeError, "BatchNorm2d: x must be [batch, 3, height, width]", "x[3, 8, 8]", "x[None]"),
    "no batch axis, BatchNorm1d": (lambda: nn.BatchNorm1d(3)(zeros(3)), ShapeError, "BatchNorm1d: x must be [batch, 3]", "x[3]", "x[None]"),
    "images into BatchNorm1d": (lambda: nn.BatchNorm1d(3)(zeros(2, 3, 8, 8)), ShapeError, "BatchNorm1d: x must be", "x[2, 3, 8, 8]", "nn.BatchNorm2d"),
    "wrong channels, BatchNorm2d": (lambda: nn.BatchNorm2d(3)(zeros(2, 4, 8, 8)), ShapeError, "[batch, 3, height, width]", "x[2, 4, 8, 8]", "4 channels"),
    "one value per channel": (lambda: nn.BatchNorm1d(3)(zeros(1, 3)), ShapeError, "more than one value per channel", "x[1, 3]", "drop_last=True"),
    "kernel larger than image": (lambda: CONV(zeros(2, 3, 2, 2)), ShapeError, "must fit", "image 2x2", "smaller kernel"),
    "labels as floats": (lambda: F.cross_entropy(LOGITS, zeros(4)), DTypeError, "class labels must be integers", "target[4] float32", "target.long()"),
    "labels as bools": (lambda: F.cross_entropy(LOGITS, zeros(4, dtype=bool)), DTypeError, "class labels must be integers", "bool", "target.long()"),
    "labels [N, 1]": (lambda: F.cross_entropy(LOGITS, zeros(4, 1, dtype=int)), ShapeError, "target must be classes [4]", "target[4, 1] int64", "target.squeeze(1)"),
    "label too large": (lambda: F.cross_entropy(LOGITS, np.array([0, 9, 12, 11])), ShapeError, "labels must be 0 to 9", "target[2] = 12", "13 outputs"),
    "label negative": (lambda: F.cross_entropy(LOGITS, np.array([0, -1, 3, 3])), ShapeError, "labels must be 0 to 9", "target[1] = -1", "correct the labels"),
    "label negative, int32": (lambda: F.cross_entropy(LOGITS, np.array([0, -1, 3, 3], np.int32)), ShapeError, "labels must be 0 to 9", "target[1] = -1", "labels"),
    "labels from 1": (lambda: F.cross_entropy(LOGITS, np.array([1, 2, 3, 10])), ShapeError, "labels must be 0 to 9", "target[3] = 10", "target - 1"),
    "other batch": (lambda: F.cross_entropy(LOGITS, zeros(5, dtype=int)), ShapeError, "target must be classes [4]", "target[5]", "same batch"),
    "one-hot integers": (lambda: F.cross_entropy(LOGITS, zeros(4, 10, dtype=int)), DTypeError, "probabilities, which are floats", "int64", "target.argmax(1)"),
    "too few columns": (lambda: F.cross_entropy(LOGITS, zeros(4, 9)), ShapeError, "probabilities of the prediction's shape", "target[4, 9]", "one_hot"),
    "swapped arguments": (lambda: F.cross_entropy(zeros(4, dtype=int), LOGITS), DTypeError, "prediction must hold floating", "input[4] int64", "loss(prediction, target)"),
    "argmax as prediction": (lambda: F.cross_entropy(zeros(4, dtype=int), zeros(4, dtype=int)), DTypeError, "prediction must hold floating", "int64", "argmax"),
    "prediction without batch": (lambda: F.cross_entropy(zeros(10), np.array(1)), ShapeError, "prediction must be [batch, classes]", "input[10]", "x[None]"),
    "class weights": (lambda: F.cross_entropy(LOGITS, zeros(4, dtype=int), weight=np.ones(3)), ShapeError, "each of the 10 classes", "weight[3]", None),
    "mse broadcast": (lambda: F.mse_loss(zeros(4, 1), zeros(4)), ShapeError, "must have one shape", "input[4, 1] float32, target[4]", "prediction.squeeze(1)"),
    "mse on classes": (lambda: F.mse_loss(LOGITS, zeros(4, dtype=int)), ShapeError, "must have one shape", "target[4] int64", "one_hot"),
    "bce shapes": (lambda: F.binary_cross_entropy_with_logits(zeros(4, 1), zeros(4)), ShapeError, "must have one shape", "input[4, 1]", "squeeze(1)"),
    "reduction": (lambda: F.mse_loss(LOGITS, LOGITS, reduction="avg"), OptionError, "reduction must be", "'avg'", None),
    "smoothing": (lambda: F.cross_entropy(LOGITS, zeros(4, dtype=int), label_smoothing=1.5), OptionError, "label_smoothing", "1.5", None),
    "padding_mode": (lambda: nn.Conv2d(1, 1, 3, padding_mode="reflect"), OptionError, "padding_mode", "'reflect'", None),
    "same with stride": (lambda: nn.Conv2d(1, 1, 3, stride=2, padding="same"), OptionError, "stride 1", "stride=(2, 2)", "number"),
    "padding name": (lambda: nn.Conv2d(1, 1, 3, padding="full"), OptionError, '"same" or "valid"', "'full'", None),
    "groups": (lambda: nn.Conv2d(3, 4, 3, groups=2), OptionError, "groups must divide", "groups=2", None),
    "sizes": (lambda: nn.Linear(784.0, 10), OptionError, "in_features must be a whole number", "784.0", None),
    "no outputs": (lambda: nn.Linear(784, 0), OptionError, "out_features must be", "0", None),
    "dropout": (lambda: nn.Dropout(1.5), OptionError, "between 0 and 1", "1.5", None),
    "pool padding": (lambda: nn.MaxPool2d(2, padding=2)(zeros(1, 1, 8, 8)), OptionError, "half the window", "padding=(2, 2)", None),
    "ceil_mode": (lambda: nn.MaxPool2d(2, ceil_mode=True)(zeros(1, 1, 8, 8)), OptionError, "ceil_mode", "True", "pad"),
    "pad mode": (lambda: F.pad(LOGITS, (1, 1), mode="reflect"), OptionError, "constant", "'reflect'", None),
    "mlp sizes": (lambda: nn.MLP(10), OptionError, "sequence of layer sizes", "10", "MLP((1000, 10))"),
    "mlp activation": (lambda: nn.MLP((10,), activation="rleu"), OptionError, "activation", "'rleu'", "relu"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_explained(name):
    call, kind, rule, got, hint = MISTAKES[name]
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert isinstance(error, MulgilError)
    assert rule in error.rule
    assert got in error.got
    assert hint is None or hint in error.hint


def test_correct_inputs_pass():
    assert LINEAR(np.zeros((2, 784), np.float32)).shape == (2, 10)
    assert F.cross_entropy(LOGITS, np.array([0, 9, -100, 3])).ndim == 0
    assert F.cross_entropy(LOGITS, np.array([0, 9, 1, 3], np.uint8)).ndim == 0
    assert F.cross_entropy(LOGITS, np.array([0, 9, 255, 3], np.uint8), ignore_index=255).ndim == 0
    assert F.cross_entropy(LOGITS, [0, 9, 1, 3]).ndim == 0
    assert F.nll_loss(F.log_softmax(LOGITS, 1), np.array([0, 9, 1, 3])).ndim == 0


def test_arrays_on_two_devices(monkeypatch):
    """No GPU is needed: an array that claims to be elsewhere will do."""

    class Elsewhere(np.ndarray):
        pass

    from mulgil.nn import checks

    monkeypatch.setattr(checks, "device_of", lambda a: device("cuda:0") if isinstance(a, Elsewhere) else device("cpu"))
    x = np.zeros((2, 784), np.float32).view(Elsewhere)
    with pytest.raises(DeviceError) as caught:
        LINEAR(x)
    assert "one device" in caught.value.rule and "x on cuda:0, weight on cpu" in caught.value.got and "model.to" in caught.value.hint
    with pytest.raises(DeviceError, match="one device"):
        F.cross_entropy(LOGITS, np.zeros(4, int).view(Elsewhere))


@pytest.fixture
def fresh_looks(monkeypatch):
    monkeypatch.setattr(loss_functions, "_first_calls", loss_functions.Looks())


def test_probabilities_into_cross_entropy_warn_once(fresh_looks):
    probabilities, labels = F.softmax(mulgil.tensor(np.random.default_rng(0).standard_normal((4, 10))), 1), np.zeros(4, int)
    for loss in (nn.CrossEntropyLoss(), F.cross_entropy):
        with pytest.warns(UserWarning, match="wants logits, but the input looks like probabilities"):
            loss(probabilities, labels)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loss(probabilities, labels)


def test_logits_into_nll_warn(fresh_looks):
    with pytest.warns(UserWarning, match="wants log-probabilities"):
        nn.NLLLoss()(mulgil.ones(4, 10), np.zeros(4, int))


def test_only_the_first_calls_look_at_the_values(fresh_looks):
    loss, labels = nn.CrossEntropyLoss(), np.zeros(4, int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            loss(LOGITS - 1, labels)
        loss(mulgil.full((4, 10), 0.1), labels)  # the fourth call: not looked at


# ---------------------------------------------------------------------- open input sizes
def test_open_layers_take_their_size_from_the_first_batch():
    model = nn.Sequential(nn.Conv2d(None, 4, 3, groups=2), nn.Flatten(), nn.Linear(None, 5))
    held = list(model.parameters())
    assert "Conv2d(?, 4" in repr(model) and "Linear(in_features=?, out_features=5" in repr(model)
    assert repr(model[2].weight) == "Parameter open: [5, ?], known after the first batch"
    y = model(zeros(2, 6, 5, 5))
    assert y.shape == (2, 5) and [p.shape for p in held] == [(4, 3, 3, 3), (4,), (5, 36), (5,)]
    assert all(a is b for a, b in zip(held, model.parameters(), strict=True))
    assert "Conv2d(6, 4" in repr(model) and "in_features=36" in repr(model)
    y.sum().backward()
    assert all(p.grad is not None for p in held)
    assert abs(model[2].weight.array).max() <= 1 / 6


def test_lazy_names():
    assert nn.LazyLinear(3).in_features is None and nn.LazyConv2d(3, 5, padding=2).padding == (2, 2)


def test_an_open_layer_follows_dtype_of_the_batch():
    layer = nn.Linear(None, 2)
    assert layer(np.zeros((1, 3))).dtype == np.float64
    assert layer.weight.dtype == np.float64


def test_open_layers_are_refused_where_sizes_are_needed():
    layer = nn.Linear(None, 3)
    with pytest.raises(ShapeError, match=r"(?s)'weight' has no shape yet.*send one batch"):
        layer.state_dict()
    with pytest.raises(ShapeError, match=r"(?s)must be \[batch, features\].*nn.Flatten"):
        layer(zeros(2, 1, 28, 28))
    with pytest.raises(DTypeError):
        layer(zeros(2, 28, dtype=np.uint8))
    assert layer.weight.array is None


def test_an_open_layer_loads_a_state():
    source, target = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Linear(7, 3)), nn.Sequential(nn.Conv2d(None, 6, 3, groups=2), nn.Linear(None, 3))
    target.load_state_dict(source.state_dict())
    assert target[0].in_channels == 4 and target[1].in_features == 7
    for a, b in zip(source.parameters(), target.parameters(), strict=True):
        np.testing.assert_array_equal(a.array, b.array)
    with pytest.raises(MulgilError, match=r"weight is \[4, 7\], the model's is \[3, \?\]"):
        nn.Linear(None, 3).load_state_dict(nn.Linear(7, 4).state_dict())
    with pytest.raises(MulgilError, match="needs its weight"):
        nn.Linear(None, 3).load_state_dict({"bias": np.zeros(3)}, strict=False)


def test_initialisers_wait_for_open_parameters():
    layer = nn.Linear(None, 400)
    nn.init.lecun_normal_(layer.weight)
    nn.init.constant_(layer.bias, 3.0)
    layer(zeros(1, 900))
    assert layer.weight.array.std() == pytest.approx(1 / 30, rel=0.02)
    assert set(layer.bias.tolist()) == {3.0}


def test_mlp_is_dezeros():
    mulgil.manual_seed(0)
    model = nn.MLP((1000, 10))
    x = np.random.default_rng(0).random((100, 784), dtype=np.float32)
    y = model(x)
    first, last = model.layers
    assert first.weight.shape == (1000, 784) and y.shape == (100, 10)
    assert first.weight.array.std() == pytest.approx(1 / 28, rel=0.01) and last.weight.array.std() == pytest.approx(1000**-0.5, rel=0.05)
    assert not first.bias.array.any() and not last.bias.array.any()
    want = 1 / (1 + np.exp(-x @ first.weight.array.T)) @ last.weight.array.T
    np.testing.assert_allclose(y.detach().numpy(), want, rtol=1e-3, atol=1e-4)
    assert nn.MLP((5, 2), activation=F.relu).activation is F.relu
