"""Dtypes of results: PyTorch's rules for every pair of dtypes, for 0-d tensors and for Python's numbers."""

from __future__ import annotations

import itertools
import operator

import numpy as np
import pytest

import mulgil
from mulgil.errors import MulgilError

torch = pytest.importorskip("torch")

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
OPERATIONS = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv, "%": operator.mod,
    "**": operator.pow, "<": operator.lt, "==": operator.eq,
    "maximum": lambda a, b: a.maximum(b), "minimum": lambda a, b: a.minimum(b),
}  # fmt: skip
REDUCING = ["sum", "prod", "mean", "var", "std", "amax", "argmax", "any", "logsumexp"]
ELEMENTWISE = ["exp", "sqrt", "sigmoid", "tanh", "abs", "square", "sign", "relu", "floor", "round", "isnan", "isfinite"]


def operands(shape: tuple[int, ...], dtype: str):
    array = np.ones(shape, dtype)
    return mulgil.from_numpy(array), torch.from_numpy(array)


def same(ours, theirs) -> bool:
    return ours.dtype.name == str(theirs.dtype).removeprefix("torch.")


@pytest.mark.parametrize("sign", OPERATIONS)
@pytest.mark.parametrize("shapes", [((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())], ids=str)
def test_two_tensors(sign, shapes):
    operation, wrong = OPERATIONS[sign], []
    for a, b in itertools.product(DTYPES, repeat=2):
        (x, s), (y, t) = operands(shapes[0], a), operands(shapes[1], b)
        try:
            expected = operation(s, t)
        except (RuntimeError, TypeError):
            continue  # PyTorch has none
        found = operation(x, y)
        if not same(found, expected):
            wrong.append(f"{a} {sign} {b}: {found.dtype}, PyTorch {expected.dtype}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("sign", [s for s in OPERATIONS if not s.startswith("m")])
@pytest.mark.parametrize("number", [True, 2, 0.5])
def test_a_tensor_and_a_number(sign, number):
    operation, wrong = OPERATIONS[sign], []
    for dtype, shape, swapped in itertools.product(DTYPES, [(2,), ()], [False, True]):
        if (dtype, sign, number) == ("bool", "**", True):
            continue  # a power of booleans is an int8 in NumPy and here
        x, t = operands(shape, dtype)
        try:
            expected = operation(number, t) if swapped else operation(t, number)
        except (RuntimeError, TypeError):
            continue
        found = operation(number, x) if swapped else operation(x, number)
        if not same(found, expected):
            wrong.append(f"{dtype}{list(shape)} {sign} {number} swapped={swapped}: {found.dtype}, PyTorch {expected.dtype}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_of_one_tensor(dtype):
    x, t = operands((2, 3), dtype)
    for name in REDUCING + ELEMENTWISE:
        call = operator.methodcaller(name, *([0] if name in ("logsumexp",) else []))
        try:
            expected = call(t)
        except (RuntimeError, NotImplementedError):
            continue
        if (name, dtype) != ("any", "uint8"):  # PyTorch's truth of bytes is a byte
            assert same(call(x), expected), name


CREATED = [
    ("full", ((2,), 1), {}), ("full", ((2,), 1.5), {}), ("full", ((2,), True), {}), ("arange", (3,), {}), ("arange", (3.0,), {}),
    ("arange", (0, 1, 0.5), {}), ("arange", (0.1, 5.9, 2.0), {"dtype": "int64"}), ("linspace", (0, 4, 5), {}),
    ("linspace", (-2, 4, 5), {"dtype": "int64"}), ("linspace", (-2, 2, 7), {"dtype": "int32"}), ("eye", (2,), {"dtype": "int64"}),
    ("zeros", (2,), {"dtype": "bool"}), ("tensor", ([1, 2],), {}), ("tensor", ([1.0, 2],), {}), ("tensor", ([True, False],), {}),
    ("tensor", (3,), {}), ("tensor", (3.0,), {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args", "options"), CREATED, ids=str)
def test_new_tensors(name, args, options):
    found = getattr(mulgil, name)(*args, **options)
    expected = getattr(torch, name)(*args, **{k: getattr(torch, v) for k, v in options.items()})
    assert same(found, expected)
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_where_of_numbers():
    c, d = mulgil.tensor([True, False]), torch.tensor([True, False])
    for a, b in itertools.product([True, 1, 2.5], repeat=2):
        assert same(mulgil.where(c, a, b), torch.where(d, a, b)), (a, b)
    x, y = mulgil.tensor([1.0, 2.0]), mulgil.tensor(3.0, dtype="float64")
    assert mulgil.where(c, x, y).dtype == np.float32


def test_a_sum_of_many_small_numbers_does_not_stop():
    assert mulgil.ones(5000, 2, dtype="float16").sum(0).tolist() == [5000.0, 5000.0]
    assert mulgil.full((300,), 200, dtype="uint8").sum().item() == 60000


@pytest.mark.parametrize(
    "name", ["sum", "mean", "amax", "argmax", "max", "softmax", "logsumexp", "std", "squeeze", "unsqueeze", "all", "prod"]
)
def test_axes_that_are_not_there(name):
    x = mulgil.zeros(2, 3)
    for axis in (2, -3, 5, True, 0.5, "0"):
        if (name, axis) in (("unsqueeze", 2), ("unsqueeze", -3)) or (name == "std" and axis is True):
            continue
        with pytest.raises(MulgilError):
            getattr(x, name)(axis)
    with pytest.raises(IndexError):  # as in PyTorch
        getattr(x, name)(7)


def test_shapes_that_do_not_go():
    x = mulgil.zeros(2, 3)
    calls = [
        lambda: mulgil.zeros(1, 2, 3, 4).t(),
        lambda: x.transpose(0, 2),
        lambda: x.permute(0, 5),
        lambda: x.swapaxes(0, -3),
        lambda: x.flatten(1, 0),
        lambda: x.flatten(3),
        lambda: x.sum((0, 0)),
        lambda: x.argmax((0, 1)),
        lambda: mulgil.cat([x, x], 2),
        lambda: mulgil.cat([x, mulgil.zeros(2, 4)], 0),
        lambda: mulgil.cat([]),
        lambda: mulgil.stack([x, x], 4),
        lambda: mulgil.zeros(0, 3).amax(0),
        lambda: mulgil.zeros(0).argmax(),
    ]
    for call in calls:
        with pytest.raises(MulgilError):
            call()
