# ruff: noqa: E501  (the table is easier to read in long rows)
"""What NumPy refuses, mulgil tells in its own words: the rule, the shapes, a hint; under the exception that Python and PyTorch have there."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import mulgil
from mulgil import Function, nn
from mulgil.errors import DTypeError, MulgilError
from mulgil.nn import functional as F


def ones(*shape, dtype="float32"):
    return mulgil.tensor(np.ones(shape, dtype))


def whole(*numbers):
    return mulgil.tensor(np.array(numbers))


A, B, X = ones(2, 3), ones(4, 3), ones(2, 3)  # X is written to
EMPTY, SCALAR = ones(0, 3), ones()
TWO = "[2, 3] float32, b[4, 3] float32"

#       call, exception, in the rule, in what came, in the hint
FAULTS = {
    "a dtype that is none": (lambda: A.astype("foo"), DTypeError, "a dtype must be one of NumPy's", "'foo'", "mulgil.float32"),
    "a layer to a dtype that is none": (lambda: nn.Linear(2, 1).to("foo"), DTypeError, "a dtype must be", "'foo'", "mulgil.float32"),
    "add": (lambda: A + B, ValueError, "add: shapes must broadcast", f"a{TWO}", "the first axes differ, 2 and 4"),
    "array first": (lambda: np.ones((4, 3), "float32") + A, ValueError, "add: shapes must broadcast", "a[4, 3] float32, b[2, 3]", "first axes"),
    "sub": (lambda: A - B, ValueError, "sub: shapes must broadcast", TWO, "first axes"),
    "mul": (lambda: A * ones(2), ValueError, "mul: shapes must broadcast", "b[2] float32", "b[:, None]"),
    "mul, short first": (lambda: ones(2) * A, ValueError, "mul: shapes must broadcast", "a[2] float32", "a[:, None]"),
    "div": (lambda: A / ones(3, 2), ValueError, "div: shapes must broadcast", "b[3, 2]", "b.T"),
    "floor division": (lambda: A // B, ValueError, "floor division: shapes", TWO, "first axes"),
    "remainder": (lambda: A % B, ValueError, "remainder: shapes", TWO, "first axes"),
    "pow": (lambda: A**B, ValueError, "pow: shapes", TWO, "first axes"),
    "in place": (lambda: X.add_(B), ValueError, "add: shapes", TWO, "first axes"),
    "augmented": (lambda: copy.deepcopy(X).__iadd__(B), ValueError, "add: shapes", TWO, "first axes"),
    "less": (lambda: A < B, ValueError, "<: shapes must broadcast", TWO, "first axes"),
    "equal": (lambda: A == B, ValueError, "==: shapes must broadcast", TWO, "first axes"),
    "and": (lambda: (A > 0) & (B > 0), ValueError, "&: shapes must broadcast", "a[2, 3] bool, b[4, 3] bool", "first axes"),
    "and of floats": (lambda: A & A, TypeError, "&: not for these dtypes", "a[2, 3] float32", "x > 0"),
    "not of floats": (lambda: ~A, TypeError, "invert: not for these dtypes", "x[2, 3] float32", "x > 0"),
    "maximum": (lambda: mulgil.maximum(A, ones(5)), ValueError, "maximum: shapes", "b[5] float32", "b.reshape(...)"),
    "where": (lambda: mulgil.where(A > 0, A, B), ValueError, "where: shapes", f"condition[2, 3] bool, a{TWO}", "first axes"),
    "clip": (lambda: A.clip(B, 1.0), ValueError, "clamp: shapes", "x[2, 3] float32, low[4, 3] float32, high=1.0", "first axes"),
    "np.add": (lambda: np.add(A, B), ValueError, "add: shapes", TWO, "first axes"),
    "np.concatenate": (lambda: np.concatenate([A, B], 1), ValueError, "cat: shapes must be equal", "[2, 3] float32, x[4, 3] float32", "first axes"),
    "np.einsum": (lambda: np.einsum("ij,jk", A, B), ValueError, "np.einsum: shapes", "x0[2, 3] float32, x1[4, 3]", "first axes"),
    "matmul": (lambda: A @ B, ValueError, "matmul: the last axis of a", f"a{TWO}", "b.T"),
    "matmul of a number": (lambda: SCALAR @ A, ValueError, "matmul: the last axis", "a[] float32", "transpose"),
    "matmul of stacks": (lambda: ones(2, 3, 4) @ ones(5, 4, 6), ValueError, "matmul: shapes must broadcast", "b[5, 4, 6]", "b.reshape"),
    "cat": (lambda: mulgil.cat([A, ones(2, 4)]), ValueError, "cat: the tensors must have one shape", "first[2, 3] float32, other[2, 4]", "dim="),
    "cat of two ranks": (lambda: mulgil.cat([A, ones(3)]), ValueError, "cat: the tensors must have one shape", "other[3]", "stack"),
    "cat of nothing": (lambda: mulgil.cat([]), ValueError, "at least one tensor", "none", "generator"),
    "stack": (lambda: mulgil.stack([A, B]), ValueError, "stack: the tensors must have one shape", "first[2, 3] float32, other[4, 3]", "cat"),
    "stack, axis": (lambda: mulgil.stack([A, A], 5), IndexError, "from -3 to 2", "5 of tensor[2, 3]", "unsqueeze"),
    "index": (lambda: A[2], IndexError, "2 is outside the axis, whose 2 elements are 0 to 1", "x[2, 3] float32, key=[2]", "count from 0"),
    "index, second": (lambda: A[:, 9], IndexError, "9 is outside", "key=[:, 9]", "x[-1]"),
    "index tensor": (lambda: A[whole(0, 7)], IndexError, "7 is outside", "x[2, 3] float32, array[2] int64", "x[-1]"),
    "too many": (lambda: A[0, 0, 0], IndexError, "3 indices for a tensor of 2 axes", "x[2, 3]", "one index for each axis"),
    "index of a number": (lambda: SCALAR[0], IndexError, "1 indices for a tensor of 0 axes", "x[]", "x.item()"),
    "index, text": (lambda: A["x"], IndexError, "made of integers, slices", "key=['x']", "int(i)"),
    "index, float": (lambda: A[1.5], IndexError, "made of integers, slices", "key=[1.5]", "int(i)"),
    "index tensor, float": (lambda: A[ones(2)], IndexError, "made of integers, slices", "array[2] float32", "i.long()"),
    "mask": (lambda: A[ones(3) > 0], IndexError, "a mask must have the lengths", "array[3] bool", "x[:, mask]"),
    "index tensors": (lambda: A[[0, 1], [0, 1, 2]], IndexError, "index tensors", "array[2] int64, array[3] int64", "rows[:, None]"),
    "gather": (lambda: A.gather(0, whole(0, 1)), ValueError, "gather: index must be integers of x's shape", "index[2]", "unsqueeze"),
    "gather, outside": (lambda: A.gather(0, whole([0, 1, 5])), IndexError, "5 is outside", "x[2, 3] float32, index[1, 3]", "x[-1]"),
    "write, index": (lambda: X.__setitem__(5, 1.0), IndexError, "5 is outside", "x[2, 3]", "x[-1]"),
    "write, shape": (lambda: X.__setitem__(0, ones(4)), ValueError, "assignment: shapes", "a[3] float32, b[4]", "b.reshape"),
    "write, list": (lambda: X.__setitem__(0, [1.0, 2.0]), ValueError, "assignment: shapes", "a[3] float32, b[2]", "b.reshape"),
    "write, mask": (lambda: X.__setitem__(X > 0, ones(4)), (ValueError, IndexError), "assignment", "b[4]", ""),
    "copy_": (lambda: X.copy_(B), ValueError, "assignment: shapes", TWO, "first axes"),
    "fill_": (lambda: X.fill_(B), ValueError, "assignment: shapes", TWO, "first axes"),
    "argmax of nothing": (lambda: EMPTY.argmax(0), ValueError, "of no elements", "tensor[0, 3]", "empty axis"),
    "amax of nothing": (lambda: EMPTY.amax(0), ValueError, "of no elements", "tensor[0, 3]", "empty axis"),
    "max of nothing": (lambda: EMPTY.max(), ValueError, "of no elements", "tensor[0, 3]", "empty axis"),
    "axis": (lambda: A.sum(2), IndexError, "from -2 to 1", "2 of tensor[2, 3]", "count from 0"),
    "axis twice": (lambda: A.sum((0, 0)), IndexError, "named once", "(0, 0) of tensor[2, 3]", "-1"),
    "reshape": (lambda: A.reshape(4), ValueError, "number of elements must stay", "tensor[2, 3] float32 (6 elements) to [4]", "-1"),
    "view": (lambda: A.view(-1, 4), ValueError, "number of elements must stay", "to [-1, 4]", "-1"),
    "squeeze": (lambda: A.squeeze(5), IndexError, "from -2 to 1", "5 of tensor[2, 3]", "count from 0"),
    "unsqueeze": (lambda: A.unsqueeze(7), IndexError, "from -3 to 2", "7 of tensor[2, 3]", "count from 0"),
    "transpose": (lambda: A.transpose(0, 5), IndexError, "from -2 to 1", "5 of tensor[2, 3]", "count from 0"),
    "permute": (lambda: A.permute(0, 0), ValueError, "every axis must be named once", "tensor[2, 3] float32, axes [0, 0]", "permute(1, 0)"),
    "expand": (lambda: A.expand(4, 3), ValueError, "only axes of length 1 can grow", "tensor[2, 3] float32 to [4, 3]", "cat repeats"),
    "flatten": (lambda: A.flatten(1, 0), ValueError, "start_dim must not come after", "start_dim=1, end_dim=0", "flatten(1)"),
    "pad, odd": (lambda: F.pad(A, (1,)), ValueError, "pad: widths come in pairs", "pad=(1,)", "(1, 1)"),
    "pad, many": (lambda: F.pad(A, (1,) * 6), ValueError, "pad: at most one pair", "x[2, 3]", "last axis"),
    "one_hot": (lambda: F.one_hot(whole(0, 7), 3), ValueError, "labels must be 0 to 2", "target[1] = 7", "8 outputs"),
    "item": (lambda: A.item(), ValueError, "only a tensor of one element", "tensor[2, 3]", "x.mean()"),
    "float": (lambda: float(A), ValueError, "only a tensor of one element", "tensor[2, 3]", "x.mean()"),
    "bool": (lambda: bool(A), ValueError, "ambiguous", "tensor[2, 3]", ".all()"),
    "as an index": (lambda: [1, 2][A], TypeError, "only a 0-d integer tensor", "tensor[2, 3]", "int("),
    "loop over a number": (lambda: list(SCALAR), TypeError, "iteration over a 0-d tensor", "tensor[]", "x.item()"),
    "len of a number": (lambda: len(SCALAR), TypeError, "len() of a 0-d tensor", "tensor[]", "x.item()"),
    "in": (lambda: "x" in A, TypeError, "a tensor holds numbers", "'x' (str)", "number"),
    "read-only": (lambda: ones(1, 3).expand(2, 3).zero_(), ValueError, "assignment: the memory is read-only", "a[2, 3]", "x.clone()"),
    "np.sort": (lambda: np.sort(A, axis=5), IndexError, "np.sort: the axis must be", "x0[2, 3]", "-1 is the last"),
    "np.split": (lambda: np.split(A, 2, axis=1), ValueError, "np.split: array split", "x0[2, 3]", "NumPy's"),
    "random size": (lambda: mulgil.randint(0, 3, (-1,)), ValueError, "random numbers: the lengths", "Draw", "size"),
    "size": (lambda: A.size(5), IndexError, "from -2 to 1", "5 of tensor[2, 3]", "count from 0"),
    "half a length": (lambda: A.view(2.5), ValueError, "integers", "(2.5,)", "n // 2"),
    "cat of two": (lambda: mulgil.cat(A, B), ValueError, "an axis is an integer", "tensor(", "dim=0"),
    "stack of a number": (lambda: mulgil.stack(5), ValueError, "stack: takes a list", "tensors=5", "[a, b]"),
    "cat of a number": (lambda: mulgil.cat(SCALAR), ValueError, "cat: takes a list", "tensors[]", "[a, b]"),
    "negative size": (lambda: mulgil.zeros(-1), ValueError, "whole numbers, 0 or more", "(-1,)", "zeros(2, 3)"),
    "size as text": (lambda: mulgil.rand("a"), ValueError, "whole numbers, 0 or more", "('a',)", "zeros(2, 3)"),
    "eye": (lambda: mulgil.eye(-1), ValueError, "whole numbers, 0 or more", "-1", "zeros(2, 3)"),
    "linspace": (lambda: mulgil.linspace(0, 1, -1), ValueError, "whole numbers, 0 or more", "-1", "zeros(2, 3)"),
    "full of a tensor": (lambda: mulgil.full((2,), A), ValueError, "every element is one number", "fill_value[2, 3]", "x.item()"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_explained(name):
    call, kind, rule, got, hint = FAULTS[name]
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert isinstance(error, MulgilError) and error.hint
    assert rule in error.rule and got in error.got and hint in error.hint
    assert error.__cause__ is None and (error.__suppress_context__ or error.__context__ is None)
    assert (X == 1).all()  # nothing was written


def test_what_a_compiled_step_refuses_has_the_same_words():
    """The shapes are looked at when a plan is made; which rows there are, at each call: in a kernel, and where NumPy does it."""
    for step in (lambda x, i: (x[i] * 2).sum(), lambda x, i: x[i], lambda x, i: x.gather(0, i)):
        compiled, index = mulgil.compile(step), mulgil.tensor(np.zeros((1, 3), np.int64))
        for _ in range(3):
            compiled(A, index)
        for bad in (mulgil.tensor(np.array([[0, 1, 9]])), mulgil.tensor(np.array([[0, -3, 0]]))):
            with pytest.raises(IndexError) as eager:
                step(A, bad)
            with pytest.raises(IndexError) as replayed:
                compiled(A, bad)
            assert isinstance(replayed.value, MulgilError) and replayed.value.rule == eager.value.rule
            assert replayed.value.hint == eager.value.hint and "x[2, 3] float32" in replayed.value.got
        assert compiled(A, index).shape == step(A, index).shape  # it goes on
    compiled = mulgil.compile(lambda a, b: a + b)
    for _ in range(3):
        compiled(A, A)
    with pytest.raises(ValueError, match=r"add: shapes must broadcast[\s\S]*a\[2, 3\] float32, b\[4, 3\]"):
        compiled(A, B)


def test_errors_of_an_op_from_outside_stay_its_own():
    class Mine(Function):
        def forward(self, ctx, x):
            return x + np.ones(7)

    with pytest.raises(ValueError) as caught:
        Mine()(A)
    assert not isinstance(caught.value, MulgilError) and "operands could not be broadcast" in str(caught.value)
