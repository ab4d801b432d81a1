"""A workload's model made of a library's layers, and its training step, where the library has PyTorch's names: PyTorch and mulgil."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.workloads import Layer


def build(nn: Any, layers: tuple[Layer, ...]) -> Any:
    """The model. nn: `torch.nn` or `mulgil.nn`."""

    class Residual(nn.Module):
        def __init__(self, layer: Layer):
            super().__init__()
            self.body = build(nn, layer.body)
            self.shortcut = build(nn, layer.shortcut)
            self.relu = nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.relu(self.body(x) + self.shortcut(x))

    makers = {
        "conv": lambda d: nn.Conv2d(d.inputs, d.outputs, d.kernel, stride=d.stride, padding=d.padding, bias=d.bias),
        "linear": lambda d: nn.Linear(d.inputs, d.outputs),
        "norm": lambda d: nn.BatchNorm2d(d.outputs),
        "relu": lambda d: nn.ReLU(),
        "sigmoid": lambda d: nn.Sigmoid(),
        "max_pool": lambda d: nn.MaxPool2d(d.kernel),
        "average_pool": lambda d: nn.AvgPool2d(d.kernel),
        "flatten": lambda d: nn.Flatten(),
        "residual": Residual,
    }
    return nn.Sequential(*[makers[layer.kind](layer) for layer in layers]) if layers else nn.Identity()


def training_step(loss_of: Callable[[Any, Any], Any], optimizer: Any) -> Callable[[Any, Any], Any]:
    """A step on a batch and its labels; gives the loss."""

    def step(x: Any, t: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(x, t)
        loss.backward()
        optimizer.step()
        return loss

    return step
