"""An epoch's figures are those of all its data at once, whatever the loss divides by and however the batches fall."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mulgil import nn, optim
from mulgil.autograd import Tensor, no_grad
from mulgil.data import DataLoader, TensorDataset
from mulgil.errors import ShapeError
from mulgil.nn import functional as F
from mulgil.train import BestWeights, Trainer, evaluate, make_step, train_epoch

N, CLASSES = 50, 4
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(N, 5)).astype(np.float32)
LABELS = RANDOM.integers(0, CLASSES, N)
SOME = np.where(RANDOM.random(N) < 0.4, -100, LABELS)
SOME[:7] = -100  # a whole batch without a label
ONE = np.where(RANDOM.random(N) < 0.3, 2, LABELS)
SOFT = RANDOM.dirichlet(np.ones(CLASSES), N).astype(np.float32)
NUMBERS = RANDOM.normal(size=(N, CLASSES)).astype(np.float32)
YES = (RANDOM.random((N, CLASSES)) < 0.3).astype(np.float32)
WEIGHT = np.array([0.1, 2, 0, 5], np.float32)


def masked(outputs: Tensor, targets: Tensor) -> Tensor:
    """A mean by hand over what is above 0."""
    mask = targets > 0
    return ((outputs - targets) ** 2 * mask).sum() / mask.sum()


def focal(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((1 - F.softmax(outputs, 1)) * -F.log_softmax(outputs, 1)).gather(1, targets.reshape(-1, 1)).mean()


def right(outputs: np.ndarray, targets: np.ndarray, ignored: int | None = None) -> float:
    valid = np.ones(len(targets), bool) if ignored is None else targets != ignored
    return float((outputs.argmax(1) == targets)[valid].mean())


CASES: dict[str, tuple[Any, np.ndarray, Callable[[np.ndarray, np.ndarray], float] | None]] = {
    "plain": (nn.CrossEntropyLoss(), LABELS, right),
    "class weights": (nn.CrossEntropyLoss(WEIGHT), LABELS, right),
    "ignored": (nn.CrossEntropyLoss(), SOME, lambda o, t: right(o, t, -100)),
    "an ignored class": (nn.CrossEntropyLoss(ignore_index=2), ONE, lambda o, t: right(o, t, 2)),
    "both": (nn.CrossEntropyLoss(WEIGHT, ignore_index=-100), SOME, lambda o, t: right(o, t, -100)),
    "smoothed": (nn.CrossEntropyLoss(WEIGHT, ignore_index=2, label_smoothing=0.1), ONE, lambda o, t: right(o, t, 2)),
    "sum": (nn.CrossEntropyLoss(WEIGHT, reduction="sum"), LABELS, right),
    "nll": (lambda o, t: F.nll_loss(F.log_softmax(o, 1), t, WEIGHT), LABELS, right),
    "the function": (F.cross_entropy, SOME, lambda o, t: right(o, t, -100)),
    "partial": (functools.partial(F.cross_entropy, ignore_index=2), ONE, lambda o, t: right(o, t, 2)),
    "lambda": (lambda o, t: F.cross_entropy(o, t.reshape(-1), Tensor(WEIGHT), ignore_index=2), ONE, lambda o, t: right(o, t, 2)),
    "half of the rows": (lambda o, t: F.cross_entropy(o[::2], t[::2], Tensor(WEIGHT)), None, None),  # type: ignore[dict-item]
    "scaled": (lambda o, t: 0.5 * F.cross_entropy(o, t, Tensor(WEIGHT)) / 3, LABELS, right),
    "probabilities": (nn.CrossEntropyLoss(), SOFT, lambda o, t: float((o.argmax(1) == t.argmax(1)).mean())),
    "own": (focal, LABELS, right),
    "mse": (nn.MSELoss(), NUMBERS, None),
    "mse sum": (nn.MSELoss(reduction="sum"), NUMBERS, None),
    "l1": (nn.L1Loss(), NUMBERS, None),
    "mse of a lambda": (lambda o, t: F.mse_loss(o, t), NUMBERS, None),
    "numbers 0 and 1": (nn.MSELoss(), YES, None),
    "by hand": (lambda o, t: ((o - t) ** 2).sum() / len(t), NUMBERS, None),
    "a sum by hand": (lambda o, t: ((o - t) ** 2).sum(), NUMBERS, None),
    "a mask": (masked, NUMBERS, None),
    "yes or no": (nn.BCEWithLogitsLoss(pos_weight=[3.0]), YES, lambda o, t: float(((o > 0) == (t > 0.5)).mean())),
}
del CASES["half of the rows"]  # what it is over all data depends on where the batches begin


@pytest.mark.parametrize(("name", "compile"), [*((name, False) for name in CASES), ("both", True), ("mse", True)])
def test_the_figures_are_those_of_all_data_at_once(name: str, compile: bool) -> None:
    loss, targets, accuracy = CASES[name]
    model, data = nn.Linear(5, CLASSES), TensorDataset(X, targets)
    with no_grad():
        outputs = model(Tensor(X))
        whole = float(loss(outputs, Tensor(targets)))
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.0), loss, compile=compile, on_nan="ignore")
    history = trainer.fit(DataLoader(data, 7), DataLoader(data, 13))  # nothing is learned: the figures of both are the same
    wanted = {} if accuracy is None else {"accuracy": accuracy(np.asarray(outputs), targets)}
    for metrics in (trainer.train_metrics, trainer.validation_metrics, evaluate(model, DataLoader(data, 11), loss)):
        assert metrics is not None and metrics.loss == pytest.approx(whole, rel=1e-5) and metrics.samples == N
        assert metrics.values == pytest.approx(wanted)
    assert history["train_loss"][0] == pytest.approx(whole, rel=1e-5)
    assert (history.dtype.names or ()) == ("epoch", *(f"{p}_{n}" for p in ("train", "validation") for n in ("loss", *wanted)), "lr")
    step = make_step(model, optim.SGD(model.parameters(), lr=0.0), loss, compile)
    seen = train_epoch(model, DataLoader(data, 9), step)
    assert seen.loss == pytest.approx(whole, rel=1e-5) and seen.values == pytest.approx(wanted)


@pytest.mark.parametrize("seed", range(8))
def test_random_batches_weights_and_labels(seed: int) -> None:
    random = np.random.default_rng(seed)
    n, classes = int(random.integers(2, 40)), int(random.integers(2, 6))
    x, labels = random.normal(size=(n, 3)).astype(np.float32), random.integers(0, classes, n)
    labels[random.random(n) < 0.5] = (ignored := int(random.choice([-100, -1, 0])))
    labels[0] = classes - 1
    weight = random.random(classes).astype(np.float32) + 0.1 if seed % 2 else None
    loss = nn.CrossEntropyLoss(weight, ignored, label_smoothing=float(random.choice([0, 0.2])))
    model = nn.Linear(3, classes)
    outputs = model(Tensor(x))
    ends = [0, *sorted(random.choice(np.arange(1, n), min(3, n - 1), replace=False).tolist()), n]
    batches = [(x[a:b], labels[a:b]) for a, b in itertools.pairwise(ends)]
    seen = Trainer(model, optim.SGD(model.parameters(), lr=0.1), loss, compile=False, metrics=["accuracy", "top5"]).evaluate(batches)
    assert seen.loss == pytest.approx(float(loss(outputs, Tensor(labels))), rel=1e-5)
    assert seen.accuracy == pytest.approx(right(np.asarray(outputs), labels, ignored))
    assert seen.values["top5"] == 1 or classes > 5


@pytest.mark.parametrize("last", [False, True])
def test_segments_and_sequences(last: bool) -> None:
    """Classes of each pixel, [N, C, H]; of each word, [N, T, C], through a loss that reshapes; ignored ones do not count."""
    x = RANDOM.normal(size=(10, 6)).astype(np.float32)
    labels = RANDOM.integers(0, 3, (10, 2))
    labels[labels == 2] = -100

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x).reshape(len(x), 3, 2)
            return y.transpose(1, 2) if last else y

    def words(o: Tensor, t: Tensor) -> Tensor:
        return F.cross_entropy(o.reshape(-1, 3), t.reshape(-1))

    model = Net()
    outputs = np.asarray(model(Tensor(x)))
    loss: Any = words if last else nn.CrossEntropyLoss()
    seen = evaluate(model, DataLoader(TensorDataset(x, labels), 3), loss)
    assert seen.loss == pytest.approx(float(loss(model(Tensor(x)), Tensor(labels))), rel=1e-5)
    assert seen.accuracy == pytest.approx((outputs.argmax(2 if last else 1) == labels)[labels >= 0].mean())


@pytest.mark.parametrize("compile", [False, True])
def test_a_loss_for_each_sample_is_refused(compile: bool) -> None:
    model = nn.Linear(5, CLASSES)
    loss = nn.CrossEntropyLoss(reduction="none")
    trainer = Trainer(model, optim.SGD(model.parameters()), loss, compile=compile)
    for use in (trainer.fit, trainer.evaluate, lambda data: evaluate(model, DataLoader(TensorDataset(*data), 9), loss)):
        with pytest.raises(ShapeError, match="single number"):
            use((X, LABELS))


def test_a_best_epoch_is_that_of_the_exact_loss() -> None:
    """The mean of the batches' means would call another epoch the best one."""
    targets = np.array([0] * 9 + [1], np.int64)
    x = np.eye(10, 5, dtype=np.float32)
    model = nn.Linear(5, 2)
    loss, best = nn.CrossEntropyLoss([0.01, 1.0]), BestWeights()
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.5), loss, callbacks=[best], compile=False)
    history = trainer.fit((X, LABELS % 2), DataLoader(TensorDataset(x, targets), 9), epochs=5)
    with no_grad():
        again = float(loss(model(Tensor(x)), Tensor(targets)))  # the best weights are in the model
    assert history["validation_loss"].min() == pytest.approx(again, rel=1e-5) == best.best_value


def test_metrics_that_were_asked_for_are_computed_of_a_regression() -> None:
    model = nn.Linear(5, CLASSES)
    seen = Trainer(model, optim.SGD(model.parameters()), nn.MSELoss(), metrics=["mse", "mae"]).evaluate((X, NUMBERS))
    assert set(seen.values) == {"mse", "mae"} and seen.values["mse"] == pytest.approx(seen.loss, rel=1e-5)
