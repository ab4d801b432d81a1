"""DeZero's names: each is here, or its AttributeError says what to write, and what it says is true."""

from __future__ import annotations

import importlib
import re

import pytest

import mulgil
from mulgil import nn, optim
from mulgil.data import DataLoader, TensorDataset
from mulgil.names import DEZERO

MODEL = nn.Linear(2, 2)
THINGS = {
    "Tensor": mulgil.ones(2),
    "Module": MODEL,
    "Optimizer": optim.SGD(MODEL.parameters(), lr=0.1),
    "DataLoader": DataLoader(TensorDataset(mulgil.ones(2)), 1),
}
ROWS = [(where, name, told) for where, names in DEZERO.items() for name, told in names.items()]


@pytest.mark.parametrize(("where", "name", "told"), ROWS, ids=lambda value: value)
def test_a_name_that_is_not_here_says_what_to_write(where, name, told):
    thing = THINGS[where] if where in THINGS else importlib.import_module(where)
    assert not hasattr(thing, name)
    with pytest.raises(AttributeError, match=re.escape(f"DeZero's name; here write {told}")):
        getattr(thing, name)


@pytest.mark.parametrize(("where", "name", "told"), ROWS, ids=lambda value: value)
def test_what_it_says_to_write_exists(where, name, told):
    roots = {"mulgil": mulgil, "nn": nn, "optim": optim, "F": nn.functional, "data": mulgil.data, "x": mulgil.ones(2), "plot": mulgil.plot}
    roots |= {"model": MODEL, "optimizer": THINGS["Optimizer"], "cuda": mulgil.cuda, "transforms": mulgil.data.transforms}
    for path in re.findall(r"\b(?:mulgil|nn|optim|F|data|x|plot|model|optimizer|cuda|transforms)(?:\.[A-Za-z_]\w*)+", told):
        if path == "x.grad":
            continue
        thing = roots[path.split(".")[0]]
        for part in path.split(".")[1:]:
            thing = getattr(thing, part)


@pytest.mark.parametrize("thing", [*THINGS.values(), nn, nn.functional, optim, mulgil.data], ids=lambda thing: type(thing).__name__)
def test_other_names_are_unknown_as_in_python(thing):
    with pytest.raises(AttributeError, match=r"has no attribute 'nonsense'$"):
        _ = thing.nonsense
