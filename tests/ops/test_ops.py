"""The table, read by its checks: finite differences, PyTorch forward and backward, dtype, second derivatives."""

from __future__ import annotations

import numpy as np
import pytest

import mulgil
from mulgil import gradcheck
from mulgil.autograd import Tensor, apply
from mulgil.errors import GradientError
from mulgil.ops import elementwise, guard, random
from mulgil.ops.function import BLOCK, Context, run_inplace
from tests.ops.table import ROWS, UPDATES, Row

rows = pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
NO_GRADIENT_TO = {"weight": -1, "statistics": -2}  # tags: the inputs from here on are constants


def tensors(row: Row, dtype: str) -> list[Tensor]:
    arrays = row.arrays(dtype)
    constant = (
        min((NO_GRADIENT_TO[t] for t in row.tags & NO_GRADIENT_TO.keys()), default=0) % len(arrays)
        if row.tags & NO_GRADIENT_TO.keys()
        else len(arrays)
    )
    return [Tensor(a, requires_grad=row.gradient and a.dtype.kind == "f" and i < constant) for i, a in enumerate(arrays)]


def outputs(result) -> list[Tensor]:
    return list(result) if isinstance(result, tuple) else [result]


def weighted(ys: list[Tensor]) -> Tensor:
    rng = np.random.default_rng(9)
    total = 0
    for y in ys:
        total = total + (y * Tensor(np.asarray(rng.standard_normal(y.shape), y.dtype))).sum()
    return total


@rows
def test_gradient_agrees_with_finite_differences(row: Row):
    inputs = tensors(row, "float64")
    if not row.gradient:
        assert not any(y.requires_grad for y in outputs(apply(row.op(), *[Tensor(x.array) for x in inputs])))
        return
    assert gradcheck(lambda *xs: apply(row.op(), *xs), inputs)


@rows
@pytest.mark.parametrize("power", [1, 2], ids=["linear", "quadratic"])
def test_second_derivative_agrees_with_finite_differences(row: Row, power: int):
    """The column of the table: `twice` says whether an op has one; without it asking is an error. power: of y in the loss."""
    inputs = tensors(row, "float64")
    wanted = [x for x in inputs if x.requires_grad]
    if not row.gradient or not wanted or any(not x.array.size for x in wanted):
        return

    def gradient_of(*xs):
        ys = [y for y in outputs(apply(row.op(), *xs)) if y.requires_grad]
        gs = mulgil.grad(weighted([y**power for y in ys]), [x for x in xs if x.requires_grad], create_graph=True, allow_unused=True)
        return tuple(g for g in gs if g is not None and g.requires_grad)

    if not row.twice:
        with pytest.raises(GradientError, match="second derivative"):
            gradient_of(*inputs)
    elif gradient_of(*inputs):  # of a linear op a loss linear in y has none that depends on anything
        assert gradcheck(gradient_of, inputs, rtol=1e-3)


@rows
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agrees_with_pytorch(row: Row, dtype: str):
    torch = pytest.importorskip("torch")
    if row.oracle is None:
        return
    ours = tensors(row, dtype)
    theirs = [torch.tensor(x.array, requires_grad=x.requires_grad) for x in ours]
    ys = outputs(apply(row.op(), *ours))[: row.first_outputs]
    zs = outputs(row.oracle(*theirs))
    tolerance = {"float32": {"rtol": 2e-5, "atol": 2e-6}, "float64": {"rtol": 1e-10, "atol": 1e-12}}[dtype]
    for y, z in zip(ys, zs, strict=True):
        assert y.shape == tuple(z.shape)
        np.testing.assert_allclose(y.array, z.detach().numpy(), **tolerance)
    if not row.gradient:
        return
    weights = [np.asarray(np.random.default_rng(4).standard_normal(y.shape), y.dtype) for y in ys]
    sum(((y * Tensor(w)).sum() for y, w in zip(ys, weights, strict=True)), Tensor(0.0)).backward()
    sum((z * torch.tensor(w)).sum() for z, w in zip(zs, weights, strict=True)).backward()
    for x, t in zip(ours, theirs, strict=True):
        if x.requires_grad and t.grad is not None:
            np.testing.assert_allclose(x.grad.array, t.grad.numpy(), **tolerance)


@rows
def test_float32_stays_float32(row: Row):
    inputs = tensors(row, "float32")
    ys = outputs(apply(row.op(), *inputs))
    if "changes dtype" not in row.tags:
        assert all(y.dtype == np.float32 for y in ys if y.dtype.kind == "f")
    if row.gradient and any(x.requires_grad for x in inputs):
        weighted([y for y in ys if y.requires_grad]).backward()
        for x in inputs:
            assert x.grad is None or (x.grad.dtype == x.dtype and x.grad.shape == x.shape)


@rows
def test_inputs_are_left_alone(row: Row):
    inputs = tensors(row, "float64")
    before = [x.array.copy() for x in inputs]
    ys = [y for y in outputs(apply(row.op(), *inputs)) if y.requires_grad]
    if ys:
        weighted(ys).backward()
    for x, b in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x.array, b)


@pytest.mark.parametrize(("name", "op", "shapes"), UPDATES, ids=[u[0] for u in UPDATES])
@pytest.mark.parametrize("size", [1, BLOCK + 17])
def test_updates_overwrite_in_blocks_what_the_text_says_in_one(name, op, shapes, size):
    rng = np.random.default_rng(0)
    arrays = [np.abs(rng.standard_normal((size, *s) if s else ())) + 0.1 for s in shapes]
    arrays = [np.asarray(a) for a in arrays]
    expected = op.forward(Context(), *[a.copy() for a in arrays])
    expected = expected if isinstance(expected, tuple) else (expected,)
    places = [arrays[i] for i in op.inplace]
    results = run_inplace(op, *arrays)
    for place, result, wanted in zip(places, results, expected, strict=True):
        assert result is place
        np.testing.assert_allclose(place, wanted, rtol=1e-13)


def test_every_op_has_a_row():
    from mulgil import ops
    from mulgil.ops.function import Function

    def concrete(cls):
        found = {cls} if "forward" in cls.__dict__ and cls.__module__.startswith("mulgil.ops") else set()
        return found.union(*(concrete(c) for c in cls.__subclasses__()))

    assert ops
    tested = {type(r.op()) for r in ROWS} | {type(u[1]) for u in UPDATES} | {elementwise.Fill}
    tested |= {guard.Classes, guard.Refuse, random.Draw}  # what refuses and draws: tests/compile/test_effects.py
    from mulgil.ops.reduce import Extreme
    from mulgil.ops.update import ClipFactor

    assert concrete(Function) - tested - {Function, ClipFactor, Extreme} == set()
