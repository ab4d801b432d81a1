"""What changes between calls: the compiled function does at the next call what the eager one does. A row is a step and its changes."""

from __future__ import annotations

import copy
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import mulgil
from mulgil import Tensor, nn, optim
from mulgil.errors import GradientError
from mulgil.nn import functional as F
from mulgil.ops import update
from mulgil.ops.function import run_inplace


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


# ---- gradients that outlive a call, and gradients from outside


def batches(n):
    return [Tensor(np.random.default_rng(i).normal(size=(4, 3))) for i in range(n)]


def backward_alone(w):
    def step(x):
        loss = (w.model(x) ** 2).mean()
        loss.backward()
        return loss

    return step


def backward_of_one(w):
    def step(x):
        loss = (w.model[0].weight ** 2).sum() * x.sum()
        loss.backward()
        return loss

    return step


def with_clearing(w):
    def step(x):
        w.model.zero_grad()
        return backward_alone(w)(x)

    return step


def with_zeros(w):
    def step(x):
        w.model.zero_grad(set_to_none=False)
        return backward_alone(w)(x)

    return step


def clipped(w):
    def step(x):
        loss = backward_alone(w)(x)
        nn.utils.clip_grad_norm_(w.model.parameters(), 0.1)
        return loss

    return step


def update_alone(w):
    def step(x):
        w.optimizer.step()
        return x * 1

    return step


def update_and_clearing(w):
    def step(x):
        w.optimizer.step()
        w.optimizer.zero_grad()
        return x * 1

    return step


def never_cleared(w):
    def step(x):
        loss = backward_alone(w)(x)
        w.optimizer.step()
        return loss

    return step


def cleared_at_the_end(w):
    def step(x):
        loss = never_cleared(w)(x)
        w.optimizer.zero_grad()
        return loss

    return step


PARTS = [backward_alone, backward_of_one, with_clearing, with_zeros, clipped, update_alone, update_and_clearing]
STEPS = [*PARTS, never_cleared, cleared_at_the_end]


@pytest.mark.parametrize("make", STEPS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("optimizer", [lambda ps: optim.SGD(ps, lr=0.1), adam], ids=["sgd", "adam"])
def test_gradients_that_outlive_a_call(make, optimizer):
    """Accumulation over calls, the update outside, gradients cleared now and then: values and None as in eager."""
    w, twin = twins(lambda: world(linear(), optimizer))
    compiled, eager = mulgil.compile(make(w), state=w.state, strict=True), make(twin)
    for i, x in enumerate(batches(9)):
        equal(compiled(x), eager(x))
        for p, q in zip(w.model.parameters(), twin.model.parameters(), strict=True):
            equal(p, q)
            equal(p.grad, q.grad)
        if i in (3, 6):
            for u in (w, twin):
                u.optimizer.step()
                u.optimizer.zero_grad()
        if i == 4:
            for u in (w, twin):
                (u.model(x) ** 2).sum().backward()
    assert None not in compiled.programs.values() and len(compiled.programs) <= 6


def test_gradients_of_arguments():
    def f(x):
        loss = (x**3).sum()
        loss.backward()
        return loss

    compiled = mulgil.compile(f, strict=True)
    for values in ([1.0, 2.0], [3.0, 4.0], [5.0, 6.0]):
        x, y = Tensor(np.array(values), requires_grad=True), Tensor(np.array(values), requires_grad=True)
        for _ in range(2):
            equal(compiled(x).detach(), f(y).detach())
            equal(x.grad, y.grad)


@pytest.mark.parametrize("layer", [nn.Tanh(), nn.Dropout(0.5), nn.BatchNorm1d(3)], ids=lambda m: type(m).__name__)
def test_backward_outside_reaches_parameters_and_what_came_before(layer):
    def build():
        m = nn.Sequential(nn.Linear(3, 3), layer, nn.Linear(3, 2)).double()
        return m, nn.Linear(3, 3).double()

    (m, before), (twin, other) = twins(build)
    twin.load_state_dict({k: v.clone() for k, v in m.state_dict().items()})
    compiled = mulgil.compile(lambda x: (m(x), x * 2), state=[m], strict=True)
    for i, x in enumerate(batches(3)):
        for f, _, first in ((compiled, m, before), (lambda x: (twin(x), x * 2), twin, other)):
            mulgil.manual_seed(i)
            layer.load_state_dict({k: v * 0 + 1 for k, v in layer.state_dict().items()})
            y, z = f(first(x))
            ((y**2).sum() + z.sum()).backward()
        for p, q in zip((*m.parameters(), *before.parameters()), (*twin.parameters(), *other.parameters()), strict=True):
            equal(p.grad, q.grad)
            if p is q:
                p.grad = None


def test_two_calls_are_differentiated_together_and_each_once():
    w = nn.Parameter(np.ones(3))
    f = mulgil.compile(lambda x: (w * x) ** 2, state=[w], strict=True)
    a, b = Tensor(np.arange(3.0)), Tensor(np.arange(3.0) + 1)
    for _ in range(3):
        w.grad = None
        y = f(a) + f(b)
        y.sum().backward()
        assert w.grad.tolist() == (2 * (a * a + b * b)).tolist()
        with pytest.raises(GradientError, match="walked before"):
            y.sum().backward()
        y = f(a).sum()
        with mulgil.no_grad():
            w += 0.0
        with pytest.raises(GradientError, match="changed in place"):
            y.backward()


def test_backward_outside_of_a_step_that_did_it_inside_is_refused_at_each_call():
    w = nn.Parameter(np.ones(3))

    @mulgil.compile(state=[w], strict=True)
    def step(x):
        w.grad = None
        loss = (w * x).sum()
        loss.backward()
        return loss

    for _ in range(3):
        with pytest.raises(GradientError, match="compiled step that calls backward itself"):
            step(Tensor(np.ones(3))).backward()


def test_a_step_that_changes_what_a_graph_outside_saved_is_told():
    w = nn.Parameter(np.ones(3))

    @mulgil.compile(state=[w], strict=True)
    def update(x):
        p = w
        with mulgil.no_grad():
            p *= x

    for _ in range(3):
        y = (w * w).sum()
        update(Tensor(np.ones(3)))
        with pytest.raises(GradientError, match="changed in place"):
            y.backward()


def test_a_step_writes_into_its_arguments():
    def f(x):
        with mulgil.no_grad():
            x += 1
            return x * 2

    compiled = mulgil.compile(f, strict=True)
    for make in (lambda: Tensor(np.ones((3, 2))), lambda: Tensor(np.ones((2, 3)).T), lambda: Tensor(np.ones((6, 4)))[::2, ::2]):
        for _ in range(2):
            x, y = make(), make()
            equal(compiled(x), f(y))
            equal(x, y)
    both = mulgil.compile(lambda a, b: f(a) + b)
    with pytest.warns(UserWarning, match="must not share memory") as seen:
        for _ in range(3):
            one, other = Tensor(np.ones(4)), Tensor(np.ones(4))
            equal(both(one[:2], one[1:3]), both.function(other[:2], other[1:3]))
            equal(one, other)
    assert len(seen) == 1


def test_an_argument_that_is_the_state():
    w, v = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))

    def step(p, x):
        with mulgil.no_grad():
            p -= 0.1 * x
        return p.detach() * x

    compiled = mulgil.compile(step, state=[w, v], strict=True)
    for p in (w, v, w, v):
        before = p.array.copy()
        equal(compiled(p, Tensor(np.ones(3))), Tensor(before - 0.1))
        np.testing.assert_allclose(p.array, before - 0.1)


# ---- a compiled model


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.out, self.scale = nn.Linear(3, 4), nn.Linear(4, 2), 1.0

    def forward(self, x, shift=0.0):
        return self.out(F.tanh(self.hidden(x))) * self.scale + shift


def test_a_compiled_model_is_the_model():
    """As `torch.compile(model)` is used: trained from outside, saved, switched, changed."""
    model, twin = (m.double() for m in twins(Net))
    compiled = mulgil.compile(model, strict=True)
    assert isinstance(compiled, Net) and repr(compiled) == repr(model)
    optimizers = [optim.Adam(m.parameters(), lr=0.1) for m in (compiled, twin)]
    for x in batches(4):
        losses = []
        for m, o in zip((compiled, twin), optimizers, strict=True):
            o.zero_grad()
            loss = (m(x, shift=0.5) ** 2).mean()
            loss.backward()
            o.step()
            losses.append(float(loss))
        assert losses[0] == pytest.approx(losses[1], rel=1e-10)
    assert None not in compiled.programs.values() and len(compiled.programs) == 1
    twin.load_state_dict(compiled.state_dict())
    compiled.eval()
    assert not model.training and not model.hidden.training
    compiled.scale = twin.scale = 3.0
    with mulgil.no_grad():
        for _ in range(2):
            equal(compiled(x), twin(x))
    compiled.out = model.out
    assert type(copy.deepcopy(compiled)) is Net and Net.registry()[f"{Net.__module__}.{Net.__qualname__}"] is Net


def test_an_optimizer_from_outside_begins_as_it_does_in_eager_mode():
    """PyTorch's idiom: the first gradient becomes the buffer, which the later ones join."""

    class Own(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.1})

        def update(self, params, group, lr):
            for p in params:
                state = self.state.get(p)
                if state is None:
                    self.state[p] = {"buffer": p.grad.clone()}
                else:
                    run_inplace(update.Assign(), state["buffer"].array, (state["buffer"] * 0.5 + p.grad).array)
                run_inplace(update.SGD(), p.array, self.state[p]["buffer"].array, lr)
                p.bump()

    w, twin = twins(lambda: world(linear(), Own))
    step = mulgil.compile(w.step, state=w.state, strict=True)
    for x in batches(5):
        equal(step(x), twin.step(x))
    for p, q in zip(w.model.parameters(), twin.model.parameters(), strict=True):
        equal(p, q)
    assert len(step.programs) == 1


def test_verify_replays_beside_an_eager_run():
    w, twin = twins(lambda: world(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)), adam))
    schedule, other = (optim.lr_scheduler.StepLR(u.optimizer, 1, 0.5) for u in (w, twin))

    def step(x):
        loss = w.step(x)
        schedule.step()
        return loss

    compiled = mulgil.compile(step, state=[w], strict=True, verify=2)
    mulgil.manual_seed(0)
    mine = [float(compiled(x)) for x in batches(5)]
    mulgil.manual_seed(0)
    eager = [float((twin.step(x), other.step())[0]) for x in batches(5)]
    assert mine == pytest.approx(eager, rel=1e-10)


def test_a_step_by_hand_clears_gradients_by_hand():
    w, v = nn.Parameter(np.ones(3)), nn.Parameter(np.ones(3))

    def make(p):
        def step(x):
            p.grad = None
            loss = ((p * x - 1) ** 2).sum()
            loss.backward()
            with mulgil.no_grad():
                q = p
                q -= 0.1 * p.grad
            return loss

        return step

    compiled, eager = mulgil.compile(make(w), state=[w], strict=True), make(v)
    for i in range(6):
        x = Tensor(np.arange(3.0) + i)
        equal(compiled(x).detach(), eager(x).detach())
        equal(w, v)
        if i == 3:
            for p in (w, v):
                p.grad = Tensor(np.ones(3))
    assert len(compiled.programs) == 2


def test_code_that_asks_for_a_gradient_is_told():
    m = linear().double()
    f = lambda x: x * sum(p.grad is not None for p in m.parameters())  # noqa: E731
    compiled = mulgil.compile(f, state=[m], strict=True)
    x = batches(1)[0]
    equal(compiled(x), f(x))
    m(x).sum().backward()
    for _ in range(2):
        equal(compiled(x), f(x))
    m.zero_grad()
    equal(compiled(x), f(x))


# ---- options that Python reads


class ByHand(optim.Optimizer):
    """An optimizer from outside whose update reads lr as a number."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})

    def update(self, params, group, lr):
        for p in params:
            run_inplace(update.Assign(), p.array, (p.detach() - group["lr"] * p.grad).array)
            p.bump()


def test_an_option_that_python_reads_is_seen():
    w, twin = twins(lambda: world(linear(), ByHand))
    step = mulgil.compile(w.step, state=w.state, strict=True)
    reads = mulgil.compile(lambda x: x * w.optimizer.param_groups[0]["lr"], state=w.state, strict=True)
    for lr in (0.1, 0.1, 0.5, 0.5, 0.1):
        for u in (w, twin):
            u.optimizer.param_groups[0]["lr"] = lr
        for x in batches(2):
            equal(step(x), twin.step(x))
            equal(reads(x), x * lr)


def test_a_setting_that_changes_at_each_call_is_told_once_and_makes_no_more_plans():
    w, twin = twins(lambda: forward(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.0))))
    compiled = mulgil.compile(w.step, state=w.state)
    with pytest.warns(UserWarning, match="may change from step to step") as seen:
        for i, x in enumerate(batches(14)):
            for u in (w, twin):
                u.model[1].p = i / 20
            mulgil.manual_seed(i)
            mine = compiled(x)
            mulgil.manual_seed(i)
            equal(mine, twin.step(x))
    assert len(seen) == 1 and len(compiled.programs) <= 9


def test_old_settings_are_forgotten():
    w = world(linear(), adam)
    step = mulgil.compile(w.step, state=w.state, strict=True)
    for x in batches(15):
        step(x)
        step(x)
        w.optimizer.load_state_dict(w.optimizer.state_dict())
    assert len(step.programs) <= 9


def test_threads_train_one_model():
    w, twin = twins(lambda: world(linear()))
    step = mulgil.compile(w.step, state=w.state, strict=True)
    x = batches(1)[0]
    threads = [threading.Thread(target=lambda: [step(x) for _ in range(20)]) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for _ in range(80):
        twin.step(x)
    for p, q in zip(w.model.parameters(), twin.model.parameters(), strict=True):
        equal(p, q)


def test_a_model_rebound_that_is_not_in_state_runs_eagerly():
    model = linear().double()
    compiled = mulgil.compile(lambda x: model(x), state=[model])
    x = batches(1)[0]
    compiled(x)
    compiled(x)
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).double()
    with pytest.warns(UserWarning, match="list its owner in state"):
        for _ in range(2):
            equal(compiled(x), model(x))


@pytest.mark.parametrize("kind", ["number", "tensor"])
def test_a_model_that_notes_something_at_each_call(kind):
    class Noting(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = 0 if kind == "number" else None

        def forward(self, x):
            self.seen = self.seen + 1 if kind == "number" else x * 2
            return x * 3

    m = Noting()
    compiled = mulgil.compile(lambda x: m(x), state=[m])
    with pytest.warns(UserWarning, match="Python runs at the trace alone") as seen:
        for i, x in enumerate(batches(5)):
            equal(compiled(x), x * 3)
            assert m.seen == i + 1 if kind == "number" else (m.seen.array == x.array * 2).all()
    assert len(seen) == 1


def test_notes_on_a_model_that_nobody_reads_change_nothing():
    m = Net().double()
    compiled = mulgil.compile(lambda x: m(x), state=[m], strict=True)
    with mulgil.no_grad():
        for i, x in enumerate(batches(12)):
            m.steps_done = i
            equal(compiled(x), m(x))
    assert len(compiled.programs) == 1
