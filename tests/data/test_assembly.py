"""An assembly gives the batches that the data set gives, also inside a compiled function."""

from __future__ import annotations

import numpy as np
import pytest

import mulgil
from mulgil import Tensor
from mulgil.data import Subset, TensorDataset, datasets, transforms
from mulgil.data.assembly import Assembly

T = transforms
PIPELINES = {
    "tensor": T.ToTensor(),
    "normalised": T.Compose([T.ToTensor(), T.Normalize(0.5, 0.25)]),
    "padded": T.Compose([T.ToTensor(), T.Pad(2)]),
    "padded unevenly first": T.Compose([T.Pad((1, 0, 2, 3)), T.ToTensor(), T.Normalize((0.1,), (0.3,))]),
    "nested and flat": T.Compose([T.Compose([T.ToTensor()]), T.Normalize(0.5, 0.5), T.Flatten()]),
    "raw": None,
}
ROWS = [3, 1700, 0, 3, 41]


def digits(transform):
    return datasets.Digits(train=True, transform=transform)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("part", [False, True])
def test_batches_are_the_data_sets(name, part):
    whole = digits(PIPELINES[name])
    dataset = Subset(whole, list(range(0, len(whole), 3))) if part else whole
    rows = [r % len(dataset) for r in ROWS]
    assembly = Assembly.of(dataset)
    x, t = dataset.fetch(rows)
    mine, targets = assembly(Tensor(np.array(rows)))
    np.testing.assert_array_equal(mine.array, x.array)
    np.testing.assert_array_equal(targets.array, t.array)
    assert mine.dtype == x.dtype and targets.dtype == t.dtype
    compiled = mulgil.compile(lambda i: assembly(i), state=[assembly], strict=True)
    for _ in range(2):
        mine, targets = compiled(Tensor(np.array(rows)))
        np.testing.assert_allclose(mine.array, x.array, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(targets.array, t.array)


def test_tensor_datasets():
    a, b = np.random.default_rng(0).random((9, 4)), np.arange(9)
    x, t = Assembly.of(TensorDataset(a, b))(Tensor(np.array([8, 2])))
    np.testing.assert_array_equal(x.array, a[[8, 2]])
    assert t.tolist() == [8, 2]


class Shifted(datasets.Digits):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, label + 1


@pytest.mark.parametrize(
    "dataset",
    [
        lambda: digits(T.Lambda(lambda x: x)),
        lambda: digits(T.Compose([T.ToTensor(), T.Normalize(0.5, 0.5), T.Pad(2)])),
        lambda: digits(T.Compose([T.ToTensor(), T.Pad(2, fill=1)])),
        lambda: datasets.Digits(train=True, target_transform=lambda t: t + 1),
        lambda: Shifted(train=True),
        lambda: [1, 2, 3],
    ],
)
def test_what_cannot_be_expressed_has_none(dataset):
    assert Assembly.of(dataset()) is None


def test_a_row_that_is_not_there():
    """Compiled as eagerly, an index beyond the set is an error, and a negative one counts from the end."""
    assembly = Assembly.of(digits(T.ToTensor()))
    compiled = mulgil.compile(lambda i: assembly(i), state=[assembly], strict=True)
    compiled(Tensor(np.array([1, 2])))
    np.testing.assert_allclose(compiled(Tensor(np.array([-1, -2])))[0].array, assembly(Tensor(np.array([-1, -2])))[0].array, rtol=1e-6)
    for bad in (len(assembly.tensors[0]), -len(assembly.tensors[0]) - 1, 1 << 40):
        with pytest.raises(IndexError):
            compiled(Tensor(np.array([0, bad])))
