"""Optimizers and learning-rate schedules (gradient clipping is `nn.utils`): `import mulgil.optim as optim`."""

from typing import TYPE_CHECKING

from mulgil.names import lookup
from mulgil.optim import lr_scheduler
from mulgil.optim.adam import Adam, AdamW
from mulgil.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR, LRScheduler, MultiStepLR, OneCycleLR, StepLR
from mulgil.optim.optimizer import Optimizer
from mulgil.optim.sgd import SGD

__all__ = [
    "SGD", "Adam", "AdamW", "CosineAnnealingLR", "ExponentialLR", "LRScheduler", "LambdaLR", "MultiStepLR", "OneCycleLR", "Optimizer",
    "StepLR", "lr_scheduler",
]  # fmt: skip

if not TYPE_CHECKING:  # a checker would take any name for known
    __getattr__ = lookup(__name__)
