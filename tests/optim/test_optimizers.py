# ruff: noqa: E501  (the tables are easier to read in long rows)
"""Optimizers, schedules and clipping: PyTorch's after 50 steps in float64, to 1e-10; and what an optimizer refuses."""

from __future__ import annotations

import numpy as np
import pytest

import mulgil
from mulgil import nn, optim
from mulgil.errors import DTypeError, GradientError, MulgilError, OptionError
from mulgil.optim import lr_scheduler

STEPS = 50
rng = np.random.default_rng(0)
X, Y = rng.standard_normal((30, 6)), rng.standard_normal((30, 2))
START = [rng.standard_normal((5, 6)), rng.standard_normal(5), rng.standard_normal((2, 5)), rng.standard_normal(2)]


def ours():
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    for p, value in zip(model.parameters(), START, strict=True):
        p.array[...] = value
    return model


def theirs(torch):
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()
    with torch.no_grad():
        for p, value in zip(model.parameters(), START, strict=True):
            p.copy_(torch.tensor(value))
    return model


def train(lib, model, make_optimizer, make_schedule=None, clip=None, steps=STEPS, skip=None):
    """The same loop for both libraries; returns the parameters at the end and the learning rates on the way."""
    tensor, nn_ = lib.tensor, lib.nn
    optimizer = make_optimizer(lib, model)
    schedule = make_schedule(lib, optimizer) if make_schedule else None
    rates = []
    for i in range(steps):
        optimizer.zero_grad()
        rows = slice(i % 3 * 10, i % 3 * 10 + 10)
        loss = nn_.functional.mse_loss(model(tensor(X[rows])), tensor(Y[rows]))
        loss.backward()
        if skip and skip(i):
            next(model.parameters()).grad = None
        if clip:
            clip(lib, model)
        optimizer.step()
        rates.append([group["lr"] for group in optimizer.param_groups])
        if schedule:
            schedule.step()
            assert schedule.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
    return [np.array(p.detach().numpy()) for p in model.parameters()], np.array(rates)


def same(make_optimizer, make_schedule=None, **options):
    torch = pytest.importorskip("torch")
    mine, my_rates = train(mulgil, ours(), make_optimizer, make_schedule, **options)
    want, rates = train(torch, theirs(torch), make_optimizer, make_schedule, **options)
    assert max(abs(a - s).max() for a, s in zip(mine, START, strict=True)) > 1e-4  # it moved
    np.testing.assert_allclose(my_rates, rates, rtol=1e-10, atol=1e-14)
    for a, b in zip(mine, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


OPTIMIZERS = {
    "sgd": lambda lib, m: lib.optim.SGD(m.parameters(), lr=0.05),
    "sgd default lr": lambda lib, m: lib.optim.SGD(m.parameters()),
    "weight decay": lambda lib, m: lib.optim.SGD(m.parameters(), lr=0.05, weight_decay=0.01),
    "momentum": lambda lib, m: lib.optim.SGD(m.parameters(), lr=0.05, momentum=0.9),
    "momentum, decay": lambda lib, m: lib.optim.SGD(m.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4),
    "dampening": lambda lib, m: lib.optim.SGD(m.parameters(), lr=0.05, momentum=0.9, dampening=0.3, weight_decay=0.01),
    "nesterov": lambda lib, m: lib.optim.SGD(m.parameters(), lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.01),
    "adam": lambda lib, m: lib.optim.Adam(m.parameters()),
    "adam, options": lambda lib, m: lib.optim.Adam(m.parameters(), lr=0.02, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.02),
    "adamw": lambda lib, m: lib.optim.AdamW(m.parameters(), lr=0.02),
    "adamw, decay": lambda lib, m: lib.optim.AdamW(m.parameters(), lr=0.02, weight_decay=0.2, betas=(0.8, 0.95)),
    "groups": lambda lib, m: lib.optim.SGD([{"params": m[0].parameters()}, {"params": [m[2].weight, m[2].bias], "lr": 0.2, "momentum": 0.5}], lr=0.05, weight_decay=0.01),
    "adam groups": lambda lib, m: lib.optim.Adam([{"params": m[0].parameters(), "betas": (0.5, 0.9)}, {"params": m[2].parameters(), "lr": 0.02}], lr=0.05),
    "named": lambda lib, m: lib.optim.Adam(m.named_parameters(), lr=0.05),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_is_pytorchs(name):
    same(OPTIMIZERS[name])


@pytest.mark.parametrize("name", ["dampening", "adam", "adamw", "nesterov"])
def test_parameters_without_a_gradient_are_left_out(name):
    """Their momentum and their step count stay behind, as in PyTorch."""
    same(OPTIMIZERS[name], skip=lambda i: i in (0, 1, 7, 8, 30))


SCHEDULES = {
    "step": lambda lib, o: lib.optim.lr_scheduler.StepLR(o, 7, 0.5),
    "multi": lambda lib, o: lib.optim.lr_scheduler.MultiStepLR(o, [10, 12, 40], gamma=0.3),
    "exponential": lambda lib, o: lib.optim.lr_scheduler.ExponentialLR(o, 0.93),
    "cosine": lambda lib, o: lib.optim.lr_scheduler.CosineAnnealingLR(o, T_max=STEPS, eta_min=1e-4),
    "cosine, there and back": lambda lib, o: lib.optim.lr_scheduler.CosineAnnealingLR(o, T_max=20),
    "lambda": lambda lib, o: lib.optim.lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    "one cycle": lambda lib, o: lib.optim.lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=STEPS),
    "one cycle, linear": lambda lib, o: lib.optim.lr_scheduler.OneCycleLR(o, 0.1, epochs=5, steps_per_epoch=11, pct_start=0.4, anneal_strategy="linear", cycle_momentum=False),
    "one cycle, three": lambda lib, o: lib.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=STEPS, three_phase=True, div_factor=10, final_div_factor=100),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_is_pytorchs(name):
    optimizer = "adam" if name == "one cycle, three" else "momentum, decay"
    same(OPTIMIZERS[optimizer], SCHEDULES[name])


@pytest.mark.parametrize("name", ["step", "cosine", "one cycle"])
def test_schedule_with_groups(name):
    same(OPTIMIZERS["groups"], SCHEDULES[name])


CLIPS = {
    "norm": lambda lib, m: lib.nn.utils.clip_grad_norm_(m.parameters(), 0.3),
    "value": lambda lib, m: lib.nn.utils.clip_grad_value_(m.parameters(), 0.05),
}


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_clipping_is_pytorchs(clip, name):
    same(OPTIMIZERS[name], SCHEDULES["step"], clip=CLIPS[clip])


def test_clip_grad_norm_returns_the_norm():
    p = nn.Parameter(np.zeros(2))
    p.grad = mulgil.tensor(np.array([3.0, 4.0]))
    assert nn.utils.clip_grad_norm_(p, 10.0).item() == 5.0 and p.grad.tolist() == [3, 4]
    assert nn.utils.clip_grad_norm_([p, nn.Parameter(np.zeros(1))], 1.0).item() == 5.0
    np.testing.assert_allclose(p.grad.numpy(), [0.6, 0.8], rtol=1e-6)
    assert nn.utils.clip_grad_norm_([nn.Parameter(np.zeros(1))], 1.0).item() == 0
    p.grad = mulgil.tensor(np.array([np.inf, 0.0]))
    with pytest.raises(GradientError, match="finite"):
        nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    with pytest.raises(OptionError, match="norm_type"):
        nn.utils.clip_grad_norm_(p, 1.0, norm_type=1)


# ---------------------------------------------------------------------- state
@pytest.mark.parametrize("name", ["momentum", "adam", "adamw, decay", "adam groups"])
def test_a_resumed_run_is_exact(name):
    make, schedule = OPTIMIZERS[name], SCHEDULES["cosine"]
    whole, _ = train(mulgil, ours(), make, schedule, steps=24, skip=lambda i: i == 2)
    half_model, saved = ours(), {}

    def keep(lib, model):
        saved["optimizer"] = make(lib, model)
        return saved["optimizer"]

    def keep_schedule(lib, o):
        saved["schedule"] = schedule(lib, o)
        return saved["schedule"]

    train(mulgil, half_model, keep, keep_schedule, steps=12, skip=lambda i: i == 2)
    states = saved["optimizer"].state_dict(), saved["schedule"].state_dict(), half_model.state_dict()
    model = ours()
    model.load_state_dict(states[2])

    def resume(lib, m):
        return make(lib, m)

    def resume_schedule(lib, o):
        s = schedule(lib, o)
        o.load_state_dict(states[0])
        s.load_state_dict(states[1])
        return s

    resumed, _ = train(mulgil, model, resume, resume_schedule, steps=12)
    for a, b in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_state_dict_is_pytorchs(name):
    torch = pytest.importorskip("torch")
    made = {}
    for lib, model in ((mulgil, ours()), (torch, theirs(torch))):
        train(lib, model, lambda lib, m: made.setdefault(lib, OPTIMIZERS[name](lib, m)), steps=3)
    a, b = made[mulgil].state_dict(), made[torch].state_dict()
    assert set(a["state"]) == set(b["state"]) and a["param_groups"][0]["params"] == b["param_groups"][0]["params"]
    for number, values in a["state"].items():
        assert set(values) == set(b["state"][number])
        for key, value in values.items():
            np.testing.assert_allclose(value.numpy(), b["state"][number][key].numpy(), rtol=1e-10, atol=1e-12)
    plain = {n: {key: value.numpy() for key, value in values.items()} for n, values in b["state"].items()}
    made[mulgil].load_state_dict({**b, "state": plain})
    loaded = made[mulgil].state_dict()["state"]
    assert all(np.array_equal(loaded[n][key].numpy(), value) for n, values in plain.items() for key, value in values.items())


def test_state_belongs_to_the_parameter():
    model = ours()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(mulgil.tensor(X)).sum().backward()
    optimizer.step()
    assert optimizer.state[model[0].weight]["momentum_buffer"].shape == (5, 6)


def test_a_load_that_fails_changes_nothing():
    model = ours()
    optimizer = optim.Adam(model.parameters(), lr=0.3)
    with pytest.raises(OptionError, match="sizes"):
        optimizer.load_state_dict({"state": {}, "param_groups": [{"params": [0], "lr": 9.0}]})
    with pytest.raises(MulgilError, match="shape"):
        optimizer.load_state_dict({"state": {0: {"exp_avg": np.zeros(3)}}, "param_groups": [{"params": [0, 1, 2, 3], "lr": 9.0}]})
    assert optimizer.param_groups[0]["lr"] == 0.3 and not optimizer.state


# ---------------------------------------------------------------------- the frame
def test_zero_grad_closure_and_lr_in_float32():
    model = nn.Linear(3, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    x = mulgil.ones(1, 3)

    def closure():
        optimizer.zero_grad()
        loss = model(x).sum()
        loss.backward()
        return loss

    before = model.weight.array.copy()
    with mulgil.no_grad():
        loss = optimizer.step(closure)
    assert loss.requires_grad
    np.testing.assert_allclose(model.weight.array, before - 0.5, rtol=1e-6)
    assert model.weight.dtype == np.float32
    optimizer.param_groups[0]["lr"] = 0.0
    after = model.weight.array.copy()
    optimizer.step()
    np.testing.assert_array_equal(model.weight.array, after)
    optimizer.zero_grad(set_to_none=False)
    assert model.weight.grad.tolist() == [[0, 0, 0]]
    optimizer.zero_grad()
    assert model.weight.grad is None


def test_a_step_between_forward_and_backward_is_noticed():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x = mulgil.ones(1, 2)
    model(x).sum().backward()
    loss = model(x).sum()
    optimizer.step()
    with pytest.raises(GradientError, match="changed in place"):
        loss.backward()


def test_open_parameters_are_trained_once_they_have_a_shape():
    model = nn.Sequential(nn.Linear(None, 4), nn.Linear(4, 1))
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    model(mulgil.ones(2, 3)).sum().backward()
    before = model[0].weight.array.copy()
    optimizer.step()
    assert abs(model[0].weight.array - before).max() > 0.05


def test_every_update_goes_through_run():
    """What the compiler will see: ops only, on the parameters' own arrays."""
    from mulgil.ops import function

    model, seen = ours(), []
    optimizer = optim.Adam(model.parameters())
    model(mulgil.tensor(X)).sum().backward()
    with function.observed(lambda op, phase, ctx, arrays, outputs: seen.append((type(op).__name__, outputs))):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert [name for name, _ in seen] == ["ClipFactor", *["Scale"] * 4, "MovingOptions", "BiasCorrection", *["Adam"] * 4]
    assert all(outputs[0] is p.array for (_, outputs), p in zip(seen[-4:], model.parameters(), strict=True))


def test_add_param_group():
    model = ours()
    optimizer = optim.SGD(model[0].parameters(), lr=0.1)
    optimizer.add_param_group({"params": model[2].parameters(), "lr": 0.5})
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5]
    assert "lr: 0.5" in repr(optimizer) and repr(optimizer).startswith("SGD (\nParameter Group 0")
    model(mulgil.tensor(X)).sum().backward()
    optimizer.step()
    with pytest.raises(OptionError, match="only once"):
        optimizer.add_param_group({"params": model[0].weight})


WEIGHT = nn.Parameter(np.zeros(3))
REFUSED = {
    "empty": (lambda: optim.SGD([], lr=0.1), OptionError, "at least one parameter"),
    "used up": (lambda: optim.SGD(iter([]), lr=0.1), OptionError, "used up"),
    "not called": (lambda: optim.SGD(nn.Linear(1, 1).parameters, lr=0.1), OptionError, r"model.parameters\(\)"),
    "a single tensor": (lambda: optim.SGD(WEIGHT, lr=0.1), OptionError, "pass a list"),
    "a module": (lambda: optim.SGD([nn.Linear(1, 1)], lr=0.1), OptionError, "only Parameters"),
    "twice": (lambda: optim.SGD([WEIGHT, WEIGHT], lr=0.1), OptionError, "only once"),
    "computed": (lambda: optim.SGD([WEIGHT * 2], lr=0.1), OptionError, "only leaves"),
    "no gradient": (lambda: optim.SGD([mulgil.zeros(3)], lr=0.1), DTypeError, "must require a gradient"),
    "negative lr": (lambda: optim.SGD([WEIGHT], lr=-1), OptionError, "lr must not be negative"),
    "nan lr": (lambda: optim.Adam([WEIGHT], lr=float("nan")), OptionError, "lr must not be negative"),
    "momentum": (lambda: optim.SGD([WEIGHT], momentum=-0.1), OptionError, "momentum"),
    "nesterov": (lambda: optim.SGD([WEIGHT], nesterov=True), OptionError, "nesterov needs a momentum"),
    "betas": (lambda: optim.Adam([WEIGHT], betas=(0.9, 1.0)), OptionError, "below 1"),
    "amsgrad": (lambda: optim.Adam([WEIGHT], amsgrad=True), OptionError, "amsgrad is not supported"),
    "maximize": (lambda: optim.AdamW([WEIGHT], maximize=True), OptionError, "maximize is not supported"),
    "unknown": (lambda: optim.SGD([WEIGHT], learning_rate=0.1), TypeError, "learning_rate"),
    "group option": (lambda: optim.SGD([{"params": [WEIGHT], "decay": 1}]), OptionError, "unknown option"),
    "schedule of no optimizer": (lambda: lr_scheduler.StepLR(nn.Linear(1, 1), 3), OptionError, "must be an optimizer"),
    "step size": (lambda: lr_scheduler.StepLR(optim.SGD([WEIGHT]), 0), OptionError, "at least 1"),
    "no length": (lambda: lr_scheduler.OneCycleLR(optim.SGD([WEIGHT]), 0.1), OptionError, "total_steps"),
    "strategy": (lambda: lr_scheduler.OneCycleLR(optim.SGD([WEIGHT]), 0.1, 5, anneal_strategy="x"), OptionError, "anneal_strategy"),
    "lambdas": (lambda: lr_scheduler.LambdaLR(optim.SGD([WEIGHT]), []), OptionError, "one function for each"),
    "resume": (lambda: lr_scheduler.StepLR(optim.SGD([WEIGHT]), 3, last_epoch=4), OptionError, "initial_lr"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        call()


def test_one_cycle_ends():
    optimizer = optim.SGD([WEIGHT], momentum=0.9)
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=3)
    for _ in range(3):
        schedule.step()
    with pytest.raises(OptionError, match="the cycle is over"):
        schedule.step()
