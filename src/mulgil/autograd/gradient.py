"""grad: gradients as values, without touching any `.grad`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, overload

from mulgil.autograd.engine import walk_back
from mulgil.autograd.tensor import Tensor
from mulgil.errors import GradientError, describe
from mulgil.ops.elementwise import Fill
from mulgil.ops.function import tell


@overload
def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: Literal[False] = False,
) -> tuple[Tensor, ...]: ...
@overload
def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]: ...
def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` with respect to `inputs`, as a tuple; no `.grad` is touched.

    Args:
        outputs, inputs: a Tensor or a sequence of Tensors; inputs may be leaves or computed.
        grad_outputs: weights of the outputs' elements; None for scalars.
        create_graph: record, so that the result can be differentiated again.
        allow_unused: give None for an input that the outputs do not depend on, instead of raising `GradientError`.

    Example:
        >>> x = Tensor(3.0, requires_grad=True)
        >>> (dy,) = grad(x * x * x, x, create_graph=True)
        >>> grad(dy, x)
        (tensor(18.),)
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    seeds = [None] * len(outputs) if grad_outputs is None else [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)
    starts = [y.seed(s, create_graph) for y, s in zip(outputs, seeds, strict=True)]
    wanted = tuple((x.node, x.index) for x in inputs if x.node is not None)
    retain = create_graph if retain_graph is None else retain_graph
    leaves, inner = walk_back(outputs, starts, Tensor.of, create_graph, retain, wanted)
    found = [leaves.get(id(x), (x, None))[1] if x.node is None else inner.get((x.node, x.index)) for x in inputs]
    for i, g in enumerate(found):
        if g is None and not allow_unused:
            raise GradientError(
                "grad: the outputs do not depend on this input",
                f"input {i}: {describe(tensor=inputs[i])}",
                "pass allow_unused=True to get None for it",
            )
    return tuple(g if g is None or isinstance(g, Tensor) else Tensor.of(g) for g in found)


def clear_gradients(tensors: Iterable[Tensor], set_to_none: bool = True) -> None:
    """Drop the `.grad` of these tensors or, without `set_to_none`, fill those that are there with zeros."""
    tensors = list(tensors)
    if set_to_none:
        tell("cleared", tensors)
    for t in tensors:
        if set_to_none:
            t.grad = None
        elif t.grad is not None:
            t.grad.copy_(Fill(0.0)(t.grad.detach()))
