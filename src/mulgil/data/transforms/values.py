"""From pixels to numbers for a model: ToTensor, Normalize, Flatten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, overload

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import default_dtype, xp_of
from mulgil.data.transforms.base import Transform
from mulgil.errors import DTypeError, OptionError, ShapeError, describe

T = TypeVar("T")


class ToTensor(Transform):
    """An image as a Tensor [..., C, H, W]; uint8 0..255 becomes float32 0..1, other numbers keep their values.

    Takes a PIL image, or an array [H, W], [H, W, C] or [C, H, W], with any leading axes. A last axis of 1 to 4 is taken for the
    channels, as torchvision does; other arrays have their axes in order already, as those of `datasets.MNIST` have. float64 becomes
    the default dtype. A Tensor is taken for an array.

    Raises:
        DTypeError: not an image.
        ShapeError: fewer than two axes.

    Example:
        >>> ToTensor()(np.full((28, 28), 255, np.uint8)).shape
        (1, 28, 28)
    """

    def __call__(self, x: Any) -> Tensor:
        return self._convert(image_array(x, "ToTensor"), leading=0)

    def batch(self, x: Any) -> Tensor:
        return self._convert(image_array(x, "ToTensor"), leading=1)

    def on_tensor(self, x: Tensor) -> Tensor:
        """`batch` as tensor operations, for images [N, C, H, W] uint8."""
        return x.to(default_dtype()) / 255

    def _convert(self, array: Any, leading: int) -> Tensor:
        xp, axes = xp_of(array), array.ndim - leading
        if axes < 2:
            raise ShapeError("ToTensor: an image has at least two axes, [H, W]", describe(x=array), "reshape it first: x.reshape(28, 28)")
        if axes == 2:
            array = xp.expand_dims(array, leading)
        elif array.shape[-1] <= 4:
            array = xp.moveaxis(array, -1, -3)
        if array.dtype == np.uint8:
            dtype = default_dtype()
            return Tensor(xp.divide(array, dtype.type(255), dtype=dtype, order="C"))
        return Tensor(array.astype(default_dtype() if array.dtype == np.float64 else array.dtype, order="C"))


class Normalize(Transform):
    """(x - mean) / std, per channel or with one number for all; x [..., C, H, W] floating, dtype kept.

    Args:
        mean, std: a number, or one a channel.
        inplace: change the sample itself; default False.

    Raises:
        OptionError: a std of 0 or not finite, or lengths that differ.
        DTypeError: x is not floating (put ToTensor before it).
        ShapeError: x has another number of channels.
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float], inplace: bool = False):
        self.mean, self.std, self.inplace = mean, std, inplace
        self._mean, self._std = (np.asarray(v, np.float64).reshape(-1, 1, 1) for v in (mean, std))
        if not (np.isfinite(self._mean).all() and np.isfinite(self._std).all() and (self._std != 0).all()):
            raise OptionError(
                "Normalize: mean and std must be finite, std not 0",
                f"mean={mean}, std={std}",
                "leave out the channel that never changes, or give it std 1",
            )
        if self._mean.size != self._std.size and 1 not in (self._mean.size, self._std.size):
            raise OptionError(
                "Normalize: mean and std must have one number a channel", f"mean={mean}, std={std}", "give both the same length"
            )

    def __call__(self, x: T) -> T:
        return self._normalize(x, self.inplace)

    def batch(self, x: Any) -> Any:
        return self._normalize(x, False)

    @property
    def single(self) -> bool:
        """Whether all channels share one mean and one std."""
        return self._mean.size == self._std.size == 1

    def on_tensor(self, x: Tensor) -> Tensor:
        """`batch` as tensor operations, for a single mean and std."""
        return (x - self._mean.item()) / self._std.item()

    def _normalize(self, x: Any, inplace: bool) -> Any:
        array = x.array if isinstance(x, Tensor) else x
        if not hasattr(array, "dtype") or array.dtype.kind != "f":
            got = describe(x=array) if hasattr(array, "dtype") else type(x).__name__
            raise DTypeError("Normalize: x must be floating", got, "put transforms.ToTensor() before it")
        channels = max(self._mean.size, self._std.size)
        if channels > 1 and (array.ndim < 3 or array.shape[-3] != channels):
            raise ShapeError(
                f"Normalize: x must be [..., {channels}, H, W], one channel for each mean and std",
                describe(x=array),
                "give one number for all channels",
            )
        xp = xp_of(array)
        mean, std = (xp.asarray(v, array.dtype) if channels > 1 else array.dtype.type(v.item()) for v in (self._mean, self._std))
        out = xp.subtract(array, mean, out=array if inplace else None)
        out /= std
        if inplace:
            return x
        return Tensor(out) if isinstance(x, Tensor) else out

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"


class Flatten(Transform):
    """A sample as one row: [1, 28, 28] becomes [784]; in a batch [N, 1, 28, 28] becomes [N, 784], without a copy."""

    @overload
    def __call__(self, x: Tensor) -> Tensor: ...
    @overload
    def __call__(self, x: np.ndarray) -> np.ndarray: ...
    def __call__(self, x: Any) -> Any:
        return x.reshape(-1)

    def batch(self, x: Any) -> Any:
        return x.reshape(len(x), -1)

    on_tensor = batch


def image_array(x: Any, who: str) -> Any:
    """The array of a Tensor, an array, or a PIL image ([H, W] or [H, W, C])."""
    if isinstance(x, Tensor):
        return x.array
    if hasattr(x, "dtype") and hasattr(x, "shape"):
        return x
    if hasattr(x, "getbands") and hasattr(x, "convert"):  # a PIL image, told without importing Pillow
        return np.asarray(x.convert("RGB") if x.mode == "P" else x.convert("L") if x.mode == "1" else x)
    raise DTypeError(f"{who}: x must be a PIL image, an array or a Tensor", type(x).__name__, "numpy.asarray(x) makes an array of a list")
