"""Large products run in kernels of the plan's own, with what follows them; forced here for small ones too."""

from __future__ import annotations

import numpy as np
import pytest

import mulgil
from mulgil import Tensor, nn, optim
from mulgil.compile.graph import Value
from mulgil.compile.kernels.product import Product, tiling
from mulgil.native import threads
from mulgil.native.vector import machine
from tests.compile.tools import squared, training_step


@pytest.fixture(autouse=True)
def _worth_it(monkeypatch):
    monkeypatch.setattr(threads, "WORTH", 0)
    monkeypatch.setattr("mulgil.compile.passes.products.SMALL", 0)
    monkeypatch.setattr("mulgil.compile.passes.products.LARGE", 0)


def products(compiled):
    return [s.op for p in compiled.programs.values() for s in p.steps if isinstance(getattr(s, "op", None), Product)]


SIZES = [
    (64, 30, 10, "float32"),
    (33, 12, 3, "float64"),
    (10, 40, 16, "float32"),
    (100, 33, 50, "float64"),
    (25, 84, 49, "float32"),
    (12, 17, 130, "float32"),
]


@pytest.mark.parametrize("m, k, n, dtype", SIZES)
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
def test_products_equal_numpys(m, k, n, turned, dtype):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(k, m) if "a" in turned else (m, k)).astype(dtype)
    b = rng.normal(size=(n, k) if "b" in turned else (k, n)).astype(dtype)

    def product(x, y):
        return (x.T if "a" in turned else x) @ (y.T if "b" in turned else y)

    compiled = mulgil.compile(product, strict=True)
    for _ in range(2):
        found = compiled(Tensor(a), Tensor(b)).array
    expected = product(a, b)
    np.testing.assert_allclose(found, expected, rtol=0, atol=(1e-12 if dtype == "float64" else 2e-5) * max(1, np.abs(expected).max()))
    (op,) = products(compiled)
    assert (op.turned_a, op.turned_b) == ("a" in turned, "b" in turned)


def test_a_bias_that_is_made_after_the_product():
    a, w, b = (Tensor(np.random.default_rng(i).normal(size=size)) for i, size in enumerate([(20, 30), (30, 48), (48,)]))

    def layer(a, w, b):
        return (a @ w + b * 2).relu()

    compiled = mulgil.compile(layer, strict=True)
    for _ in range(2):
        np.testing.assert_allclose(compiled(a, w, b).array, layer(a, w, b).array, rtol=0, atol=1e-12)
    (op,) = products(compiled)
    assert op.relu


def test_a_factor_that_changes_after_the_product():
    weights = [Tensor(np.random.default_rng(0).normal(size=(30, 48))) for _ in range(2)]

    def step_of(w):
        def step(a, b):
            nonlocal w
            with mulgil.no_grad():
                y = a @ w
                w -= w * 0.5
                return (y + b).relu()

        return step

    compiled, eager = mulgil.compile(step_of(weights[0]), state=[weights[0]], strict=True), step_of(weights[1])
    a, b = Tensor(np.random.default_rng(1).normal(size=(20, 30))), Tensor(np.ones(48))
    for _ in range(3):
        np.testing.assert_allclose(compiled(a, b).array, eager(a, b).array, rtol=0, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("wide", [32, 50, 130])
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_training_equals_eager(make, wide, decay):
    """Bias and ReLU forward, descent and plain gradients backward; widths that vectors do not divide."""
    models = []
    for _ in range(2):
        mulgil.manual_seed(0)
        model = nn.Sequential(nn.Linear(wide, 40), nn.ReLU(), nn.Linear(40, wide), nn.Sigmoid(), nn.Linear(wide, 16)).double()
        optimizer = make(model.parameters(), lr=0.05, weight_decay=decay)
        models.append((model, optimizer))

    steps = [training_step(model, optimizer, squared) for model, optimizer in models]
    compiled, eager = mulgil.compile(steps[0], state=list(models[0]), strict=True), steps[1]
    rng = np.random.default_rng(1)
    for _ in range(4):
        x, t = Tensor(rng.normal(size=(24, wide))), Tensor(rng.normal(size=(24, 16)))
        assert float(compiled(x, t)) == pytest.approx(float(eager(x, t)), rel=1e-10)
    for p, q in zip(models[0][0].parameters(), models[1][0].parameters(), strict=True):
        np.testing.assert_allclose(p.array, q.array, rtol=0, atol=1e-11)
    ops = products(compiled)
    assert any(op.relu for op in ops) and any(op.turned_a for op in ops) and len(ops) > 3


@pytest.mark.parametrize("m", [1, 5, 64, 100, 500, 1000])
@pytest.mark.parametrize("n", [1, 10, 16, 50, 128, 784, 1000])
@pytest.mark.parametrize("turned", [False, True])
def test_tiles_fit_the_registers(m, n, turned):
    a, b = (Value("v", size, np.dtype(np.float32), "input") for size in ((m, 100), (n, 100) if turned else (100, n)))
    how = tiling(Product(False, turned), a, b)
    assert how.rows <= m and how.wide * how.lanes <= max(16, n)
    assert how.rows * how.wide + how.wide + 1 <= machine()[1]
    assert how.tiles * how.rows >= m and how.panels * how.wide * how.lanes >= n
