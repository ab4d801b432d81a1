"""What is measured, as a table: models as plain data, the same for every side. NumPy is all that this file needs.

A side that has layers builds them from the description (`sides.modules`), one that has functions interprets it (`sides.functions`).
All start from the same weights and see the same batch, so that their losses can be compared (`python -m benchmarks.step --check`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

LABEL_SETS = 16  # see `Workload.batch_of_data`


@dataclass(frozen=True)
class Layer:
    """kind: conv, linear, norm, relu, sigmoid, max_pool, average_pool, flatten or residual.

    A residual block computes relu(body(x) + shortcut(x)); an empty shortcut is x itself.
    """

    kind: str
    inputs: int = 0
    outputs: int = 0
    kernel: int = 0
    stride: int = 1
    padding: int = 0
    bias: bool = True
    body: tuple[Layer, ...] = ()
    shortcut: tuple[Layer, ...] = ()

    def parameters(self) -> Iterator[tuple[int, ...]]:
        """The shapes of the parameters, in the order of `nn.Module.parameters`."""
        if self.kind == "conv":
            yield (self.outputs, self.inputs, self.kernel, self.kernel)
        elif self.kind in ("linear", "norm"):
            yield (self.outputs, self.inputs) if self.kind == "linear" else (self.outputs,)
        if self.kind in ("conv", "linear", "norm") and self.bias:
            yield (self.outputs,)
        for layer in (*self.body, *self.shortcut):
            yield from layer.parameters()

    def shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what comes out for one sample of shape x."""
        if self.kind == "conv":
            return (self.outputs, *((s + 2 * self.padding - self.kernel) // self.stride + 1 for s in x[1:]))
        if self.kind in ("max_pool", "average_pool"):
            return (x[0], *(s // self.kernel for s in x[1:]))
        if self.kind in ("flatten", "linear"):
            return (math.prod(x),) if self.kind == "flatten" else (self.outputs,)
        return through(self.body, x) if self.kind == "residual" else x

    def operations(self, x: tuple[int, ...]) -> int:
        """Multiplications and additions of the matrix products, forward, for one sample."""
        if self.kind == "residual":
            return operations(self.body, x) + operations(self.shortcut, x)
        weights = math.prod(next(self.parameters())) if self.kind in ("conv", "linear") else 0
        return 2 * weights * (math.prod(self.shape(x)[1:]) if self.kind == "conv" else 1)


def through(layers: tuple[Layer, ...], x: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after all of `layers`."""
    for layer in layers:
        x = layer.shape(x)
    return x


def operations(layers: tuple[Layer, ...], x: tuple[int, ...]) -> int:
    """Operations of all of `layers`, forward, for one sample of shape x."""
    total = 0
    for layer in layers:
        total, x = total + layer.operations(x), layer.shape(x)
    return total


def conv(inputs: int, outputs: int, kernel: int, **settings: Any) -> Layer:
    return Layer("conv", inputs, outputs, kernel, **settings)


def linear(*sizes: int, activation: str = "relu") -> tuple[Layer, ...]:
    """Dense layers from size to size, with the activation between them."""
    layers: list[Layer] = []
    for inputs, outputs in pairwise(sizes):
        layers += [Layer("linear", inputs, outputs), Layer(activation)]
    return tuple(layers[:-1])


def norm(channels: int) -> Layer:
    return Layer("norm", channels, channels)


def residual(inputs: int, outputs: int) -> Layer:
    """He et al.'s basic block; a change of width halves the image."""
    stride = 1 if inputs == outputs else 2
    settings: dict[str, Any] = {"padding": 1, "bias": False}
    body = (conv(inputs, outputs, 3, stride=stride, **settings), norm(outputs), RELU, conv(outputs, outputs, 3, **settings), norm(outputs))
    shortcut = () if inputs == outputs else (conv(inputs, outputs, 1, stride=2, bias=False), norm(outputs))
    return Layer("residual", inputs, outputs, body=body, shortcut=shortcut)


RELU, FLATTEN, POOL = Layer("relu"), Layer("flatten"), Layer("max_pool", kernel=2)
CNN = (conv(1, 20, 5), RELU, POOL, conv(20, 10, 5), RELU, POOL, FLATTEN, *linear(250, 20, 10))
DEEP_MLP = (FLATTEN, *linear(784, 128, 64, 10))
LENET = (conv(1, 6, 5, padding=2), RELU, POOL, conv(6, 16, 5), RELU, POOL, FLATTEN, *linear(400, 120, 84, 10))
BEAUTIFUL = (
    *(conv(1, 32, 5), RELU, conv(32, 32, 5), RELU, norm(32), POOL),
    *(conv(32, 64, 3), RELU, conv(64, 64, 3), RELU, norm(64), POOL, FLATTEN, *linear(576, 10)),
)
RESNET = (
    *(conv(3, 16, 3, padding=1, bias=False), norm(16), RELU, residual(16, 16), residual(16, 32), residual(32, 64)),
    *(Layer("average_pool", kernel=8), FLATTEN, *linear(64, 10)),
)


@dataclass(frozen=True)
class Workload:
    """A training step, or with no optimizer an inference, of a model on a batch.

    image: the shape of a sample. optimizer: sgd, adam or None. simple: nothing but what MyGrad and DeZero have fast enough to wait for.
    """

    name: str
    layers: tuple[Layer, ...]
    batch: int
    optimizer: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    image: tuple[int, ...] = (1, 28, 28)
    simple: bool = True
    summary: str = ""

    @property
    def convolves(self) -> bool:
        return any(layer.kind == "conv" for layer in self.layers)

    def shapes(self) -> list[tuple[int, ...]]:
        return [shape for layer in self.layers for shape in layer.parameters()]

    def parameters(self) -> list[np.ndarray]:
        """Initial weights: He's for matrices and filters, ones for the weights of normalisation, zeros for biases."""
        rng, arrays = np.random.default_rng(1), []
        for shape, ones in zip(self.shapes(), self._ones(self.layers), strict=True):
            if len(shape) > 1:
                arrays.append((rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))).astype(np.float32))
            else:
                arrays.append(np.full(shape, float(ones), np.float32))
        return arrays

    def _ones(self, layers: tuple[Layer, ...]) -> Iterator[bool]:
        """For each parameter: is it the weight of a normalisation?"""
        for layer in layers:
            if layer.kind == "residual":
                yield from self._ones((*layer.body, *layer.shortcut))
            else:
                yield from (layer.kind == "norm" and i == 0 for i, _ in enumerate(layer.parameters()))

    def batch_of_data(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Images from 0 to 1, and `LABEL_SETS` sets of labels.

        The steps take the sets of labels in turn: what contradicts itself cannot be learned by heart, so the gradients of a long
        measurement do not fade into denormal numbers, which would slow some sides and not others.
        """
        rng = np.random.default_rng(0)
        return rng.random((self.batch, *self.image), dtype=np.float32), [rng.integers(10, size=self.batch) for _ in range(LABEL_SETS)]

    def operations(self) -> int:
        """Of a step: forward once, and for training backward twice, save the gradient of the images, which nobody needs."""
        forward, x = operations(self.layers, self.image), self.image
        if self.optimizer is None:
            return self.batch * forward
        first = next(n for n in self._each(x) if n)
        return self.batch * (3 * forward - first)

    def _each(self, x: tuple[int, ...]) -> Iterator[int]:
        for layer in self.layers:
            yield layer.operations(x)
            x = layer.shape(x)

    def bytes(self) -> int:
        """That a step has to read and write at least: the images, the parameters, and for training what the update rule keeps."""
        arrays = {None: 1, "sgd": 5 if self.settings.get("momentum") else 3, "adam": 7}[self.optimizer]
        return 4 * (self.batch * math.prod(self.image) + arrays * sum(math.prod(s) for s in self.shapes()))


CNN_IMAGE = (1, 32, 32)  # MNIST, padded by 2
_ALL = (
    Workload("softmax", (FLATTEN, *linear(784, 10)), 100, "sgd", {"lr": 0.1}, summary="784-10"),
    Workload("sigmoid", (FLATTEN, *linear(784, 1000, 10, activation="sigmoid")), 100, "sgd", {"lr": 0.01}, summary="784-1000-10"),
    Workload("relu", (FLATTEN, *linear(784, 1000, 1000, 10)), 100, "adam", {"lr": 1e-3}, summary="784-1000-1000-10"),
    Workload("mlp", (FLATTEN, *linear(784, 128, 10)), 500, "sgd", {"lr": 0.01}, summary="784-128-10"),
    Workload("deep-mlp", DEEP_MLP, 256, "adam", {"lr": 1e-3}, summary="784-128-64-10"),
    Workload(
        *("cnn", CNN, 100, "sgd", {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}, CNN_IMAGE),
        summary="convolutions 5x5x20, 5x5x10, each with ReLU and pooling; 250-20-10",
    ),
    Workload("lenet-5", LENET, 100, "adam", {"lr": 1e-3}, summary="convolutions 5x5x6, 5x5x16; 400-120-84-10, ReLU, max-pooling"),
    Workload(
        *("beautiful", BEAUTIFUL, 512, "adam", {"lr": 1e-3}),
        simple=False,
        summary="tinygrad's `beautiful_mnist`: four convolutions, two batch norms; 576-10",
    ),
    Workload(
        *("resnet", RESNET, 100, "sgd", {"lr": 0.1, "momentum": 0.9}, (3, 32, 32)),
        simple=False,
        summary="three residual blocks of 16, 32 and 64 channels on 32x32x3, batch norm",
    ),
    Workload("deep-mlp, 1 image", DEEP_MLP, 1, summary="inference"),
    Workload("deep-mlp, 1000 images", DEEP_MLP, 1000, summary="inference"),
    Workload("cnn, 1 image", CNN, 1, image=CNN_IMAGE, summary="inference"),
    Workload("cnn, 1000 images", CNN, 1000, image=CNN_IMAGE, summary="inference"),
)
WORKLOADS = {workload.name: workload for workload in _ALL}
