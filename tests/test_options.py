"""Options that make no sense are refused where they are given, whoever takes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mulgil
from mulgil import nn, optim
from mulgil.autograd import Tensor
from mulgil.errors import MulgilError, OptionError
from mulgil.nn import functional as F
from mulgil.options import check_choice, check_count, check_number
from mulgil.train import EMA, Classifier, EarlyStopping, GradientClipping, TimeLimit

NAN, INF = math.nan, math.inf
NO_NUMBERS = ("0.1", "x", None, NAN, INF, -INF, True, [0.1], np.ones(2))
NOT_NEGATIVE = (*NO_NUMBERS, -0.1, np.float32(-1))
NO_COUNTS = ("3", None, NAN, 2.5, True, 0, -1)


def weight() -> list[Any]:
    return [nn.Parameter(np.ones(2, np.float32))]


def schedule(kind: Any, *positional: Any, **options: Any) -> Any:
    return kind(optim.SGD(weight(), lr=0.1, momentum=0.9), *positional, **options)


LOGITS, LABELS = Tensor(np.zeros((4, 3), np.float32)), Tensor(np.zeros(4, np.int64))

OPTIONS: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    **{f"SGD {n}": (lambda v, n=n: optim.SGD(weight(), **{n: v}), NOT_NEGATIVE) for n in ("lr", "momentum", "weight_decay")},
    "SGD dampening": (lambda v: optim.SGD(weight(), momentum=0.9, dampening=v), NO_NUMBERS),
    "SGD nesterov": (lambda v: optim.SGD(weight(), momentum=0.9, nesterov=v), ("yes", 1.5, None)),
    "a group's lr": (lambda v: optim.SGD([{"params": weight(), "lr": v}]), NOT_NEGATIVE),
    **{
        f"{kind.__name__} {n}": (lambda v, n=n, kind=kind: kind(weight(), **{n: v}), NOT_NEGATIVE)
        for n in ("lr", "eps", "weight_decay")
        for kind in (optim.Adam, optim.AdamW)
    },
    "Adam betas": (lambda v: optim.Adam(weight(), betas=v), (0.9, "0.9", (0.9,), (0.9, 0.9, 0.9), ("0.9", 0.9), (0.9, NAN), (1.0, 0.9))),
    "StepLR step_size": (lambda v: schedule(optim.StepLR, v), NO_COUNTS),
    "StepLR gamma": (lambda v: schedule(optim.StepLR, 3, v), NOT_NEGATIVE),
    "MultiStepLR milestones": (lambda v: schedule(optim.MultiStepLR, v), (["3"], [2.5], [-1], [NAN])),
    "MultiStepLR gamma": (lambda v: schedule(optim.MultiStepLR, [1], v), NOT_NEGATIVE),
    "ExponentialLR gamma": (lambda v: schedule(optim.ExponentialLR, v), NOT_NEGATIVE),
    "LambdaLR lr_lambda": (lambda v: schedule(optim.LambdaLR, v), (["x"], [0.1], [lambda t: NAN], lambda t: -1.0, lambda t: "0.1")),
    "CosineAnnealingLR T_max": (lambda v: schedule(optim.CosineAnnealingLR, v), NO_COUNTS),
    "CosineAnnealingLR eta_min": (lambda v: schedule(optim.CosineAnnealingLR, 5, v), NOT_NEGATIVE),
    "OneCycleLR max_lr": (lambda v: schedule(optim.OneCycleLR, v, 5), ("0.1", None, NAN, INF, -0.1, True, ["0.1"])),
    "OneCycleLR total_steps": (lambda v: schedule(optim.OneCycleLR, 0.1, v), tuple(v for v in NO_COUNTS if v is not None)),
    **{f"OneCycleLR {n}": (lambda v, n=n: schedule(optim.OneCycleLR, 0.1, 5, **{n: v}), (*NOT_NEGATIVE, 0)) for n in ("div_factor",)},
    "OneCycleLR pct_start": (lambda v: schedule(optim.OneCycleLR, 0.1, 5, pct_start=v), (*NOT_NEGATIVE, 1.5)),
    "OneCycleLR max_momentum": (lambda v: schedule(optim.OneCycleLR, 0.1, 5, max_momentum=v), (*NOT_NEGATIVE, 1)),
    "last_epoch": (lambda v: schedule(optim.StepLR, 3, last_epoch=v), ("0", 1.5, NAN, -2)),
    **{
        f"{kind.__name__} reduction": (lambda v, kind=kind: kind(reduction=v), ("avg", None, 1, True))
        for kind in (nn.CrossEntropyLoss, nn.NLLLoss, nn.MSELoss, nn.L1Loss, nn.BCEWithLogitsLoss)
    },
    **{
        f"{kind.__name__} weight": (lambda v, kind=kind: kind(v), ([1, NAN], [-1.0, 1], [INF], [["a"]], ["a"], 0.5, np.ones((2, 2))))
        for kind in (nn.CrossEntropyLoss, nn.NLLLoss)
    },
    "a loss given its arguments when it is made": (lambda v: nn.CrossEntropyLoss(v, LABELS), (LOGITS,)),
    "ignore_index": (lambda v: nn.CrossEntropyLoss(ignore_index=v), ("0", 1.5, NAN, None, True)),
    "label_smoothing": (lambda v: nn.CrossEntropyLoss(label_smoothing=v), (*NOT_NEGATIVE, 1.1)),
    "label_smoothing of the function": (lambda v: F.cross_entropy(LOGITS, LABELS, label_smoothing=v), ("0.1", NAN, -1, 2)),
    "reduction of the function": (lambda v: F.l1_loss(LOGITS, LOGITS, reduction=v), ("avg", None)),
    "pos_weight": (lambda v: nn.BCEWithLogitsLoss(pos_weight=v), (NAN, [-1.0], "x")),
    "Dropout p": (lambda v: nn.Dropout(v), (*NOT_NEGATIVE, 1.5)),
    "BatchNorm momentum": (lambda v: nn.BatchNorm1d(2, momentum=v), ("0.1", NAN, -0.1, 1.5)),
    "BatchNorm eps": (lambda v: nn.BatchNorm1d(2, eps=v), NOT_NEGATIVE),
    "clip_grad_norm_": (lambda v: nn.utils.clip_grad_norm_(weight(), v), ("1", NAN, -1.0, None)),
    "clip_grad_value_": (lambda v: nn.utils.clip_grad_value_(weight(), v), ("1", NAN, -1.0, None)),
    "GradientClipping": (lambda v: GradientClipping(v), (*NOT_NEGATIVE[:2], NAN, 0, -1)),
    "EMA decay": (lambda v: EMA(v), (*NOT_NEGATIVE, 1)),
    "EarlyStopping patience": (lambda v: EarlyStopping(patience=v), NO_COUNTS),
    "EarlyStopping min_delta": (lambda v: EarlyStopping(min_delta=v), ("0", NAN, None)),
    "TimeLimit": (lambda v: TimeLimit(v), (*NOT_NEGATIVE, 0)),
    **{
        f"Classifier {n}": (lambda v, n=n: Classifier(nn.Linear(2, 2), **{n: v}).fit(np.ones((4, 2)), [0, 1, 0, 1]), ("1", NAN, -1))
        for n in ("lr", "batch_size", "epochs")
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_refused(name: str) -> None:
    make, wrong = OPTIONS[name]
    for value in wrong:
        with pytest.raises(MulgilError) as caught:
            make(value)
        assert caught.value.got, repr(value)


GOOD = [
    lambda: optim.SGD(weight(), lr=np.float32(0.1), momentum=0, nesterov=False),
    lambda: optim.Adam(weight(), lr=np.array(0.1), betas=[0, 0.5]),
    lambda: optim.SGD(weight(), lr=0),
    lambda: schedule(optim.MultiStepLR, (3, np.int64(5)), 1.5),
    lambda: schedule(optim.OneCycleLR, [0.1], epochs=2, steps_per_epoch=3),
    lambda: nn.CrossEntropyLoss(np.array([0, 1.0, 2]), ignore_index=np.int64(0), reduction="sum", label_smoothing=1),
    lambda: nn.BCEWithLogitsLoss(pos_weight=np.ones((2, 2))),
    lambda: nn.utils.clip_grad_norm_(weight(), INF),
]


@pytest.mark.parametrize("make", GOOD)
def test_taken(make: Callable[[], Any]) -> None:
    make()


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW])
@pytest.mark.parametrize("lr", ["0.1", NAN, INF, -0.1, None])
def test_a_learning_rate_that_is_set_later_is_looked_at_by_the_step(kind: Any, lr: Any) -> None:
    parameters = weight()
    optimizer = kind(parameters, lr=0.1)
    replayed = mulgil.compile(optimizer.step, state=[optimizer, parameters], strict=True)
    for _ in range(2):
        parameters[0].grad = Tensor(np.ones(2, np.float32))
        replayed()
    optimizer.param_groups[0]["lr"] = lr
    before = parameters[0].array.copy()
    for step in (optimizer.step, replayed):
        with pytest.raises(OptionError, match="lr must not be negative"):
            step()
    np.testing.assert_array_equal(parameters[0].array, before)
    state = optimizer.state_dict()
    optimizer.param_groups[0]["lr"] = 0.1
    with pytest.raises(OptionError, match="lr must not be negative"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_what_an_error_says() -> None:
    with pytest.raises(OptionError) as caught:
        optim.SGD(weight(), lr="0.1")  # type: ignore[arg-type]
    assert str(caught.value) == "SGD: lr must not be negative: a finite number\n  got:   '0.1'\n  hint:  without quotes: 0.1"
    with pytest.raises(OptionError, match=r"x must be a finite number, at least 1 and below 2"):
        check_number("x", 3, (1, INF), below=2)
    with pytest.raises(OptionError, match='x must be "a", "b" or None'):
        check_choice("x", "c", ("a", "b", None))
    with pytest.raises(OptionError, match="x must be a whole number of at least 0"):
        check_count("x", -1, least=0)
    check_count("x", None, optional=True)
