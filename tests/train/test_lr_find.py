"""The search for a learning rate: what it suggests, and that nothing else is different afterwards."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from mulgil import backend, nn, optim
from mulgil.data import DataLoader
from mulgil.errors import OptionError
from mulgil.train import lr_find
from mulgil.train.find_lr import separate_random
from tests.train.tools import blobs, loader, net, trainer, weights


def everything(run: Any, data: DataLoader) -> tuple:
    """Whatever a search could disturb, to the bit."""
    state = run.optimizer.state_dict()
    arrays = [t.array.tobytes() for values in state["state"].values() for t in values.values()]
    modes = [m.training for m in run.model.modules()]
    return weights(run.model), arrays, repr(state["param_groups"]), json.dumps(backend.default_generator.get_state()), modes, len(data)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("trained", [False, True])
def test_nothing_is_touched(compile: bool, trained: bool) -> None:
    orders = []
    for searches in (False, True):
        model = net()
        run, data = trainer(model, optim.Adam(model.parameters(), lr=0.01), compile=compile), loader()
        if trained:
            run.fit(data, epochs=1)
        before = everything(run, data)
        if searches:
            found = lr_find(run, data, steps=30)
            assert 1e-7 < found.suggestion < 1 and len(found.rates) == len(found.losses) == len(found.smooth) > 5
        assert everything(run, data) == before
        orders.append((data.order(), run.fit(data, epochs=2).tobytes(), weights(model)))
    assert orders[0] == orders[1]


def test_the_suggestion_trains() -> None:
    model = nn.Linear(4, 3)
    found = lr_find(model, DataLoader(blobs(200), 20), optim.SGD(model.parameters()), nn.CrossEntropyLoss(), highest=1e3)
    assert 0.01 < found.suggestion < 20
    assert np.all(np.diff(np.log(found.rates)) > 0) and found.losses.min() < found.losses[0]
    history = trainer(model, optim.SGD(model.parameters(), lr=found.suggestion)).fit(loader(200), epochs=3)
    assert history["train_loss"][-1] < 0.5


def test_its_picture() -> None:
    pytest.importorskip("matplotlib")
    (axes,) = lr_find(trainer(), loader(), steps=20).plot().axes
    assert axes.get_xscale() == "log" and len(axes.lines) == 3 and axes.get_xlabel() == "learning rate"


def test_choices_that_cannot_be() -> None:
    model = nn.Linear(4, 3)
    with pytest.raises(OptionError, match="optimizer"):
        lr_find(model, loader())
    with pytest.raises(OptionError, match="lowest"):
        lr_find(trainer(), loader(), lowest=1.0, highest=0.1)
    with pytest.raises(OptionError, match="again"):
        lr_find(trainer(), (batch for batch in loader()))
    model.weight.array[...] = np.nan
    with pytest.raises(OptionError, match="finite"):
        lr_find(trainer(model), loader())


def test_separate_random_numbers() -> None:
    backend.manual_seed(1)
    expected = [backend.default_generator.numpy.random() for _ in range(3)]
    backend.manual_seed(1)
    with separate_random(7):
        first = backend.default_generator.numpy.random()
    with separate_random(7):
        assert backend.default_generator.numpy.random() == first and not math.isclose(first, expected[0])
        with separate_random(None):
            backend.manual_seed(3)
    assert [backend.default_generator.numpy.random() for _ in range(3)] == expected
