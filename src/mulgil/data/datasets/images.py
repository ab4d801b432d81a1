"""Labelled images in memory, and the data sets that come as IDX files."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mulgil.autograd import Tensor
from mulgil.data.collate import default_collate
from mulgil.data.dataset import Dataset, take
from mulgil.data.datasets.fetch import Patience, Published, fetch, matches
from mulgil.data.datasets.files import download_folder, find_file, search_folders
from mulgil.data.datasets.idx import read_idx
from mulgil.data.transforms import apply_batch
from mulgil.errors import DataError, ShapeError, describe

TRAIN, TEST = "train", "t10k"  # how the files of the two splits are called


class ImageDataset(Dataset[tuple[Any, Any]]):
    """Labelled grey images in memory; `dataset[i]` is (image, label), the image [1, H, W] uint8 or what `transform` makes of it.

    Attributes:
        data: Tensor [N, H, W] uint8.
        targets: Tensor [N] int64.
        classes: the name of each label.
        transform, target_transform: functions of an image and of a label, or None.
        train: whether this is the training part.
    """

    name: ClassVar[str] = ""  # on the command line and in the cache
    title: ClassVar[str] = ""  # as torchvision calls it
    classes: ClassVar[tuple[str, ...]] = ()
    about: ClassVar[str] = ""  # one line: what, source, licence

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
    ):
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            got = describe(images=images, labels=labels)
            raise ShapeError(
                f"{type(self).__name__}: images must be [N, H, W], labels [N]", got, "images[:, 0] makes [N, H, W] of [N, 1, H, W]"
            )
        self.data, self.targets = Tensor(images), Tensor(labels.astype(np.int64))
        self.train, self.transform, self.target_transform = train, transform, target_transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = self.data.array[index].copy()[None], int(self.targets.array[index])
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )

    def fetch(self, indices: Sequence[int]) -> list[Any]:
        """A batch: images gathered, converted and normalised together."""
        images, labels = take(self.data.array, indices)[:, None], take(self.targets.array, indices)
        targets = Tensor(labels) if self.target_transform is None else default_collate([self.target_transform(t) for t in labels.tolist()])
        return [apply_batch(self.transform, images), targets]

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The label of each class name."""
        return {name: label for label, name in enumerate(self.classes)}

    # The names that torchvision had before `data` and `targets`.
    @property
    def train_data(self) -> Tensor:
        return self.data

    @property
    def train_labels(self) -> Tensor:
        return self.targets

    test_data, test_labels = train_data, train_labels

    def extra_repr(self) -> str:
        """Lines that `repr` adds."""
        return f"Split: {'Train' if self.train else 'Test'}"

    def __repr__(self) -> str:
        lines = [f"Dataset {type(self).__name__}"]
        lines += ["    " + line for line in (f"Number of datapoints: {len(self)}", *self.extra_repr().splitlines())]
        if self.transform or self.target_transform:
            lines.append("    StandardTransform")
        for label, transform in (("Transform: ", self.transform), ("Target transform: ", self.target_transform)):
            if transform is not None:
                lines.append(label + repr(transform).replace("\n", "\n" + " " * len(label)))
        return "\n".join(lines)


class IdxDataset(ImageDataset):
    """Images and labels in four IDX files, found on disk or downloaded.

    Args:
        root: a folder that holds the files, plain or .gz, itself or in torchvision's layout (`MNIST/raw`). Where they are not
            there, or without a root, they are looked for in the folder that the environment's MULGIL_DATA names, then in the
            user's cache.
        train: the training part (default) or the test part.
        transform: function of an image [1, H, W] uint8, for example `transforms.ToTensor()`.
        target_transform: function of a label.
        download: fetch what is nowhere on disk, into `root` or the cache; default False.

    Raises:
        DataError: files that are missing, damaged, or do not belong together; or no mirror delivers them.

    Example:
        >>> train_set = MNIST("data", train=True, transform=transforms.ToTensor(), download=True)   # doctest: +SKIP
    """

    mirrors: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[tuple[Published, ...]] = ()

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        download: bool = False,
    ):
        self.root = root
        paths = self.find(root, train)
        if paths is None and download:
            self.download(root)
            paths = self.find(root, train)
        if paths is None:
            raise self._missing(root, train)
        super().__init__(*read_pair(*paths, classes=len(self.classes)), train, transform, target_transform)

    @classmethod
    def find(cls, root: str | os.PathLike[str] | None = None, train: bool = True) -> tuple[Path, Path] | None:
        """The paths of the images and the labels of a split, from one folder; None where they are not on disk."""
        split = TRAIN if train else TEST
        for folder in search_folders(cls.name, cls.title, root):
            images, labels = find_file(folder, f"{split}-images-idx3-ubyte"), find_file(folder, f"{split}-labels-idx1-ubyte")
            if images and labels and not cls._foreign(labels):
                return images, labels
        return None

    @classmethod
    def download(
        cls,
        root: str | os.PathLike[str] | None = None,
        mirrors: Sequence[str] | None = None,
        patience: Patience = Patience(),  # noqa: B008 - frozen
        report: bool = True,
    ) -> list[Path]:
        """Fetch the four files into `root` (torchvision's layout) or the cache, and return their paths.

        What is there already and whole is kept ("File already exists").

        Args:
            mirrors: addresses to try instead of the known ones.
            patience: time limits.
            report: show progress on stderr.
        """
        folder, paths = download_folder(cls.name, cls.title, root), []
        until = time.monotonic() + patience.total
        for file in cls.files:
            path = find_file(folder, file.name)
            if path is None or not matches(path, file):
                left = replace(patience, total=until - time.monotonic())
                path = fetch(file, mirrors or cls.mirrors, folder, left, report)
            elif report:
                print(f"File already exists: {path}", file=sys.stderr)
            paths.append(path)
        return paths

    @classmethod
    def _foreign(cls, labels: Path) -> bool:
        """Whether a labels file is another data set's: all of them use the same file names."""
        return any(
            matches(labels, file)
            for other in IdxDataset.__subclasses__()
            if other is not cls
            for file in other.files
            if file.sha256 and "labels" in file.name
        )

    @classmethod
    def _missing(cls, root: str | os.PathLike | None, train: bool) -> DataError:
        looked = dict.fromkeys(
            str(folder.parent if folder.name == "raw" else folder) for folder in search_folders(cls.name, cls.title, root)
        )
        return DataError(
            f"{cls.title}: the files {TRAIN if train else TEST}-images-idx3-ubyte and -labels-idx1-ubyte (.gz or not) are not on disk",
            f"looked in {', '.join(looked)}",
            "pass download=True, name their folder with root=..., or set MULGIL_DATA to it",
        )

    def extra_repr(self) -> str:
        place = [f"Root location: {self.root}"] if self.root is not None else []
        return "\n".join([*place, super().extra_repr()])


def read_pair(images_path: Path, labels_path: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, H, W] uint8 and labels [N] uint8 of two IDX files that belong together.

    Raises:
        DataError: a damaged file, another dtype, counts that disagree, or a label of no class.
    """
    images, labels = read_idx(images_path, ndim=3), read_idx(labels_path, ndim=1)
    for path, array in ((images_path, images), (labels_path, labels)):
        if array.dtype != np.uint8:
            raise DataError(
                f"{path}: images and labels must be uint8", str(array.dtype), "convert the file with mulgil.data.datasets.idx.write_idx"
            )
    if len(images) != len(labels):
        got = f"{len(images):,} images in {images_path}, {len(labels):,} labels in {labels_path}"
        raise DataError(
            f"{labels_path}: there must be one label an image", got, "the two files are not of one set; delete and download both again"
        )
    if labels.size and labels.max() >= classes:
        raise DataError(f"{labels_path}: labels must lie in 0..{classes - 1}", f"a label {labels.max()}", "delete it and download it again")
    return images, labels
