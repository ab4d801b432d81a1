"""JAX: the whole step is one jitted function, and its old parameters are donated to the new ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.sides.functions import apply
from benchmarks.workloads import Layer, Workload


def version() -> str:
    return f"JAX {jax.__version__}"


class Functions:
    """`statistics`: mean and variance of each normalisation, in order, which the step folds into the running ones."""

    relu, sigmoid = staticmethod(jax.nn.relu), staticmethod(jax.nn.sigmoid)

    def __init__(self) -> None:
        self.statistics: list[tuple[Any, Any]] = []

    def conv(self, x: Any, weight: Any, bias: Any, layer: Layer) -> Any:
        y = lax.conv(x, weight, (layer.stride,) * 2, [(layer.padding,) * 2] * 2)
        return y if bias is None else y + bias[:, None, None]

    def linear(self, x: Any, weight: Any, bias: Any) -> Any:
        return x @ weight.T + bias

    def norm(self, x: Any, weight: Any, bias: Any) -> Any:
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
        self.statistics.append((mean, variance))
        scale = weight * lax.rsqrt(variance + 1e-5)
        return x * scale[:, None, None] + (bias - mean * scale)[:, None, None]

    def max_pool(self, x: Any, size: int) -> Any:
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, size, size), (1, 1, size, size), "VALID")

    def average_pool(self, x: Any, size: int) -> Any:
        return lax.reduce_window(x, 0.0, lax.add, (1, 1, size, size), (1, 1, size, size), "VALID") / size**2

    def flatten(self, x: Any) -> Any:
        return x.reshape(len(x), -1)


def loss_of(layers: tuple[Layer, ...], parameters: list[Any], x: Any, t: Any) -> tuple[Any, Any]:
    f = Functions()
    logits = jax.nn.log_softmax(apply(f, layers, iter(parameters), x))
    return -jnp.take_along_axis(logits, t[:, None], 1).mean(), f.statistics


def sgd(p: Any, g: Any, state: tuple, t: Any, lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> tuple[Any, tuple]:
    g = g + weight_decay * p if weight_decay else g
    if not momentum:
        return p - lr * g, state
    v = momentum * state[0] + g
    return p - lr * v, (v,)


def adam(p: Any, g: Any, state: tuple, t: Any, lr: float) -> tuple[Any, tuple]:
    m, v = 0.9 * state[0] + 0.1 * g, 0.999 * state[1] + 0.001 * g * g
    return p - lr * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), (m, v)


def make(workload: Workload, variant: str) -> Callable[[int], Any]:
    images, labels = workload.batch_of_data()
    x, targets = jnp.asarray(images), [jnp.asarray(t, jnp.int32) for t in labels]
    parameters = [jnp.asarray(p) for p in workload.parameters()]
    if workload.optimizer is None:
        forward = jax.jit(lambda p, x: apply(Functions(), workload.layers, iter(p), x))
        return lambda i: forward(parameters, x).block_until_ready()
    rules: dict[str, Callable] = {"sgd": sgd, "adam": adam}
    rule = partial(rules[workload.optimizer], **workload.settings)
    slots = 2 if workload.optimizer == "adam" else 1 if workload.settings.get("momentum") else 0

    @partial(jax.jit, donate_argnums=0)
    def train(state: tuple, x: Any, t: Any) -> tuple[tuple, Any]:
        parameters, slots, running, time = state
        (loss, statistics), gradients = jax.value_and_grad(partial(loss_of, workload.layers), has_aux=True)(parameters, x, t)
        new = [rule(p, g, s, time) for p, g, s in zip(parameters, gradients, slots, strict=True)]
        running = jax.tree.map(lambda old, now: 0.9 * old + 0.1 * now, running, statistics) if running else statistics
        return ([p for p, _ in new], [s for _, s in new], running, time + 1), loss

    state: Any = (parameters, [tuple(jnp.zeros_like(p) for _ in range(slots)) for p in parameters], [], jnp.float32(1))

    def step(i: int) -> Any:
        nonlocal state
        state, loss = train(state, x, targets[i % len(targets)])
        return jax.block_until_ready(loss)

    return step


def numpy(result: Any) -> np.ndarray:
    return np.asarray(result)
