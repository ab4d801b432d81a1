"""Every op of the table at the values where formulas break: zeros, infinities, nan, denormals, ties, equal, empty and single elements.

PyTorch is the oracle, for values and gradients. `DIFFERENT` lists where mulgil differs on purpose.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

import mulgil.nn.functional as F
from mulgil.autograd import Tensor, apply
from mulgil.errors import MulgilError
from tests.ops.table import ROWS, Row

torch = pytest.importorskip("torch")

INF, NAN = np.inf, np.nan
SPECIALS = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.5, INF, -INF, NAN, 5e-324, 1e300])
DIFFERENT = {  # row -> where, of the inputs, mulgil differs on purpose
    "relu": np.isnan,  # a nan lets no gradient through
    "abs": np.isnan,  # sign(nan) is nan, as in NumPy
    "sign": np.isnan,
    "remainder": lambda a, b: np.abs(b) < 1e-300,  # PyTorch divides, which overflows
    "prod(": lambda x: np.isinf(x).any(),  # the oracle is a product of products here
    "prodNone": lambda x: np.isinf(x).any(),
    "max_pool2d": lambda x: ~np.isfinite(x).all(),  # a padding of -inf wins over -inf; a nan lets no gradient through
}
FINITE = ("conv", "affine", "matmul", "batch_norm", "avg_pool")  # sums in another order: infinities cancel elsewhere


def fills(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Arrays of one shape that are special in one way each."""
    x = np.random.default_rng(0).standard_normal(shape)

    def with_one(value: float) -> np.ndarray:
        y = x.copy()
        if y.size:
            y.flat[y.size // 2] = value
        return y

    made = {"zeros": np.zeros(shape), "minus zeros": -np.zeros(shape), "equal": np.full(shape, 2.0), "all -inf": np.full(shape, -INF)}
    made |= {f"one {v}": with_one(v) for v in (0.0, INF, -INF, NAN, 1e300)}
    return made | {"all inf": np.full(shape, INF), "ties": np.floor(x), "large": x * 1e3}


def cases(row: Row) -> dict[str, list[np.ndarray]]:
    """The row's inputs with special values in place of the float ones."""
    given = row.arrays("float64")
    drawn = [i for i, spec in enumerate(row.inputs) if not isinstance(spec, np.ndarray)]
    if row.op().elementwise and drawn:
        grid = np.array(list(itertools.product(SPECIALS, repeat=len(drawn)))).T
        if any(isinstance(spec, np.ndarray) for spec in row.inputs):
            return {}
        return {"grid": list(grid)}
    made = {}
    for i in drawn:
        for name, array in fills(given[i].shape).items():
            if row.name.startswith(FINITE) and not np.isfinite(array * 1e9).all():
                continue
            made[f"{name} in {i}"] = [*given[:i], array, *given[i + 1 :]]
    if len(row.inputs) == 1 and row.op().__class__.__module__.endswith("reduce"):
        for shape in ((1, 3, 1), (2, 1, 4), (1, 1, 1), (2, 0, 4), (0, 3, 4)):
            if len(shape) == given[0].ndim:
                made |= {f"{name} {shape}": [array] for name, array in fills(shape).items() if name in ("equal", "zeros", "large")}
    return made


def ours(row: Row, arrays: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray | None]]:
    inputs = [Tensor(a, requires_grad=row.gradient and a.dtype.kind == "f") for a in arrays]
    y = apply(row.op(), *inputs)
    y = y[0] if isinstance(y, tuple) else y
    if row.gradient:
        y.sum().backward()
    return y.array, [None if x.grad is None else x.grad.array for x in inputs]


def theirs(row: Row, arrays: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray | None]]:
    inputs = [torch.tensor(a, requires_grad=row.gradient and a.dtype.kind == "f") for a in arrays]
    y = row.oracle(*inputs)
    if row.gradient:
        y.sum().backward()
    return y.detach().numpy(), [None if x.grad is None else x.grad.numpy() for x in inputs]


GROUPS = [r for r in ROWS if r.oracle is not None and r.first_outputs is None and not r.tags & {"weight", "statistics", "random"}]


@pytest.mark.parametrize("row", GROUPS, ids=lambda r: r.name)
def test_special_values_agree_with_pytorch(row: Row):
    wrong = []
    known = next((prefix for prefix in DIFFERENT if row.name.startswith(prefix)), None)
    for name, arrays in cases(row).items():
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                expected = theirs(row, arrays)
            except (RuntimeError, IndexError):
                with pytest.raises((MulgilError, ValueError)):
                    ours(row, arrays)
                continue
            found = ours(row, arrays)
        names = ("value", *(f"gradient {i}" for i in range(len(arrays))))
        for what, a, b in zip(names, (found[0], *found[1]), (expected[0], *expected[1]), strict=True):
            if b is None:
                continue
            assert a is not None and a.shape == b.shape, f"{name} {what}"
            bad = ~np.isclose(a, b, rtol=1e-9, atol=1e-15, equal_nan=True)
            bad &= ~DIFFERENT[known](*arrays) if known else True
            if bad.any():
                where = f" at {[x[bad] for x in arrays]}" if name == "grid" else ""
                wrong.append(f"{name} {what}: {a[bad]}, PyTorch {b[bad]}{where}")
    assert not wrong, "\n".join(wrong)


LOSSES = [
    ("-inf elsewhere", [[0.0, -INF], [1.0, 2.0]], [0, 1], {}),
    ("certain", [[0.0, -INF], [-INF, 0.0]], [0, 1], {}),
    ("-inf at the target", [[0.0, -INF], [1.0, 2.0]], [1, 1], {}),
    ("all ignored", [[0.0, -1.0], [1.0, 2.0]], [-100, -100], {}),
    ("some ignored, nan there", [[0.0, -1.0], [1.0, 2.0]], [-100, 1], {}),
    ("all ignored, smoothed", [[0.0, -1.0], [1.0, 2.0]], [-100, -100], {"label_smoothing": 0.1}),
    ("smoothed", [[0.0, -INF], [1.0, 2.0]], [0, 1], {"label_smoothing": 0.1}),
    ("a weight of 0", [[0.0, -1.0], [1.0, 2.0]], [0, 1], {"weight": [0.0, 2.0]}),
    ("large", [[1e4, -1e4], [-1e4, 1e4]], [0, 0], {}),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("logits", "labels", "options"), [c[1:] for c in LOSSES], ids=[c[0] for c in LOSSES])
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_losses_of_extreme_scores_are_pytorchs(name, logits, labels, options, reduction):
    if name == "nll_loss" and "label_smoothing" in options:
        return
    given = {k: np.array(v) if isinstance(v, list) else v for k, v in options.items()}
    x = Tensor(np.array(logits), requires_grad=True)
    t = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        mine = getattr(F, name)(x, np.array(labels), reduction=reduction, **given)
        mine.sum().backward()
    given = {k: torch.tensor(v) for k, v in given.items()}
    other = getattr(torch.nn.functional, name)(t, torch.tensor(labels), reduction=reduction, **given)
    other.sum().backward()
    np.testing.assert_allclose(mine.array, other.detach().numpy(), rtol=1e-7)
    np.testing.assert_allclose(x.grad.array, t.grad.numpy(), rtol=1e-7, atol=1e-15)
    assert reduction == "none" or mine.item() != 0 or not np.signbit(mine.array)  # 0.0, never -0.0


def test_class_weights_that_sum_to_0_leave_no_gradient():
    x = Tensor([[0.0, -1.0]], requires_grad=True)
    with np.errstate(all="ignore"):
        loss = F.cross_entropy(x, np.array([0]), weight=np.array([0.0, 1.0]))
        loss.backward()
    assert np.isnan(loss.item())
    assert not x.grad.array.any()  # PyTorch's is nan, which would end the weights
