"""Kernels as processors with other vectors have them: what this one can run of 16, 32 and 64 bytes, see `native.hardware`."""

from __future__ import annotations

import numpy as np
import pytest

import mulgil
from mulgil import Tensor
from mulgil.errors import OptionError
from mulgil.native import hardware, jit, llvm, threads
from mulgil.native.cache import machine as made_for
from mulgil.native.loader import Argument, Spec
from mulgil.native.vector import lanes_for, machine
from tests.compile import test_bits, test_convolution, test_few, test_products

LOOP = """
define void @body(ptr noalias %a, ptr noalias %b) {
start:
  br label %loop
loop:
  %k = phi i64 [ 0, %start ], [ %next, %loop ]
  %from = getelementptr float, ptr %a, i64 %k
  %to = getelementptr float, ptr %b, i64 %k
  %x = load float, ptr %from
  %y = load float, ptr %to
  %xx = fmul contract float %x, %x
  %z = fadd contract float %xx, %y
  store float %z, ptr %to
  %next = add i64 %k, 1
  %more = icmp ult i64 %next, 1000
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""
CONVOLUTIONS = [("conv relu pool", 33, "float32"), ("stride", 7, "float64"), ("overlapping average", 7, "float64")]
PRODUCTS = [(33, 12, 3, "float64", "b"), (25, 84, 49, "float32", "ab"), (12, 17, 130, "float32", "")]


@pytest.mark.parametrize("name, batch, dtype", CONVOLUTIONS)
def test_convolutions(name, batch, dtype, vector_bytes):
    test_convolution.test_training_equals_eager(name, batch, dtype)


@pytest.mark.parametrize("name, count, dtype", [("stride and padding", 1, "float32"), ("dense", 3, "float64")])
def test_few_samples(name, count, dtype, vector_bytes):
    test_few.test_predictions_equal_eager(name, count, dtype)


@pytest.mark.parametrize("m, k, n, dtype, turned", PRODUCTS)
def test_products_of_matrices(m, k, n, dtype, turned, vector_bytes, monkeypatch):
    monkeypatch.setattr(threads, "WORTH", 0)
    monkeypatch.setattr("mulgil.compile.passes.products.SMALL", 0)
    monkeypatch.setattr("mulgil.compile.passes.products.LARGE", 0)
    test_products.test_products_equal_numpys(m, k, n, turned, dtype)


def test_shares_change_no_bit(vector_bytes):
    test_bits.test_shares_change_no_bit(0, "float32")


def test_vectors_are_as_asked_for(vector_bytes):
    assert machine()[0] == vector_bytes and lanes_for(np.dtype(np.float32), 1000) == vector_bytes // 4


def test_each_has_code_of_its_own(monkeypatch):
    """LLVM's own choice of instructions is bound too: the code of a loop that it vectorises differs."""
    if len(hardware.widths()) < 2:
        pytest.skip(f"this processor has vectors of one width alone: {hardware.widths() or 'not an x86'}")
    array = Argument("<f4", (1000,))
    by_hand = Spec("def kernel(a, b):\n    for k in range(1000):\n        b[k] = a[k] * a[k] + b[k]\n", (array, array))
    loop = Spec(LOOP, (array, array), language="llvm")
    codes, names = set(), set()
    for width in hardware.widths():
        monkeypatch.setenv(hardware.SWITCH, str(width))
        codes |= {jit.machine_code(by_hand, "kernel_of_a_test")[0], llvm.machine_code(loop, "kernel_of_a_test")[0]}
        names.add(made_for()["cpu"])
    assert len(names) == len(hardware.widths()) and len(codes) == 2 * len(names)


def test_a_width_that_is_not_there(monkeypatch):
    monkeypatch.setenv(hardware.SWITCH, "48")
    compiled = mulgil.compile(lambda x: x * 2 + 1, strict=True)
    with pytest.raises(OptionError, match="MULGIL_VECTOR_BYTES"):
        compiled(Tensor(np.ones(3, np.float32)))
