"""`lr_find`: which learning rate to begin with."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from mulgil.backend import Generator, default_generator
from mulgil.data import DataLoader
from mulgil.errors import OptionError
from mulgil.nn import Module
from mulgil.optim import Optimizer
from mulgil.options import check_count, check_number
from mulgil.train.batch import prepared
from mulgil.train.feed import TRAIN_BATCH, Batches, as_batches
from mulgil.train.step import Loss, device_of, make_step
from mulgil.train.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEMORY = 0.8  # of the running mean of the losses
SETTLED = 10  # steps until the running mean has forgotten the first batch
WORSE = 4.0  # times the best loss: far enough


@dataclass(frozen=True)
class LearningRates:
    """What `lr_find` saw.

    rates, losses, smooth: [steps]; smooth: the running mean of the losses. suggestion: where that falls fastest; of a model whose
    loss does not fall to half any more, a tenth of the largest rate that does no harm.
    """

    rates: np.ndarray
    losses: np.ndarray
    smooth: np.ndarray
    suggestion: float

    def plot(self) -> Figure:
        """A matplotlib figure of the loss against the learning rate. Needs mulgil[plot]."""
        from mulgil.plot.training import learning_rates

        return learning_rates(self.rates, self.losses, self.smooth, self.suggestion)


def lr_find(
    trainer: Trainer | Module,
    train: Batches,
    optimizer: Optimizer | None = None,
    loss: Loss | None = None,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
) -> LearningRates:
    """Train a copy with a learning rate that grows from `lowest` to `highest` in `steps`, until the loss gets much worse.

    trainer: a `Trainer`, or a model with its `optimizer` and `loss`. train: loader, data set or pair of arrays.
    Model, optimizer, random state and the order of the data are afterwards as before. Callbacks take no part.
    Raises OptionError for a range that is none, or a train that can be iterated over only once. Source: Smith, WACV 2017.

    Example:
        >>> found = lr_find(trainer, train_loader)              # doctest: +SKIP
        >>> found.plot(); found.suggestion                      # doctest: +SKIP
    """
    if isinstance(trainer, Trainer):
        model, optimizer, loss, compiled = trainer.model, trainer.optimizer, trainer.loss, trainer.compile
    else:
        model, compiled = trainer, True
    if optimizer is None or loss is None:
        hint = "lr_find(trainer, train), or lr_find(model, train, optimizer, loss)"
        raise OptionError("lr_find: a model needs its optimizer and its loss", hint=hint)
    for name, rate in (("lowest", lowest), ("highest", highest)):
        check_number(f"lr_find: {name}", rate, above=0)
    if not lowest < highest:
        raise OptionError("lr_find: lowest must be above 0 and below highest", f"{lowest!r}, {highest!r}")
    check_count("lr_find: steps", steps)
    with separate_random(0):
        return _search(*copied(model, optimizer), loss, _own_batches(train), np.geomspace(lowest, highest, max(int(steps), 2)), compiled)


def _search(model: Module, optimizer: Optimizer, loss: Loss, batches: Any, rates: np.ndarray, compiled: bool) -> LearningRates:
    device = device_of(model)
    step = make_step(model, optimizer, loss, compiled and str(device) == "cpu")
    model.train()
    losses: list[float] = []
    smooth: list[float] = []
    endless = chain.from_iterable(repeat(batches))
    with np.errstate(all="ignore"):  # it is meant to go too far
        for rate, batch in zip(rates, islice(endless, len(rates)), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = float(rate)
            value = float(step(*prepared(batch, device))[1])
            mean = value if not losses else MEMORY * smooth[-1] + (1 - MEMORY) * value
            if not math.isfinite(value) or mean > WORSE * min([*smooth, mean]):
                break
            losses.append(value)
            smooth.append(mean)
    if len(losses) < 2:
        raise OptionError("lr_find: the loss must stay finite for two steps", f"{len(losses)}", "a smaller lowest, or look at the data")
    seen = rates[: len(losses)]
    return LearningRates(seen, np.array(losses), np.array(smooth), _suggestion(seen, np.array(smooth)))


def _suggestion(rates: np.ndarray, smooth: np.ndarray) -> float:
    lowest = int(smooth.argmin())
    if smooth[lowest] < smooth[0] / 2:
        first = min(SETTLED, lowest)
        return float(rates[first + np.gradient(smooth, np.log(rates))[first : lowest + 1].argmin()])
    harmless = np.flatnonzero(smooth <= smooth[lowest] + 0.1 * smooth[0])
    return float(rates[harmless[-1]]) / 10


def _own_batches(train: Any) -> Any:
    """The same samples in an order of our own, so that no sampler and no generator of the caller's is asked."""
    batches = as_batches(train, TRAIN_BATCH, shuffle=True)
    if isinstance(batches, DataLoader):
        size = batches.batch_size or TRAIN_BATCH
        short = len(batches.dataset) < size
        return DataLoader(batches.dataset, size, shuffle=True, drop_last=not short, collate_fn=batches.collate_fn, generator=Generator(0))
    if iter(batches) is batches:
        rule = "lr_find: train must be something that can be iterated over again"
        raise OptionError(rule, type(batches).__name__, "a DataLoader, or a list")
    return batches


def copied(model: Module, optimizer: Optimizer) -> tuple[Module, Optimizer]:
    """A copy of the model, and a copy of the optimizer that trains it."""
    return copy.deepcopy((model, optimizer))


@contextmanager
def separate_random(seed: int | None) -> Iterator[None]:
    """Within the block mulgil's generator starts from `seed`; afterwards it goes on as if nothing had been drawn."""
    before = dict(default_generator.__dict__)
    default_generator.__dict__.update(_on={})  # its GPU generators too are put aside, not reset
    default_generator._start(np.random.SeedSequence(seed))
    try:
        yield
    finally:
        default_generator.__dict__.update(before)
