"""tinygrad on the CPU (it compiles with clang): its own optimizers, the step under `TinyJit`."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version as version_of
from typing import Any

os.environ.setdefault("DEV", "CPU")  # tinygrad reads it when it is imported

import numpy as np
from tinygrad import Context, Device, Tensor, TinyJit
from tinygrad.nn import BatchNorm
from tinygrad.nn.optim import SGD, Adam

from benchmarks.sides.functions import apply
from benchmarks.workloads import Layer, Workload


def version() -> str:
    return f"tinygrad {version_of('tinygrad')}"


class Functions:
    """Normalisation goes through tinygrad's layers, which keep the running statistics; they are made at the first call."""

    relu, sigmoid = staticmethod(Tensor.relu), staticmethod(Tensor.sigmoid)
    norms: dict[int, BatchNorm] = {}

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer) -> Tensor:
        return x.conv2d(weight, bias, stride=layer.stride, padding=layer.padding)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return x.linear(weight.T, bias)

    def norm(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        layer = self.norms.setdefault(id(weight), BatchNorm(weight.shape[0]))
        layer.weight, layer.bias = weight, bias
        return layer(x)

    def max_pool(self, x: Tensor, size: int) -> Tensor:
        return x.max_pool2d((size, size))

    def average_pool(self, x: Tensor, size: int) -> Tensor:
        return x.avg_pool2d((size, size))

    def flatten(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def make(workload: Workload, variant: str) -> Callable[[int], Any]:
    images, labels = workload.batch_of_data()
    x, targets = Tensor(images).realize(), [Tensor(t.astype(np.int32)).realize() for t in labels]
    parameters = [Tensor(p).realize() for p in workload.parameters()]
    f = Functions()
    if workload.optimizer is None:
        forward = TinyJit(lambda x: apply(f, workload.layers, iter(parameters), x).realize())
        return lambda i: finished(forward(x))
    kinds: dict[str, Any] = {"sgd": SGD, "adam": Adam}
    optimizer = kinds[workload.optimizer](parameters, **workload.settings)

    @TinyJit
    def train(x: Tensor, t: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = apply(f, workload.layers, iter(parameters), x).sparse_categorical_crossentropy(t).backward()
        return loss.realize(*optimizer.schedule_step())

    def step(i: int) -> Tensor:
        with Context(TRAINING=1):
            return finished(train(x, targets[i % len(targets)]))

    return step


def finished(result: Tensor) -> Tensor:
    """Kernels are queued: wait for them."""
    Device[Device.DEFAULT].synchronize()
    return result


def numpy(result: Tensor) -> np.ndarray:
    return result.numpy()
