"""Digits, the data set inside the package: 1,797 real handwritten digits, for machines that reach no mirror.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
doi:10.24432/C50P49, licence CC BY 4.0; its test part (13 writers), as scikit-learn's `load_digits` ships it: 8 x 8, values 0..16.
See digits.md beside this file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np

from mulgil.data.datasets.images import ImageDataset
from mulgil.errors import DataError
from mulgil.npz import read_npz

__all__ = ["Digits"]


class Digits(ImageDataset):
    """1,797 digits shown as MNIST shows them: white on black, 28 x 28, drawn in a box of 20 x 20. Always there.

    About a fifth of each class, always the same samples, is the test part: 1,438 train, 359 test.

    Args:
        root, download: taken for likeness to MNIST; nothing is looked for and nothing downloaded.
        train, transform, target_transform: as `MNIST` has them.
    """

    name, title = "digits", "Digits"
    about = "1,797 handwritten digits inside the package; E. Alpaydin, C. Kaynak 1998 (UCI); CC BY 4.0"
    classes = tuple("0123456789")

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        download: bool = False,
    ):
        try:
            archive = read_npz((files(__package__) / "digits.npz").read_bytes())
            chosen = archive["test"] != train
            small, labels = archive["images"][chosen], archive["labels"][chosen]
            if small.shape[1:] != (8, 8) or labels.shape != small.shape[:1] or max(small.max() - 16, labels.max() - 9) > 0:
                raise ValueError("other arrays than were packed")
        except (ValueError, KeyError, IndexError) as error:
            raise DataError("digits.npz, inside the package, must be whole", str(error), "pip install --force-reinstall mulgil") from error
        super().__init__(show_at_28(small), labels, train, transform, target_transform)


def show_at_28(small: np.ndarray) -> np.ndarray:
    """Images [N, 8, 8] of values 0..16 as MNIST would show them: [N, 28, 28] uint8, each small pixel 2.5 wide, black around.

    Cubic convolution (Keys, IEEE Trans. ASSP 29(6), 1981, a = -1/2): a CNN learns from its strokes better than from bilinear ones.
    """
    place = (np.arange(28) - 13.5) / 2.5 + 3.5  # where the middle of each of the 28 pixels lies among the 8
    away = abs(place[:, None] - np.arange(8))
    near, far = ((1.5 * away - 2.5) * away * away + 1, ((-0.5 * away + 2.5) * away - 4) * away + 2)
    weight = np.where(away < 1, near, np.where(away < 2, far, 0))
    shown = np.einsum("yi,nij,xj->nyx", weight, small * (255 / 16), weight, optimize=["einsum_path", (0, 1), (0, 1)])
    return np.rint(shown).clip(0, 255).astype(np.uint8)
