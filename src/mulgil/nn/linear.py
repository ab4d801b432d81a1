"""Linear, Flatten, Identity."""

from __future__ import annotations

from typing import Any, TypeVar

from mulgil.autograd import Tensor
from mulgil.errors import ShapeError, describe
from mulgil.nn import checks
from mulgil.nn import functional as F
from mulgil.nn.module import Module
from mulgil.nn.open import WeightedLayer, positive
from mulgil.typing import ArrayLike, DeviceLike, DTypeLike

T = TypeVar("T")


class Linear(WeightedLayer):
    """y = x weight^T + bias.

    Args:
        in_features: size of the last axis of x; None takes it from the first batch.
        out_features: size of the last axis of y.
        bias: False for none.
    Shapes: x [batch, in] or [..., in] -> y [..., out]; weight [out, in], bias [out].
    Raises: ShapeError, DTypeError, DeviceError for an x that does not fit the weight.

    Example:
        >>> Linear(784, 10)(mulgil.rand(32, 784)).shape
        (32, 10)
    """

    def __init__(
        self,
        in_features: int | None,
        out_features: int,
        bias: bool = True,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ):
        super().__init__()
        positive("Linear", out_features=out_features, **({} if in_features is None else {"in_features": in_features}))
        self.in_features, self.out_features = in_features, out_features
        self._make_parameters((out_features, in_features), bias, device, dtype)

    def forward(self, x: ArrayLike) -> Tensor:
        if self.in_features is None:
            self._take_input_size(x)
        return F.linear(x, self.weight, self.bias)

    def _take_input_size(self, x: Any) -> None:
        x = checks.floating("Linear", checks.raw(x))
        if x.ndim != 2:
            raise ShapeError(
                "Linear: the first batch of a layer with open input size must be [batch, features]",
                describe(x=x),
                "flatten images first: nn.Flatten(); or give the layer its input size",
            )
        self._settle_on(x, x.shape[1])

    def _set_input_size(self, per_group: int) -> None:
        self.in_features = per_group

    def extra_repr(self) -> str:
        features = "?" if self.in_features is None else self.in_features
        return f"in_features={features}, out_features={self.out_features}, bias={self.bias is not None}"


def LazyLinear(out_features: int, bias: bool = True, device: DeviceLike | None = None, dtype: DTypeLike | None = None) -> Linear:
    """PyTorch's name for `Linear(None, out_features)`."""
    return Linear(None, out_features, bias, device, dtype)


class Flatten(Module):
    """[N, C, H, W] -> [N, C * H * W]: the axes from start_dim to end_dim become one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: ArrayLike) -> Tensor:
        return F.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """x as it is; takes any arguments and ignores them."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def forward(self, x: T) -> T:
        return x
