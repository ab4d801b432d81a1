"""Optimizers, learning-rate schedules and gradient clipping: `import mulgil.optim as optim`."""

from mulgil.optim import lr_scheduler
from mulgil.optim.adam import Adam, AdamW
from mulgil.optim.clip import clip_grad_norm_, clip_grad_value_
from mulgil.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR, LRScheduler, MultiStepLR, OneCycleLR, StepLR
from mulgil.optim.optimizer import Optimizer
from mulgil.optim.sgd import SGD

__all__ = [
    "SGD", "Adam", "AdamW", "CosineAnnealingLR", "ExponentialLR", "LRScheduler", "LambdaLR", "MultiStepLR", "OneCycleLR", "Optimizer",
    "StepLR", "clip_grad_norm_", "clip_grad_value_", "lr_scheduler",
]  # fmt: skip
