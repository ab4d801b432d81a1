"""Training: recipes, the loop, exact metrics, progress, runs kept in a folder."""

from __future__ import annotations

from mulgil.train.loop import EpochRecord, evaluate, fit, make_step, train_epoch
from mulgil.train.metrics import Meter, Metrics
from mulgil.train.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "EpochRecord", "Meter", "Metrics", "Recipe", "evaluate", "fit", "make_step", "train_epoch"]
