"""DeZero: version 0.0.13 wants `numpy.int`, which NumPy dropped, and gets it here."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version as version_of
from typing import Any

import numpy as np

from benchmarks.sides.functions import apply
from benchmarks.workloads import Layer, Workload

setattr(np, "int", int)  # noqa: B010 - DeZero reads it when it is imported

import dezero  # noqa: E402
from dezero import functions, optimizers  # noqa: E402


def version() -> str:
    return f"DeZero {version_of('dezero')}"


class Functions:
    relu, sigmoid = staticmethod(functions.relu), staticmethod(functions.sigmoid)
    flatten = staticmethod(functions.flatten)

    def conv(self, x: Any, weight: Any, bias: Any, layer: Layer) -> Any:
        return functions.conv2d(x, weight, bias, stride=layer.stride, pad=layer.padding)

    def linear(self, x: Any, weight: Any, bias: Any) -> Any:
        return functions.linear(x, functions.transpose(weight), bias)

    def max_pool(self, x: Any, size: int) -> Any:
        return functions.pooling(x, size, size)


def optimizer_of(workload: Workload) -> Any:
    settings = dict(workload.settings)
    decay = settings.pop("weight_decay", 0)
    if workload.optimizer == "adam":
        optimizer = optimizers.Adam(alpha=settings.pop("lr"), **settings)
    else:
        optimizer = (optimizers.MomentumSGD if "momentum" in settings else optimizers.SGD)(**settings)
    if decay:
        optimizer.add_hook(optimizers.WeightDecay(decay))
    return optimizer


class Model(dezero.Layer):
    def __init__(self, parameters: list[np.ndarray]):
        super().__init__()
        for i, array in enumerate(parameters):
            setattr(self, f"p{i}", dezero.Parameter(array))
        self.count = len(parameters)

    def in_order(self) -> Any:
        return (getattr(self, f"p{i}") for i in range(self.count))


def make(workload: Workload, variant: str) -> Callable[[int], Any]:
    images, labels = workload.batch_of_data()
    x, model = dezero.Variable(images), Model(workload.parameters())
    if workload.optimizer is None:

        def infer(i: int) -> Any:
            with dezero.no_grad():
                return apply(Functions(), workload.layers, model.in_order(), x)

        return infer
    optimizer = optimizer_of(workload).setup(model)

    def step(i: int) -> Any:
        loss = functions.softmax_cross_entropy(apply(Functions(), workload.layers, model.in_order(), x), labels[i % len(labels)])
        model.cleargrads()
        loss.backward()
        optimizer.update()
        return loss

    return step


def numpy(result: Any) -> np.ndarray:
    return result.data
