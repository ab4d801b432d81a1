"""A model learns the range of its inputs in training, and warns when it is used on inputs in another one; else it is silent."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mulgil
from mulgil import nn
from mulgil.autograd import Tensor, enable_grad, no_grad
from mulgil.errors import InputRangeWarning, ShapeError
from mulgil.nn.inputs import ENOUGH, InputRange

rng = np.random.default_rng(0)
PIXELS = (rng.random((300, 8, 8)) ** 3 * 256).astype(np.uint8)
PIXELS[:, 0] = 0  # a dark border, as images of digits have
PIXELS[:, 4, 4] = 255


def unit() -> np.ndarray:
    return PIXELS.astype(np.float32) / 255


SCALES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "0..255": lambda x: x * 255,
    "0..1": lambda x: x,
    "-1..1": lambda x: 2 * x - 1,
    "standardised": lambda x: (x - x.mean()) / x.std(),
}


def trained(x: np.ndarray, batch: int = 100) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].size, 3))
    for start in range(0, len(x), batch):
        model(Tensor(x[start : start + batch])).sum().backward()
    return model


def warned(model: nn.Module, x: np.ndarray) -> list[str]:
    """The warnings of one call without gradients, as if some time had passed since the last one."""
    model.__dict__.pop("_watch", None)
    with warnings.catch_warnings(record=True) as caught, no_grad():
        warnings.simplefilter("always")
        model(Tensor(x))
    return [str(w.message) for w in caught if issubclass(w.category, InputRangeWarning)]


@pytest.mark.parametrize("test", SCALES)
@pytest.mark.parametrize("train", SCALES)
def test_every_other_scale_is_noticed_and_none_else(train: str, test: str) -> None:
    model = trained(SCALES[train](unit()))
    for samples in (300, 20, 1):
        found = warned(model, SCALES[test](unit())[:samples])
        assert len(found) == (train != test), (samples, model.info)


def test_the_message_says_what_came_and_what_to_do() -> None:
    (text,) = warned(trained(unit()), unit() * 255)
    assert "got:  0 to 255; in training 0 to 1" in text and "divide them by 255" in text
    model = trained(SCALES["-1..1"](unit()))
    model.info["preprocessing"] = [["ToTensor", {}], ["Normalize", {"mean": 0.5, "std": 0.5}]]
    (text,) = warned(model, unit())
    assert "in training -1 to 1" in text and "ToTensor, Normalize" in text and "255" not in text


HARMLESS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "noise": lambda x: x + rng.normal(0, 0.1, x.shape).astype(np.float32),
    "dimmer": lambda x: 0.7 * x,
    "brighter": lambda x: 1.3 * x,
    "shifted": lambda x: x + 0.2,
    "dropped pixels": lambda x: x * (rng.random(x.shape) < 0.5),
    "blank": lambda x: x * 0,
    "nothing": lambda x: x[:0],
    "not a number": lambda x: x * np.float32(np.nan),
}


@pytest.mark.parametrize("change", HARMLESS)
def test_what_is_a_little_different_is_let_pass(change: str) -> None:
    assert not warned(trained(unit()), HARMLESS[change](unit()).astype(np.float32))


def test_photographs_that_differ_in_contrast() -> None:
    contrast, light = rng.uniform(0.3, 1, (400, 1, 1, 1)), rng.uniform(0.3, 0.7, (400, 1, 1, 1))
    unit = np.clip(light + 0.25 * contrast * rng.normal(size=(400, 3, 8, 8)), 0, 1).astype(np.float32)
    standard = (unit - np.float32(0.45)) / np.float32(0.225)  # as models of ImageNet take them
    model, other = trained(standard[:200]), trained(unit[:200])
    assert not any(warned(model, standard[i : i + n]) or warned(other, unit[i : i + n]) for n in (1, 10, 200) for i in range(200, 400, n))
    assert all(warned(model, unit[i : i + 50]) and warned(other, standard[i : i + 50]) for i in range(200, 400, 50))


@pytest.mark.parametrize("features", [2, 4, 30])
def test_standardised_tables_are_let_pass_whatever_rows_come(features: int) -> None:
    table = rng.normal(size=(2000, features)).astype(np.float32)
    model = trained(table[:200])
    assert not any(warned(model, table[i : i + n]) for n in (1, 10, 500) for i in range(0, 1500, 97))
    assert warned(model, 100 + 15 * table[:100])  # the table before it was standardised


def test_long_tails_are_let_pass() -> None:
    table = rng.lognormal(0, 1.5, size=(3000, 5)).astype(np.float32)
    assert not warned(trained(table[:100]), table[100:])


def test_one_number_a_sample_and_whole_numbers_have_no_range() -> None:
    x = rng.random((100, 1)).astype(np.float32)
    model = trained(x)
    assert "input_range" not in model.info and not warned(model, x + 5)

    class Words(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    model = Words()
    model(Tensor(np.arange(100).reshape(10, 10)))
    assert model.info == {}


def test_small_batches_add_up_to_what_a_large_one_tells() -> None:
    small, large = trained(unit()[:ENOUGH], batch=4).info["input_range"], trained(unit()[:ENOUGH]).info["input_range"]
    assert small["samples"] == large["samples"] == ENOUGH
    for name in ("low", "high", "least", "most"):
        np.testing.assert_allclose(small[name], large[name], rtol=1e-9, atol=1e-12)
    assert trained(unit()[:5], batch=5).info["input_range"]["samples"] == 5 and not warned(trained(unit()[:5]), unit() * 255)


def test_training_on_other_inputs_is_learned_and_no_reason_to_warn() -> None:
    model = trained(unit())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.__dict__["_watch"].next = 0.0  # some time later
        for _ in range(2):
            model(Tensor(SCALES["-1..1"](unit()))).sum().backward()
    assert model.info["input_range"]["low"] == -1 and warned(model, unit())


def test_the_mode_decides_not_the_gradients_alone() -> None:
    model = trained(unit()).eval()
    with pytest.warns(InputRangeWarning):
        model(Tensor(255 * unit()))
    model.train()(Tensor(unit()))
    with no_grad(), enable_grad():
        assert model(Tensor(unit())).requires_grad  # training again
    with no_grad(), pytest.warns(InputRangeWarning):
        model(Tensor(255 * unit()))


def test_a_part_and_outputs_of_another_model_are_left_alone() -> None:
    body, head = nn.Linear(64, 5), nn.Linear(5, 3)
    x = Tensor(unit().reshape(300, 64))
    head(body(x)).sum().backward()
    assert "input_range" in body.info and head.info == {}
    model = trained(unit())
    assert model[1].info == {} and model.info["input_shape"] == [8, 8]


def test_once_while_it_stays_so_and_again_after_good_inputs() -> None:
    model, good, bad = trained(unit()), Tensor(unit()), Tensor(255 * unit())
    from mulgil.nn.inputs import check

    def count(*batches: Tensor) -> int:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for batch in batches:
                check(model, batch)
        return len(caught)

    assert (count(bad, bad, bad), count(good, bad, bad), count(good, good)) == (1, 1, 0)


def test_the_warning_points_at_the_users_line() -> None:
    model = trained(unit())
    with no_grad(), pytest.warns(InputRangeWarning) as caught:
        model(Tensor(255 * unit()))
    assert caught[0].filename == __file__


def test_an_error_inside_leaves_the_next_call_in_order() -> None:
    model = trained(unit())
    with pytest.raises(ShapeError), no_grad():
        model(Tensor(unit()[:, :5]))
    assert warned(model, 255 * unit())


def test_threads_do_not_mix() -> None:
    found: list[Any] = []

    class Outer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            thread = threading.Thread(target=lambda: found.append(trained(unit()).info))
            thread.start()
            thread.join()
            return x * 2

    Outer()(Tensor(unit()))
    assert "input_range" in found[0]


def test_compiled_steps_learn_it_too() -> None:
    pytest.importorskip("numba")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    optimizer = mulgil.optim.SGD(model.parameters(), lr=0.01)

    @mulgil.compile(state=[model, optimizer], strict=True)
    def step(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    for size in (20, 20, 10, 20):  # a shape more is a trace more, as it is when a run is resumed: the range does not depend on that
        step(Tensor(unit()[:size]))
    assert model.info["input_range"]["samples"] == 20 and warned(model, 255 * unit())


class Own(nn.Module):
    """A class that uses the name for something else."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 2)

    def info(self) -> str:
        return "mine"

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.reshape(len(x), -1))


def test_a_class_with_an_info_of_its_own_keeps_it() -> None:
    model = Own()
    model(Tensor(unit())).sum().backward()
    assert model.info() == "mine" and not warned(model, 255 * unit())
    layer = nn.Linear(2, 2)
    layer.info = "text"
    layer(Tensor(unit()[:, 0, :2])).sum().backward()
    assert layer.info == "text"


def test_info_is_each_models_own_and_copied_with_it() -> None:
    model = trained(unit())
    other = copy.deepcopy(model)
    other.info["classes"] = ["a"]
    assert "classes" not in model.info and other.info["input_range"] == model.info["input_range"]
    assert nn.Linear(1, 1).info == {} and nn.Linear(1, 1).info is not nn.Linear(1, 1).info


@pytest.mark.parametrize("broken", [None, 3, "x", {}, {"low": 0}, {"low": 0, "high": 1, "least": [0], "most": [1, 0], "samples": 9}, []])
def test_a_range_that_is_none_is_ignored(broken: object) -> None:
    assert InputRange.read(broken) is None
    model = trained(unit())
    model.info["input_range"] = broken
    assert not warned(model, 255 * unit())


def test_a_range_survives_as_json() -> None:
    found = InputRange.of(unit())
    assert found is not None and InputRange.read(found.as_dict()) == found and found.fits(found)
