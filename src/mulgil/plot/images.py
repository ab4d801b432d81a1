"""Arrays as pictures: what `imshow` takes, from what a model takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mulgil.errors import ShapeError, describe

FEWEST = 2  # pixels along a side before a flat row is shown as a square


def as_images(x: Any) -> np.ndarray:
    """Images for `imshow`: [N, H, W] grey, or [N, H, W, 3] in colour with values in 0..1.

    x: [N, H, W], [N, 1, H, W], [N, 3, H, W], or [N, D] with D a square number. Raises ShapeError for anything else.
    """
    images = np.asarray(x)
    side = math.isqrt(images.shape[1]) if images.ndim == 2 else 0
    if side >= FEWEST and side * side == images.shape[1]:
        return images.reshape(len(images), side, side)
    if images.ndim == 3:
        return images
    if images.ndim == 4 and images.shape[1] == 1:
        return images[:, 0]
    if images.ndim == 4 and images.shape[1] == 3:
        return np.stack([_stretched(image) for image in np.moveaxis(images, 1, -1)]) if len(images) else np.moveaxis(images, 1, -1)
    rule = "images must be [N, H, W], [N, 1, H, W] or [N, 3, H, W]"
    raise ShapeError(rule, describe(images=images), "pass whole arrays of images, not single ones: images[None]")


def _stretched(image: np.ndarray) -> np.ndarray:
    """Values brought to 0..1, as they are where they lie there already."""
    if image.dtype == np.uint8:
        return image / 255
    low, high = min(0.0, float(image.min())), max(1.0, float(image.max()))
    return (image - low) / (high - low)


def grid(count: int, columns: int) -> tuple[int, int]:
    """(rows, columns) of a grid for `count` pictures."""
    columns = max(1, min(columns, count))
    return max(1, -(-count // columns)), columns
