"""Callbacks: what happens while a `Trainer` fits, beside the training itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mulgil.autograd import Tensor
from mulgil.errors import NonFiniteError

if TYPE_CHECKING:
    from mulgil.train.trainer import Trainer


class Callback:
    """Told what happens: subclass it and define the events that you need. Each is given the `Trainer`.

    Order of events: `start`, then for each epoch `batch` after each batch and `epoch` after the validation, at last `end`,
    which is called whatever ended the run: its last epoch, `trainer.stop(reason)`, Ctrl-C or an error.

    late: called after the callbacks that are not, so that what it saves includes what they did.

    Example:
        >>> class Shout(Callback):
        ...     def epoch(self, trainer):
        ...         print(trainer.epoch, trainer.validation_metrics.accuracy)
    """

    late: bool = False

    def start(self, trainer: Trainer) -> None:
        """Before the first batch; in a resumed run before the first one that is left."""

    def batch(self, trainer: Trainer) -> None:
        """After a batch: `trainer.step`, `trainer.epoch`, `trainer.batch`, `trainer.indices`, `trainer.meter` (sums so far)."""

    def epoch(self, trainer: Trainer) -> None:
        """After an epoch: `trainer.train_metrics`, `trainer.validation_metrics`, `trainer.history`."""

    def end(self, trainer: Trainer) -> None:
        """At the end, whatever ended it: `trainer.stopped` is the reason, or None."""

    def after_backward(self, trainer: Trainer) -> Tensor | None:
        """Inside the step, between backward and the update: to change gradients, or to measure them.

        It is compiled with the step: only Tensor operations and `nn.utils`, no decisions by value. What it returns
        is a Tensor, which is there after the step as `trainer.outputs[callback]`.
        """
        return None

    def nonfinite(self, trainer: Trainer, error: NonFiniteError) -> None:
        """A loss or gradient that is not finite is about to end the run. `error.state` is the run before that step, fit for a file."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, as dicts, lists, numbers, text and arrays."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""


def never() -> bool:
    """The usual answer to "shall I stop?"."""
    return False


class StopIf(Callback):
    """Ends the run after the batch at which `should_stop()` says so."""

    reason = "interrupted"

    def __init__(self, should_stop: Callable[[], bool] = never):
        self.should_stop = should_stop

    def batch(self, trainer: Trainer) -> None:
        if self.should_stop():
            trainer.stop(self.reason)
