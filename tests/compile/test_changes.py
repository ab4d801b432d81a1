"""What changes between calls: the compiled function does at the next call what the eager one does. A row is a step and its changes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import mulgil
from mulgil import Tensor, nn, optim


def world(model, make=lambda ps: optim.SGD(ps, lr=0.1)):
    """A model, an optimizer and a training step that finds them in `w` at each call."""
    w = SimpleNamespace(model=model.double())
    w.optimizer = make(w.model.parameters()) if make else None

    def step(x):
        w.optimizer.zero_grad()
        loss = (w.model(x) ** 2).mean()
        loss.backward()
        w.optimizer.step()
        return loss

    w.step, w.state = step, [w]
    return w


def forward(model):
    """The same without training."""
    w = world(model, None)
    w.step = lambda x: w.model(x)
    return w


def linear():
    return nn.Sequential(nn.Linear(3, 2))


def momentum(ps):
    return optim.SGD(ps, lr=0.1, momentum=0.9)


def adam(ps):
    return optim.Adam(ps, lr=0.1)


def kept(w):
    w.saved = w.model.state_dict() if w.optimizer is None else w.optimizer.state_dict()
    w.saved = {k: v.clone() for k, v in w.saved.items()} if w.optimizer is None else w.saved


def loaded(w):
    w.model.load_state_dict({"0.weight": np.ones((2, 3)), "0.bias": np.ones(2)})


def set_data(w):
    w.model[0].weight.data = Tensor(np.full((2, 3), 0.3))


def set_array(w):
    w.model[0].weight.array = np.full((2, 3), 0.3)


def replaced(w):
    w.model[0] = nn.Linear(3, 2).double()
    for p in w.model.parameters():
        p.data = Tensor(np.full(p.shape, 0.2))


def another(w):
    w.model = linear().double()
    for p in w.model.parameters():
        p.data = Tensor(np.full(p.shape, 0.2))


def other_optimizer(w):
    w.optimizer = optim.SGD(w.model.parameters(), lr=0.5)


def tensor_hook(w):
    w.handle = w.model[0].bias.register_hook(lambda g: g * 0)


CHANGES = {
    "load of weights": (lambda: forward(linear()), [loaded]),
    "load of moments": (lambda: world(linear(), adam), [kept, lambda w: w.optimizer.load_state_dict(w.saved)]),
    "moments cleared": (lambda: world(linear(), momentum), [lambda w: w.optimizer.state.clear()]),
    "another state dict": (lambda: world(linear(), momentum), [lambda w: setattr(w.optimizer, "state", {})]),
    "a moment replaced": (
        lambda: world(linear(), momentum),
        [lambda w: [s.update(momentum_buffer=Tensor(np.ones_like(s["momentum_buffer"].array))) for s in w.optimizer.state.values()]],
    ),
    "frozen": (lambda: world(linear()), [lambda w: w.model[0].weight.requires_grad_(False), lambda w: w.model.requires_grad_(True)]),
    "data": (lambda: world(linear()), [set_data]),
    "array": (lambda: world(linear()), [set_array]),
    "a layer replaced": (lambda: forward(linear()), [replaced]),
    "a layer added": (lambda: forward(linear()), [lambda w: w.model.append(nn.Tanh())]),
    "a layer taken away": (lambda: forward(nn.Sequential(nn.Linear(3, 2), nn.Tanh())), [lambda w: w.model.__delitem__(1)]),
    "dropout's p": (lambda: forward(nn.Sequential(nn.Dropout(0.0))), [lambda w: setattr(w.model[0], "p", 1.0)]),
    "eval": (lambda: forward(nn.Sequential(nn.Dropout(1.0))), [lambda w: w.model.eval(), lambda w: w.model.train()]),
    "one layer's mode": (lambda: forward(nn.Sequential(nn.Dropout(1.0))), [lambda w: setattr(w.model[0], "training", False)]),
    "batch norm's momentum": (lambda: forward(nn.Sequential(nn.BatchNorm1d(3))), [lambda w: setattr(w.model[0], "momentum", 0.5)]),
    "batch norm's eps": (lambda: forward(nn.Sequential(nn.BatchNorm1d(3))), [lambda w: setattr(w.model[0], "eps", 1.0)]),
    "a hook": (lambda: forward(linear()), [lambda w: w.model[0].register_forward_hook(lambda m, a, y: y * 2)]),
    "a hook for a while": (
        lambda: forward(linear()),
        [lambda w: setattr(w, "handle", w.model.register_forward_pre_hook(lambda m, a: (a[0] * 2,))), lambda w: w.handle.remove()],
    ),
    "a tensor's hook": (lambda: world(linear()), [tensor_hook, lambda w: w.handle()]),
    "a parameter out of its group": (lambda: world(linear()), [lambda w: w.optimizer.param_groups[0]["params"].pop()]),
    "a parameter exchanged in its group": (
        lambda: world(linear()),
        [lambda w: w.optimizer.param_groups[0]["params"].__setitem__(1, nn.Parameter(np.ones(2)))],
    ),
    "a group added": (
        lambda: world(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)), lambda ps: optim.SGD(list(ps)[:2], lr=0.1)),
        [lambda w: w.optimizer.add_param_group({"params": list(w.model[1].parameters()), "lr": 0.5})],
    ),
    "weight decay": (lambda: world(linear()), [lambda w: w.optimizer.param_groups[0].update(weight_decay=0.5)]),
    "the learning rate": (lambda: world(linear()), [lambda w: w.optimizer.param_groups[0].update(lr=0.5)]),
    "another model": (lambda: forward(linear()), [another]),
    "another optimizer": (lambda: world(linear()), [other_optimizer]),
}


def twins(make):
    made = []
    for _ in range(2):
        mulgil.manual_seed(3)
        made.append(make())
    return made


def equal(mine, eager):
    assert (mine is None) == (eager is None)
    if mine is not None:
        assert mine.shape == eager.shape and mine.dtype == eager.dtype
        np.testing.assert_allclose(mine.array, eager.array, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_takes_effect_at_the_next_call(name):
    make, changes = CHANGES[name]
    w, twin = twins(make)
    step = mulgil.compile(w.step, state=w.state, strict=True)
    x = Tensor(np.linspace(-1, 1, 12).reshape(4, 3))
    for change in (lambda w: None, *changes):
        change(w)
        change(twin)
        for _ in range(3):
            equal(step(x), twin.step(x))
        for p, q in zip(w.model.parameters(), twin.model.parameters(), strict=True):
            equal(p, q)
    assert None not in step.programs.values()
    before = len(step.programs)
    step(x)
    assert len(step.programs) == before
