"""Data sets by name: MNIST, FashionMNIST and KMNIST from IDX files, Digits inside the package.

`names()`, `get(name)`, `info(name)`, `is_available(name)`, `download(name)` and `auto()` serve programs that take the name of a
data set from a person.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from mulgil.data.datasets.digits import Digits
from mulgil.data.datasets.fetch import Patience, reachable
from mulgil.data.datasets.files import download_folder
from mulgil.data.datasets.idx import read_header, read_idx, write_idx
from mulgil.data.datasets.images import IdxDataset, ImageDataset
from mulgil.data.datasets.mnist import KMNIST, MNIST, FashionMNIST, download_mnist, load_mnist
from mulgil.errors import DataError, OptionError
from mulgil.files import cache_folder
from mulgil.names import lookup

__all__ = [
    "MNIST", "FashionMNIST", "KMNIST", "Digits", "ImageDataset", "IdxDataset",
    "load_mnist", "download_mnist", "read_idx", "write_idx", "cache_folder",
    "DatasetInfo", "auto", "download", "get", "info", "is_available", "names",
]  # fmt: skip

_CLASSES: dict[str, type[ImageDataset]] = {cls.name: cls for cls in (MNIST, FashionMNIST, KMNIST, Digits)}
_SHORT = Patience(answer=5.0, stall=5.0, total=60.0)  # what `auto` spends before it takes the embedded digits


def names() -> tuple[str, ...]:
    """The names of the data sets: "mnist", "fashion-mnist", "kmnist", "digits"."""
    return tuple(_CLASSES)


def get(name: str) -> type[ImageDataset]:
    """The class of a name. Raises `OptionError` where there is none."""
    if name not in _CLASSES:
        close = get_close_matches(str(name).lower(), _CLASSES, 1)
        hint = f"did you mean {close[0]!r}?" if close else 'for example "mnist"'
        raise OptionError(f"the data sets are {', '.join(_CLASSES)}", repr(name), hint)
    return _CLASSES[name]


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set without loading it.

    `files` maps each file's name to its path and size in bytes, or None where it is not on disk; `counts` are (train, test) and
    None where unknown; `problem` is what is wrong with files that are there.
    """

    name: str
    title: str
    about: str
    classes: tuple[str, ...]
    available: bool
    folder: Path | None
    files: dict[str, tuple[Path, int] | None]
    counts: tuple[int, int] | None
    image_shape: tuple[int, ...] | None
    mirrors: tuple[str, ...]
    problem: DataError | None = None


def info(name: str, root: str | os.PathLike[str] | None = None) -> DatasetInfo:
    """Files, sizes and counts of a data set as it lies on disk; reads headers only and downloads nothing."""
    cls = get(name)
    if not issubclass(cls, IdxDataset):
        sizes = (len(cls(train=True)), len(cls(train=False)))  # type: ignore[call-arg]
        path = Path(__file__).with_name("digits.npz")
        found = {path.name: (path, path.stat().st_size)}
        return DatasetInfo(name, cls.title, cls.about, cls.classes, True, path.parent, dict(found), sizes, (28, 28), ())
    pairs = [cls.find(root, train) for train in (True, False)]
    paths = {path.name.removesuffix(".gz"): path for pair in pairs if pair for path in pair}
    files = {file.name: (paths[file.name], paths[file.name].stat().st_size) if file.name in paths else None for file in cls.files}
    counts = shape = problem = None
    try:
        headers = [(read_header(pair[0], ndim=3), read_header(pair[1], ndim=1)) for pair in pairs if pair]
        if any(images.shape[0] != labels.shape[0] for images, labels in headers):
            raise DataError(f"{cls.title}: there must be one label an image", str(headers), "delete the files and download them again")
        if all(pairs):
            (train, _), (test, _) = headers
            counts, shape = (train.shape[0], test.shape[0]), train.shape[1:]
    except DataError as error:
        problem = error
    folder = next((pair[0].parent for pair in pairs if pair), None)
    available = all(pairs) and problem is None
    return DatasetInfo(name, cls.title, cls.about, cls.classes, available, folder, files, counts, shape, cls.mirrors, problem)


def is_available(name: str, root: str | os.PathLike[str] | None = None) -> bool:
    """Whether both parts of a data set can be loaded without the network. Looks for the files, does not read them through."""
    cls = get(name)
    return not issubclass(cls, IdxDataset) or all(cls.find(root, train) for train in (True, False))


def download(name: str, root: str | os.PathLike[str] | None = None, report: bool = True) -> list[Path]:
    """Fetch a data set's files into `root` or the user's cache and return their paths; none for an embedded one.

    Raises:
        OptionError: an unknown name.
        DataError: no mirror delivers a file, or the folder cannot be written.
    """
    cls = get(name)
    return cls.download(root, report=report) if issubclass(cls, IdxDataset) else []


def auto(root: str | os.PathLike[str] | None = None, say: Callable[[str], object] = print) -> type[ImageDataset]:
    """MNIST where it is on disk or can be fetched in short time, else Digits, with one line saying so.

    A machine without network knows after at most five seconds; one that is slow gives up after a minute.

    Returns the class; its `name` is "mnist" or "digits".
    """
    if is_available("mnist", root):
        return MNIST
    try:
        if reachable(f"{mirror}{MNIST.files[-1].name}.gz" for mirror in MNIST.mirrors):
            MNIST.download(root, patience=_SHORT)
            return MNIST
        reason = "no mirror answers"
    except DataError as error:
        reason = error.got or error.rule
    say(f"MNIST is not on disk ({', '.join(_places(root))}) and cannot be downloaded ({reason}): taking the embedded digits instead.")
    return Digits


def _places(root: str | os.PathLike | None) -> list[str]:
    places = [str(root) if root else None, os.environ.get("MULGIL_DATA"), str(download_folder(MNIST.name, MNIST.title, None))]
    return [place for place in places if place]


if not TYPE_CHECKING:  # a checker would take any name for known
    __getattr__ = lookup(__name__)
