"""What a batch's loss weighs in the loss of an epoch: what it was divided by, so that the epoch's is the loss over all data at once.

A mean over the samples weighs as many as there were; one with class weights or an ignored class what their sum comes to. Which
it is, the graph of the loss tells: the op that made it knows what it divided by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mulgil import nn
from mulgil.autograd import Tensor, enable_grad
from mulgil.backend import default_generator
from mulgil.errors import ShapeError, describe
from mulgil.nn import functional as F
from mulgil.ops.elementwise import Div, Mul, Neg
from mulgil.ops.loss import NLL, Loss
from mulgil.ops.reduce import Mean, Sum

REGRESSIONS = (nn.MSELoss, nn.L1Loss)


@dataclass(frozen=True)
class Weighing:
    """How the losses of batches come together.

    predicts: "class", "yes or no" or "numbers"; None where the loss does not tell.
    ignored: the label that counts for nothing, if there is one. total: the losses are sums and are added up.
    weight: (logits, targets) -> the weight of a batch; None: it must be read from the loss of each batch.
    """

    predicts: str | None = None
    ignored: int | None = None
    total: bool = False
    weight: Callable[[Tensor, Tensor], Any] | None = None


def samples(logits: Tensor, targets: Tensor) -> int:
    """The weight of a mean over samples."""
    return len(targets.array)


def elements(logits: Tensor, targets: Tensor) -> int:
    """The weight of a mean over all numbers."""
    return logits.array.size


def one(logits: Tensor, targets: Tensor) -> int:
    return 1


class Weights:
    """The weights of the batches of one pass. loss: the function; None weighs samples."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor] | None = None):
        self.loss = loss
        self.found: Weighing | None = Weighing(weight=samples) if loss is None else None

    def __call__(self, logits: Tensor, targets: Tensor) -> Any:
        if self.found is not None and self.found.weight is not None:
            return self.found.weight(logits, targets)
        self.found, weight = self._look(logits, targets)
        return weight if self.found.weight is None else self.found.weight(logits, targets)

    def _look(self, logits: Tensor, targets: Tensor) -> tuple[Weighing, Any]:
        """Compute the loss once more, recorded, and read what made it."""
        random = default_generator.get_state()
        with enable_grad():
            loss = self.loss(Tensor.of(logits.array).requires_grad_(), targets)  # type: ignore[misc]
        default_generator.set_state(random)
        found = read(loss, targets)
        if found is None:
            found = Weighing(weight=samples), None
        return found


def read(loss: Tensor, targets: Tensor) -> tuple[Weighing, Any] | None:
    """How this loss was made, and what it weighs (None: see `Weighing.weight`); None where its graph does not tell."""
    node, divisor = loss.node, None
    while node is not None and isinstance(node.op, (Neg, Mul, Div)):  # of a constant and what it scales
        parents = [link for link in node.links if link is not None]
        if len(parents) != 1 or type(parents[0]) is not tuple:
            return None
        if isinstance(node.op, Div) and node.links[0] is not None:
            divisor = node.ctx.saved[1]
        node = parents[0][0]
    if node is None:
        return None
    op, saved = node.op, node.ctx.saved
    found = _of_op(op, saved, targets) if isinstance(op, Loss) else None
    if isinstance(op, Mean):
        return Weighing(weight=elements), None
    if isinstance(op, Sum):
        found = Weighing(total=True, weight=one), None
    if found is not None and found[0].total and (hasattr(divisor, "dtype") or divisor in (len(targets.array), targets.array.size)):
        return Weighing(found[0].predicts, found[0].ignored), divisor  # a sum divided by hand: by a mask's sum, by how many they are
    return found


def _of_op(op: Loss, saved: tuple, targets: Tensor) -> tuple[Weighing, Any]:
    x, target, *class_weights = saved
    by_class = isinstance(op, NLL) and target.dtype.kind in "iu"
    ignored = op.ignore_index if by_class else None  # type: ignore[attr-defined]
    if op.reduction == "sum":
        return Weighing(op.predicts, ignored, True, one), None
    if not by_class:
        return Weighing(op.predicts, weight=elements), None
    whole = target.size == targets.array.size  # reshaped at most: the classes themselves decide, in any order
    weight = (lambda logits, targets: op.divisor(logits.array, targets.array, *class_weights)) if whole else None
    return Weighing(op.predicts, ignored, weight=weight), op.divisor(x, target, *class_weights)


def is_regression(loss: Any) -> bool:
    """Whether a loss is known, without a call, to compare numbers."""
    return isinstance(loss, REGRESSIONS) or getattr(loss, "func", loss) in (F.mse_loss, F.l1_loss)


def single(loss: Any) -> Tensor:
    """A loss that is one number. Raises ShapeError for another."""
    if not isinstance(loss, Tensor) or loss.array.size != 1:
        got = describe(loss=loss) if isinstance(loss, Tensor) else type(loss).__name__
        raise ShapeError("a loss of (outputs, targets) must be a single number, as a Tensor", got, 'reduction="mean", or take its mean()')
    return loss
