"""What of a call's arguments, closure and globals decides which plan serves it: compiled equals eager at each call of a row."""

from __future__ import annotations

import enum
import functools
import random
import threading
import warnings
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

import mulgil
from mulgil import Tensor, nn
from mulgil.errors import GradientError, TraceError


class Kind(enum.Enum):
    SUM = 1
    MEAN = 2


@dataclass
class Options:
    scale: float = 1.0


X = Tensor(np.linspace(-1, 1, 6))
Y = Tensor(np.linspace(1, 2, 6))
DOUBLE, TRIPLE = nn.Hardtanh(0, 1) if hasattr(nn, "Hardtanh") else nn.ReLU(), nn.Tanh()
Pair = namedtuple("Pair", "a b")


def number(x, k):
    kind = (1 if isinstance(k, bool) else 2) + (4 if str(k) == "-0.0" else 0) + (8 if isinstance(k, int) else 0)
    return x * (k if k == k else 0.5) + kind


# name -> (function, the arguments of each call)
CALLS = {
    "tuples": (lambda x, s: x.reshape(*s) + 0, [(X, (2, 3)), (X, (3, 2)), (X, (2, 3)), (X, [3, 2]), (X, [2, 3])]),
    "dicts": (lambda x, d: x * d["a"] - d["b"], [(X, {"a": 1, "b": 2}), (X, {"b": 1, "a": 2}), (X, {"a": 2, "b": 1})]),
    "order of a dict": (lambda d: [v * (i + 1) for i, v in enumerate(d.values())], [({"a": X, "b": Y},), ({"b": X, "a": Y},)]),
    "nesting": (lambda t: (t[0] if isinstance(t[0], Tensor) else t[0][0]) * len(t), [((X, Y),), (((X, Y),),), (([X], Y),)]),
    "slices": (lambda x, s: x[s] * 2, [(X, slice(0, 2)), (X, slice(2, 4)), (X, slice(None, None, 2))]),
    "dtypes": (lambda x, d: x.to(dtype=d) + 1, [(X, np.float32), (X, np.dtype("float64")), (X, mulgil.int64)]),
    "callables": (lambda x, f: f(x) + 1, [(X, mulgil.tanh), (X, mulgil.exp), (X, nn.functional.relu)]),
    "modules": (lambda x, m: m(x) + 1, [(X, DOUBLE), (X, TRIPLE), (X, DOUBLE)]),
    "NumPy's numbers": (number, [(X, np.float32(2)), (X, np.float64(2)), (X, np.float64(3)), (X, np.int64(3))]),
    "numbers alike": (number, [(X, 1), (X, True), (X, 1.0), (X, 0.0), (X, -0.0), (X, float("nan")), (X, float("nan"))]),
    "text and None": (lambda x, s: x if s is None else x + len(s), [(X, None), (X, "ab"), (X, "abc")]),
    "enums": (lambda x, k: x.sum() if k is Kind.SUM else x.mean(), [(X, Kind.SUM), (X, Kind.MEAN)]),
    "one tensor twice": (lambda a, b: a - 2 * b, [(X, X), (X, Y), (Y, X), (X, X)]),
    "two, then one twice": (lambda a, b: a - 2 * b, [(X, Y), (X, X)]),
    "a named tuple comes": (lambda p: p.a - 2 * p.b, [(Pair(X, Y),), (Pair(Y, X),)]),
    "a view and its whole": (lambda a, b: (a[:3] - 2 * b).sum(), [(X, X[:3]), (X, Y[:3]), (X, X[3:])]),
    "dtype of a tensor": (lambda x: x * 2, [(X,), (X.float(),), (X.long(),)]),
    "transposed": (lambda x: x * 2 + x[0], [(X.reshape(2, 3),), (X.reshape(2, 3).T.reshape(2, 3),), (X.reshape(3, 2).T,)]),
}


def equal(mine, eager):
    assert type(mine) is type(eager)
    if isinstance(mine, Tensor):
        assert mine.shape == eager.shape and mine.dtype == eager.dtype
        np.testing.assert_allclose(mine.array, eager.array, rtol=1e-6 if mine.dtype == np.float32 else 1e-10, atol=1e-12)
    elif isinstance(mine, dict):
        assert list(mine) == list(eager)
        equal(list(mine.values()), list(eager.values()))
    elif mine is not None:
        for a, b in zip(mine, eager, strict=True):
            equal(a, b)


@pytest.mark.parametrize("name", CALLS)
def test_arguments_are_told_apart(name):
    function, calls = CALLS[name]
    compiled = mulgil.compile(function, strict=True)
    for args in (*calls, *calls, *reversed(calls)):
        equal(compiled(*args), function(*args))
    assert None not in compiled.programs.values()
    assert len(compiled.programs) <= len(calls)


def test_keywords_and_defaults():
    def f(x, scale=2.0, *, shift=1):
        return x * scale + shift

    compiled = mulgil.compile(f, strict=True)
    for kwargs in ({}, {"scale": 3.0}, {"shift": 2}, {"shift": 2, "scale": 3.0}, {}):
        equal(compiled(X, **kwargs), f(X, **kwargs))
    equal(compiled(x=X), f(X))
    f.__defaults__ = (5.0,)
    equal(compiled(X), f(X))
    f.__kwdefaults__["shift"] = 7
    equal(compiled(X), f(X))


def test_results_keep_their_structure():
    function = lambda x: {"max": x.reshape(2, 3).max(1), "none": None, "pair": Pair(x * 2, [x + 1])}  # noqa: E731
    compiled = mulgil.compile(function, strict=True)
    for x in (X, Y, X):
        equal(compiled(x), function(x))
        assert compiled(x)["pair"].b[0].tolist() == (x + 1).tolist()


def test_what_comes_back_as_it_is_stays_the_same_object():
    w = nn.Parameter(np.ones(6))
    compiled = mulgil.compile(lambda x: (x, w, x * w), state=[w], strict=True)
    for x in (X, Y, X):
        a, b, c = compiled(x)
        assert a is x and b is w
        equal(c.detach(), x * 1)


def test_numbers_that_never_repeat_are_told_once_and_make_no_more_plans():
    compiled = mulgil.compile(lambda x, k: x * k)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for i in range(30):
            equal(compiled(X, i / 7), X * (i / 7))
            equal(compiled(X, lambda: 1) if False else compiled(X, 0.0), X * 0.0)
    assert len(seen) == 1 and "pass a number that varies as a tensor" in str(seen[0].message)
    assert len(compiled.programs) <= 10


def test_numpy_arrays_run_eagerly_and_say_so():
    def f(x, a):
        return x * float(a[0])

    with pytest.raises(TraceError, match="must be Tensors"):
        mulgil.compile(f, strict=True)(X, np.ones(2))
    compiled = mulgil.compile(f)
    with pytest.warns(UserWarning, match="must be Tensors") as seen:
        for a in (np.ones(2), np.full(2, 3.0), np.ones(2)):
            equal(compiled(X, a), f(X, a))
    assert len(seen) == 1


# ---- what the function finds by itself

SCALE = 1.0
OPTIONS = Options()
MODELS = {"first": nn.ReLU()}


def by_global(x):
    return x * SCALE


def by_object(x):
    return x * OPTIONS.scale


def by_container(x):
    return MODELS["first"](x) * 2


def helper(x):
    return by_global(x) + 1


def by_helper(x):
    return helper(x) * 2


@pytest.mark.parametrize("function", [by_global, by_object, by_container, by_helper])
def test_globals_are_seen(function, monkeypatch):
    compiled = mulgil.compile(function, strict=True)
    for scale, model in ((1.0, MODELS["first"]), (2.0, nn.Tanh()), (1.0, MODELS["first"])):
        monkeypatch.setitem(globals(), "SCALE", scale)
        monkeypatch.setattr(OPTIONS, "scale", scale)
        monkeypatch.setitem(MODELS, "first", model)
        for _ in range(2):
            equal(compiled(X), function(X))
    assert len(compiled.programs) == 2


def test_a_closure_is_seen():
    flag, factor, models = True, 2.0, [nn.Dropout(1.0)]

    def f(x):
        return (models[0](x) if flag else x) * factor

    compiled = mulgil.compile(f, strict=True)
    equal(compiled(X), f(X))
    flag = False
    equal(compiled(X), f(X))
    factor = 3.0
    equal(compiled(X), f(X))
    flag = True
    equal(compiled(X), f(X))
    models[0].eval()
    equal(compiled(X), f(X))
    models[0] = nn.Tanh()
    equal(compiled(X), f(X))
    models[:] = [nn.Dropout(1.0)]
    equal(compiled(X), f(X))


class Holder:
    """Something of a user's that has a model."""

    rate = 2.0

    def __init__(self):
        self.model, self.shift = nn.Sequential(nn.Linear(6, 6), nn.Dropout(1.0)).double(), 1.0

    @mulgil.compile(strict=True)
    def predict(self, x):
        return self.model(x[None]) * self.rate + self.more()

    def more(self):
        return self.shift

    def eager(self, x):
        return self.model(x[None]) * self.rate + self.more()


def test_methods_and_what_their_object_holds():
    mulgil.manual_seed(0)
    a, b = Holder(), Holder()
    for h in (a, b, a):
        h.model.train()
        shift = h.shift + 1
        for change in (lambda: None, h.model.eval, lambda h=h, s=shift: setattr(h, "shift", s), lambda h=h: setattr(h, "rate", 3.0)):
            change()
            for _ in range(2):
                equal(h.predict(X).detach(), h.eager(X).detach())
    assert None not in Holder.predict.programs.values()
    compiled = mulgil.compile(b.eager, strict=True)
    for _ in range(2):
        equal(compiled(X).detach(), b.eager(X).detach())
    b.shift = 9.0
    equal(compiled(X).detach(), b.eager(X).detach())


@pytest.mark.parametrize("state", [lambda m: {"m": m}, lambda m: [[m]], lambda m: Options(m), lambda m: (m, [m])])
def test_modes_are_seen_wherever_a_model_is(state):
    m = nn.Dropout(1.0)
    compiled = mulgil.compile(lambda x: m(x) + 1, state=state(m), strict=True)
    for mode in (True, False, True, False):
        m.train(mode)
        assert compiled(X).tolist() == ([1.0] * 6 if mode else (X + 1).tolist())
    assert len(compiled.programs) == 2


# ---- Python that is frozen


def counts():
    n = 0

    def f(x):
        nonlocal n
        n += 1
        return x * n

    return f


def collects():
    log = []

    def f(x):
        log.append(1)
        return x * len(log)

    return f


def of_numpy():
    return lambda x: x * np.random.rand()


def of_python():
    return lambda x: x * random.random()


def of_a_generator():
    rng = np.random.default_rng(0)
    return lambda x: x * rng.random()


@pytest.mark.parametrize("make", [counts, collects, of_numpy, of_python, of_a_generator])
def test_python_that_would_be_frozen_is_found(make):
    with pytest.raises(TraceError, match=r"at each call|at later calls"):
        mulgil.compile(make(), strict=True)(X)
    f, compiled = make(), mulgil.compile(make())
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        results = []
        for g in (f, compiled):
            np.random.seed(0)
            random.seed(0)
            results.append([g(X).tolist() for _ in range(4)])
    assert results[0] == results[1] and len(seen) == 1


def test_what_cannot_be_found_is_frozen():
    """As docs/compile.md says: values of arrays that are no Tensors, and attributes with computed names."""
    table = np.ones(1)
    compiled = mulgil.compile(lambda x: x * float(table[0]) * getattr(OPTIONS, "sc" + "ale"), strict=True)
    compiled(X)
    table[0] = 2.0
    assert compiled(X).tolist() == X.tolist()


# ---- threads


def in_threads(count, work):
    failures = []

    def guarded(i):
        try:
            work(i)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures[0]


@pytest.mark.parametrize("warm", [True, False])
def test_threads_share_a_compiled_function(warm):
    model = nn.Sequential(nn.Linear(6, 50), nn.Tanh(), nn.Linear(50, 3)).double()
    compiled = mulgil.compile(lambda x: model(x), state=[model], strict=True)
    inputs = [Tensor(np.random.default_rng(i).normal(size=(20, 6))) for i in range(8)]
    with mulgil.no_grad():
        wanted = [model(x) for x in inputs]
        if warm:
            compiled(inputs[0])

    def work(i):
        with mulgil.no_grad():
            for _ in range(40):
                equal(compiled(inputs[i]), wanted[i])

    in_threads(8, work)
    assert len(compiled.programs) == 1


def test_a_thread_that_computes_is_not_traced():
    going, f = threading.Event(), mulgil.compile(lambda x: (going.set(), x * 2 + 1)[1], strict=True)
    stop = threading.Event()

    def other():
        going.wait()
        while not stop.is_set():
            (X + 1) * 3

    helper = threading.Thread(target=other)
    helper.start()
    try:
        for _ in range(3):
            equal(f(X), X * 2 + 1)
    finally:
        stop.set()
        helper.join()


# ---- one within another, errors, modes


@pytest.mark.parametrize("warm", [True, False])
def test_one_compiled_function_within_another(warm):
    inner = mulgil.compile(lambda x: x * 2 + 1, strict=True)
    if warm:
        inner(X)
        inner(X)
    outer = mulgil.compile(lambda x: inner(x) * 3, strict=True)
    for x in (X, Y, X):
        equal(outer(x), (x * 2 + 1) * 3)


def test_a_function_that_raises_does_so_again():
    @mulgil.compile(strict=True)
    def f(x, bad):
        if bad:
            raise KeyError("mine")
        return x * 2

    for bad in (True, True, False, True, False):
        if bad:
            with pytest.raises(KeyError, match="mine"):
                f(X, bad)
        else:
            equal(f(X, bad), X * 2)


def test_the_mode_of_gradients_belongs_to_the_signature():
    w = nn.Parameter(np.ones(6))

    @mulgil.compile(state=[w], strict=True)
    def f(x):
        return x * 2 if mulgil.is_grad_enabled() else x * 3

    for _ in range(2):
        equal(f(X), X * 2)
        with mulgil.no_grad():
            equal(f(X), X * 3)


class Kinds:
    factor = 2.0

    @staticmethod
    @mulgil.compile(strict=True)
    def plain(x):
        return x * 2

    @classmethod
    @mulgil.compile(strict=True)
    def of_class(cls, x):
        return x * cls.factor


def test_methods_of_classes(monkeypatch):
    for factor in (2.0, 2.0, 3.0, 3.0):
        monkeypatch.setattr(Kinds, "factor", factor)
        equal(Kinds().of_class(X), X * factor)
        equal(Kinds.plain(X), X * 2)


class Callable:
    def __init__(self):
        self.model, self.scale = nn.Linear(6, 2).double(), 1.0

    def __call__(self, x):
        return self.model(x[None]) * self.scale


def test_whatever_can_be_called():
    instance, model = Callable(), nn.Linear(6, 2).double()
    for function in (instance, functools.partial(lambda m, x: m(x[None]) * 2, model), instance.__call__):
        compiled = mulgil.compile(function, strict=True)
        for scale in (1.0, 1.0, 2.0, 2.0):
            instance.scale = scale
            equal(compiled(X).detach(), function(X).detach())
        assert None not in compiled.programs.values()
    compiled = mulgil.compile(model.forward, strict=True)
    for weight in (1.0, 2.0):
        model.weight.data = Tensor(np.full((2, 6), weight))
        for _ in range(2):
            equal(compiled(X[None]).detach(), model(X[None]).detach())


def test_many_instances_have_plans_and_functions_made_at_each_call_have_not():
    holders = [Holder() for _ in range(12)]
    for _ in range(2):
        for h in holders:
            equal(h.predict(X).detach(), h.eager(X).detach())
    compiled = mulgil.compile(lambda x, g: g(x))
    with pytest.warns(UserWarning, match="make functions and objects once") as seen:
        for i in range(40):
            equal(compiled(X, lambda z, i=i: z * i), X * i)
    assert len(seen) == 1 and len(compiled.programs) <= 33


def test_second_derivatives_through_a_compiled_function_are_refused_at_each_call():
    w = nn.Parameter(np.ones(6))
    compiled = mulgil.compile(lambda x: (w * x).sum(), state=[w], strict=True)
    for _ in range(3):
        with pytest.raises(GradientError, match="no second derivative"):
            mulgil.grad(compiled(X) ** 2, w, create_graph=True)


def test_verify_of_a_method():
    class Checked(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(6, 2).double()

        @mulgil.compile(strict=True, verify=2)
        def predict(self, x):
            return self.inner(x[None])

    m = Checked()
    for _ in range(4):
        equal(m.predict(X).detach(), m.inner(X[None]).detach())
