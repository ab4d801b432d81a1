"""The data sets by their names on the command line, and the choice that `auto` makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mulgil.data import datasets
from mulgil.errors import DataError, OptionError

SETS: dict[str, Any] = {
    "mnist": datasets.MNIST,
    "fashion-mnist": datasets.FashionMNIST,
    "kmnist": datasets.KMNIST,
    "digits": datasets.Digits,
}
NAMES = ("auto", *SETS)


@dataclass(frozen=True)
class Source:
    """A training set and a test set. classes: names by class number. image_shape: of an image before preprocessing."""

    name: str
    train: Any
    test: Any
    classes: tuple[str, ...]
    image_shape: tuple[int, ...] = (1, 28, 28)


def load_source(name: str, root: str | None, transform: Any, note: Callable[[str], None] = print) -> Source:
    """The data set `name`, downloaded where it is not on disk. "auto": MNIST if it can be had, else the embedded digits, and says so.

    Raises DataError where the data cannot be had, OptionError for a name that is not one of `NAMES`.
    """
    if name not in NAMES:
        raise OptionError("there is no such data set", repr(name), f"one of {', '.join(NAMES)}")
    if name != "auto":
        return _load(name, root, transform)
    try:
        return _load(datasets.auto(root, say=note).name, root, transform)
    except DataError as error:  # MNIST's files are there, but damaged
        note(f"MNIST cannot be read ({error.rule}: {error.got}): taking the embedded digits instead.")
        return _load("digits", root, transform)


def _load(name: str, root: str | None, transform: Any) -> Source:
    kind = SETS[name]
    train = kind(root, train=True, transform=transform, download=True)
    test = kind(root, train=False, transform=transform, download=True)
    return Source(name, train, test, tuple(label.split(" - ")[0] for label in kind.classes))  # "7 - seven" is called 7
