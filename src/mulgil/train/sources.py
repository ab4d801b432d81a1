"""The data sets by their names on the command line, and the choice that `auto` makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mulgil.data import datasets
from mulgil.data.datasets.fetch import reachable
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
    reason = _why_not_mnist(root)
    if reason is None:
        try:
            return _load("mnist", root, transform)
        except DataError as error:
            reason = f"{error.rule}: {error.got}"
    note(f"MNIST is not on disk and cannot be fetched ({reason}): training on the 1,797 digits that come with mulgil")
    return _load("digits", root, transform)


def _why_not_mnist(root: str | None) -> str | None:
    """None where MNIST is on disk or a mirror answers. A quick look, so that a machine without network does not wait for time-outs."""
    mnist = datasets.MNIST
    if all(mnist.find(root, train) for train in (True, False)):
        return None
    addresses = [f"{mirror}{mnist.files[0].name}.gz" for mirror in mnist.mirrors]
    return None if reachable(addresses) else "no mirror answers"


def _load(name: str, root: str | None, transform: Any) -> Source:
    kind = SETS[name]
    train = kind(root, train=True, transform=transform, download=True)
    test = kind(root, train=False, transform=transform, download=True)
    return Source(name, train, test, tuple(label.split(" - ")[0] for label in kind.classes))  # "7 - seven" is called 7
