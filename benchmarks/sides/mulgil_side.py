"""mulgil, eager or compiled: the variant says which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import mulgil
from benchmarks.sides.modules import build, training_step
from benchmarks.workloads import Workload
from mulgil import Tensor, nn, optim


def version() -> str:
    return f"mulgil {mulgil.__version__}"


def model_of(workload: Workload) -> Any:
    model = build(nn, workload.layers)
    for parameter, array in zip(model.parameters(), workload.parameters(), strict=True):
        parameter.array[...] = array
    return model


def make(workload: Workload, variant: str) -> Callable[[int], Any]:
    model = model_of(workload)
    images, labels = workload.batch_of_data()
    x, targets = Tensor(images), [Tensor(t) for t in labels]
    if workload.optimizer is None:
        return inference(model.eval(), x, variant)
    optimizer = {"sgd": optim.SGD, "adam": optim.Adam}[workload.optimizer](model.parameters(), **workload.settings)
    criterion = nn.CrossEntropyLoss()
    step = training_step(lambda x, t: criterion(model(x), t), optimizer)
    if variant == "compiled":
        step = mulgil.compile(step, state=[model, optimizer], strict=True)
    return lambda i: step(x, targets[i % len(targets)])


def inference(model: Any, x: Tensor, variant: str) -> Callable[[int], Any]:
    forward = mulgil.compile(lambda x: model(x), state=[model], strict=True) if variant == "compiled" else model

    def step(i: int) -> Tensor:
        with mulgil.no_grad():
            return forward(x)

    return step


def numpy(result: Tensor) -> np.ndarray:
    return np.array(result)
