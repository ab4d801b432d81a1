"""Gradient clipping, under PyTorch's name: `nn.utils.clip_grad_norm_(model.parameters(), 1.0)` between backward and step."""

from __future__ import annotations

import math
from collections.abc import Iterable

from mulgil.autograd.tensor import Tensor
from mulgil.backend import xp_of
from mulgil.errors import GradientError, OptionError
from mulgil.ops.function import Context, run, run_inplace, tell
from mulgil.ops.update import ClipFactor, Limit, Scale
from mulgil.options import NOT_NEGATIVE, check_number


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients by one factor, in place, so that their joint 2-norm is at most `max_norm`. Returns the norm before.

    Parameters without a gradient are left out. norm_type: only 2. `foreach` is accepted and ignored.
    Raises GradientError for a norm that is not finite, if `error_if_nonfinite`. Source: Pascanu et al., ICML 2013.

    Example:
        >>> loss.backward()
        >>> norm = clip_grad_norm_(model.parameters(), 1.0)
        >>> optimizer.step()
    """
    check_number("clip_grad_norm_: max_norm", max_norm, NOT_NEGATIVE, finite=False)
    if float(norm_type) != 2.0:
        raise OptionError("clip_grad_norm_: norm_type must be 2", repr(norm_type), "clip_grad_value_ limits each element")
    gradients = _gradients(parameters)
    if not gradients:
        return Tensor(0.0)
    context = Context(xp_of(gradients[0].array))
    norm, factor = run(ClipFactor(float(max_norm)), "forward", context, *(g.array for g in gradients))
    if error_if_nonfinite and not math.isfinite(float(norm)):
        raise GradientError(
            "clip_grad_norm_: the norm of the gradients must be finite",
            str(float(norm)),
            "look for a division by zero, or lower the learning rate",
        )
    for g in gradients:
        run_inplace(Scale(), g.array, factor)
        g.bump()
    return Tensor.of(norm)


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Limit each element of the gradients to [-clip_value, clip_value], in place. `foreach` is accepted and ignored."""
    check_number("clip_grad_value_: clip_value", clip_value, NOT_NEGATIVE, finite=False)
    for g in _gradients(parameters):
        run_inplace(Limit(float(clip_value)), g.array)
        g.bump()


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    tell("looked")
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p.grad for p in parameters if p.grad is not None]
