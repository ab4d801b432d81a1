"""Layers by name, what they give, and the score of a class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.errors import OptionError, ShapeError, describe
from mulgil.nn import Module
from mulgil.train.inputs import prepare
from mulgil.train.step import device_of


def find_layer(model: Module, layer: Module | str) -> Module:
    """The layer itself or by its dotted name, as `model.named_modules()` has it. Raises OptionError, which lists the names."""
    modules = dict(model.named_modules(remove_duplicate=False))
    if isinstance(layer, str) and layer in modules:
        return modules[layer]
    if isinstance(layer, Module) and any(module is layer for module in modules.values()):
        return layer
    names = ", ".join(f"{name} ({type(module).__name__})" for name, module in modules.items() if name)
    got = repr(layer) if isinstance(layer, str) else f"a {type(layer).__name__} that is not part of it"
    raise OptionError(f"{type(model).__name__} has no such layer", got, f"one of {names}" if names else "the model has no layers")


@contextmanager
def recording(model: Module, layer: Module | str) -> Iterator[list[Tensor]]:
    """A list that receives the layer's output each time it runs; the hook is gone afterwards, also after an error."""
    outputs: list[Tensor] = []
    with find_layer(model, layer).register_forward_hook(lambda module, inputs, output: outputs.append(output)):
        yield outputs


def last_output(outputs: list[Tensor], layer: Module | str) -> Tensor:
    """What the layer gave last. Raises OptionError if the model never called it, or it gave no Tensor."""
    name = repr(layer) if isinstance(layer, str) else type(layer).__name__
    if not outputs:
        raise OptionError("the model must run the layer in its forward", f"{name} was not called", "choose a layer that it calls")
    if not isinstance(outputs[-1], Tensor):
        raise OptionError("the layer must give a Tensor", f"{name} gave a {type(outputs[-1]).__name__}", "choose a layer inside it")
    return outputs[-1]


def as_input(model: Module, x: Any) -> Tensor:
    """A batch as a new leaf on the model's device, raw images prepared; the memory may be shared with `x`, the graph is not.

    Arrays of floats get the model's dtype. Raises ShapeError for what has no axis of samples.
    """
    tensor = x.detach() if isinstance(x, Tensor) else Tensor(np.asarray(x))
    weight = next(model.parameters(), None)
    if not isinstance(x, Tensor) and tensor.dtype.kind == "f" and weight is not None and weight.array is not None:
        tensor = tensor.to(dtype=weight.dtype)
    if tensor.ndim < 2:
        raise ShapeError("x must be a batch [N, ...]", describe(x=tensor), "x.unsqueeze(0) makes a batch of one sample")
    return Tensor(prepare(model, tensor).array, device=device_of(model))


def class_scores(outputs: Any, target: Any, rule: str) -> tuple[Tensor, np.ndarray]:
    """The score of one class a sample, [N], and the classes: `target` (a number, or one a sample), or the highest scores' classes."""
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        got = describe(outputs=outputs) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ShapeError(f"{rule}: the model must give scores [N, classes]", got, "flatten them in the model's forward")
    n, count = outputs.shape
    chosen = np.asarray(outputs.detach().cpu()).argmax(1) if target is None else np.asarray(target)
    if chosen.dtype.kind not in "iu" or chosen.shape not in ((), (n,)) or (chosen.size and not 0 <= chosen.min() <= chosen.max() < count):
        got = f"target {chosen.tolist() if chosen.size < 20 else describe(target=chosen)}"
        raise OptionError(f"{rule}: target must be a class in 0..{count - 1}, or one for each of the {n} samples", got)
    chosen = np.broadcast_to(chosen, (n,)).astype(np.int64)
    mask = Tensor(np.eye(count, dtype=outputs.dtype)[chosen], device=outputs.device)
    return (outputs * mask).sum(1), chosen
