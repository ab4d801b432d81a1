"""Layers, losses and initial weights: `import mulgil.nn as nn`."""

from typing import TYPE_CHECKING

from mulgil.autograd import Parameter
from mulgil.names import lookup
from mulgil.nn import functional, init, utils
from mulgil.nn.activation import LeakyReLU, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from mulgil.nn.container import ModuleDict, ModuleList, Sequential
from mulgil.nn.conv import Conv2d, LazyConv2d
from mulgil.nn.dropout import Dropout
from mulgil.nn.linear import Flatten, Identity, LazyLinear, Linear
from mulgil.nn.loss import BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss, NLLLoss
from mulgil.nn.mlp import MLP
from mulgil.nn.module import Module
from mulgil.nn.norm import BatchNorm1d, BatchNorm2d
from mulgil.nn.pooling import AvgPool2d, MaxPool2d
from mulgil.nn.summary import summary

__all__ = [
    "MLP", "AvgPool2d", "BCEWithLogitsLoss", "BatchNorm1d", "BatchNorm2d", "Conv2d", "CrossEntropyLoss", "Dropout", "Flatten", "Identity",
    "L1Loss", "LazyConv2d", "LazyLinear", "LeakyReLU", "Linear", "LogSoftmax", "MSELoss", "MaxPool2d", "Module", "ModuleDict", "ModuleList",
    "NLLLoss", "Parameter", "ReLU", "Sequential", "Sigmoid", "Softmax", "Tanh", "functional", "init", "summary", "utils",
]  # fmt: skip

if not TYPE_CHECKING:  # a checker would take any name for known
    __getattr__ = lookup(__name__)
