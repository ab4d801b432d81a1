"""When a loss or gradient is not finite: where it began, in words."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import xp_of
from mulgil.errors import NonFiniteError
from mulgil.nn import Module
from mulgil.train.batch import Inputs, call
from mulgil.train.callbacks import Callback
from mulgil.train.step import Loss

if TYPE_CHECKING:
    from mulgil.train.trainer import Trainer

SHOWN = 12  # indices in the message; the error has them all
PATIENCE = 50  # steps in a row that "skip" leaves out before it gives up


def leave_out(trainer: Trainer, error: NonFiniteError, inputs: Inputs, targets: Tensor) -> None:
    """Leave the step out, or raise the error with what is known about it. The update was not done; the caller puts back what forward
    changed."""
    trainer.skipped, trainer.in_a_row, trainer.outputs = trainer.skipped + 1, trainer.in_a_row + 1, {}
    skips = trainer.on_nan == "skip" and trainer.in_a_row < PATIENCE
    if skips and trainer.skipped > 1:
        return
    place = where_not_finite(trainer.model, trainer.loss, inputs, targets)
    error.layer, error.step, error.indices = place or None, trainer.step, trainer.indices
    error.rule = f"step {trainer.step} (epoch {trainer.epoch}, batch {trainer.batch}): {error.rule}"
    error.got = "; ".join(part for part in (error.got, shown(trainer.indices, len(targets))) if part)
    if skips:
        warnings.warn(f"left out, as are such steps from now on: {error}", RuntimeWarning, stacklevel=7)
        return
    error.hint = 'lower the learning rate, or clip gradients; error.state is the run before this step; on_nan="skip" goes on without it'
    raise error


def tell(trainer: Trainer, error: NonFiniteError, called: Sequence[Callback]) -> None:
    """Tell the callbacks; the trainer's state is that before the step."""
    trainer.batch, trainer.step, trainer.skipped = trainer.batch - 1, trainer.step - 1, trainer.skipped - 1
    error.state = trainer.state_dict()
    for callback in called:
        callback.nonfinite(trainer, error)


def where_not_finite(model: Module, loss_fn: Loss, inputs: Inputs, targets: Tensor) -> str:
    """The first thing of a step that is not finite: inputs, a parameter, a layer's output, the loss, a parameter's gradient.

    Runs the step's forward and backward passes once more, eagerly; gradients are dropped afterwards. "" if all is finite now.
    """
    with np.errstate(all="ignore"):
        return _search(model, loss_fn, inputs, targets)


def _search(model: Module, loss_fn: Loss, inputs: Inputs, targets: Tensor) -> str:
    parts = inputs.values() if isinstance(inputs, dict) else inputs if isinstance(inputs, tuple) else (inputs,)
    if not all(map(_finite, parts)):
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
        logits = call(model, inputs)
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
