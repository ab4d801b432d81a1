"""What a step does beside making values: writes, draws, schedules, refusals. A replay does the same, in the same order."""

from __future__ import annotations

import numpy as np
import pytest

import mulgil
from mulgil import Parameter, Tensor, nn, optim
from mulgil.nn import functional as F
from tests.compile.tools import same_over_calls, training_step

X = np.random.default_rng(0).standard_normal((4, 3))
MASK = np.array([True, False, True, False])
ROWS = np.array([2, 0, 2])


def written(write, dtype="float64", quiet=True):
    """A function that writes into its state w in some way, and returns what is to be seen of it."""

    def make():
        w = Tensor(np.arange(12.0).reshape(4, 3).astype(dtype))

        def function(*args):
            if quiet:
                with mulgil.no_grad():
                    return write(w, *args)
            return write(w, *args)

        return function, [w]

    return make


def augmented(w, x):
    w += x
    w -= 0.5 * x
    w *= 1.1
    w /= 1.5
    return w * 1


def set_rows(w, x):
    w[0] = 5.0
    w[1] = x[2]
    w[2:, 1] = x[0, 0]
    return w.sum()


def set_element(w, x):
    w[1, 2] = x[0, 0]
    w[-1, 0] = 7
    return w.sum(0)


def set_mask(w, x):
    w[x > 0] = 0.5
    w[Tensor(MASK) if False else x[:, 0] < 0] = x[0]
    return w * 2


def set_picked(w, x):
    rows = x[:3, 0].argmax() * 0 + x.argmax(0)
    w[rows] = x[0]
    w[rows, 1] = x[1, :3]
    return w * 2


def set_listed(w, x):
    w[[0, 2]] = x[:2]
    w[[1, 3], [0, 2]] = 4.0
    return w * 2


def set_overlapping(w, x):
    w[1:] = w[:-1]
    w[:, ::-1] = w * 1 if False else w
    return w + x


def old_version(w, x):
    before = w * 2
    w.add_(x)
    return before + w


def view_before(w, x):
    turned = w.T
    a = turned.sum(0)
    w.mul_(2.0).add_(x)
    return a + turned.sum(0)


def view_written(w, x):
    w.T.add_(x.T)
    first = w[0]
    rest = w[1:]
    first.mul_(3)
    w.reshape(12)[4:6].fill_(1.25)
    w.reshape(2, 6).T[1:3].sub_(0.5)
    return first + rest.sum(0), w * 1


def view_of_view(w, x):
    middle = w[1:3]
    corner = middle[:, 1:]
    corner.add_(x[:2, :2])
    middle.mul_(2)
    return corner * 1, w.sum(), middle.sum(1)


def temporary(w, x):
    a = x * 1
    a += 1
    a[0] = w[0]
    b = a.T
    a.mul_(2)
    return a, b.sum(1)


def temporary_view(w, x):
    a = x @ x.T
    a[1].zero_()
    a.T[0].fill_(2)
    return a


def result_then_written(w, x):
    y = x * 2
    z = y[1:]
    y.add_(w)
    return y, z


def argument(w, x):
    x.mul_(2)
    x[0] = w[0]
    return x.sum()


def argument_view(w, x):
    x.T[1].add_(1)
    part = x[:, 1:]
    part -= w[:, 1:]
    return part * 2


def all_methods(w, x):
    w.copy_(x).add_(x, alpha=0.5).sub_(2).sub_(x, alpha=2).mul_(x).div_(3.0).clamp_(-0.5, 0.7)
    w.clamp_(min=-0.4).clamp_(max=0.3)
    return w * 1


def zero_and_fill(w, x):
    total = w.sum()
    w.zero_()
    w.fill_(float("inf")).fill_(2)
    w.add_(x)
    return total


def made_and_written(w, x):
    a = mulgil.zeros(4, 3, dtype=w.dtype)
    a.add_(x)
    a[0] = 1.0
    b = mulgil.tensor([1.0, 2.0, 3.0], dtype=w.dtype)
    b *= 2
    w.add_(a + b)
    return a, b


def draws_into(w, x):
    w.uniform_(-1, 1)
    a = w * 1
    w[1].normal_(1.0, 2.0)
    return a


def detached(w, x):
    w.detach().add_(x)
    w.data.mul_(2)
    return w.sum()


WRITES = [
    augmented, set_rows, set_element, set_mask, set_picked, set_listed, set_overlapping, old_version, view_before, view_written,
    view_of_view, temporary, temporary_view, result_then_written, argument, argument_view, all_methods, zero_and_fill,
    made_and_written, draws_into, detached,
]  # fmt: skip


@pytest.mark.parametrize("write", WRITES, ids=lambda w: w.__name__)
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_every_write_is_done_again(write, dtype):
    same_over_calls(written(write, dtype), X.astype(dtype), rtol=1e-6 if dtype == "float64" else 1e-2)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_write_reaches_an_argument_of_any_strides(order):
    compiled = mulgil.compile(lambda x: x.mul_(2).sum(), strict=True)
    for _ in range(3):
        x = Tensor(np.array(X, order=order))
        compiled(x)
        np.testing.assert_allclose(x.array, 2 * X)


def test_what_an_eager_graph_saved_is_guarded_against_a_compiled_write():
    w = Parameter(np.ones(3))
    step = mulgil.compile(lambda x: w.detach().add_(x).sum(), state=[w], strict=True)
    x = Tensor(np.ones(3))
    for _ in range(3):
        loss = (w * w).sum()
        step(x)
        with pytest.raises(mulgil.errors.GradientError, match="changed in place"):
            loss.backward()


# ---- refusals


def classified(loss):
    def make():
        model = nn.Linear(3, 2)
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return training_step(model, optimizer, loss), [model, optimizer]

    return make


LOSSES = {
    "cross_entropy": F.cross_entropy,
    "ignored": lambda y, t: F.cross_entropy(y, t, ignore_index=1),
    "nll": lambda y, t: F.nll_loss(F.log_softmax(y, 1), t),
    "one_hot": lambda y, t: ((y - F.one_hot(t, 2)) ** 2).mean(),
    "index": lambda y, t: y[mulgil.arange(4), t].mean(),
    "index_both": lambda y, t: y[t % 4, t].mean(),
    "column": lambda y, t: y.T[t].mean(),
}


@pytest.mark.parametrize("wrong", [9, 2, -1, -7, 100000, 1])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", ["int64", "uint8", "int32"])
def test_labels_out_of_range_are_refused_before_anything_changes(loss, wrong, dtype):
    if dtype != "int64" and (wrong not in (9, -1) or (dtype == "uint8" and wrong < 0)):
        return
    function, state = classified(LOSSES[loss])()
    step, (model, optimizer) = mulgil.compile(function, state=state, strict=True), state
    good, bad = Tensor(np.array([0, 1, 1, 0], dtype)), Tensor(np.array([0, 1, wrong, 0]).astype(dtype))
    x = Tensor(X.astype("float32"))
    for _ in range(2):
        step(x, good)
    before = [a.copy() for a in (model.weight.array, model.bias.array, *(s["momentum_buffer"].array for s in optimizer.state.values()))]
    try:
        LOSSES[loss](model(x), bad)
    except Exception as error:
        with pytest.raises(type(error)) as caught:
            step(x, bad)
        assert str(caught.value) == str(error)
        after = model.weight.array, model.bias.array, *(s["momentum_buffer"].array for s in optimizer.state.values())
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)
    else:
        step(x, bad)
    step(x, good)


def test_an_update_after_a_refused_index_is_not_done():
    w, table = Tensor(np.zeros(3)), Tensor(np.arange(4.0))

    def function(rows):
        picked = table[rows + 0]
        w.add_(1)
        return picked

    compiled = mulgil.compile(function, state=[w, table], strict=True)
    for i in range(3):
        compiled(Tensor(np.array([i, 1])))
    with pytest.raises(IndexError):
        compiled(Tensor(np.array([1, 9])))
    assert w.tolist() == [3, 3, 3]


# ---- schedules


class Plain(optim.Optimizer):
    """An optimizer from outside, with arithmetic of its own."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    def update(self, params, group, lr):
        with mulgil.no_grad():
            for p in params:
                p.sub_(Tensor(lr).to(dtype=p.dtype) * p.grad)


class Numbered(Plain):
    """One that reads its learning rate as a Python number."""

    def update(self, params, group, lr):
        with mulgil.no_grad():
            for p in params:
                p -= group["lr"] * p.grad


class Whole(Plain):
    """One that replaces the whole step."""

    def step(self, closure=None):
        with mulgil.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(p.grad, alpha=-group["lr"])


class Remembering(Plain):
    """One with a state, made with public functions at its first step."""

    def update(self, params, group, lr):
        with mulgil.no_grad():
            for p in params:
                if p not in self.state:
                    self.state[p] = {"sum": mulgil.zeros_like(p)}
                total = self.state[p]["sum"]
                total.mul_(0.9).add_(p.grad)
                p.sub_(total * group["lr"])


MAKERS = {
    "sgd": lambda ps: optim.SGD(ps, lr=0.1),
    "momentum": lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9, dampening=0.1),
    "adam": lambda ps: optim.Adam(ps, lr=0.1),
    "plain": Plain,
    "numbered": Numbered,
    "whole": Whole,
    "remembering": Remembering,
}
PLACES = ["before", "between", "after", "twice", "outside"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", MAKERS)
def test_a_schedule_steps_where_it_stands(kind, place):
    def make():
        model = nn.Linear(3, 2).double()
        optimizer = MAKERS[kind](model.parameters())
        schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

        def step(x):
            if place == "before":
                schedule.step()
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            if place == "between":
                schedule.step()
            loss.backward()
            optimizer.step()
            if place in ("after", "twice"):
                schedule.step()
            if place == "twice":
                optimizer.zero_grad()
                (model(x) ** 2).sum().backward()
                optimizer.step()
                schedule.step()
            return loss

        if place != "outside":
            return step, [model, optimizer]

        class Outer:
            def __call__(self, x):
                return step(x)

        return Outer(), [model, optimizer]

    frozen = kind in ("numbered", "whole", "remembering")  # a rate that Python reads, and that changes inside, is not followed
    compiled = same_over_calls(make, X, rtol=1e-9, strict=not frozen)
    assert frozen or len(compiled.programs) <= 2


@pytest.mark.parametrize("kind", MAKERS)
def test_a_changed_rate_is_seen_by_every_optimizer(kind):
    results = []
    for compiled in (False, True):
        mulgil.manual_seed(0)
        model = nn.Linear(3, 2).double()
        optimizer = MAKERS[kind](model.parameters())
        step = training_step(model, optimizer, lambda y, t: ((y - t) ** 2).mean())
        step = mulgil.compile(step, state=[model, optimizer], strict=True) if compiled else step
        x, t = Tensor(X), Tensor(X[:, :2])
        for rate in (0.1, 0.1, 0.5, 0.5, 0.01, 0.1):
            optimizer.param_groups[0]["lr"] = rate
            step(x, t)
        results.append(model.weight.array.copy())
    np.testing.assert_allclose(results[1], results[0], rtol=1e-10)


def test_several_optimizers_each_with_a_schedule():
    def make():
        a, b = nn.Linear(3, 3).double(), nn.Linear(3, 2).double()
        first, second = optim.Adam(a.parameters(), lr=0.1), Plain(b.parameters())
        slow, quick = optim.lr_scheduler.StepLR(first, 2), optim.lr_scheduler.ExponentialLR(second, 0.7)

        def step(x):
            first.zero_grad()
            second.zero_grad()
            loss = (b(a(x)) ** 2).mean()
            loss.backward()
            first.step()
            slow.step()
            second.step()
            quick.step()
            return loss

        return step, [a, b, first, second]

    same_over_calls(make, X, calls=6, rtol=1e-9)


# ---- constants and draws


def one_hot(x, t):
    return F.one_hot(t, 5) * 2, F.one_hot(t, 5).float() @ x[:, :1].float().expand(4, 3).reshape(4, 3)[:1].T.expand(3, 5).T * 1


MADE = {
    "tensor": lambda x, t: x + mulgil.tensor([1.0, 2.0, 3.0], dtype=x.dtype),
    "Tensor": lambda x, t: x * Tensor([[1.0], [2.0], [3.0], [4.0]]),
    "list": lambda x, t: x + [1.0, 2.0, 3.0],  # noqa: RUF005
    "zeros": lambda x, t: mulgil.zeros(4, 3) + x,
    "ones_like": lambda x, t: mulgil.ones_like(x) * x + mulgil.zeros_like(x),
    "full": lambda x, t: mulgil.full((3,), 2.5) * x + mulgil.full_like(x, 3),
    "eye": lambda x, t: x @ mulgil.eye(3, dtype=x.dtype),
    "arange": lambda x, t: x * mulgil.arange(3) + mulgil.linspace(0, 1, 3),
    "alone": lambda x, t: (mulgil.arange(5), mulgil.zeros(2), x * 1),
    "index_list": lambda x, t: x[[0, 0]] + x[[True, False, True, False]],
    "index_range": lambda x, t: x[mulgil.arange(4), t % 3],
    "one_hot": lambda x, t: (F.one_hot(t, 5), F.one_hot(t, 5).float()),
    "where": lambda x, t: mulgil.where(x > 0, 1.0, x),
    "stacked": lambda x, t: mulgil.stack([x, mulgil.zeros_like(x)]),
    "masks": lambda x, t: ((x > 0) & (x < 1), (x > 0) | ~(x > 1), (x > 0) ^ (x > 1)),
    "counted": lambda x, t: ((x > 0) * 2, (x > 0).sum(), (x > 0) + (x < 1), (x > 0).float().mean()),
    "integers": lambda x, t: (t + 1, t * t, t // 2, t % 3, -t, ~t, t & 3, t.sum(), t.float() / 2),
    "scalars": lambda x, t: (x.sum().softmax(0), x.mean().sum(), x.sum().mean(), x.sum().amax(), x.sum().logsumexp(0)),
}


@pytest.mark.parametrize("name", MADE)
def test_what_a_step_makes_of_python_numbers(name):
    same_over_calls(lambda: (MADE[name], []), X, np.array([0, 1, 4, 2]))


DRAWN = {
    "rand": lambda: mulgil.rand(3),
    "randn": lambda: mulgil.randn(2, 3, dtype="float64"),
    "randint": lambda: mulgil.randint(0, 100, (3,)),
    "randperm": lambda: mulgil.randperm(3),
    "rand_like": lambda: mulgil.rand_like(Tensor(np.zeros((4, 3), "float32"))),
    "randn_like": lambda: mulgil.randn_like(Tensor(np.zeros((4, 3), "float32"))),
    "uniform_": lambda: mulgil.zeros(3).uniform_(1, 2),
    "normal_": lambda: mulgil.zeros(3).normal_(1, 2),
    "init": lambda: nn.init.uniform_(mulgil.zeros(3), -1, 1),
}


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_drawn_inside_is_drawn_anew(name):
    def function(x):
        a = DRAWN[name]()
        y = F.dropout(x, 0.5)
        return a + 0, y, DRAWN[name]() * 1

    same_over_calls(lambda: (function, []), X)


def test_dropout_between_draws_keeps_the_order():
    def function(x):
        return F.dropout(x, 0.5) + mulgil.rand(3, dtype="float64"), F.dropout(x * 2, 0.25), mulgil.randn(2), F.dropout(x, 0.1)

    same_over_calls(lambda: (function, []), X)


# ---- crashes


def test_values_may_be_limited_beside_a_convolution():
    def make():
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 2)).double()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, t):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), t)
            loss.backward()
            nn.utils.clip_grad_value_(model.parameters(), 0.01)
            optimizer.step()
            return loss

        return step, [model, optimizer]

    x = np.random.default_rng(0).standard_normal((5, 1, 6, 6))
    same_over_calls(make, x, np.array([0, 1, 1, 0, 1]), rtol=1e-8)


def test_normalised_single_channels_beside_a_convolution():
    def make():
        model = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 2)).double()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        return training_step(model, optimizer), [model, optimizer]

    x = np.random.default_rng(0).standard_normal((5, 1, 6, 6))
    same_over_calls(make, x, np.array([0, 1, 1, 0, 1]), rtol=1e-8)
