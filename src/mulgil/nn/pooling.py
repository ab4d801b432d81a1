"""MaxPool2d and AvgPool2d."""

from __future__ import annotations

from mulgil.autograd import Tensor
from mulgil.nn import functional as F
from mulgil.nn.module import Module
from mulgil.typing import ArrayLike, Pair


class MaxPool2d(Module):
    """The largest element of each window.  x [N, C, H, W] -> y [N, C, H', W'].

    kernel_size, stride (default: kernel_size), padding, dilation: a number or (height, width).

    Example:
        >>> MaxPool2d(2)(mulgil.rand(100, 20, 28, 28)).shape
        (100, 20, 14, 14)
    """

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1, ceil_mode: bool = False):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode

    def forward(self, x: ArrayLike) -> Tensor:
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        text = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return f"{text}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class AvgPool2d(Module):
    """The mean of each window.  x [N, C, H, W] -> y [N, C, H', W'].

    kernel_size, stride (default: kernel_size), padding: a number or (height, width). count_include_pad: whether padding counts in the mean.
    """

    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False, count_include_pad: bool = True
    ):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: ArrayLike) -> Tensor:
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
