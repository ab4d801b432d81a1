"""PyTorch: `variant` holds the words channels-last and compile where they are wanted. Updates are fused, its fastest on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.sides.modules import build, training_step
from benchmarks.workloads import Workload


def version() -> str:
    return f"PyTorch {torch.__version__}"


def model_of(workload: Workload) -> Any:
    model = build(torch.nn, workload.layers)
    with torch.no_grad():
        for parameter, array in zip(model.parameters(), workload.parameters(), strict=True):
            parameter.copy_(torch.from_numpy(array))
    return model


def make(workload: Workload, variant: str) -> Callable[[int], Any]:
    torch.set_flush_denormal(True)  # before its threads start: Adam's moments decay into them on a batch that is seen over and over
    model = model_of(workload)
    images, labels = workload.batch_of_data()
    x, targets = torch.from_numpy(images), [torch.from_numpy(t) for t in labels]
    if "channels-last" in variant:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    if workload.optimizer is None:
        return inference(model.eval(), x, variant)
    kinds: dict[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
    optimizer = kinds[workload.optimizer](model.parameters(), fused=True, **workload.settings)
    criterion = torch.nn.CrossEntropyLoss()

    def loss_of(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return criterion(model(x), t)

    if "compile" in variant:
        loss_of = torch.compile(loss_of)

    step = training_step(loss_of, optimizer)
    return lambda i: step(x, targets[i % len(targets)])


def inference(model: Any, x: torch.Tensor, variant: str) -> Callable[[int], Any]:
    forward = torch.compile(model) if "compile" in variant else model

    def step(i: int) -> torch.Tensor:
        with torch.inference_mode():
            return forward(x)

    return step


def numpy(result: torch.Tensor) -> np.ndarray:
    return result.detach().numpy()
