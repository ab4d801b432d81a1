"""Loop nests: every function of the writer in every dtype against NumPy, reductions over every layout, and what renderers show."""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pytest

import mulgil
from mulgil.autograd import Tensor
from mulgil.compile.loop.symbol import COMPARISONS, DTYPES, LIBRARY, ROUNDINGS, TWO, Writer
from mulgil.ops.function import Function

ONE = [*LIBRARY, *ROUNDINGS, "sqrt", "negative", "absolute", "square", "reciprocal", "sign", "invert", "logical_not"]
ONE += ["isnan", "isinf", "isfinite"]
BOTH = [*TWO, *COMPARISONS, "divide", "floor_divide", "remainder", "fmod", "power", "arctan2", "hypot", "copysign"]
BOTH += ["bitwise_and", "bitwise_or", "bitwise_xor", "logical_and", "logical_or", "logical_xor"]
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -2.5, 3.0, 88.5, 88.8, -87.0, -88.0, 100.0, 1e-3, -1e-3, 1e30, -1e30, np.inf, -np.inf, np.nan]
TOLERANCE = {"float16": 2e-3, "float32": 4e-7, "float64": 4e-15}


class Called(Function):
    """A NumPy function of the user's, written with ctx.xp."""

    elementwise = True

    def __init__(self, name: str):
        self.name = name

    def forward(self, ctx, *xs):
        return getattr(ctx.xp, self.name)(*xs)


def elements(dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype).kind
    if kind == "b":
        return rng.random(96) < 0.5
    if kind == "f":
        with np.errstate(all="ignore"):
            return rng.permutation(np.concatenate([EDGES, rng.normal(size=76) * 10.0 ** rng.integers(-2, 3, 76)])).astype(dtype)
    info = np.iinfo(dtype)
    edges = [0, 1, 2, 3, 7, info.max, info.min, info.max - 1, info.min + 1]
    return rng.permutation(np.concatenate([edges, rng.integers(max(info.min, -100), min(info.max, 100), 87)])).astype(dtype)


def lowered(name: str, arrays: list[np.ndarray]) -> Tensor | None:
    """The second, replayed call of the function; None where NumPy's own text runs in the plan."""
    compiled = mulgil.compile(lambda *xs: Called(name)(*xs), strict=True)
    tensors = [Tensor(a) for a in arrays]
    compiled(*tensors)
    (program,) = compiled.programs.values()
    return compiled(*tensors) if program.kernels else None


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("count, names", [(1, ONE), (2, BOTH)], ids=["one operand", "two operands"])
def test_functions_are_numpys(count, names, dtype):
    arrays = [elements(dtype, seed) for seed in range(count)]
    ran = 0
    for name in names:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                wanted = getattr(np, name)(*arrays)
            except (TypeError, ValueError):  # NumPy has no such function of this dtype
                continue
            result = lowered(name, arrays)
            if result is None:
                continue
            got = result.array
        ran += 1
        assert got.dtype == wanted.dtype, name
        if wanted.dtype.kind != "f":
            assert (got == wanted).all(), name
            continue
        tiny = np.finfo(wanted.dtype).tiny * 2  # kernels make zero of smaller ones
        large = np.abs(wanted) > tiny
        tolerance = TOLERANCE[wanted.dtype.name]
        np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted), name)
        np.testing.assert_allclose(got[large], wanted[large], rtol=tolerance, err_msg=name)
        assert (np.abs(got[~large & ~np.isnan(wanted)]) <= tiny).all(), name
    assert ran >= 8


def test_every_public_function_of_the_writer_has_a_row():
    others = {"emit", "constant", "cast", "common", "real", "arithmetic", "call", "truth", "where", "clip", "positive"}
    same = {"mod", "true_divide", "fabs", "abs", "bitwise_not", "pi", "inf", "nan", "e", "full_like", "zeros_like", "ones_like"}
    public = {name for name in vars(Writer) if not name.startswith("_")}
    assert public - others - same == {*ONE, *BOTH}


class Cast(Function):
    """x as another dtype: the user's own."""

    elementwise = True

    def __init__(self, dtype: str):
        self.dtype = dtype

    def forward(self, ctx, x):
        return x.astype(self.dtype)


@pytest.mark.parametrize("source", sorted(DTYPES))
def test_casts_are_numpys(source):
    a = np.abs(np.random.default_rng(1).normal(size=50) * 20).astype(source)
    compiled = mulgil.compile(lambda x: [Cast(target)(x) for target in sorted(DTYPES)], strict=True)
    compiled(Tensor(a))
    for target, got in zip(sorted(DTYPES), compiled(Tensor(a)), strict=True):
        assert got.dtype == target and (got.array == a.astype(target)).all(), target


LAYOUTS = {
    "plain": lambda a: a,
    "reversed": lambda a: a[..., ::-1],
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "transposed": lambda a: np.ascontiguousarray(a.swapaxes(0, -1)).swapaxes(0, -1),
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
}


SHAPES = [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1), (2, 1, 1, 3), (7,), (1,), (0, 3), (3, 0), ()]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reductions_over_all_axes_of_all_layouts(shape, layout):
    a = np.random.default_rng(0).normal(size=shape)
    a = LAYOUTS[layout](a) if a.ndim else a
    axes = [None, *range(a.ndim), *((0, k) for k in range(1, a.ndim))]
    choices = [{"dim": axis, "keepdim": keep} if axis is not None else {} for axis, keep in product(axes, [False, True])]

    def f(x):
        y = x * 2.0
        return [[y.sum(**c), y.mean(**c) if x.numel() else y, y + x, (y - x).sum(**c) ** 2] for c in choices]

    compiled = mulgil.compile(f, strict=True)
    wanted = f(Tensor(a))
    for _ in range(3):
        got = compiled(Tensor(a))
    for g, w in ((g, w) for gs, ws in zip(got, wanted, strict=True) for g, w in zip(gs, ws, strict=True)):
        assert g.shape == w.shape
        np.testing.assert_allclose(g.array, w.array, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64", "uint8", "bool"])
def test_reductions_in_every_dtype(dtype):
    a = elements(dtype).reshape(8, 12)
    for name in ("sum", "amax", "amin"):

        def f(x, name=name):
            return getattr(mulgil, name)(x, dim=1), getattr(mulgil, name)(x, dim=0)

        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = f(Tensor(a))
            compiled = mulgil.compile(f, strict=True)
            compiled(Tensor(a))
            got = compiled(Tensor(a))
        for g, w in zip(got, wanted, strict=True):
            assert g.dtype == w.dtype
            np.testing.assert_allclose(g.array, w.array, rtol=TOLERANCE.get(dtype, 0) * 10)


def test_neighbouring_axes_are_one_loop():
    compiled = mulgil.compile(lambda x, b: (x * 2 + b).sum(dim=(2, 3)), strict=True)
    x, b = mulgil.rand(2, 3, 4, 5), mulgil.rand(3, 1, 1)
    compiled(x, b)
    (program,) = compiled.programs.values()
    assert "in range(20)" in program.source and "in range(4)" not in program.source
    np.testing.assert_allclose(compiled(x, b).array, (x.array * 2 + b.array).sum((2, 3)), rtol=1e-6)
