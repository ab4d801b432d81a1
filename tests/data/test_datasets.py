"""Data sets: where their files are found, what is wrong with bad ones, what they look like from outside."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import write_set  # the one beside this file
from mulgil.autograd import Tensor
from mulgil.data import DataLoader, datasets, load_mnist, transforms
from mulgil.data.datasets import MNIST, Digits, FashionMNIST, write_idx
from mulgil.errors import DataError, OptionError, ShapeError

needs_mnist = pytest.mark.skipif(not datasets.is_available("mnist"), reason="MNIST is neither in MULGIL_DATA nor in the user's cache")


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("inside", [".", "MNIST/raw", "MNIST", "mnist", "raw"])
@pytest.mark.parametrize("through", ["root", "environment", "cache"])
def test_every_layout_is_found(
    bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, inside: str, through: str
) -> None:
    base = bare_machine if through == "cache" else tmp_path / "data"
    folder = write_set(base / inside, ending)
    root = {"root": base, "environment": tmp_path / "elsewhere", "cache": None}[through]
    if through == "environment":
        monkeypatch.setenv("MULGIL_DATA", str(base))
    assert len(MNIST(root, train=True)) == 30 and len(MNIST(root, train=False)) == 10
    info = datasets.info("mnist", root)
    assert info.available and info.folder == folder and info.counts == (30, 10) and info.image_shape == (28, 28)
    assert all(found and found[0].exists() and found[1] == found[0].stat().st_size for found in info.files.values())
    assert datasets.auto(root, say=pytest.fail) is MNIST


def test_root_comes_before_environment_before_cache(bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [tmp_path / "root", tmp_path / "environment", bare_machine / "mnist"]
    monkeypatch.setenv("MULGIL_DATA", str(places[1]))
    for seed, place in reversed(list(enumerate(places))):
        write_set(place, seed=seed)
        expected = datasets.read_idx(place / "train-images-idx3-ubyte")
        np.testing.assert_array_equal(MNIST(places[0]).data.array, expected)


def test_missing_files_say_where_was_looked(bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULGIL_DATA", str(tmp_path / "env"))
    with pytest.raises(DataError, match="not on disk") as caught:
        MNIST(tmp_path / "here")
    for part in (str(tmp_path / "here"), str(tmp_path / "env"), str(bare_machine), "download=True", "MULGIL_DATA"):
        assert part in str(caught.value)
    info = datasets.info("mnist", tmp_path / "here")
    assert not info.available and info.counts is None and set(info.files.values()) == {None}
    assert not datasets.is_available("mnist") and datasets.is_available("digits")


def test_half_a_set_is_not_available(bare_machine: Path, tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert not datasets.is_available("mnist", tmp_path) and len(MNIST(tmp_path)) == 30
    with pytest.raises(DataError, match="t10k"):
        MNIST(tmp_path, train=False)
    assert datasets.info("mnist", tmp_path).files["train-images-idx3-ubyte"] is not None


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("counts", "one label an image"),
        ("label", r"labels must lie in 0\.\.9"),
        ("dtype", "must be uint8"),
        ("swapped", "must have 3 axes"),
        ("folder", "cannot be read|not on disk"),
        ("cut", "cut short"),
    ],
)
def test_files_that_do_not_belong_together(bare_machine: Path, tmp_path: Path, kind: str, complaint: str) -> None:
    write_set(tmp_path)
    images, labels = (tmp_path / f"train-{name}-ubyte" for name in ("images-idx3", "labels-idx1"))
    if kind == "counts":
        write_idx(labels, np.zeros(29, np.uint8))
    elif kind == "label":
        write_idx(labels, np.full(30, 10, np.uint8))
    elif kind == "dtype":
        write_idx(labels, np.zeros(30, np.int32))
    elif kind == "swapped":
        shutil.copy(labels, images)
    elif kind == "folder":
        images.unlink()
        images.mkdir()
    else:
        images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(DataError, match=complaint) as caught:
        MNIST(tmp_path)
    assert str(tmp_path) in str(caught.value) and caught.value.hint


def test_info_tells_what_is_wrong(bare_machine: Path, tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"<html>")
    assert not datasets.info("mnist", tmp_path).available and "starts with 00 00" in str(datasets.info("mnist", tmp_path).problem)
    write_set(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes((tmp_path / "t10k-images-idx3-ubyte").read_bytes()[:-1])
    assert "cut short" in str(datasets.info("mnist", tmp_path).problem)
    write_set(tmp_path)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.zeros(9, np.uint8))
    assert "one label an image" in str(datasets.info("mnist", tmp_path).problem)
    write_set(tmp_path)
    assert datasets.info("mnist", tmp_path).problem is None


def test_another_sets_files_are_not_taken(bare_machine: Path, tmp_path: Path) -> None:
    """All these sets use the same file names: MNIST's own labels are no FashionMNIST."""
    write_set(tmp_path)
    assert FashionMNIST.find(tmp_path) is not None
    file = MNIST.files[1]
    labels = tmp_path / f"{file.name}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mulgil.data.datasets.images.matches", lambda path, published: path == labels and published == file)
        assert FashionMNIST.find(tmp_path) is None and MNIST.find(tmp_path) is not None


def test_from_outside(bare_machine: Path, tmp_path: Path) -> None:
    root = write_set(tmp_path)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])
    data = MNIST(str(root), transform=transform, target_transform=str)
    assert repr(data) == (
        f"Dataset MNIST\n    Number of datapoints: 30\n    Root location: {root}\n    Split: Train\n    StandardTransform\n"
        "Transform: Compose(\n               ToTensor()\n               Normalize(mean=0.5, std=0.5)\n           )\n"
        f"Target transform: {str!r}"
    )
    assert data.data.shape == (30, 28, 28) and data.data.dtype == np.uint8
    assert data.targets.shape == (30,) and data.targets.dtype == np.int64
    assert isinstance(data.test_data, Tensor) and data.train_data is data.data and data.test_labels is data.targets is data.train_labels
    assert data.classes[7] == "7 - seven" and data.class_to_idx["7 - seven"] == 7
    raw = MNIST(root)
    image, label = raw[3]
    assert type(image) is np.ndarray and image.shape == (1, 28, 28) and image.dtype == np.uint8 and type(label) is int
    assert len(list(raw)) == 30  # ends with IndexError, as a sequence must
    x, y = next(iter(DataLoader(raw, batch_size=8)))
    assert x.shape == (8, 1, 28, 28) and x.dtype == np.uint8 and y.dtype == np.int64


def test_images_and_labels_of_ones_own() -> None:
    with pytest.raises(ShapeError, match=r"images must be \[N, H, W\]"):
        datasets.ImageDataset(np.zeros((4, 1, 28, 28), np.uint8), np.zeros(4))
    with pytest.raises(ShapeError, match="labels"):
        datasets.ImageDataset(np.zeros((4, 28, 28), np.uint8), np.zeros(5))


def test_load_mnist_gives_four_arrays(bare_machine: Path, tmp_path: Path) -> None:
    write_set(tmp_path)
    x_train, y_train, x_test, y_test = load_mnist(tmp_path)
    assert all(type(a) is np.ndarray for a in (x_train, y_train, x_test, y_test))
    assert x_train.shape == (30, 1, 28, 28) and x_test.shape == (10, 1, 28, 28) and x_train.dtype == np.uint8
    assert y_train.shape == (30,) and y_test.shape == (10,) and y_test.dtype == np.int64
    assert load_mnist.labels == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="not on disk"):
        load_mnist(tmp_path / "empty")


def test_names() -> None:
    assert datasets.names() == ("mnist", "fashion-mnist", "kmnist", "digits")
    assert all(datasets.get(name).name == name and len(datasets.get(name).classes) == 10 for name in datasets.names())
    with pytest.raises(OptionError, match="the data sets are mnist, fashion-mnist") as caught:
        datasets.get("MNITS")
    assert "'mnist'" in str(caught.value)
    assert datasets.download("digits") == []


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert datasets.cache_folder() == tmp_path / "mulgil"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    for platform in ("linux", "darwin", "win32"):
        monkeypatch.setattr("sys.platform", platform)
        assert datasets.cache_folder().is_relative_to(tmp_path) or platform == "win32"


def test_digits() -> None:
    train, test = Digits(), Digits(train=False)
    assert (len(train), len(test)) == (1438, 359) and datasets.info("digits").counts == (1438, 359)
    together = np.concatenate([train.data.array, test.data.array])
    assert together.shape == (1797, 28, 28) and together.dtype == np.uint8 and together.max() == 255
    for part in (train, test):
        share = np.bincount(part.targets.array, minlength=10) / len(part)
        assert share.min() > 0.09 and share.max() < 0.11
    edge = [0, 1, 2, -1, -2, -3]
    assert together[:, edge].max() <= 2 and together[:, :, edge].max() <= 2  # black around
    assert len({image.tobytes() for image in together}) == 1797  # no test image is among the training ones
    zero = train.data.array[train.targets.array == 0].mean(axis=0)
    assert zero[12:16, 12:16].mean() < 60 < 120 < zero[6:22, 6:22].max()  # a hole in the middle, white around it


def test_digits_can_be_told_apart() -> None:
    """The nearest training image has the right label for nearly all of the held-out ones: pictures and labels belong together."""
    train, test = (Digits(train=part) for part in (True, False))
    a, b = (part.data.array.reshape(len(part), -1).astype(np.float32) for part in (train, test))
    nearest = ((a * a).sum(1) - 2 * b @ a.T).argmin(axis=1)
    assert (train.targets.array[nearest] == test.targets.array).mean() > 0.97


def test_digits_are_scikit_learns() -> None:
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits

    from mulgil.data.datasets.digits import show_at_28

    theirs = load_digits()
    ours = np.concatenate([Digits().data.array, Digits(train=False).data.array])
    assert {x.tobytes() for x in show_at_28(theirs.images)} == {x.tobytes() for x in ours}


@needs_mnist
def test_real_mnist() -> None:
    train, test = MNIST(train=True), MNIST(train=False)
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.targets.array[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert abs(train.data.array.mean() / 255 - 0.1307) < 1e-4
    info = datasets.info("mnist")
    assert info.counts == (60_000, 10_000)
    for file in MNIST.files:
        found = info.files[file.name]
        assert found is not None and datasets.fetch.matches(found[0], file)
    assert FashionMNIST.find() is None or FashionMNIST.find() != MNIST.find()


@needs_mnist
def test_real_mnist_from_a_torchvision_folder(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in MNIST.find(train=False) or ():
        content = path.read_bytes()
        (raw / path.name.removesuffix(".gz")).write_bytes(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    np.testing.assert_array_equal(MNIST(tmp_path, train=False).data.array, MNIST(train=False).data.array)
