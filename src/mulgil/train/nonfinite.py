"""When a loss or gradient is not finite: where it began, in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import xp_of
from mulgil.nn import Module
from mulgil.train.step import Loss

SHOWN = 12  # indices in the message; the error has them all


def where_not_finite(model: Module, loss_fn: Loss, inputs: Tensor, targets: Tensor) -> str:
    """The first thing of a step that is not finite: inputs, a parameter, a layer's output, the loss, a parameter's gradient.

    Runs the step's forward and backward passes once more, eagerly; gradients are dropped afterwards. "" if all is finite now.
    """
    with np.errstate(all="ignore"):
        return _search(model, loss_fn, inputs, targets)


def _search(model: Module, loss_fn: Loss, inputs: Tensor, targets: Tensor) -> str:
    if not _finite(inputs):
        return "the inputs"
    for name, parameter in model.named_parameters():
        if not _finite(parameter):
            return f"parameter {name}, before the step"
    found: list[str] = []

    def watch(name: str, module: Module) -> Any:
        def hook(_: Module, args: tuple, output: Any) -> None:
            if not found and isinstance(output, Tensor) and not _finite(output):
                found.append(f"the output of layer {_title(name, module)}")

        return module.register_forward_hook(hook)

    hooks = [watch(name, module) for name, module in model.named_modules() if not list(module.children())]
    try:
        logits = model(inputs)
        loss = loss_fn(logits, targets)
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        return found[0]
    if not _finite(logits):
        return "the model's output"
    if not _finite(loss):
        return "the loss, of outputs and targets that are finite" if _finite(targets) else "the targets"
    return _gradient(model, loss)


def _gradient(model: Module, loss: Tensor) -> str:
    """The parameter nearest to the loss whose gradient is not finite."""
    model.zero_grad()
    loss.backward()
    layers = dict(model.named_modules())
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    model.zero_grad()
    if not bad:
        return ""
    layer, _, parameter = bad[-1].rpartition(".")
    return f"the gradient of {parameter} of layer {_title(layer, layers[layer])}"


def _title(name: str, module: Module) -> str:
    return f"{name} ({type(module).__name__})" if name else type(module).__name__


def _finite(tensor: Tensor) -> bool:
    return tensor.array.dtype.kind != "f" or bool(xp_of(tensor.array).isfinite(tensor.array).all())


def shown(indices: list[int] | None, samples: int) -> str:
    """`a batch of 100, indices 5, 17, 3, ...`."""
    if indices is None:
        return f"a batch of {samples}"
    text = ", ".join(map(str, np.asarray(indices)[:SHOWN].tolist()))
    return f"a batch of {samples}, indices {text}{', ...' if len(indices) > SHOWN else ''}"
