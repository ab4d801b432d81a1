"""BatchNorm1d and BatchNorm2d."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from mulgil.autograd import Parameter, Tensor
from mulgil.backend import as_dtype, default_dtype, to_device
from mulgil.errors import OptionError
from mulgil.nn import checks, init
from mulgil.nn import functional as F
from mulgil.nn.module import Module
from mulgil.nn.open import positive
from mulgil.options import NOT_NEGATIVE, SHARE, check_number
from mulgil.typing import ArrayLike, DeviceLike, DTypeLike, MaybeNone


class _BatchNorm(Module):
    axes: ClassVar[tuple[int, ...]]
    weight: Parameter | MaybeNone
    bias: Parameter | MaybeNone
    running_mean: Tensor | MaybeNone
    running_var: Tensor | MaybeNone
    num_batches_tracked: Tensor | MaybeNone

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        positive(type(self).__name__, num_features=num_features)
        if momentum is None:
            raise OptionError(
                f"{type(self).__name__}: momentum must be a number", "None, the plain average over all batches", "momentum=0.1"
            )
        check_number(f"{type(self).__name__}: momentum", momentum, SHARE)
        check_number(f"{type(self).__name__}: eps", eps, NOT_NEGATIVE)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        dtype = default_dtype() if dtype is None else as_dtype(dtype)

        def vector(make: Any) -> Any:
            return to_device(make(num_features, dtype), device or "cpu")

        self.register_parameter("weight", Parameter(vector(np.ones)) if affine else None)
        self.register_parameter("bias", Parameter(vector(np.zeros)) if affine and bias else None)
        self.register_buffer("running_mean", Tensor(vector(np.zeros)) if track_running_stats else None)
        self.register_buffer("running_var", Tensor(vector(np.ones)) if track_running_stats else None)
        counter = Tensor(to_device(np.zeros((), np.int64), device or "cpu")) if track_running_stats else None
        self.register_buffer("num_batches_tracked", counter)

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batches seen."""
        for statistics, value in ((self.running_mean, 0.0), (self.running_var, 1.0), (self.num_batches_tracked, 0.0)):
            if statistics is not None:
                init.constant_(statistics, value)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, and the running statistics from the beginning."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, x: ArrayLike) -> Tensor:
        array = checks.raw(x)
        if array.ndim not in self.axes or array.shape[1] != self.num_features or array.dtype.kind != "f":
            checks.batch_norm(type(self).__name__, array, self.num_features, self.axes)
        if self.training and self.num_batches_tracked is not None:
            F.count_batch(self.num_batches_tracked)
        batch_statistics = self.training or self.running_mean is None
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, batch_statistics, self.momentum, self.eps)

    def extra_repr(self) -> str:
        text = f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, bias={self.bias is not None}"
        return f"{text}, track_running_stats={self.track_running_stats}"


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of [N, C] or [N, C, L]: each channel brought to mean 0, variance 1, then scaled and shifted.

    Args:
        num_features: the channels C. eps: added to the variance.
        momentum: how far the running statistics move towards each batch's (0.1).
        affine: learn a weight (1) and, with `bias`, a bias (0) for each channel. track_running_stats: keep statistics for evaluation mode.
    In training mode the batch's statistics are used, in evaluation mode the running ones. Source: Ioffe and Szegedy, ICML 2015.
    """

    axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images [N, C, H, W]. See `BatchNorm1d`."""

    axes = (4,)
