"""Images of another size: Pad, Resize."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import xp_of
from mulgil.data.transforms.base import Transform
from mulgil.data.transforms.values import image_array
from mulgil.errors import DTypeError, OptionError, ShapeError, describe


class Pad(Transform):
    """A border around the image: [..., H, W] becomes [..., H + top + bottom, W + left + right]; dtype kept.

    Args:
        padding: one width for all sides, (left and right, top and bottom), or (left, top, right, bottom), in pixels.
        fill: the value of the border where `padding_mode` is "constant"; default 0.
        padding_mode: "constant", "edge", "reflect" or "symmetric" (as `numpy.pad` has them).

    Raises:
        OptionError: a negative width, or an unknown mode.
    """

    _MODES = ("constant", "edge", "reflect", "symmetric")

    def __init__(self, padding: int | Sequence[int], fill: float = 0, padding_mode: str = "constant"):
        widths = _whole_numbers(padding, 0, (1, 2, 4))
        if widths is None:
            raise OptionError("Pad: padding must be 1, 2 or 4 whole numbers, none negative", repr(padding), "Pad(2)")
        if padding_mode not in self._MODES:
            raise OptionError(f"Pad: padding_mode must be one of {', '.join(self._MODES)}", repr(padding_mode), 'use "constant"')
        self.padding, self.fill, self.padding_mode = padding, fill, padding_mode
        self._left, self._top, self._right, self._bottom = widths * (4 // len(widths))

    @overload
    def __call__(self, x: Tensor) -> Tensor: ...
    @overload
    def __call__(self, x: Any) -> np.ndarray: ...
    def __call__(self, x: Any) -> Any:
        array = _planes(x, "Pad")
        if self.padding_mode != "constant":
            width = [(0, 0)] * (array.ndim - 2) + [(self._top, self._bottom), (self._left, self._right)]
            return _like(x, xp_of(array).pad(array, width, mode=self.padding_mode))
        height, width_ = array.shape[-2:]
        out = xp_of(array).full(
            (*array.shape[:-2], height + self._top + self._bottom, width_ + self._left + self._right), self.fill, array.dtype
        )
        out[..., self._top : self._top + height, self._left : self._left + width_] = array
        return _like(x, out)

    batch = __call__

    def __repr__(self) -> str:
        return f"Pad(padding={self.padding}, fill={self.fill}, padding_mode={self.padding_mode})"


class Resize(Transform):
    """Images in another size, [..., H, W] to [..., h, w], by bilinear interpolation; a size that they have already is the identity.

    Each output pixel is a triangle-weighted mean of the input pixels around its place, wider where the image shrinks, so that
    nothing is skipped (torchvision's bilinear with antialias=True, Pillow's BILINEAR). uint8 is rounded and stays uint8.

    Args:
        size: (h, w), or one number for the shorter side, the longer one in proportion.

    Raises:
        OptionError: a size that is not positive.
        ShapeError: fewer than two axes.
    """

    def __init__(self, size: int | Sequence[int]):
        sides = _whole_numbers(size, 1, (1, 2))
        if sides is None:
            raise OptionError("Resize: size must be one or two positive whole numbers", repr(size), "Resize((28, 28))")
        self.size = size
        self._sides = sides

    @overload
    def __call__(self, x: Tensor) -> Tensor: ...
    @overload
    def __call__(self, x: Any) -> np.ndarray: ...
    def __call__(self, x: Any) -> Any:
        array = _planes(x, "Resize")
        height, width = self._target(*array.shape[-2:])
        if (height, width) == array.shape[-2:]:
            return _like(x, array)
        exact = array.dtype if array.dtype.kind == "f" else np.dtype(np.float32)
        out = array.astype(exact, copy=False)
        out = _resample(out, width, axis=-1)
        out = _resample(out, height, axis=-2)
        if exact != array.dtype:
            limits = np.iinfo(array.dtype)
            out = xp_of(array).clip(xp_of(array).rint(out), limits.min, limits.max).astype(array.dtype)
        return _like(x, out)

    batch = __call__

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if len(self._sides) == 2:
            return self._sides[0], self._sides[1]
        short = self._sides[0]
        return (short, int(short * width / height)) if height <= width else (int(short * height / width), short)

    def __repr__(self) -> str:
        return f"Resize(size={self.size}, interpolation=bilinear)"


def _resample(x: Any, size: int, axis: int) -> Any:
    """Triangle-filtered resampling along one axis, tap by tap, elementwise: the bits do not depend on how many images there are."""
    length = x.shape[axis]
    if length == size:
        return x
    xp = xp_of(x)
    scale = length / size
    reach = max(scale, 1.0)  # half the width of the triangle
    center = (np.arange(size) + 0.5) * scale
    taps = np.floor(center - reach + 0.5).astype(int)[:, None] + np.arange(math.ceil(2 * reach) + 1)
    weight = np.maximum(0, 1 - np.abs((taps + 0.5 - center[:, None]) / reach)) * ((taps >= 0) & (taps < length))
    weight /= weight.sum(axis=1, keepdims=True)
    taps = xp.asarray(taps.clip(0, length - 1))
    weight = xp.asarray(weight.astype(x.dtype)).reshape((size, -1) + (1,) * (-1 - axis))
    out = xp.take(x, taps[:, 0], axis=axis) * weight[:, 0]
    for k in range(1, taps.shape[1]):
        out += xp.take(x, taps[:, k], axis=axis) * weight[:, k]
    return out


def _whole_numbers(value: Any, least: int, lengths: tuple[int, ...]) -> tuple[int, ...] | None:
    """A number or a sequence as a tuple of ints; None where something else or too small a number is among them."""
    numbers_ = tuple(value) if isinstance(value, Sequence) else (value,)
    good = len(numbers_) in lengths and all(isinstance(n, numbers.Integral) and n >= least for n in numbers_)  # type: ignore[operator]
    return tuple(int(n) for n in numbers_) if good else None


def _planes(x: Any, who: str) -> Any:
    """The array [..., H, W] of an image."""
    array = image_array(x, who)
    if array.ndim < 2:
        raise ShapeError(f"{who}: an image has at least two axes, [H, W]", describe(x=array), "reshape it first: x.reshape(28, 28)")
    if array.dtype.kind not in "fiu":
        raise DTypeError(f"{who}: an image is made of numbers", describe(x=array), "convert it: x.astype(numpy.uint8)")
    return np.moveaxis(array, -1, 0) if hasattr(x, "getbands") and array.ndim == 3 else array


def _like(x: Any, array: Any) -> Any:
    return Tensor(array) if isinstance(x, Tensor) else array
