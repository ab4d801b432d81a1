"""A workload's model as calls of a library's functions, for libraries whose layers are not PyTorch's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.workloads import Layer


def apply(f: Any, layers: tuple[Layer, ...], parameters: Iterator[Any], x: Any) -> Any:
    """The model's output. f: has a function `conv(x, weight, bias, layer)`, `linear(x, weight, bias)`, `norm(x, weight, bias)` ... for
    each kind of layer. parameters: taken in order; a missing bias is None."""
    for layer in layers:
        arrays = [next(parameters) for _ in layer.parameters()] if layer.kind != "residual" else []
        if layer.kind == "conv":
            x = f.conv(x, arrays[0], arrays[1] if layer.bias else None, layer)
        elif layer.kind in ("max_pool", "average_pool"):
            x = getattr(f, layer.kind)(x, layer.kernel)
        elif layer.kind == "residual":
            body = apply(f, layer.body, parameters, x)
            x = f.relu(body + apply(f, layer.shortcut, parameters, x))
        else:
            x = getattr(f, layer.kind)(x, *arrays)
    return x
