"""What the compiler's tests share."""

from __future__ import annotations

import warnings

import numpy as np

import mulgil
from mulgil import Tensor, nn
from mulgil.compile.trace import tensors_of


def squared(y, t):
    return ((y - t) ** 2).mean()


def training_step(model, optimizer, criterion=None, clip=None):
    criterion = criterion or nn.CrossEntropyLoss()

    def step(x, t):
        optimizer.zero_grad()
        loss = criterion(model(x), t)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return loss

    return step


def same_over_calls(make, *arguments, calls=4, strict=True, rtol=1e-6, atol=1e-9):
    """Compiled equals eager: results, arguments and everything owned, their dtypes too, after each of several calls.

    make: gives (function, its state), and is called twice, from one seed. arguments: arrays; each call gets fresh copies, moved a
    little. strict: the function must be compiled; otherwise it may run eagerly, with one warning. Returns the compiled function.
    """
    mulgil.manual_seed(3)
    np.random.seed(3)
    function, state = make()
    expected = [_observed(function, state, arguments, i) for i in range(calls)]
    mulgil.manual_seed(3)
    np.random.seed(3)
    function, state = make()
    compiled = mulgil.compile(function, state=state, strict=strict)
    with warnings.catch_warnings():
        if strict:
            warnings.simplefilter("error")
        else:
            warnings.filterwarnings("ignore", message="(?s).*runs eagerly")
        found = [_observed(compiled, state, arguments, i) for i in range(calls)]
    for i, (eager, mine) in enumerate(zip(expected, found, strict=True)):
        assert len(eager) == len(mine), f"call {i}"
        for a, b in zip(mine, eager, strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape), f"call {i}"
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=f"call {i}")
    return compiled


def _owned(owner):
    """The Tensors that a model, an optimizer or a Tensor keeps; not the gradients, which a replay need not leave behind."""
    if isinstance(owner, Tensor):
        return [owner]
    if isinstance(owner, nn.Module):
        return owner.state_dict().values()
    values = [v for entry in owner.state_dict()["state"].values() for v in entry.values()]
    return [v for v in values if isinstance(v, Tensor)]


def _observed(function, state, arguments, i):
    """Copies of what a call gives and leaves behind; or the error that it raises, as text."""
    given = [Tensor(a * (1 + i % 3 / 8) if a.dtype.kind == "f" else a.copy()) for a in map(np.asarray, arguments)]
    error = []
    try:
        results = tensors_of(function(*given))
    except (ValueError, IndexError, ArithmeticError) as caught:
        results, error = [], [np.frombuffer(str(caught).encode(), np.uint8)]
    owned = [t.array for owner in state for t in _owned(owner)]
    return [np.array(t) for t in (*error, *(t.array for t in (*results, *given)), *(owned if i else []))]
