"""MNIST and the two sets made in its likeness: 60,000 training and 10,000 test images of 28 x 28, in ten classes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

import numpy as np

from mulgil.data.datasets.fetch import Published
from mulgil.data.datasets.images import IdxDataset

__all__ = ["KMNIST", "MNIST", "FashionMNIST", "download_mnist", "load_mnist"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_SIZES = (16 + 60_000 * 784, 8 + 60_000, 16 + 10_000 * 784, 8 + 10_000)


def _four_files(kind: str, *checksums: str) -> tuple[Published, ...]:
    return tuple(Published(name, size, **{kind: value}) for name, size, value in zip(_NAMES, _SIZES, checksums, strict=True))


class MNIST(IdxDataset):
    """Handwritten digits (LeCun, Cortes, Burges 1998). Arguments: see `IdxDataset`."""

    name, title = "mnist", "MNIST"
    about = "handwritten digits; Y. LeCun, C. Cortes, C. Burges 1998"
    classes = ("0 - zero", "1 - one", "2 - two", "3 - three", "4 - four", "5 - five", "6 - six", "7 - seven", "8 - eight", "9 - nine")
    mirrors = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
    files = _four_files(
        "sha256",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    )


class FashionMNIST(IdxDataset):
    """Pictures of clothes (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747). Arguments: see `IdxDataset`."""

    name, title = "fashion-mnist", "FashionMNIST"
    about = "pictures of clothes; H. Xiao, K. Rasul, R. Vollgraf 2017; MIT licence"
    classes = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    mirrors = (
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    )
    files = _four_files(
        "md5",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    )


class KMNIST(IdxDataset):
    """Cursive Japanese characters, Kuzushiji-MNIST (Clanuwat et al. 2018, arXiv:1812.01718). Arguments: see `IdxDataset`."""

    name, title = "kmnist", "KMNIST"
    about = "cursive Japanese characters; T. Clanuwat et al. 2018; CC BY-SA 4.0"
    classes = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    mirrors = ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/", "http://codh.rois.ac.jp/kmnist/dataset/kmnist/")  # one host
    files = _four_files(
        "md5",
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    )


class Labelled(Protocol[P, R_co]):
    """A function that also knows the names of the classes."""

    labels: tuple[str, ...]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


def _labelled(function: Callable[P, R_co]) -> Labelled[P, R_co]:
    function.labels = tuple("0123456789")  # type: ignore[attr-defined]
    return function  # type: ignore[return-value]


@_labelled
def load_mnist(root: str | os.PathLike[str] | None = None, download: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """MNIST as four NumPy arrays: x_train [60000, 1, 28, 28] uint8, y_train [60000] int64, x_test, y_test.

    `load_mnist.labels` are the ten names ('0', ..., '9'). `root` and `download` as `datasets.MNIST` has them.

    Raises:
        DataError: the files are missing or damaged.

    Example:
        >>> x_train, y_train, x_test, y_test = load_mnist()   # doctest: +SKIP
    """
    arrays: list[np.ndarray] = []
    for part in (MNIST(root, train=True, download=download), MNIST(root, train=False, download=download)):
        arrays += (part.data.array[:, None], part.targets.array)
    return tuple(arrays)  # type: ignore[return-value]


def download_mnist(root: str | os.PathLike[str] | None = None) -> None:
    """Fetch MNIST's four files into `root` or the user's cache; where they are on disk, say so.

    Raises:
        DataError: no mirror delivers them, or the folder cannot be written.
    """
    found = [MNIST.find(root, train) for train in (True, False)]
    paths = [path for pair in found if pair for path in pair]
    if None not in found:
        for path in paths:
            print(f"File already exists: {path}")
    else:
        for path in MNIST.download(root):
            print(path)
