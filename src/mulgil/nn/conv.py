"""Conv2d."""

from __future__ import annotations

from typing import Any

from mulgil.autograd import Tensor
from mulgil.errors import OptionError
from mulgil.nn import checks
from mulgil.nn import functional as F
from mulgil.nn.open import WeightedLayer, positive
from mulgil.typing import ArrayLike, DeviceLike, DTypeLike, Pair


class Conv2d(WeightedLayer):
    """Two-dimensional convolution (cross-correlation) of a batch of images.

    Args:
        in_channels: channels of x; None takes them from the first batch.
        out_channels: number of filters.
        kernel_size, stride, padding, dilation: a number or (height, width). padding may also be "same" (stride 1 only) or "valid".
        groups: the channels are split into so many groups that do not see each other.
        bias: False for none. padding_mode: only "zeros".
    Shapes: x [N, in, H, W] -> y [N, out, H', W'] with H' = floor((H + 2 padding - dilation (kernel - 1) - 1) / stride) + 1.
    Raises: ShapeError, DTypeError, DeviceError for an x that does not fit.

    Example:
        >>> Conv2d(1, 20, 5)(mulgil.rand(100, 1, 32, 32)).shape
        (100, 20, 28, 28)
    """

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ):
        super().__init__()
        if padding_mode != "zeros":
            raise OptionError('Conv2d: padding_mode must be "zeros"', repr(padding_mode))
        positive("Conv2d", out_channels=out_channels, groups=groups, **({} if in_channels is None else {"in_channels": in_channels}))
        if out_channels % groups or (in_channels or 0) % groups:
            raise OptionError("Conv2d: groups must divide in_channels and out_channels", f"{in_channels=}, {out_channels=}, {groups=}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.dilation = F.pair(kernel_size), F.pair(stride), F.pair(dilation)
        positive("Conv2d", kernel_size=min(self.kernel_size), stride=min(self.stride), dilation=min(self.dilation))
        self.padding = padding if isinstance(padding, str) else F.pair(padding)
        if self.padding == "same" and self.stride != (1, 1):
            raise OptionError('Conv2d: padding="same" needs stride 1', f"stride={self.stride}", "give the padding as a number")
        if isinstance(self.padding, str) and self.padding not in ("same", "valid"):
            raise OptionError('Conv2d: padding must be a number, a pair, "same" or "valid"', repr(padding))
        per_group = None if in_channels is None else in_channels // groups
        self._make_parameters((out_channels, per_group, *self.kernel_size), bias, device, dtype)

    def forward(self, x: ArrayLike) -> Tensor:
        if self.in_channels is None:
            self._take_input_size(x)
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def _take_input_size(self, x: Any) -> None:
        x = checks.floating("Conv2d", checks.raw(x))
        checks.images("Conv2d", x)
        if x.shape[1] % self.groups:
            raise OptionError("Conv2d: groups must divide the input channels", f"{x.shape[1]} channels, groups={self.groups}")
        self._settle_on(x, x.shape[1])

    def _input_per_group(self, size: int) -> int:
        return size // self.groups

    def _set_input_size(self, per_group: int) -> None:
        self.in_channels = per_group * self.groups

    def extra_repr(self) -> str:
        channels = "?" if self.in_channels is None else self.in_channels
        text = f"{channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0, 0):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text if self.bias is not None else text + ", bias=False"


def LazyConv2d(out_channels: int, kernel_size: Pair, **options: Any) -> Conv2d:
    """PyTorch's name for `Conv2d(None, out_channels, kernel_size, ...)`."""
    return Conv2d(None, out_channels, kernel_size, **options)
