"""Loaders: PyTorch's batches and errors; the same batches whichever way a data set offers them; repeatable orders."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mulgil
from mulgil.autograd import Tensor
from mulgil.backend import Generator, manual_seed
from mulgil.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    datasets,
    default_collate,
    random_split,
    transforms,
)
from mulgil.errors import DTypeError, MulgilError, OptionError, ShapeError


class Squares(Dataset):
    def __init__(self, count: int = 10):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        if not -self.count <= i < self.count:
            raise IndexError(i)
        return np.array([i, i * i], np.float32), i


def images(count: int = 23) -> datasets.ImageDataset:
    random = np.random.default_rng(0)
    return datasets.ImageDataset(random.integers(256, size=(count, 28, 28), dtype=np.uint8), random.integers(10, size=count))


def numbers(loader: DataLoader) -> list[list[int]]:
    return [batch.tolist() for batch in loader]


def test_batches_and_lengths() -> None:
    assert numbers(DataLoader(range(10), 4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert numbers(DataLoader(range(10), 4, drop_last=True)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert numbers(DataLoader(range(3))) == [[0], [1], [2]]
    assert list(DataLoader([5, 6], batch_size=None)) == [5, 6]
    assert numbers(DataLoader(range(6), sampler=[5, 3, 1], batch_size=2)) == [[5, 3], [1]]
    assert numbers(DataLoader(range(6), batch_sampler=[[0, 5], [1]])) == [[0, 5], [1]]
    for count in (0, 1, 7, 8, 9):
        for size in (1, 4, 100):
            for drop_last in (False, True):
                loader = DataLoader(Squares(count), size, drop_last=drop_last)
                assert len(list(loader)) == len(loader)
    assert len(DataLoader(range(5), batch_size=None)) == 5
    assert DataLoader(range(5), 2).batch_size == 2 and DataLoader(range(5)).dataset == range(5)


def test_a_batch_is_a_list_of_tensors() -> None:
    x, y = next(iter(DataLoader(Squares(), batch_size=4)))
    assert isinstance(x, Tensor) and x.shape == (4, 2) and x.dtype == np.float32
    assert isinstance(y, Tensor) and y.shape == (4,) and y.dtype == np.int64
    assert isinstance(next(iter(DataLoader(Squares(), 4))), list)


@pytest.mark.parametrize(
    "transform", [None, transforms.ToTensor(), transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])]
)
@pytest.mark.parametrize("target_transform", [None, lambda label: label % 2, float])
def test_fetch_is_collate_of_samples(transform: Any, target_transform: Any) -> None:
    data = images()
    data.transform, data.target_transform = transform, target_transform
    rows = [3, 0, 22, 3, -1]
    for fast, slow in zip(data.fetch(rows), default_collate([data[i] for i in rows]), strict=True):
        assert fast.dtype == slow.dtype and fast.shape == slow.shape
        np.testing.assert_array_equal(fast.array, slow.array)
    part = Subset(data, [5, 6, 7])
    for fast, slow in zip(part.fetch([2, 0]), default_collate([data[7], data[5]]), strict=True):
        np.testing.assert_array_equal(fast.array, slow.array)


def test_batches_are_the_callers_own() -> None:
    data = images()
    for transform in (None, transforms.ToTensor(), transforms.Pad(0)):
        data.transform = transform
        before = data.data.array.copy()
        batches = list(DataLoader(data, batch_size=5))
        copies = [x.array.copy() for x, _ in batches]
        for x, y in batches:
            x.array[...] = 7
            y.array[...] = 7
        again = list(DataLoader(data, batch_size=5))
        for (x, _), kept in zip(again, copies, strict=True):
            np.testing.assert_array_equal(x.array, kept)
        image, _ = data[0]
        np.asarray(image)[...] = 9
        np.testing.assert_array_equal(data.data.array, before)


def test_an_overridden_sample_changes_the_batch() -> None:
    class Inverted(datasets.ImageDataset):
        def __getitem__(self, index: int) -> tuple[Any, Any]:
            image, label = super().__getitem__(index)
            return 255 - image, label

    data = images()
    inverted = Inverted(data.data.array, data.targets.array)
    x, _ = next(iter(DataLoader(inverted, batch_size=4)))
    np.testing.assert_array_equal(x.array, 255 - data.data.array[:4, None])


def test_new_data_is_taken_up() -> None:
    data = images()
    data.data, data.targets = data.data[:4], data.targets[:4]
    assert len(data) == 4 and sum(len(x) for x, _ in DataLoader(data, 3)) == 4


def test_tensor_dataset() -> None:
    x, y = Tensor(np.arange(12.0).reshape(6, 2)), np.arange(6)
    data = TensorDataset(x, y)
    assert len(data) == 6 and data[2][0].tolist() == [4.0, 5.0] and data[2][1].item() == 2
    a, b = next(iter(DataLoader(data, sampler=[5, 0], batch_size=2)))
    assert a.tolist() == [[10.0, 11.0], [0.0, 1.0]] and b.tolist() == [5, 0]


def test_gradients_pass_through_a_batch() -> None:
    x = Tensor(np.ones((4, 2)), requires_grad=True)
    for loader in (DataLoader(TensorDataset(x), 3), DataLoader([x[i] for i in range(4)], 3)):
        x.grad = None
        for batch in loader:
            (batch[0] if isinstance(batch, list) else batch).sum().backward()
        assert x.grad is not None and x.grad.tolist() == [[1.0, 1.0]] * 4


def test_shuffle() -> None:
    loader = DataLoader(range(100), 7, shuffle=True, generator=Generator(3))
    first, second = ([i for batch in loader for i in batch.tolist()] for _ in range(2))
    assert first != second and first != list(range(100)) and sorted(first) == sorted(second) == list(range(100))
    again = DataLoader(range(100), 7, shuffle=True, generator=Generator(3))
    assert [i for batch in again for i in batch.tolist()] == first
    manual_seed(5)
    a = numbers(DataLoader(range(20), 3, shuffle=True))
    manual_seed(5)
    assert numbers(DataLoader(range(20), 3, shuffle=True)) == a


def test_orders_repeat_across_processes() -> None:
    program = (
        "import mulgil; from mulgil.data import DataLoader, random_split; mulgil.manual_seed(11);"
        "epochs = [b.tolist() for _ in range(2) for b in DataLoader(range(50), 8, shuffle=True)];"
        "print(epochs, [list(p) for p in random_split(range(9), [4, 5])])"
    )
    run = [sys.executable, "-c", program]
    outputs = {subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    mulgil.manual_seed(11)
    here = [b.tolist() for _ in range(2) for b in DataLoader(range(50), 8, shuffle=True)]
    assert outputs == {f"{here} {[list(p) for p in random_split(range(9), [4, 5])]}\n"}


def test_samplers() -> None:
    assert list(SequentialSampler(range(3))) == [0, 1, 2]
    assert sorted(SubsetRandomSampler([4, 8, 15])) == [4, 8, 15]
    longer = list(RandomSampler(range(4), num_samples=10))
    assert sorted(longer[:4]) == sorted(longer[4:8]) == [0, 1, 2, 3] and len(longer) == 10
    drawn = list(RandomSampler(range(5), replacement=True, num_samples=200, generator=Generator(0)))
    assert len(drawn) == 200 and set(drawn) == set(range(5))
    weighted = list(WeightedRandomSampler([0, 1, 3], 4000, generator=Generator(0)))
    counts = np.bincount(weighted, minlength=3)
    assert counts[0] == 0 and abs(counts[2] / 4000 - 0.75) < 0.05
    assert sorted(WeightedRandomSampler([1, 1, 0, 1], 3, replacement=False)) == [0, 1, 3]
    assert list(BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]] and len(BatchSampler(range(5), 2)) == 3


def test_collate_knows_pytorchs_kinds() -> None:
    Point = namedtuple("Point", "x y")
    batch = default_collate([{"a": 1, "b": "x", "c": (True, 2.5)}, {"a": 2, "b": "y", "c": (False, 3.5)}])
    assert batch["a"].tolist() == [1, 2] and batch["b"] == ["x", "y"]
    assert batch["c"][0].dtype == np.bool_ and batch["c"][1].dtype == np.float64
    points = default_collate([Point(1, np.ones(2)), Point(2, np.zeros(2))])
    assert isinstance(points, Point) and points.y.shape == (2, 2)
    assert default_collate([np.float32(1), np.float32(2)]).dtype == np.float32
    assert default_collate([Tensor(np.int64(3)), Tensor(np.int64(4))]).tolist() == [3, 4]


def test_pytorchs_own_batches() -> None:
    torch = pytest.importorskip("torch")
    samples = [(np.arange(3, dtype=np.float32) + i, i, i / 2, bool(i % 2), {"k": np.int32(i)}) for i in range(4)]
    ours, theirs = default_collate(samples), torch.utils.data.default_collate(samples)
    for a, b in zip([*ours[:4], ours[4]["k"]], [*theirs[:4], theirs[4]["k"]], strict=True):
        np.testing.assert_array_equal(a.array, b.numpy())
        assert a.dtype == b.numpy().dtype


def test_random_split() -> None:
    parts = random_split(Squares(10), [7, 3], generator=Generator(1))
    assert [len(p) for p in parts] == [7, 3] and sorted(y for p in parts for _, y in p) == list(range(10))
    assert [len(p) for p in random_split(range(10), [0.5, 0.25, 0.25])] == [6, 2, 2]
    assert [len(p) for p in random_split(range(103), [0.8, 0.1, 0.1])] == [83, 10, 10]
    same = [[list(p.indices) for p in random_split(range(20), [0.5, 0.5], generator=Generator(2))] for _ in range(2)]
    assert same[0] == same[1]
    assert len(DataLoader(parts[0], batch_size=2)) == 4


MISTAKES: list[tuple[Callable[[], Any], type[MulgilError], str]] = [
    (lambda: DataLoader(range(3), batch_size=0), OptionError, "positive whole number"),
    (lambda: DataLoader(range(3), batch_size=2.5), OptionError, "positive whole number"),
    (lambda: DataLoader(range(3), batch_size=True), OptionError, "positive whole number"),
    (lambda: DataLoader(range(3), shuffle=True, sampler=[1]), OptionError, "exclude each other"),
    (lambda: DataLoader(range(3), 2, batch_sampler=[[1]]), OptionError, "batch_sampler excludes"),
    (lambda: DataLoader(range(3), None, drop_last=True), OptionError, "drop_last"),
    (lambda: DataLoader(range(3), 2, "yes"), OptionError, "shuffle must be"),
    (lambda: DataLoader(iter(range(3))), OptionError, "a length and items"),
    (lambda: DataLoader(range(3), generator=0), OptionError, "Generator"),
    (lambda: DataLoader(range(3), collate_fn=3), OptionError, "collate_fn"),
    (lambda: default_collate([np.zeros(3), np.zeros(4)]), ShapeError, "one shape"),
    (lambda: default_collate([(1, 2), (1,)]), ShapeError, "equally many parts"),
    (lambda: default_collate([None, None]), DTypeError, "made of Tensors"),
    (lambda: TensorDataset(), OptionError, "at least one"),
    (lambda: TensorDataset(np.zeros(3), np.zeros(4)), ShapeError, "same length"),
    (lambda: TensorDataset(np.zeros(())), ShapeError, "same length"),
    (lambda: Subset(range(3), [3]), OptionError, "within the 3 samples"),
    (lambda: Subset(range(3), [True, False, True]), OptionError, "whole numbers"),
    (lambda: random_split(range(10), [5, 4]), OptionError, "sum to the 10"),
    (lambda: random_split(range(10), [11, -1]), OptionError, "negative"),
    (lambda: WeightedRandomSampler([0, 0], 1), OptionError, "weights"),
    (lambda: WeightedRandomSampler([1, 0], 2, replacement=False), OptionError, "without replacement"),
    (lambda: RandomSampler(range(3), num_samples=0), OptionError, "num_samples"),
]


@pytest.mark.parametrize("case", range(len(MISTAKES)))
def test_mistakes_are_explained(case: int) -> None:
    mistake, kind, rule = MISTAKES[case]
    with pytest.raises(kind, match=rule) as caught:
        mistake()
    assert caught.value.got and caught.value.hint


def test_pil_images_need_a_transform() -> None:
    image = pytest.importorskip("PIL.Image")
    with pytest.raises(DTypeError, match="ToTensor"):
        default_collate([image.new("L", (4, 4))])


def test_what_is_not_defined_says_so() -> None:
    with pytest.raises(NotImplementedError, match="__getitem__"):
        Dataset()[0]
