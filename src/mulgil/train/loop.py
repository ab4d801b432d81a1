"""The training loop: `fit` is a generator that gives a record an epoch, so what happens between epochs is up to the caller."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mulgil.autograd import Tensor, no_grad
from mulgil.compile import compile
from mulgil.nn import Module
from mulgil.optim import Optimizer
from mulgil.train.metrics import Meter, Metrics

Loss = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
OnBatch = Callable[[Meter], None]


def never() -> bool:
    """The usual answer to "shall I stop?"."""
    return False


@dataclass(frozen=True)
class EpochRecord:
    """An epoch's outcome. epoch counts from 1; seconds are those since the training began; complete: False if it was cut short."""

    epoch: int
    epochs: int
    train: Metrics
    test: Metrics
    lr: float
    seconds: float
    complete: bool = True

    def as_dict(self) -> dict[str, Any]:
        """A line of metrics.jsonl."""
        return {
            "epoch": self.epoch,
            "train_loss": self.train.loss,
            "train_accuracy": self.train.accuracy,
            "test_loss": self.test.loss,
            "test_accuracy": self.test.accuracy,
            "lr": self.lr,
            "images_per_second": round(self.train.rate, 1),
            "seconds": round(self.seconds, 3),
            "complete": self.complete,
        }


def make_step(model: Module, optimizer: Optimizer, loss_fn: Loss, compiled: bool = False) -> Step:
    """A training step: (inputs, targets) -> (logits, loss), with the update done. compiled: through `mulgil.compile`."""

    def step(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(inputs)
        loss = loss_fn(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return logits, loss

    return compile(step, state=[model, optimizer]) if compiled else step


def train_epoch(
    model: Module,
    batches: Iterable,
    step: Step,
    on_batch: OnBatch | None = None,
    should_stop: Callable[[], bool] = never,
) -> Metrics:
    """One pass of training over `batches` of (inputs, targets) with a step from `make_step`.

    The metrics are those of each batch before its own update, as PyTorch's tutorials count them.
    `should_stop` is asked after each batch, so weights and optimizer always belong together.
    """
    device = device_of(model)
    model.train()
    meter = Meter()
    for inputs, targets in batches:
        inputs, targets = inputs.to(device), targets.to(device)
        logits, loss = step(inputs, targets)
        meter.add(logits, targets, loss)
        if on_batch is not None:
            on_batch(meter)
        if should_stop():
            break
    return meter.result()


def evaluate(model: Module, batches: Iterable, loss_fn: Loss) -> Metrics:
    """Loss, accuracy and predictions over `batches`, without training; the model's mode is as before afterwards."""
    device, was_training = device_of(model), model.training
    model.eval()
    meter = Meter(keep_predictions=True)
    with no_grad():
        for inputs, targets in batches:
            inputs, targets = inputs.to(device), targets.to(device)
            logits = model(inputs)
            meter.add(logits, targets, loss_fn(logits, targets))
    model.train(was_training)
    return meter.result()


def fit(
    model: Module,
    train_batches: Iterable,
    test_batches: Iterable,
    optimizer: Optimizer,
    loss_fn: Loss,
    epochs: int,
    on_batch: OnBatch | None = None,
    should_stop: Callable[[], bool] = never,
    compiled: bool = False,
) -> Iterator[EpochRecord]:
    """Train for `epochs`, evaluate after each, yield a record of each. compiled: the training step goes through `mulgil.compile`.

    When `should_stop()` turns true, the epoch under way ends after its batch, is evaluated, and is the last.

    Example:
        >>> for record in fit(model, train_loader, test_loader, optimizer, nn.CrossEntropyLoss(), epochs=5):  # doctest: +SKIP
        ...     print(record.epoch, record.test.accuracy)
    """
    start = time.perf_counter()
    step = make_step(model, optimizer, loss_fn, compiled)
    for epoch in range(1, epochs + 1):
        trained = train_epoch(model, train_batches, step, on_batch, should_stop)
        stopped = should_stop()
        tested = evaluate(model, test_batches, loss_fn)
        lr = float(optimizer.param_groups[0]["lr"])
        yield EpochRecord(epoch, epochs, trained, tested, lr, time.perf_counter() - start, complete=not stopped)
        if stopped:
            return


def device_of(model: Module) -> Any:
    """Where the model's first parameter lives; the CPU for a model that has none."""
    return next((p.device for p in model.parameters()), "cpu")
