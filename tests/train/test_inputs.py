"""What a model knows about its inputs: told by its data set, saved with it, used on raw images."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mulgil import nn, optim
from mulgil.autograd import Tensor, no_grad
from mulgil.data import DataLoader, Subset, TensorDataset, datasets, random_split, transforms
from mulgil.errors import DTypeError, InputRangeWarning
from mulgil.io import load, read_info, save
from mulgil.train import make_step, train_epoch
from mulgil.train.inputs import prepare, remember, training_set
from mulgil.train.preprocess import build_transform, describe_transform

T = transforms
TRANSFORMS: dict[str, Any] = {
    "none": None,
    "unit": T.ToTensor(),
    "centred": T.Compose([T.ToTensor(), T.Normalize((0.5,), (0.5,))]),
    "padded": T.Compose([T.Compose([T.Resize(20), T.ToTensor()]), T.Pad((1, 2), fill=0.5), T.Flatten()]),
}


def digits(transform: Any = None, train: bool = True) -> Any:
    return datasets.Digits(train=train, transform=transform)


def trained(transform: Any, flat: bool = False, compiled: bool = False, told: bool = True) -> nn.Module:
    """A short training on the digits; flat: the images are flattened in the loop, as some programs do."""
    loader = DataLoader(digits(transform), batch_size=100)
    first = next(iter(loader))[0]
    layers = [nn.Linear(first[0].numel(), 10)]
    model = nn.Sequential(*layers) if flat else nn.Sequential(nn.Flatten(), *layers)
    if told:
        remember(model, loader)
    batches = [(x.reshape(len(x), -1) if flat else x, y) for _, (x, y) in zip(range(3), loader, strict=False)]
    train_epoch(model, batches, make_step(model, optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss(), compiled))
    return model


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_is_described_as_data_and_made_again(name: str) -> None:
    transform = TRANSFORMS[name]
    steps = describe_transform(transform)
    assert json.loads(json.dumps(steps)) == steps
    images = np.asarray(digits().data)[:5, None]
    made = build_transform(steps or []).batch(images)
    np.testing.assert_array_equal(np.asarray(made), np.asarray(digits(transform).fetch(range(5))[0]))


class Own(T.Normalize):
    """Not the Normalize that a file could name."""


@pytest.mark.parametrize("step", [T.Lambda(lambda x: x), Own(0.5, 0.5), len])
def test_a_step_that_only_python_knows_is_not_described(step: Any) -> None:
    assert describe_transform(step) is None
    assert describe_transform(T.Compose([T.ToTensor(), step])) is None


@pytest.mark.parametrize(
    "data",
    [
        digits(T.ToTensor()),
        DataLoader(digits(T.ToTensor())),
        DataLoader(Subset(digits(T.ToTensor()), [0, 1])),
        random_split(Subset(digits(T.ToTensor()), range(10)), [5, 5])[0],
    ],
    ids=["set", "loader", "part", "part of a part"],
)
def test_a_data_set_tells_what_it_is(data: Any) -> None:
    model = nn.Linear(2, 2)
    model.info["mine"] = 1
    known = remember(model, data)
    assert known is model.info
    assert known == {"mine": 1, "preprocessing": [["ToTensor", {}]], "image_shape": [1, 28, 28], "classes": list("0123456789")}


def test_data_that_say_nothing_change_nothing() -> None:
    model = nn.Linear(2, 2)
    model.info["classes"] = ["cat", "dog"]
    loader = DataLoader(TensorDataset(np.zeros((4, 2), "f4"), np.zeros(4, "i8")))
    for data in (loader, [], (x for x in "ab"), (np.zeros(3), np.zeros(3)), None):
        assert remember(model, data) == {"classes": ["cat", "dog"]}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["unit", "centred", "padded"])
def test_raw_images_are_prepared_as_in_training_after_a_file_too(name: str, compiled: bool, tmp_path: Path) -> None:
    model = trained(TRANSFORMS[name], compiled=compiled)
    save(model, tmp_path / "m")
    again, test = load(tmp_path / "m"), digits(TRANSFORMS[name], train=False)
    assert again.info == model.info == read_info(tmp_path / "m")
    raw, ready = np.asarray(test.data)[:50], test.fetch(range(50))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for images in (raw, raw[:, None], Tensor(raw)):
            np.testing.assert_array_equal(np.asarray(prepare(again, images)), np.asarray(ready))
        assert prepare(again, ready) is ready
    with pytest.warns(InputRangeWarning, match=r"0 to 255; in training"):
        prepare(again, np.asarray(ready) * 0 + raw.max() * (np.arange(ready[0].numel()) % 2).reshape(ready.shape[1:]).astype("f4"))


def test_images_come_out_flat_where_the_training_had_them_flat() -> None:
    model = trained(T.ToTensor(), flat=True)
    raw = np.asarray(digits(train=False).data)[:7]
    assert model.info["input_shape"] == [784] and prepare(model, raw).shape == (7, 784)
    assert model(prepare(model, raw)).shape == (7, 10)


def test_without_a_note_only_the_range_of_to_tensor_is_guessed() -> None:
    raw = np.asarray(digits().data)[:7]
    np.testing.assert_array_equal(np.asarray(prepare(trained(T.ToTensor(), told=False), raw)), raw[:, None] / np.float32(255))
    negative = T.Compose([T.ToTensor(), T.Lambda(lambda x: -x)])
    for model in (trained(TRANSFORMS["centred"], told=False), nn.Linear(784, 10), trained(negative)):
        with pytest.raises(DTypeError, match="remember"):
            prepare(model, raw)


def test_the_lectures_program_is_warned(recwarn: pytest.WarningsRecorder) -> None:
    """Trained on 0..1 in a loop written by hand, without eval(); tested on `test_data` as it lies in the data set."""
    model, test = trained(T.ToTensor(), flat=True, told=False), digits(T.ToTensor(), train=False)
    with no_grad():
        model(Tensor(np.asarray(test.fetch(range(100))[0]).reshape(100, -1)))
        assert not recwarn.list
        model(test.test_data.view(-1, 28 * 28).float())
        assert [w.category for w in recwarn.list] == [InputRangeWarning]


def test_the_name_of_the_training_set() -> None:
    model = nn.Linear(1, 1)
    assert training_set(model) is None
    for training, name in (({"data": "kmnist"}, "kmnist"), ("much", None), ({"data": 3}, None)):
        model.info["training"] = training
        assert training_set(model) == name
