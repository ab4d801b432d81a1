"""Every row of the tables, compiled, in every dtype: as mulgil's op, as a subclass from outside, and as one with other mathematics."""

from __future__ import annotations

import copy
import warnings
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

import mulgil
from mulgil import Tensor, nn, optim
from mulgil.autograd import apply, engine, record
from mulgil.autograd import tensor as tensor_module
from mulgil.errors import MulgilError
from mulgil.nn import functional
from mulgil.ops import conv, elementwise, function, linalg, loss, mathematics, norm, pool, reduce, shape, update
from mulgil.ops.function import Function, run_inplace
from tests.compile.tools import same_over_calls, training_step
from tests.ops.table import ROWS, UPDATES, Row
from tests.ops.test_ops import NO_GRADIENT_TO, outputs

DTYPES = ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool"]
MASKS = ("bitwise", "invert", "all", "any")  # rows whose masks may be of any dtype; those of others are indices and labels
CHUNK = 40  # rows in one compiled function
CALLS = 3


# ---- an op as somebody else's


@cache
def inherited(kind: type) -> type:
    """A subclass from outside that changes nothing."""

    class Outside(kind):
        pass

    return Outside


@cache
def changed(kind: type) -> type:
    """A subclass from outside with other mathematics: results and gradients are twice as large."""

    class Changed(kind):
        def forward(self, ctx, *inputs):
            results = super().forward(ctx, *inputs)
            return tuple(map(doubled, results)) if isinstance(results, tuple) else doubled(results)

        def backward(self, ctx, *gradients):
            return super().backward(ctx, *[None if g is None else g * 2 for g in gradients])

    return Changed


def doubled(y: Any) -> Any:
    return y * 2 if y.dtype.kind == "f" else y


def as_kind(op: Function, make: Any) -> Function:
    """The same op, its settings too, as `make` gives its class."""
    other = copy.copy(op)
    object.__setattr__(other, "__class__", make(type(op)))
    return other


KINDS = {"ours": lambda kind: kind, "inherited": inherited, "changed": changed}
kinds = pytest.mark.parametrize("kind", KINDS)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


# ---- rows


def cast(array: np.ndarray, dtype: str, draw: str = "normal") -> np.ndarray:
    """Normal numbers as elements of a dtype, with some spread."""
    kind = np.dtype(dtype).kind
    if kind == "f":
        return array.astype(dtype)
    if kind == "b":
        return array > 0.4
    whole = np.rint(array * 4)
    return (np.abs(whole) + (draw == "positive") if kind == "u" or draw == "positive" else whole).astype(dtype)


def arrays_of(row: Row, dtype: str, seed: int) -> list[np.ndarray]:
    arrays = row.arrays("float64", seed)
    masks = row.name.startswith(MASKS)
    return [cast(a, dtype, row.draw) if a.dtype.kind == "f" or (masks and dtype[0] != "f") else a for a in arrays]


def called(op: Function, row: Row, tensors: list[Tensor]) -> list[Tensor]:
    """Outputs, and gradients where the row has them."""
    last = min((NO_GRADIENT_TO[t] for t in row.tags & NO_GRADIENT_TO.keys()), default=0) or len(tensors)
    leaves = [t.detach().requires_grad_() if row.gradient and t.dtype.kind == "f" else t for t in tensors[:last]]
    ys = outputs(apply(op, *leaves, *tensors[last:]))
    wanted = [x for x in leaves if x.requires_grad]
    starts = [y for y in ys if y.requires_grad]
    if not wanted or not starts:
        return ys
    grads = mulgil.grad(starts, wanted, [y.detach().cos() for y in starts], allow_unused=True)
    return [*ys, *(g for g in grads if g is not None)]


def refusal(row: Row, op: Function, dtype: str) -> str:
    try:
        called(op, row, [Tensor(a) for a in arrays_of(row, dtype, 0)])
    except (MulgilError, TypeError, ValueError, ArithmeticError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def same(mine: list[np.ndarray], eager: list[np.ndarray], dtype: str, name: str) -> None:
    assert len(mine) == len(eager), name
    for i, (a, b) in enumerate(zip(mine, eager, strict=True)):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), f"{name}, output {i}: {a.dtype}{a.shape}, eager {b.dtype}{b.shape}"
        room = {"float16": 2e-2, "float32": 2e-5}.get(a.dtype.name if dtype != "float16" else dtype, 1e-9)
        np.testing.assert_allclose(a, b, rtol=room, atol=room * max(1, _largest(b)) / 4, err_msg=f"{name}, output {i}")


def _largest(a: np.ndarray) -> float:
    finite = np.abs(a[np.isfinite(a)]).astype("f8")
    return float(finite.max()) if finite.size else 0.0


@pytest.mark.parametrize(("kind", "dtype"), [*product(("ours", "inherited"), DTYPES), ("changed", "float32")])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_row_compiled_in_every_dtype(kind: str, dtype: str):
    """Many rows in one function, so that what is fused with what is tried as well."""
    ops = [[as_kind(row.op(), KINDS[kind]) for row in ROWS] for _ in range(2)]  # a random op draws on; so each side has its own
    taken = [i for i, row in enumerate(ROWS) if not refusal(row, as_kind(row.op(), KINDS[kind]), dtype)]
    taken = [i for i in taken if not ROWS[i].name.endswith("_mask")]  # as many elements as a mask has: that runs eagerly, and is told
    assert len(taken) > (len(ROWS) * 0.9 if dtype[0] == "f" else 60)
    for start in range(0, len(taken), CHUNK):
        part = taken[start : start + CHUNK]

        def function(inputs, mine, part=part):
            return [called(mine[i], ROWS[i], xs) for i, xs in zip(part, inputs, strict=True)]

        compiled = mulgil.compile(lambda inputs, function=function: function(inputs, ops[0]), strict=True)
        for seed in range(CALLS):
            given = [[Tensor(a) for a in arrays_of(ROWS[i], dtype, seed)] for i in part]
            expected = function(given, ops[1])
            for i, mine, eager in zip(part, compiled(given), expected, strict=True):
                same([y.array for y in mine], [y.array for y in eager], dtype, f"{ROWS[i].name}, call {seed}")
        assert len(compiled.programs) == 1


@dtypes
def test_what_eager_refuses_a_compiled_function_refuses(dtype: str):
    for row in ROWS:
        said = refusal(row, row.op(), dtype)
        if not said:
            continue
        compiled = mulgil.compile(lambda xs, row=row: called(row.op(), row, xs))
        for _ in range(2):
            with pytest.raises(Exception) as caught:
                compiled([Tensor(a) for a in arrays_of(row, dtype, 0)])
            assert f"{type(caught.value).__name__}: {caught.value}" == said


# ---- update rules


@kinds
@dtypes
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_update_compiled_in_every_dtype(kind: str, dtype: str):
    """The targets are a step's state; parameters, gradients and moments are of one dtype, rates of float64."""
    if kind == "changed" and dtype[0] != "f":
        return  # twice as large or not: `doubled` leaves integers alone
    for name, op, shapes in UPDATES:
        rule = as_kind(op, KINDS[kind])
        first = drawn(shapes, dtype, 0)
        expected, found = ({i: Tensor(first[i].copy()) for i in rule.inplace} for _ in range(2))
        compiled = mulgil.compile(update_step(rule, found), state=[*found.values()], strict=True)
        for seed in range(1, 1 + CALLS):
            xs = [Tensor(a) for a in drawn(shapes, dtype, seed)]
            try:
                update_step(rule, expected)(xs)
            except TypeError:  # NumPy has no such arithmetic of this dtype
                with pytest.raises(TypeError):
                    compiled(xs)
                break
            compiled(xs)
            same([t.array for t in found.values()], [t.array for t in expected.values()], dtype, f"{name}, call {seed}")
        moved = any((first[i] != t.array).any() for i, t in expected.items())
        assert moved or dtype[0] != "f" or name in ("guard", "limit"), name


def drawn(shapes: list, dtype: str, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [cast(np.asarray(rng.random(s) * 0.4 + 0.2), dtype if s else "float64") for s in shapes]


def update_step(rule: Function, owned: dict[int, Tensor]) -> Any:
    """A step that runs the rule on its own tensors, at their places among the arguments."""

    def step(xs):
        run_inplace(rule, *(owned.get(i, x).array for i, x in enumerate(xs)))
        return xs[0] * 1

    return step


# ---- a whole training step where an op is somebody else's


def swapped(kind: type, make: Any, monkeypatch: Any) -> set[str]:
    """Have every call of an op of this class, forward, backward and in place, go to its changed twin. Returns what will have been met."""
    twins: dict[Function, Function] = {}
    met: set[str] = set()
    run = function.run

    def redirected(op, phase, ctx, *arrays):
        if type(op) is kind and not any(getattr(o, "_through", None) for o in function.observers()):  # not within mulgil's own texts
            met.add(phase)
            op = twins.setdefault(op, as_kind(op, make)) if op.__hash__ and vars(op) else twins.setdefault(kind, as_kind(op, make))
        return run(op, phase, ctx, *arrays)

    for module in (function, record, engine, tensor_module, functional):
        monkeypatch.setattr(module, "run", redirected)
    return met


def images():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2), nn.ReLU(), nn.Flatten())
    return nn.Sequential(model, nn.Linear(12, 5))


def dense():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 5))


PARTS = [
    (images, conv.Conv2d), (images, norm.BatchNorm), (images, pool.MaxPool2d), (images, mathematics.ReLU), (images, update.Lerp),
    (dense, linalg.Affine), (dense, mathematics.Tanh), (dense, loss.CrossEntropy), (dense, update.SGD), (dense, update.Adam),
]  # fmt: skip


@pytest.mark.parametrize("make", [inherited, changed], ids=["inherited", "changed"])
@pytest.mark.parametrize(("network", "kind"), PARTS, ids=lambda p: p.__name__)
def test_a_step_with_somebody_elses_op(network, kind: type, make, monkeypatch):
    """No rewrite for an op may take one with other mathematics for it: descents, patterns of convolutions, products, reductions."""
    met = swapped(kind, make, monkeypatch)

    def start():
        model = network()
        rule = optim.Adam if kind is update.Adam else optim.SGD
        optimizer = rule(model.parameters(), lr=0.05)
        return training_step(model, optimizer), [model, optimizer]

    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 1, 8, 8)).astype("float32")
    same_over_calls(start, x, rng.integers(0, 5, 6), rtol=1e-3, atol=1e-5)
    assert met >= ({"forward"} if issubclass(kind, update.Update) else {"forward", "backward"})


OPERATORS = [elementwise.Mul, elementwise.Add, linalg.MatMul, reduce.Sum, reduce.Mean, shape.Transpose, elementwise.Pow, mathematics.Exp]


@pytest.mark.parametrize("kind", OPERATORS, ids=lambda p: p.__name__)
def test_arithmetic_with_somebody_elses_op(kind: type, monkeypatch):
    met = swapped(kind, changed, monkeypatch)

    def start():
        w = nn.Parameter(np.linspace(-1, 1, 15).reshape(5, 3))
        optimizer = optim.SGD([w], lr=0.05)

        def step(x):
            optimizer.zero_grad()
            y = ((x + 1) @ w.T).exp() * 0.5
            result = y.mean(0).sum() + (y.sum(1) ** 2).mean() + (y * 3).sum()
            result.backward()
            optimizer.step()
            return result

        return step, [w, optimizer]

    same_over_calls(start, np.random.default_rng(0).standard_normal((4, 3)) * 0.3, rtol=1e-8)
    assert met


# ---- ops with settings, draws and attributes of their own


class Gain(Function):
    """Settings in `__init__`; nothing is said about the text."""

    def __init__(self, by):
        self.by = by

    def forward(self, ctx, x):
        return x * self.by

    def backward(self, ctx, gy):
        return gy * self.by


class GainInLoops(Gain):
    elementwise = True


class Pow(Function):
    """The books' form."""

    def __init__(self, c):
        self.c = c

    def forward(self, x):
        return x**self.c

    def backward(self, gy):
        (x,) = self.inputs
        return self.c * x ** (self.c - 1) * gy


def namesake(by):
    class Gain(Function):
        elementwise = True

        def forward(self, ctx, x):
            return x * by

        def backward(self, ctx, gy):
            return gy * by

    return Gain()


PAIRS = {
    "opaque": (Gain(2), Gain(10)),
    "elementwise": (GainInLoops(2), GainInLoops(10)),
    "books": (Pow(2), Pow(3)),
    "namesakes": (namesake(2), namesake(10)),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_ops_of_one_name_are_told_apart(pair):
    a, b = PAIRS[pair]

    def function(x):
        x = x.detach().requires_grad_()
        y = a(x) + b(x)
        return y, mulgil.grad(y.sum(), [x])[0]

    x = np.array([0.5, 1.5, -2.0])
    same_over_calls(lambda: (function, []), x)
    compiled = mulgil.compile(lambda x: a(x) + b(x), strict=True)
    expected = x**2 + x**3 if pair == "books" else 12 * x
    for _ in range(3):
        np.testing.assert_allclose(compiled(Tensor(x)).array, expected)


class Noise(Function):
    """Draws from a generator of its own."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def forward(self, ctx, x):
        return x + self.rng.standard_normal(x.shape)

    def backward(self, ctx, gy):
        return gy


class NoiseInLoops(Function):
    """One number for all elements: a text that lowering could freeze."""

    elementwise = True

    def __init__(self, draw):
        self.draw = draw

    def forward(self, ctx, x):
        return x + self.draw()

    def backward(self, ctx, gy):
        return gy


class Counted(Function):
    """Counts its calls, and uses the count."""

    elementwise = True

    def __init__(self):
        self.calls = 0

    def forward(self, ctx, x):
        self.calls += 1
        return x * self.calls

    def backward(self, ctx, gy):
        return gy


RNG = np.random.default_rng(1)
DRAWN = {
    "own": Noise,
    "numpy": lambda: NoiseInLoops(np.random.standard_normal),
    "generator": lambda: NoiseInLoops(RNG.standard_normal),
    "hidden": lambda: NoiseInLoops(HIDDEN["draw"]),
    "counted": Counted,
}
HIDDEN = {"draw": lambda: next(STREAM)}
STREAM = iter(np.random.default_rng(2).standard_normal(1000).tolist())


@pytest.mark.parametrize("name", DRAWN)
def test_what_an_op_draws_is_drawn_anew(name):
    """Twice in a call, and at each call; in a plan or eagerly, which is then said."""
    op = DRAWN[name]()
    compiled = mulgil.compile(lambda x: (op(x), op(x)))
    seen = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*runs eagerly")
        for _ in range(4):
            seen += [y.array.sum() for y in compiled(Tensor(np.full(3, 1.5)))]
    assert len({round(float(v), 12) for v in seen}) == 8, seen


@pytest.mark.parametrize("kind", [Gain, GainInLoops])
def test_an_attribute_that_changes_is_seen(kind):
    op = kind(2.0)
    compiled = mulgil.compile(lambda x: op(x), strict=True)
    for by in (2.0, 2.0, 3.0, 3.0, 2.0, -1.0):
        op.by = by
        np.testing.assert_allclose(compiled(Tensor(np.ones(3))).array, by)
