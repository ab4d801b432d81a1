# ruff: noqa: E501  (the tables are easier to read in long rows)
"""Layers against PyTorch's: the same weights through state_dict, then outputs and all gradients."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

import mulgil
from mulgil import nn
from mulgil.nn import functional as F

torch = pytest.importorskip("torch")

LAYERS = [
    ("nn.Linear(6, 4)", (5, 6)),
    ("nn.Linear(6, 4, bias=False)", (2, 3, 6)),
    ("nn.Linear(6, 4)", (6,)),
    ("nn.Conv2d(3, 4, 3)", (2, 3, 7, 6)),
    ("nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 2), bias=False)", (2, 3, 7, 6)),
    ("nn.Conv2d(4, 6, 3, dilation=2, groups=2, padding='same')", (2, 4, 7, 6)),
    ("nn.Conv2d(1, 2, 4, padding='same')", (2, 1, 7, 6)),
    ("nn.Conv2d(1, 2, (2, 3), dilation=(3, 1), padding='same')", (2, 1, 7, 6)),
    ("nn.Conv2d(1, 2, 3, padding='valid')", (2, 1, 7, 6)),
    ("nn.MaxPool2d(2)", (2, 3, 7, 6)),
    ("nn.MaxPool2d((3, 2), stride=(2, 1), padding=1)", (2, 3, 7, 6)),
    ("nn.AvgPool2d(2)", (2, 3, 7, 6)),
    ("nn.AvgPool2d(3, stride=2, padding=1)", (2, 3, 7, 6)),
    ("nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)", (2, 3, 7, 6)),
    ("nn.BatchNorm1d(4)", (8, 4)),
    ("nn.BatchNorm1d(4, momentum=0.3, eps=1e-3)", (8, 4, 5)),
    ("nn.BatchNorm2d(3)", (4, 3, 5, 2)),
    ("nn.BatchNorm2d(3, affine=False)", (4, 3, 5, 2)),
    ("nn.BatchNorm2d(3, track_running_stats=False)", (4, 3, 5, 2)),
    ("nn.BatchNorm2d(3, affine=False, track_running_stats=False)", (4, 3, 5, 2)),
    ("nn.Flatten()", (2, 3, 4)),
    ("nn.Flatten(0, 1)", (2, 3, 4)),
    ("nn.ReLU()", (3, 4)),
    ("nn.LeakyReLU(0.1)", (3, 4)),
    ("nn.Sigmoid()", (3, 4)),
    ("nn.Tanh()", (3, 4)),
    ("nn.Softmax(dim=1)", (3, 4)),
    ("nn.Softmax(dim=0)", (3, 4)),
    ("nn.LogSoftmax(dim=-1)", (3, 4)),
    ("nn.Identity()", (3, 4)),
    ("nn.Dropout(0.0)", (3, 4)),
    ("nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 2))", (4, 1, 6, 7)),
]


def pair_of(text):
    """The same layer here and in PyTorch, in float64, with the same weights."""
    ours, theirs = eval(text), eval(text, {"nn": torch.nn}).double()
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.double()
    ours.load_state_dict(theirs.state_dict())  # torch tensors are taken too
    return ours, theirs


def compare(ours, theirs, x, tolerance=1e-10):
    a = mulgil.tensor(x.copy(), requires_grad=True)
    b = torch.tensor(x, requires_grad=True)
    ya, yb = ours(a), theirs(b)
    np.testing.assert_allclose(ya.numpy() if not ya.requires_grad else ya.detach().numpy(), yb.detach().numpy(), rtol=tolerance, atol=tolerance)
    weights = np.random.default_rng(1).standard_normal(tuple(yb.shape))
    (ya * mulgil.tensor(weights)).sum().backward()
    (yb * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=tolerance, atol=tolerance)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(("text", "shape"), LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_layer_is_pytorchs(text, shape, training):
    ours, theirs = pair_of(text)
    ours.train(training), theirs.train(training)
    rng = np.random.default_rng(0)
    for _ in range(2):  # twice: running statistics move
        ours.zero_grad(), theirs.zero_grad()
        compare(ours, theirs, rng.standard_normal(shape) * 2 + 0.5)
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, err_msg=name)


def test_float32_stays_float32():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(18, 3), nn.Softmax(1))
    y = net(np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32))
    assert y.dtype == np.float32
    (y * y).sum().backward()
    assert {p.grad.dtype for p in net.parameters()} == {np.dtype(np.float32)}
    assert {b.dtype for b in net.buffers()} == {np.dtype(np.float32), np.dtype(np.int64)}


def test_dropout_in_both_modes():
    mulgil.manual_seed(0)
    layer, x = nn.Dropout(0.25), mulgil.ones(200, 200)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.01
    mulgil.manual_seed(0)
    np.testing.assert_array_equal(layer(x).numpy(), y)
    assert layer.eval()(x) is x
    assert F.dropout(x, 1.0).sum().item() == 0


def test_pad_one_hot_accuracy():
    x = mulgil.arange(6, dtype=mulgil.float32).reshape(2, 3)
    np.testing.assert_array_equal(F.pad(x, (1, 2, 3, 0), value=5.0).numpy(), torch.nn.functional.pad(torch.tensor(x.numpy()), (1, 2, 3, 0), value=5.0).numpy())
    labels = np.array([[0, 2], [1, 1]])
    np.testing.assert_array_equal(F.one_hot(labels).numpy(), torch.nn.functional.one_hot(torch.tensor(labels)).numpy())
    assert F.one_hot(labels, 5).shape == (2, 2, 5)
    assert float(F.accuracy(np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0])).data) == 0.75


def test_implicit_softmax_axis():
    for shape in ((3,), (2, 3), (2, 3, 4), (2, 3, 4, 5)):
        x = np.random.default_rng(0).standard_normal(shape)
        with pytest.warns(UserWarning):
            want = torch.nn.functional.softmax(torch.tensor(x))
        np.testing.assert_allclose(F.softmax(x).numpy(), want.numpy())


# ---------------------------------------------------------------------- losses
rng = np.random.default_rng(3)
LOGITS, CLASSES = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
SPOILT = np.where(np.arange(6) == 2, -100, CLASSES)
PROBABILITIES = np.abs(rng.random((6, 4)))
PROBABILITIES /= PROBABILITIES.sum(1, keepdims=True)
WEIGHT = np.array([0.1, 1.0, 2.0, 0.5])
LOSSES = [
    ("cross_entropy", LOGITS, CLASSES, {}),
    ("cross_entropy", LOGITS, SPOILT, {}),
    ("cross_entropy", LOGITS, CLASSES, {"ignore_index": 1}),
    ("cross_entropy", LOGITS, SPOILT, {"weight": WEIGHT, "label_smoothing": 0.1}),
    ("cross_entropy", LOGITS, PROBABILITIES, {"label_smoothing": 0.2}),
    ("cross_entropy", LOGITS, PROBABILITIES, {"weight": WEIGHT}),
    ("cross_entropy", rng.standard_normal((2, 4, 3)), rng.integers(0, 4, (2, 3)), {}),
    ("nll_loss", np.log(PROBABILITIES), CLASSES, {"weight": WEIGHT}),
    ("nll_loss", np.log(PROBABILITIES), SPOILT, {}),
    ("mse_loss", LOGITS, PROBABILITIES, {}),
    ("l1_loss", LOGITS, PROBABILITIES, {}),
    ("binary_cross_entropy_with_logits", LOGITS, PROBABILITIES, {}),
    ("binary_cross_entropy_with_logits", LOGITS, PROBABILITIES, {"pos_weight": WEIGHT}),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "x", "target", "options"), LOSSES)
def test_loss_is_pytorchs(name, x, target, options, reduction):
    theirs = {key: torch.tensor(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
    compare(
        OneInput(lambda a: getattr(F, name)(a, mulgil.tensor(target), reduction=reduction, **options)),
        OneInputTorch(lambda b: getattr(torch.nn.functional, name)(b, torch.tensor(target), reduction=reduction, **theirs)),
        x,
    )


class OneInput(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


class OneInputTorch(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


@pytest.mark.parametrize(
    ("layer", "target"),
    [
        ("nn.CrossEntropyLoss(label_smoothing=0.1, reduction='sum', ignore_index=2)", CLASSES),
        ("nn.NLLLoss(ignore_index=0)", CLASSES),
        ("nn.MSELoss()", PROBABILITIES),
        ("nn.L1Loss(reduction='sum')", PROBABILITIES),
        ("nn.BCEWithLogitsLoss()", PROBABILITIES),
    ],
)
def test_loss_layer_is_pytorchs(layer, target):
    x = np.log(PROBABILITIES)
    want = eval(layer, {"nn": torch.nn})(torch.tensor(x), torch.tensor(target))
    assert eval(layer)(mulgil.tensor(x), mulgil.tensor(target)).item() == pytest.approx(want.item(), rel=1e-12)


def test_class_weights_belong_to_the_state():
    loss = nn.CrossEntropyLoss(weight=WEIGHT)
    assert list(loss.state_dict()) == ["weight"]
    want = torch.nn.CrossEntropyLoss(weight=torch.tensor(WEIGHT))(torch.tensor(LOGITS), torch.tensor(CLASSES))
    assert loss(LOGITS, CLASSES).item() == pytest.approx(want.item(), rel=1e-12)


def test_targets_of_another_float_dtype_do_not_widen_the_step():
    x = mulgil.tensor(LOGITS.astype(np.float32), requires_grad=True)
    for loss in (F.mse_loss, F.l1_loss, F.binary_cross_entropy_with_logits, F.cross_entropy):
        assert loss(x, PROBABILITIES).dtype == np.float32
    assert F.cross_entropy(x, CLASSES.astype(np.uint8), weight=WEIGHT).dtype == np.float32


def test_an_ordered_sequential_trades_state_with_pytorch():
    ours = nn.Sequential(OrderedDict(a=nn.Linear(3, 2), b=nn.BatchNorm1d(2)))
    theirs = torch.nn.Sequential(OrderedDict(a=torch.nn.Linear(3, 2), b=torch.nn.BatchNorm1d(2)))
    theirs.load_state_dict({name: torch.from_numpy(value.numpy()) for name, value in ours.state_dict().items()})
    x = np.random.default_rng(0).random((5, 3), dtype=np.float32)
    np.testing.assert_allclose(ours(x).detach().numpy(), theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-5)
