"""The pieces of a loop of one's own: a pass of training, an evaluation. `Trainer` is the loop that is already written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mulgil.autograd import no_grad
from mulgil.nn import Module
from mulgil.train.batch import call, prepared
from mulgil.train.callbacks import never
from mulgil.train.checks import check_loss, check_model, no_batches
from mulgil.train.metrics import Meter, Metrics
from mulgil.train.state import evaluating
from mulgil.train.step import Loss, Step, device_of, make_step
from mulgil.train.weighing import single

__all__ = ["evaluate", "make_step", "train_epoch"]


def train_epoch(
    model: Module,
    batches: Iterable[Any],
    step: Step,
    on_batch: Callable[[Meter], None] | None = None,
    should_stop: Callable[[], bool] = never,
) -> Metrics:
    """One pass of training over `batches` of (inputs, targets) with a step from `make_step`.

    The metrics are those of each batch before its own update, as PyTorch's tutorials count them.
    `should_stop` is asked after each batch, so weights and optimizer always belong together.

    Example:
        >>> step = make_step(model, optimizer, nn.CrossEntropyLoss(), compiled=True)    # doctest: +SKIP
        >>> for epoch in range(5):                                                      # doctest: +SKIP
        ...     train_epoch(model, train_loader, step)
        ...     print(evaluate(model, test_loader, nn.CrossEntropyLoss()).accuracy)
    """
    device = device_of(model)
    model.train()
    meter = Meter(loss=getattr(step, "loss", None), preparing=getattr(step, "preparing", None))
    for batch in batches:
        inputs, targets = prepared(batch, device)
        logits, loss, *_ = step(inputs, targets)
        meter.add(logits, targets, loss)
        if on_batch is not None:
            on_batch(meter)
        if should_stop():
            break
    if not meter.samples:
        raise no_batches(1, batches)
    return meter.result()


def evaluate(model: Module, batches: Iterable[Any], loss_fn: Loss) -> Metrics:
    """Loss, accuracy and predictions over `batches`, without training; the model's mode is as before afterwards."""
    check_model(model)
    check_loss(loss_fn)
    device = device_of(model)
    meter = Meter(keep_predictions=True, loss=loss_fn)
    with evaluating(model), no_grad():
        for batch in batches:
            inputs, targets = prepared(batch, device)
            logits = call(model, inputs)
            meter.add(logits, targets, single(loss_fn(logits, targets)))
    if not meter.samples:
        raise no_batches(1, batches)
    return meter.result()
