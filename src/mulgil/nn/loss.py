"""Losses as layers: the functions of `mulgil.nn.functional` with their settings."""

from __future__ import annotations

from mulgil.autograd import Tensor
from mulgil.nn import functional as F
from mulgil.nn.loss_functions import Looks, check_settings, check_weights
from mulgil.nn.module import Module
from mulgil.typing import ArrayLike


class _Loss(Module):
    def __init__(self, reduction: str = "mean"):
        super().__init__()
        check_settings(type(self).__name__, reduction)
        self.reduction = reduction


class _ClassLoss(_Loss):
    weight: Tensor | None

    def __init__(self, weight: ArrayLike | None = None, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(reduction)
        if weight is not None:
            check_weights(type(self).__name__, weight, "class")
        check_settings(type(self).__name__, ignore_index=ignore_index)
        self.register_buffer("weight", weight if weight is None or isinstance(weight, Tensor) else Tensor(weight))
        self.ignore_index = ignore_index
        self._looks = Looks()


class CrossEntropyLoss(_ClassLoss):
    """Softmax and negative log-likelihood in one: loss(logits [N, C], classes [N] or probabilities [N, C]). See `F.cross_entropy`.

    Example:
        >>> criterion = CrossEntropyLoss()
        >>> loss = criterion(model(images), labels)
    """

    def __init__(self, weight: ArrayLike | None = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0):
        super().__init__(weight, ignore_index, reduction)
        check_settings(type(self).__name__, label_smoothing=label_smoothing)
        self.label_smoothing = label_smoothing

    def forward(self, input: ArrayLike, target: ArrayLike) -> Tensor:
        return F.cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing, self._looks)


class NLLLoss(_ClassLoss):
    """The negative log-likelihood: loss(log-probabilities [N, C], classes [N]). See `F.nll_loss`."""

    def forward(self, input: ArrayLike, target: ArrayLike) -> Tensor:
        return F.nll_loss(input, target, self.weight, self.ignore_index, self.reduction, self._looks)


class MSELoss(_Loss):
    """The squared distance. See `F.mse_loss`."""

    def forward(self, input: ArrayLike, target: ArrayLike) -> Tensor:
        return F.mse_loss(input, target, self.reduction)


class L1Loss(_Loss):
    """The absolute distance. See `F.l1_loss`."""

    def forward(self, input: ArrayLike, target: ArrayLike) -> Tensor:
        return F.l1_loss(input, target, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of sigmoid(input). See `F.binary_cross_entropy_with_logits`."""

    pos_weight: Tensor | None

    def __init__(self, reduction: str = "mean", pos_weight: ArrayLike | None = None):
        super().__init__(reduction)
        if pos_weight is not None:
            check_weights(type(self).__name__, pos_weight, "output")
        self.register_buffer("pos_weight", pos_weight if pos_weight is None or isinstance(pos_weight, Tensor) else Tensor(pos_weight))

    def forward(self, input: ArrayLike, target: ArrayLike) -> Tensor:
        return F.binary_cross_entropy_with_logits(input, target, self.reduction, self.pos_weight)
