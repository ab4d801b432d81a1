"""Training: recipes, the loop, exact metrics, progress, runs kept in a folder."""

from __future__ import annotations

from mulgil.train.attribution import grad_cam, occlusion, saliency
from mulgil.train.average import EMA, SWA
from mulgil.train.callbacks import Callback
from mulgil.train.callbacks_plot import LivePlotCallback
from mulgil.train.checkpoint import Checkpoint, Checkpoints
from mulgil.train.classifier import Classifier
from mulgil.train.control import BestWeights, EarlyStopping, Schedule, TimeLimit
from mulgil.train.features import Embedding, embedding, feature_maps, filters
from mulgil.train.find_lr import LearningRates, lr_find
from mulgil.train.gradients import GradientClipping, GradientStatistics, WeightStatistics
from mulgil.train.history import History
from mulgil.train.inputs import prepare, remember
from mulgil.train.interpret import Interpretation, interpret
from mulgil.train.logs import CSVLogger, MetricsFile, TensorBoard
from mulgil.train.loop import evaluate, make_step, train_epoch
from mulgil.train.metrics import Meter, Metrics
from mulgil.train.progress import progress_for
from mulgil.train.recipes import RECIPES, Recipe
from mulgil.train.trainer import Trainer

__all__ = [
    "BestWeights",
    "Callback",
    "Checkpoint",
    "Checkpoints",
    "Classifier",
    "CSVLogger",
    "EarlyStopping",
    "EMA",
    "Embedding",
    "GradientClipping",
    "GradientStatistics",
    "History",
    "Interpretation",
    "LearningRates",
    "LivePlotCallback",
    "Meter",
    "Metrics",
    "MetricsFile",
    "Recipe",
    "RECIPES",
    "Schedule",
    "SWA",
    "TensorBoard",
    "TimeLimit",
    "Trainer",
    "WeightStatistics",
    "embedding",
    "evaluate",
    "feature_maps",
    "filters",
    "grad_cam",
    "interpret",
    "lr_find",
    "make_step",
    "occlusion",
    "progress_for",
    "prepare",
    "remember",
    "saliency",
    "train_epoch",
]
