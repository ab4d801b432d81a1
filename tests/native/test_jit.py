"""The functions that kernels have of their own, so that loops around them become vectors."""

import numpy as np
import pytest

import mulgil
from mulgil import Tensor

SMALL, LARGE = np.geomspace(1e-30, 0.7, 20_000), np.linspace(0.5, 87, 20_000)
POINTS = np.concatenate([SMALL, -SMALL, LARGE, -LARGE, [0.0, 0.625, -0.625]]).astype(np.float32)


@pytest.mark.parametrize("name", ["exp", "tanh"])
def test_close_to_the_true_value(name):
    compiled = mulgil.compile(lambda x: getattr(x, name)(), strict=True)
    for _ in range(2):
        found = compiled(Tensor(POINTS)).array
    expected = getattr(np, name)(POINTS.astype(np.float64))
    steps = np.abs(found - expected) / np.spacing(np.abs(expected).astype(np.float32))
    assert steps.max() <= 2  # units in the last place


def test_at_the_ends():
    ends = Tensor(np.array([np.nan, np.inf, -np.inf, 1e30, -1e30], np.float32))
    tanh, exp = (mulgil.compile(f, strict=True) for f in (lambda x: x.tanh(), lambda x: x.exp()))
    with np.errstate(over="ignore"):  # the first call is eager
        exp(ends)
    for _ in range(2):
        np.testing.assert_array_equal(tanh(ends).array, np.array([np.nan, 1, -1, 1, -1], np.float32))
        found = exp(ends).array
        assert np.isnan(found[0]) and (found[[1, 3]] > 3e38).all() and (found[[2, 4]] < 2e-38).all()
