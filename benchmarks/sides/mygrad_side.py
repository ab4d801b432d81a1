"""MyGrad: it has no optimizers of its own; the update rules stand here in NumPy, in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mygrad as mg
import numpy as np
from mygrad import nnet

from benchmarks.sides.functions import apply
from benchmarks.workloads import Layer, Workload


def version() -> str:
    return f"MyGrad {mg.__version__}"


class Functions:
    relu, sigmoid = staticmethod(nnet.relu), staticmethod(nnet.sigmoid)

    def conv(self, x: Any, weight: Any, bias: Any, layer: Layer) -> Any:
        return nnet.conv_nd(x, weight, stride=layer.stride, padding=layer.padding) + bias.reshape(1, -1, 1, 1)

    def linear(self, x: Any, weight: Any, bias: Any) -> Any:
        return mg.matmul(x, weight.T) + bias

    def max_pool(self, x: Any, size: int) -> Any:
        return nnet.max_pool(x, (size, size), size)

    def flatten(self, x: Any) -> Any:
        return x.reshape(len(x), -1)


def sgd(p: np.ndarray, g: np.ndarray, state: list, t: int, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
    if weight_decay:
        g = g + weight_decay * p
    if momentum:
        state[0] *= momentum
        state[0] += g
        g = state[0]
    p -= lr * g


def adam(p: np.ndarray, g: np.ndarray, state: list, t: int, lr: float) -> None:
    for moment, beta, power in zip(state, (0.9, 0.999), (g, g * g), strict=True):
        moment *= beta
        moment += (1 - beta) * power
    m, v = state
    p -= lr / (1 - 0.9**t) * m / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def make(workload: Workload, variant: str) -> Callable[[int], Any]:
    x, labels = workload.batch_of_data()
    parameters = [mg.tensor(p) for p in workload.parameters()]
    if workload.optimizer is None:

        def infer(i: int) -> Any:
            with mg.no_autodiff:
                return apply(Functions(), workload.layers, iter(parameters), mg.tensor(x))

        return infer
    rule: Callable[..., None] = {"sgd": sgd, "adam": adam}[workload.optimizer]
    states = [[np.zeros_like(p.data) for _ in range(2)] for p in parameters]

    def step(i: int) -> Any:
        logits = apply(Functions(), workload.layers, iter(parameters), mg.tensor(x, constant=True))
        loss = nnet.softmax_crossentropy(logits, labels[i % len(labels)])
        loss.backward()
        for p, state in zip(parameters, states, strict=True):
            rule(p.data, p.grad, state, i + 1, **workload.settings)
        return loss

    return step


def numpy(result: Any) -> np.ndarray:
    return result.data
