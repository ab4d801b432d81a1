"""PyTorch's name for `mulgil.optim.schedule`: `from mulgil.optim.lr_scheduler import StepLR`."""

from mulgil.optim.schedule import CosineAnnealingLR, ExponentialLR, LambdaLR, LRScheduler, MultiStepLR, OneCycleLR, StepLR

__all__ = ["CosineAnnealingLR", "ExponentialLR", "LRScheduler", "LambdaLR", "MultiStepLR", "OneCycleLR", "StepLR"]
