"""What would learn nothing is told where it begins; several inputs and dicts; copies of what trains."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mulgil import nn, optim
from mulgil.autograd import Tensor
from mulgil.data import DataLoader, Dataset, TensorDataset
from mulgil.errors import MulgilError
from mulgil.train import BestWeights, Classifier, EarlyStopping, Trainer, evaluate, lr_find, make_step, train_epoch
from tests.train.tools import blobs, loader, net, trainer, weights

X, Y = (np.asarray(part.array) for part in blobs().tensors)
TEXT = np.array(["ant", "bee", "cat"])[Y]


class Net(nn.Module):
    def __init__(self, change: Callable[[Any], None] = lambda net: None):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        change(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def fitted(model: Any = None, optimizer: Any = None, loss: Any = None, data: Any = (X, Y), **options: Any) -> Trainer:
    model = model or Net()
    made = Trainer(model, optimizer or optim.SGD(model.parameters(), lr=0.1), loss or nn.CrossEntropyLoss(), compile=False, **options)
    made.fit(data)
    return made


def lists(net: Any) -> None:
    net.layers = [nn.Linear(4, 4), nn.Linear(4, 3)]


def replaced() -> Trainer:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model[1] = nn.Linear(4, 3)
    return fitted(model, optimizer)


class Unused(Net):
    def __init__(self) -> None:
        super().__init__()
        self.forgotten = nn.Linear(4, 3)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "another model's optimizer": (lambda: fitted(optimizer=optim.SGD(Net().parameters(), lr=0.1)), "would not learn"),
    "an optimizer class": (lambda: fitted(optimizer=optim.SGD), "optimizer of mulgil"),
    "a loss class": (lambda: fitted(loss=nn.CrossEntropyLoss), "call it: CrossEntropyLoss()"),
    "no loss": (lambda: fitted(loss="cross_entropy"), "the loss must be a function"),
    "a model class": (lambda: Trainer(nn.Linear, optim.SGD(Net().parameters()), nn.CrossEntropyLoss()), "call it|make one"),  # type: ignore[arg-type]
    "a step of another's": (lambda: make_step(Net(), optim.SGD(Net().parameters()), nn.CrossEntropyLoss()), "would not learn"),
    "an evaluation with a class": (lambda: evaluate(Net(), [(X, Y)], nn.CrossEntropyLoss), "call it"),  # type: ignore[arg-type]
    "text labels": (lambda: fitted(data=(X, TEXT)), "number them"),
    "text labels one by one": (lambda: fitted(data=DataLoader(list(zip(X, TEXT.tolist(), strict=True)), 10)), "number them"),
    "objects as inputs": (lambda: fitted(data=DataLoader([("x", 1), ("y", 0)], 2)), "inputs must be numbers"),
    "inputs alone": (lambda: fitted(data=X), r"must be \(inputs, targets\)"),
    "a dict without labels": (lambda: fitted(data={"a": X, "b": Y}), "a dict with a, b"),
    "a dict with two": (lambda: fitted(data={"x": X, "label": Y, "y": Y}), "a dict with"),
    "an empty set": (lambda: fitted(data=(X[:0], Y[:0])), "at least one batch"),
    "an empty list": (lambda: fitted(data=[]), "at least one batch"),
    "an empty epoch": (lambda: trainer(compile=False).fit((batch for batch in loader()), epochs=2), "no batch in epoch 2"),
    "all dropped": (lambda: fitted(data=DataLoader(blobs(10), 16, drop_last=True)), "drop_last=False"),
    "an empty validation": (lambda: trainer(compile=False).fit((X, Y), (X[:0], Y[:0])), "at least one batch"),
    "an empty evaluation": (lambda: evaluate(Net(), [], nn.CrossEntropyLoss()), "at least one batch"),
    "an empty epoch of one's own": (lambda: train_epoch(m := Net(), [], make_step(m, optim.SGD(m.parameters()), nn.MSELoss())), "batch"),
    "two outputs": (lambda: fitted(loss=lambda o, t: (o, t)), "single number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, said = REFUSED[name]
    with warnings.catch_warnings(action="error"), pytest.raises(MulgilError) as caught:
        make()
    assert re.search(said, str(caught.value)) and caught.value.got and caught.value.hint


WARNED: dict[str, tuple[Callable[[], Any], str]] = {
    "layers in a list": (lambda: fitted(Net(lists)), "layers is not a part of the model"),
    "in a dict": (lambda: fitted(Net(lambda n: setattr(n, "heads", {"a": nn.Linear(4, 3)}))), "heads is not a part"),
    "parameters in a list": (lambda: fitted(Net(lambda n: setattr(n, "w", [nn.Parameter(np.ones(3))]))), "w is not a part"),
    "a tensor": (lambda: fitted(Net(lambda n: setattr(n, "w", Tensor([1.0], requires_grad=True)))), "no nn.Parameter"),
    "deeper": (lambda: fitted(nn.Sequential(Net(lists))), "0.layers is not a part"),
    "a layer replaced": (replaced, "a layer was replaced"),
    "a layer that is not used": (lambda: fitted(Unused()), r"no gradient in the whole epoch(.|\n)*forgotten.weight, forgotten.bias"),
    "softmax before cross_entropy": (lambda: fitted(nn.Sequential(nn.Linear(4, 3), nn.Softmax(1))), "leave the softmax out"),
}


@pytest.mark.parametrize("name", WARNED)
def test_told_once(name: str) -> None:
    make, said = WARNED[name]
    with pytest.warns(UserWarning, match=said) as caught:
        made = make()
        made.fit((X, Y), epochs=2)
    assert len([w for w in caught if re.search(said, str(w.message))]) == 1


def teacher(net: Any) -> None:
    net.teacher = [nn.Linear(4, 3).eval()]
    net.frozen = [nn.Linear(4, 3).requires_grad_(False)]
    net.again = [net.layer, net.layer.weight]


def by_hand() -> Trainer:
    model = Net(lambda n: setattr(n, "w", Tensor(np.ones(3, np.float32), requires_grad=True)))
    model.forward = lambda x: model.layer(x) * model.w  # type: ignore[method-assign,attr-defined]
    return fitted(model, optim.SGD([*model.parameters(), model.w], lr=0.1))  # type: ignore[attr-defined]


def head_alone() -> Trainer:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    return fitted(model, optim.SGD(model[1].parameters(), lr=0.1))


MEANT: list[Callable[[], Any]] = [
    lambda: fitted(Net(teacher)),
    by_hand,
    head_alone,
    lambda: fitted(net(), data=loader()),
    lambda: Classifier(nn.Linear(4, 3), epochs=1, compile=False).fit(X, TEXT),
    lambda: fitted(data=[(x[None], y[None]) for x, y in zip(X, Y, strict=True)]),  # arrays, in batches of one
    lambda: lr_find(trainer(compile=False), (X, Y)),
]


@pytest.mark.parametrize("number", range(len(MEANT)))
def test_no_false_alarm(number: int) -> None:
    with warnings.catch_warnings(action="error"):
        MEANT[number]()


# ---------------------------------------------------------------------- several inputs
class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(1, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.one(left) + self.two(right)


class Samples(Dataset):
    def __init__(self, form: str):
        self.form = form

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: Any) -> Any:
        left, right, y = X[i, :3], X[i, 3:], int(Y[i])
        forms = {"pairs": ((left, right), y), "dicts": ({"left": left, "right": right}, y), "flat": (left, right, y)}
        return forms.get(self.form, {"right": right, "labels": y, "left": left})


ARRAYS = (X[:, :3], X[:, 3:], Y)
FORMS: dict[str, Any] = {
    "three arrays": ARRAYS,
    "a dict of arrays": {"left": ARRAYS[0], "right": ARRAYS[1], "y": Y},
    "a data set": TensorDataset(*ARRAYS),
    "a loader": DataLoader(TensorDataset(*ARRAYS), 60),
    "a list": [ARRAYS],
    **{form: DataLoader(Samples(form), 60) for form in ("pairs", "dicts", "flat", "named")},
}


@pytest.mark.parametrize("name", FORMS)
def test_several_inputs(name: str) -> None:
    model, other = Two(), Two()
    other.load_state_dict(model.state_dict())
    data = FORMS[name]
    made = Trainer(model, optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss(), compile=name == "three arrays")
    made.fit(data if not isinstance(data, (tuple, dict, TensorDataset)) else DataLoader(_set(data), 60), data, epochs=2)
    step = make_step(other, optim.SGD(other.parameters(), lr=0.1), nn.CrossEntropyLoss())
    for _ in range(2):
        step((Tensor(ARRAYS[0]), Tensor(ARRAYS[1])), Tensor(Y))
    np.testing.assert_allclose(model.one.weight.array, other.one.weight.array, rtol=1e-4, atol=1e-6)
    expected = np.asarray(other(Tensor(ARRAYS[0]), Tensor(ARRAYS[1])))
    np.testing.assert_allclose(made.predict(data), expected, rtol=1e-4, atol=1e-5)
    assert made.evaluate(data).accuracy == pytest.approx((expected.argmax(1) == Y).mean())


def _set(data: Any) -> Any:
    from mulgil.train.feed import as_batches

    return as_batches(data, 60).dataset


def test_predictions_take_inputs_without_targets() -> None:
    model = Two()
    made = Trainer(model, optim.SGD(model.parameters()), nn.CrossEntropyLoss(), compile=False)
    expected = made.predict(ARRAYS)
    for data in (ARRAYS[:2], {"left": ARRAYS[0], "right": ARRAYS[1]}, [ARRAYS[:2]]):
        np.testing.assert_allclose(made.predict(data), expected, rtol=1e-5, atol=1e-6)


def test_one_input_of_a_dict_is_given_by_its_position() -> None:
    assert fitted(data={"image": X, "label": Y}).train_metrics.samples == 60  # type: ignore[union-attr]


# ---------------------------------------------------------------------- copies
COPIES = [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))]
KINDS: dict[str, Any] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1),
    "adam": lambda p: optim.Adam(p, lr=0.05),
    "adamw": lambda p: optim.AdamW(p, lr=0.05),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_and_its_optimizer_are_copied_together(kind: str, how: Any) -> None:
    model = net()
    optimizer = KINDS[kind](model.parameters())
    schedule = optim.StepLR(optimizer, 1)
    step = make_step(model, optimizer, nn.CrossEntropyLoss())
    step(Tensor(X), Tensor(Y))
    twin, own, follows = how((model, optimizer, schedule))
    assert all(a is b for a, b in zip(twin.parameters(), own.param_groups[0]["params"], strict=True)) and follows.optimizer is own
    assert weights(twin) == weights(model)
    follows.step()
    assert optimizer.param_groups[0]["lr"] != own.param_groups[0]["lr"]
    schedule.step()
    model.eval(), twin.eval()
    before = weights(model)
    make_step(twin, own, nn.CrossEntropyLoss())(Tensor(X), Tensor(Y))
    assert weights(model) == before != weights(twin)
    step(Tensor(X), Tensor(Y))
    assert weights(model) == weights(twin)


@pytest.mark.parametrize("how", COPIES)
def test_a_trainer_is_copied_and_both_go_on_alike(how: Any) -> None:
    model = nn.Linear(4, 3)
    best = BestWeights("train_loss", restore=False)
    made = Trainer(model, optim.Adam(model.parameters()), nn.CrossEntropyLoss(), callbacks=[best, EarlyStopping("train_loss", patience=9)])
    made.fit(DataLoader(blobs(), 20), epochs=2)
    twin = how(made)
    assert twin.history.tobytes() == made.history.tobytes() and twin.callbacks[0] is not best
    before = weights(model)
    twin.fit(DataLoader(blobs(), 20), epochs=1)
    assert weights(model) == before
    made.fit(DataLoader(blobs(), 20), epochs=1)
    assert np.allclose(made.predict(X), twin.predict(X), atol=1e-6) and twin.step == made.step
    assert twin.history["train_loss"] == pytest.approx(made.history["train_loss"])


@pytest.mark.parametrize("how", COPIES)
def test_a_classifier_is_copied(how: Any) -> None:
    made = Classifier(nn.Linear(4, 3), epochs=2, compile=False).fit(X, TEXT)
    twin = how(made)
    np.testing.assert_array_equal(twin.predict(X), made.predict(X))
    assert twin.fit(X, TEXT).predict_proba(X).tobytes() == made.predict_proba(X).tobytes()


def test_a_computed_tensor_is_not_pickled() -> None:
    with pytest.raises(MulgilError, match="leaf"):
        pickle.dumps(Tensor([1.0], requires_grad=True) * 2)


