"""The same table on the GPU: every op's text gives there what it gives on the CPU. Skipped where there is no GPU."""

from __future__ import annotations

import numpy as np
import pytest

import mulgil
from mulgil.autograd import Tensor, apply
from mulgil.ops.random import Keep
from tests.ops.table import ROWS, Row
from tests.ops.test_ops import outputs, tensors, weighted

pytestmark = pytest.mark.skipif(not mulgil.cuda.is_available(), reason="no CUDA device that CuPy can use")


def moved(x: Tensor) -> Tensor:
    return Tensor(x.to("cuda").array, requires_grad=x.requires_grad)


@pytest.mark.parametrize("row", [r for r in ROWS if not isinstance(r.op(), Keep)], ids=lambda r: r.name)
def test_the_gpu_gives_what_the_cpu_gives(row: Row):
    here = tensors(row, "float64")
    there = [moved(x) for x in here]
    ys, zs = outputs(apply(row.op(), *here)), outputs(apply(row.op(), *there))
    for y, z in zip(ys, zs, strict=True):
        assert "move" in row.name or z.device.type == "cuda"
        np.testing.assert_allclose(y.array, z.cpu().array, rtol=1e-9, atol=1e-12)
    if any(y.requires_grad for y in ys):
        weighted([y for y in ys if y.requires_grad]).backward()
        weighted([z.cpu() for z in zs if z.requires_grad]).backward()
        for x, t in zip(here, there, strict=True):
            assert (x.grad is None) == (t.grad is None)
            if x.grad is not None:
                np.testing.assert_allclose(x.grad.array, t.grad.cpu().array, rtol=1e-9, atol=1e-12)
