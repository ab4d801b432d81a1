"""Image files as a model expects them: any size, colour or background -> a grey image like those of its training data."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from mulgil.errors import DataError, OptionError
from mulgil.files import open_regular

MAX_PIXELS = 50_000_000
SIDE = 1024  # pixels: larger images are made smaller first
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")  # pillow knows more, some of which run other programs
INK = 0.2  # of the brightest: what is fainter is background noise
FAINT = 16  # of 255: nothing stands out more than this, so nothing is drawn
BLANK = "the image is blank, so the answer means nothing"
HANDWRITING = {"mnist", "digits"}  # these sets show a digit of 20x20 pixels in the middle of 28x28, by centre of mass


def read_image(path: str | Path, shape: tuple[int, int] = (28, 28), centre: bool = True) -> tuple[np.ndarray, list[str]]:
    """A uint8 image [height, width], light on dark, and notes on what was done to it.

    centre: as MNIST was made, cut out what is drawn, fit it into 20/28 of the image and put its centre of mass in the middle.
    An image that has the right size already is taken as it is (but for its polarity). Of an animation the first frame is taken.
    Raises DataError for a file that is no image, or too large a one.
    """
    image, size, notes = _open(path)
    grey = np.asarray(image, np.float64)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    background = float(np.median(border))
    if background > 127:
        grey, background = 255 - grey, 255 - background
        notes.append("dark on light, inverted")
    blank = grey.max() - background < FAINT
    if grey.shape == shape:
        return grey.round().astype(np.uint8), [*notes, BLANK] if blank else notes
    notes.append(f"{size[0]}x{size[1]} made {shape[1]}x{shape[0]}")
    top = grey.max()
    if blank:
        return np.zeros(shape, np.uint8), [*notes, BLANK]
    ink = np.clip((grey - background) / (top - background), 0, 1)
    return (_centred if centre else _fitted)(ink, shape), notes


def _open(path: str | Path) -> tuple[Any, tuple[int, int], list[str]]:
    """The file as an 8-bit grey pillow image, upright, transparency filled, at most `SIDE` a side; (width, height) before that; notes."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise OptionError("reading images needs pillow", "it is not installed", 'pip install "mulgil[image]"') from None
    try:
        # pillow warns of what it passes over in a broken file, and of sizes, for which the limit below is stricter
        with warnings.catch_warnings(action="ignore"), open_regular(path, follow=True) as content:
            file = Image.open(content, formats=FORMATS)
            if not 0 < file.width * file.height <= MAX_PIXELS:
                raise DataError("an image has 1 to 50 million pixels", f"{path}: {file.width}x{file.height}", "make it smaller")
            notes = ["the first frame of an animation"] if getattr(file, "is_animated", False) else []
            size = file.size
            file.draft("L", (SIDE, SIDE))  # a JPEG need not be decoded at its full size
            image = ImageOps.exif_transpose(file)
            if image.size != file.size:
                size = size[::-1]
            return _grey(image), size, notes
    except DataError:
        raise
    except Exception as error:  # whatever a decoder says of a damaged file has one meaning
        got = f"{path}: {getattr(error, 'strerror', None) or error or type(error).__name__}"
        rule = "predict reads image files: PNG, JPEG, GIF, BMP, TIFF, WebP"
        raise DataError(rule, got, "look at the path, or convert the file") from None


def _grey(image: Any) -> Any:
    """Any mode -> "L": 8 bits of grey."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # 16 bits and more: what is darkest becomes black, what is brightest white
        values = np.asarray(_smaller(image if image.mode in ("I", "F") else image.convert("I")), np.float64)
        if not np.isfinite(values).all():
            raise ValueError("pixels that are infinite or not numbers")
        low, high = values.min(), values.max()
        return Image.fromarray(((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8))
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        return _filled(_smaller(image.convert("RGBA")))
    return _smaller(image.convert("L"))


def _smaller(image: Any) -> Any:
    """At most `SIDE` pixels a side: what follows takes ten times an image's memory, and needs no more."""
    factor = -(-max(image.size) // SIDE)
    return image if factor < 2 else image.reduce((min(factor, image.width), min(factor, image.height)))


def _filled(image: Any) -> Any:
    """Behind light strokes goes black, behind dark ones white."""
    from PIL import Image

    alpha = np.asarray(image.getchannel("A"), np.float64)
    light = np.asarray(image.convert("RGB").convert("L"), np.float64)
    mean = (light * alpha).sum() / max(alpha.sum(), 1)
    colour = (0, 0, 0, 255) if mean > 127 and alpha.min() < 255 else (255, 255, 255, 255)
    return Image.alpha_composite(Image.new("RGBA", image.size, colour), image).convert("L")


def _centred(ink: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.flatnonzero((ink > INK).any(1)), np.flatnonzero((ink > INK).any(0))
    ink = np.where(ink > INK / 2, ink, 0)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = 20 / 28 * min(shape) / max(ink.shape)
    size = tuple(max(1, round(n * scale)) for n in ink.shape)
    small = _resized(ink, (size[0], size[1])).astype(np.float64)
    mass = max(small.sum(), 1e-9)
    centre = [(small.sum(1 - axis) * np.arange(size[axis])).sum() / mass for axis in (0, 1)]
    out = np.zeros(shape, np.uint8)
    start = [min(max(round((shape[a] - 1) / 2 - centre[a]), 0), shape[a] - size[a]) for a in (0, 1)]
    out[start[0] : start[0] + size[0], start[1] : start[1] + size[1]] = small
    return out


def _fitted(ink: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The whole of it in the middle of a dark image, as large as goes: scaled first, so that a long strip never becomes a huge square."""
    scale = min(new / old for new, old in zip(shape, ink.shape, strict=True))
    height, width = (min(max(1, round(n * scale)), most) for n, most in zip(ink.shape, shape, strict=True))
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    out = np.zeros(shape, np.uint8)
    out[top : top + height, left : left + width] = _resized(ink, (height, width))
    return out


def _resized(ink: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray((ink * 255).round().astype(np.uint8))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BOX if ink.shape[0] > size[0] else Image.Resampling.BILINEAR))
