"""Compiled equals eager: every op of the table, every recipe, every part of a training step; and what cannot be compiled is said."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest

import mulgil
from mulgil import Tensor, nn, optim
from mulgil.compile import Compiled
from mulgil.errors import TraceError
from mulgil.nn import functional as F
from mulgil.ops.random import Keep
from mulgil.train.recipes import RECIPES, make_optimizer
from tests.compile.tools import training_step
from tests.ops.table import ROWS, Row
from tests.ops.test_ops import outputs, tensors


@pytest.mark.parametrize("row", [r for r in ROWS if not isinstance(r.op(), Keep)], ids=lambda r: r.name)
def test_every_op_compiled_equals_eager(row: Row):
    """Forward and backward in one compiled function, traced on one set of numbers and replayed on another."""

    def forward_and_backward(*xs):
        ys = outputs(row.op()(*xs))
        wanted = [x for x in xs if x.requires_grad]
        if not wanted:
            return ys
        grads = mulgil.grad([y * y for y in ys if y.requires_grad], wanted, [y.detach() for y in ys if y.requires_grad], allow_unused=True)
        return [*ys, *(g for g in grads if g is not None)]

    first, second = tensors(row, "float64"), tensors(row, "float64")
    for x in second:
        if x.dtype.kind == "f":
            x.array = np.asarray(np.abs(x.array) * 0.9 + 0.07 if row.draw == "positive" else x.array * 0.9)
    strict = not row.name.endswith("_mask")  # as many elements as a mask has: no plan can hold, the function runs eagerly and says so
    compiled = mulgil.compile(forward_and_backward, strict=strict)
    compiled(*first)
    for mine, eager in zip(compiled(*second), forward_and_backward(*second), strict=True):
        assert mine.shape == eager.shape and mine.dtype == eager.dtype
        np.testing.assert_allclose(mine.array, eager.array, rtol=1e-10, atol=1e-12)


def twins(make):
    """The same thing made twice from the same seed."""
    made = []
    for _ in range(2):
        mulgil.manual_seed(3)
        made.append(make())
    return made


def batches(count, size, shape, classes=10, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return [(Tensor(rng.standard_normal((size, *shape)).astype(dtype)), Tensor(rng.integers(0, classes, size))) for _ in range(count)]


def agree(model, twin, rtol):
    for (name, p), q in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        np.testing.assert_allclose(p.array, q.array, rtol=rtol, atol=rtol * max(1e-3, float(np.abs(q.array).max())), err_msg=name)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_in_float64_agree_to_the_last_digits(name):
    recipe = RECIPES[name]
    (model, optimizer), (twin, eager) = twins(lambda: (m := recipe.model().double(), make_optimizer(recipe, m)))
    step = mulgil.compile(training_step(model, optimizer), state=[model, optimizer], strict=True)
    reference = training_step(twin, eager)
    size = 32 if name == "cnn" else 28
    for x, t in batches(6, 12, (1, size, size), dtype="float64"):
        assert float(step(x, t)) == pytest.approx(float(reference(x, t)), rel=1e-10)
    agree(model, twin, 1e-10)


@pytest.mark.parametrize("name", ["softmax", "deep-mlp"])
def test_recipes_in_float32_agree_after_100_steps(name):
    recipe = RECIPES[name]
    (model, optimizer), (twin, eager) = twins(lambda: (m := recipe.model(), make_optimizer(recipe, m)))
    step = mulgil.compile(training_step(model, optimizer), state=[model, optimizer], strict=True)
    reference = training_step(twin, eager)
    for x, t in batches(100, 16, (1, 28, 28)):
        step(x, t)
        reference(x, t)
    agree(model, twin, 1e-5)


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: optim.AdamW(p, lr=0.01),
}


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 5)).double()


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
@pytest.mark.parametrize("clip", [None, 0.05])
def test_optimizers_clipping_and_running_statistics(make, clip):
    (model, optimizer), (twin, eager) = twins(lambda: (m := small(), make(m.parameters())))
    step = mulgil.compile(training_step(model, optimizer, clip=clip), state=[model, optimizer], strict=True)
    reference = training_step(twin, eager, clip=clip)
    for x, t in batches(6, 7, (6,), 5, "float64"):
        step(x, t)
        reference(x, t)
    agree(model, twin, 1e-10)


def test_a_changed_learning_rate_is_seen():
    (model, optimizer), (twin, eager) = twins(lambda: (m := small(), optim.SGD(m.parameters(), lr=0.1)))
    schedules = [optim.lr_scheduler.StepLR(o, 2, 0.5) for o in (optimizer, eager)]
    step = mulgil.compile(training_step(model, optimizer), state=[model, optimizer], strict=True)
    reference = training_step(twin, eager)
    for x, t in batches(7, 7, (6,), 5, "float64"):
        step(x, t)
        reference(x, t)
        for schedule in schedules:
            schedule.step()
    agree(model, twin, 1e-10)


@pytest.mark.parametrize(
    "make",
    [
        lambda ps: optim.AdamW(ps, lr=0.1),
        lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_a_cycle_of_rates_and_momentum_is_followed(make, inside):
    """A schedule steps inside the compiled function or outside, and moves momentum too; there is one plan."""

    def build():
        model = small()
        optimizer = make(model.parameters())
        return model, optimizer, optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=9)

    (model, optimizer, schedule), (twin, eager, other) = twins(build)
    plain, reference = training_step(model, optimizer), training_step(twin, eager)

    def whole(x, t):
        loss = plain(x, t)
        if inside:
            schedule.step()
        return loss

    step = mulgil.compile(whole, state=[model, optimizer], strict=True)
    for x, t in batches(9, 7, (6,), 5, "float64"):
        step(x, t)
        reference(x, t)
        other.step()
        if not inside:
            schedule.step()
        assert optimizer.param_groups[0]["lr"] == eager.param_groups[0]["lr"]
    agree(model, twin, 1e-10)
    assert schedule.last_epoch == other.last_epoch and len(step.programs) <= 2


def test_other_options_make_other_plans():
    (model, optimizer), (twin, eager) = twins(lambda: (m := small(), optim.SGD(m.parameters(), lr=0.1)))
    step, reference = mulgil.compile(training_step(model, optimizer), state=[model, optimizer]), training_step(twin, eager)
    data = list(batches(12, 7, (6,), 5, "float64"))
    with pytest.warns(UserWarning, match="only lr, momentum"):
        for i, (x, t) in enumerate(data):
            for o in (optimizer, eager):
                o.param_groups[0]["weight_decay"] = 0.01 * i
            step(x, t)
            reference(x, t)
    agree(model, twin, 1e-10)


def test_dropout_draws_what_eager_mode_draws():
    losses = []
    for compiled in (False, True):
        mulgil.manual_seed(0)
        model = nn.Sequential(nn.Linear(9, 30), nn.Tanh(), nn.Dropout(0.3), nn.Linear(30, 4), nn.Dropout(0.1)).double()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        step = training_step(model, optimizer)
        step = mulgil.compile(step, state=[model, optimizer], strict=True) if compiled else step
        rng = np.random.default_rng(0)
        x, t = Tensor(rng.normal(size=(20, 9))), Tensor(rng.integers(4, size=20))
        losses.append([float(step(x, t)) for _ in range(5)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-12)


def test_dropout_draws_anew_at_each_replay():
    model = nn.Dropout(0.5)
    f = mulgil.compile(lambda x: model(x), state=[model], strict=True)
    x = mulgil.ones(1000)
    masks = [f(x).array for _ in range(3)]
    assert not any((a == b).all() for a, b in pairwise(masks))
    assert all(set(np.unique(m)) == {0.0, 2.0} for m in masks)
    model.eval()
    assert (f(x).array == 1).all()


def test_each_signature_has_its_plan():
    model, optimizer = (m := small().float(), optim.SGD(m.parameters(), lr=0.1))
    step = mulgil.compile(training_step(model, optimizer), state=[model, optimizer], strict=True)
    for size in (8, 8, 5, 8, 5):
        (batch,) = batches(1, size, (6,), 5)
        assert np.isfinite(float(step(*batch)))
    assert len(step.programs) == 2

    @mulgil.compile(state=[model])
    def predict(x):
        return {"scores": model(x), "best": model(x).argmax(1)}

    assert isinstance(predict, Compiled) and predict.__name__ == "predict"
    x = batches(1, 4, (6,))[0][0]
    model.eval()
    with mulgil.no_grad():
        predict(x)
        again = predict(x)
    np.testing.assert_allclose(again["scores"].array, model(x).array, rtol=1e-5, atol=1e-6)
    assert again["best"].tolist() == model(x).argmax(1).tolist()


def test_a_step_may_return_nothing():
    model = nn.Linear(3, 2)
    before = model.weight.array.copy()

    def step(x):
        model.zero_grad()
        model(x).sum().backward()
        with mulgil.no_grad():
            model.weight -= 0.5 * model.weight.grad

    compiled = mulgil.compile(step, state=[model], strict=True)
    for _ in range(3):
        assert compiled(Tensor(np.ones((1, 3), np.float32))) is None
    np.testing.assert_allclose(model.weight.array, before - 1.5, rtol=1e-6)


def test_results_are_not_overwritten_by_the_next_call():
    f = mulgil.compile(lambda x: x * 2 + 1, strict=True)
    f(mulgil.ones(3))
    first, second = f(mulgil.ones(3)), f(mulgil.zeros(3))
    assert first.tolist() == [3, 3, 3] and second.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["softmax", "deep-mlp", "cnn"])
def test_a_nan_is_not_hidden(name):
    recipe = RECIPES[name]
    model = recipe.model()
    optimizer = make_optimizer(recipe, model)
    step = mulgil.compile(training_step(model, optimizer), state=[model, optimizer], strict=True)
    size = 32 if name == "cnn" else 28
    ((x, t),) = batches(1, 16, (1, size, size))
    assert np.isfinite(float(step(x, t)))
    x.array[3] = np.nan
    assert np.isnan(float(step(x, t)))


def test_a_hand_written_update_is_compiled():
    (w,), (v,) = twins(lambda: (mulgil.Parameter(np.linspace(-1, 1, 5)),))

    def step(p, x):
        loss = ((p * x - 1) ** 2).sum()
        p.grad = None
        loss.backward()
        with mulgil.no_grad():
            p -= 0.1 * p.grad
        return loss

    compiled = mulgil.compile(lambda x: step(w, x), state=[w], strict=True)
    for x, _ in batches(5, 5, (), dtype="float64"):
        assert float(compiled(x)) == pytest.approx(float(step(v, x)))
    np.testing.assert_allclose(w.array, v.array, rtol=1e-12)


# ---- what cannot be compiled

SECRET = np.ones(3, "float32")


def leaks_a_number(x):
    return x * float(x.sum())


def branches(x):
    return x if (x.sum() > 0).item() else -x


def uses_a_stranger(x):
    return x + Tensor(SECRET)


def returns_a_number(x):
    return (x * 2).sum().shape[0:1] or "text"


@pytest.mark.parametrize("function", [leaks_a_number, branches, uses_a_stranger, returns_a_number], ids=lambda f: f.__name__)
def test_untraceable_functions_say_why_and_still_run(function):
    x = mulgil.ones(3)
    with pytest.raises(TraceError) as caught:
        mulgil.compile(function, strict=True)(x)
    assert caught.value.hint
    if function is not returns_a_number:
        assert "test_compile.py:" in str(caught.value)
    lenient = mulgil.compile(function)
    with pytest.warns(UserWarning, match="runs eagerly"):
        first = lenient(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert str(lenient(x)) == str(first) == str(function(x))


def test_an_untraceable_step_is_not_taken_twice():
    calls = []
    w = mulgil.Parameter(np.ones(2, "float32"))

    def step(x):
        calls.append(1)
        w.grad = None
        loss = (w * x).sum()
        loss.backward()
        return loss if loss.item() else None

    with pytest.warns(UserWarning, match="left the step for Python"):
        mulgil.compile(step, state=[w])(mulgil.ones(2))
    assert len(calls) == 1


def test_verify_finds_a_program_that_does_something_else():
    model = nn.Linear(3, 2)
    f = mulgil.compile(lambda x: model(x), state=[model], strict=True, verify=2)
    x = mulgil.ones(4, 3)
    f(x)
    f(x)
    (program,) = f.programs.values()
    program.run = lambda *arrays: (np.zeros((4, 2), "float32"),)
    with pytest.raises(mulgil.errors.MulgilError, match="must do what the eager one does"):
        f(x)


# ---- readable


def test_the_program_can_be_read():
    recipe = RECIPES["deep-mlp"]
    model = recipe.model()
    optimizer = make_optimizer(recipe, model)
    step = mulgil.compile(training_step(model, optimizer), state=[model, optimizer], strict=True)
    ((x, t),) = batches(1, 8, (1, 28, 28))
    step(x, t)
    (program,) = step.programs.values()
    text = str(program.graph)
    products = text.count("MatMul()") + text.count("Product(")  # three forward, three for weights, two for what comes in
    assert products == 8 and text.count("Adam(") == 6 and text.count("Exp()") == 1  # softmax is computed once
    assert "# " in program.source and "def run(" in program.source and "Adam(" in program.source
    assert program.memory["bytes"] <= program.memory["bytes_without_reuse"]


def test_functional_style_without_state():
    f = mulgil.compile(lambda a, b, k: F.softmax(a @ b * k, dim=1), strict=True)
    a, b = Tensor(np.random.default_rng(0).random((3, 4))), Tensor(np.random.default_rng(1).random((4, 5)))
    for k in (1.0, 2.0, 1.0):
        np.testing.assert_allclose(f(a, b, k).array, F.softmax(a @ b * k, dim=1).array, rtol=1e-12)
    assert len(f.programs) == 2  # a Python number is part of the signature
