"""`Trainer`: fit, evaluate and predict, with one stream of events for everything that watches."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import to_device
from mulgil.data import DataLoader
from mulgil.errors import NonFiniteError, OptionError
from mulgil.nn import Module
from mulgil.nn import functional as F
from mulgil.optim import Optimizer
from mulgil.options import check_count
from mulgil.train import state
from mulgil.train.callbacks import Callback
from mulgil.train.feed import EVAL_BATCH, TRAIN_BATCH, Batches, Feed, as_batches
from mulgil.train.history import History
from mulgil.train.inputs import prepare, remember
from mulgil.train.interrupt import interrupt_between_batches
from mulgil.train.metrics import Meter, Metric, Metrics, named
from mulgil.train.nonfinite import shown, where_not_finite
from mulgil.train.step import Loss, device_of, make_prediction
from mulgil.typing import DeviceLike, MaybeNone

ON_NAN = ("stop", "skip", "ignore")
PATIENCE = 50  # steps in a row that "skip" leaves out before it gives up


class Trainer:
    """Trains a model, evaluates it, predicts with it.

    Args:
        model, optimizer, loss: as in a loop of one's own; loss(logits, targets) is the batch's mean.
        metrics: names ("accuracy", "top5", "mse", "mae"), or functions (logits, targets) -> the batch's mean or a value a sample.
        callbacks: see `Callback`.
        device: where to train; default where the model is.
        compile: on the CPU, compile the training step and the forward pass (default). What cannot be compiled runs eagerly.
        on_nan: what a loss or gradient that is not finite does. "stop": NonFiniteError, which names step, layer and samples and holds
            the state before the step. "skip": the step is left out, with everything as before it; after 50 in a row the run stops.
            "ignore": nobody looks.

    Attributes, for callbacks, while it fits:
        epochs, epoch, batches, batch, step: the epochs of the plan, and where the run is, each counted from 1; step over all epochs.
        indices: the current batch's samples in the data set, where the loader knows them.
        meter: the epoch's running sums. train_metrics, validation_metrics: of the epoch that ended last.
        skipped: steps left out. history: a `History`. seconds: spent training so far. stopped: why the run ends, or None.
        complete: whether the epoch that ended last was whole.

    Example:
        >>> trainer = Trainer(model, optim.Adam(model.parameters()), nn.CrossEntropyLoss())    # doctest: +SKIP
        >>> history = trainer.fit(train_loader, test_loader, epochs=5)                         # doctest: +SKIP
        >>> trainer.evaluate(test_loader).accuracy, trainer.predict(images).argmax(1)          # doctest: +SKIP
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss: Loss,
        metrics: Iterable[str | Metric] | str = ("accuracy",),
        callbacks: Sequence[Callback] = (),
        device: DeviceLike | None = None,
        compile: bool = True,
        on_nan: str = "stop",
    ):
        if on_nan not in ON_NAN:
            raise OptionError(f"Trainer: on_nan must be one of {', '.join(ON_NAN)}", repr(on_nan))
        self.model = model if device is None else model.to(device)
        self.optimizer, self.loss = optimizer, loss
        self.metrics = named(metrics)
        self.callbacks = list(callbacks)
        self.compile, self.on_nan = compile, on_nan
        self.epochs = self.epoch = self.batches = self.batch = self.step = 0
        self.indices: list[int] | MaybeNone = None
        self.skipped = self._in_a_row = 0
        self.meter = Meter(self.metrics)
        self.history = History.empty(self.metrics)
        self.train_metrics: Metrics | MaybeNone = None
        self.validation_metrics: Metrics | MaybeNone = None
        self.outputs: dict[Callback, Tensor] = {}
        self._last: tuple[Tensor, Tensor, Tensor] | None = None  # the current batch's logits, targets, loss
        self.stopped: str | None = None
        self.complete = True
        # what `state` saves and loads beside these
        self.feed, self.in_epoch = Feed(()), False
        self.before = 0  # epochs done when this fit began: its `epochs` are counted from there
        self.spent = 0.0  # seconds of earlier fits
        self.resume: dict[str, Any] | None = None  # what load_state_dict was given, until fit goes on
        self.cut: dict[str, Any] | None = None  # the state at the place where an epoch was left
        self._started: float | None = None
        self._functions = state.Functions(self)
        self._eager = make_prediction(self.model)

    # ------------------------------------------------------------------ what a person calls
    def fit(self, train: Batches, validation: Batches | None = None, epochs: int = 1) -> History:
        """Train for `epochs` (more), evaluate after each, return the history.

        train, validation: loaders, data sets or pairs of arrays. After `load_state_dict` the saved run goes on, in the middle of
        its epoch too, up to `epochs` since its beginning. Whatever ends it, each callback's `end` is called. Ctrl-C ends it after
        the batch under way, with KeyboardInterrupt after the last event.
        """
        check_count("Trainer.fit: epochs", epochs)
        self.train_data, self.validation = as_batches(train, TRAIN_BATCH, shuffle=True), validation
        if self.feed.source is not self.train_data:
            self.feed = Feed(self.train_data)
        remember(self.model, self.train_data)
        self._begin(epochs)
        called: list[Callback] = []
        try:
            with interrupt_between_batches(self.stop):
                for callback in self._told:
                    called.append(callback)
                    callback.start(self)
                while (self.epoch < self.epochs or self.in_epoch) and not self.stopped:
                    self._run_epoch()
        except BaseException as error:
            self.stopped = self.stopped or type(error).__name__
            if isinstance(error, NonFiniteError):
                self._tell_not_finite(error, called)
            raise
        finally:
            self._end(called)
        return self.history

    def evaluate(self, data: Batches) -> Metrics:
        """Loss, metrics and predictions over `data`, in evaluation mode; the model's mode is as before afterwards."""
        function, meter = self._functions.evaluation(), Meter(self.metrics, keep_predictions=True)
        device = device_of(self.model)
        with state.evaluating(self.model):
            for inputs, targets in as_batches(data, EVAL_BATCH):
                inputs, targets = prepare(self.model, inputs).to(device), targets.to(device)
                logits, loss = function(inputs, targets)
                meter.add(logits, targets, loss)
        return meter.result()

    def predict(self, data: Batches, probabilities: bool = False) -> np.ndarray:
        """The model's outputs for arrays, Tensors, data sets or loaders (targets are ignored): a NumPy array [N, ...].

        probabilities: apply softmax over the classes.
        """
        batches = as_batches(data, EVAL_BATCH)
        full = batches.batch_size if isinstance(batches, DataLoader) and len(batches) > 1 else 0
        device, parts = device_of(self.model), []
        with state.evaluating(self.model):
            for batch in batches:
                inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
                # a plan for each size that somebody asks for once would take longer than it saves
                function = self._functions.prediction() if len(inputs) == full else self._eager
                (logits,) = function(prepare(self.model, inputs).to(device))
                parts.append(to_device((F.softmax(logits, 1) if probabilities else logits).array, "cpu"))
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    def stop(self, reason: str = "stopped") -> None:
        """End the run after this batch, or from `Callback.epoch` after this epoch. The first reason is kept."""
        self.stopped = self.stopped or reason

    def batch_metrics(self) -> dict[str, float]:
        """{"loss": ..., "accuracy": ...} of the current batch alone; empty before the first one."""
        if self._last is None:
            return {}
        meter = Meter(self.metrics)
        meter.add(*self._last)
        return meter.result().as_dict()

    @property
    def seconds(self) -> float:
        """Seconds spent in `fit`, those before a resume included."""
        return self.spent + (0.0 if self._started is None else time.perf_counter() - self._started)

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides the rest of the run, as dicts, lists, numbers, text and arrays (copies)."""
        return state.saved(self)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over a state; the next `fit` goes on from there and ends with the same bits as the run that was not interrupted.

        The trainer must be made like the one that was saved: model, optimizer, metrics, callbacks in the same order.
        Raises OptionError or ModelFileError where they differ; then nothing is changed.
        """
        state.load(self, saved)

    # ------------------------------------------------------------------ the run
    def _begin(self, epochs: int) -> None:
        if self.resume is None:
            self.before, self.in_epoch = self.epoch, False
        else:
            state.enter(self, self.resume)
        self.resume = self.cut = None
        self.epochs = self.before + epochs
        self.stopped, self.complete = None, True
        self._told = sorted(self.callbacks, key=lambda callback: callback.late)
        self._started = time.perf_counter()
        self._functions.begin()

    def _run_epoch(self) -> None:
        if not self.in_epoch:
            self.epoch, self.batch = self.epoch + 1, 0
            self.meter = Meter(self.metrics)
            self.feed.new_epoch()
        self.in_epoch = True
        self.batches = len(self.feed)
        self.model.train()
        cut = False
        for indices, batch in self.feed.batches(self.batch, assembled=self._functions.assembly is not None):
            self.batch, self.step, self.indices = self.batch + 1, self.step + 1, indices
            self._step(batch)
            self._tell("batch")
            if self.stopped and (cut := self.batch != self.batches):
                break
        self._close_epoch(complete=not cut)

    def _step(self, batch: Any) -> None:
        """One batch: the only place where the training step is called. batch: None where the step puts it together from the indices."""
        before = self._functions.what_forward_changes()
        try:
            if batch is None:
                logits, loss, *more, targets = self._functions.step(Tensor(np.array(self.indices)))
            else:
                inputs, targets = self._on_device(batch)
                logits, loss, *more = self._functions.step(inputs, targets)
        except NonFiniteError as error:
            before.restore()
            try:
                self._not_finite(error, *self._on_device(batch or self.feed.fetch(self.indices)))
            finally:
                before.restore()  # the search ran the step's forward pass again
            return
        self.outputs, self._in_a_row = dict(zip(self._functions.measuring, more, strict=True)), 0
        self._last = logits, targets, loss
        self.meter.add(*self._last)

    def _on_device(self, batch: Any) -> tuple[Tensor, Tensor]:
        inputs, targets = batch
        device = device_of(self.model)
        return inputs.to(device), targets.to(device)

    def _not_finite(self, error: NonFiniteError, inputs: Tensor, targets: Tensor) -> None:
        """Leave the step out, or say what is known about it. The update was not done; the caller puts back what forward changed."""
        self.skipped, self._in_a_row, self.outputs = self.skipped + 1, self._in_a_row + 1, {}
        if self.on_nan == "skip" and self._in_a_row < PATIENCE and self.skipped > 1:
            return
        place = where_not_finite(self.model, self.loss, inputs, targets)
        error.layer, error.step, error.indices = place or None, self.step, self.indices
        error.rule = f"step {self.step} (epoch {self.epoch}, batch {self.batch}): {error.rule}"
        error.got = "; ".join(part for part in (error.got, shown(self.indices, len(targets))) if part)
        if self.on_nan == "skip" and self._in_a_row < PATIENCE:
            warnings.warn(f"left out, as are such steps from now on: {error}", RuntimeWarning, stacklevel=5)
            return
        error.hint = 'lower the learning rate, or clip gradients; error.state is the run before this step; on_nan="skip" goes on without it'
        raise error

    def _close_epoch(self, complete: bool) -> None:
        self.train_metrics, self.complete = self.meter.result(), complete
        if not complete:
            self.cut = self.state_dict()  # from here a resumed run goes on; what follows belongs to half an epoch
        self.validation_metrics = None if self.validation is None else self.evaluate(self.validation)
        row = {"epoch": self.epoch, "lr": float(self.optimizer.param_groups[0]["lr"]), **self.train_metrics.as_dict("train_")}
        if self.validation_metrics is not None:
            row |= self.validation_metrics.as_dict("validation_")
        self.history = self.history.with_row(row)
        self.in_epoch, self.indices = False, None
        self._tell("epoch")

    def _tell(self, event: str) -> None:
        for callback in self._told:
            getattr(callback, event)(self)

    def _tell_not_finite(self, error: NonFiniteError, called: list[Callback]) -> None:
        self.batch, self.step, self.skipped = self.batch - 1, self.step - 1, self.skipped - 1  # the state is that before the step
        error.state = self.state_dict()
        for callback in called:
            callback.nonfinite(self, error)

    def _end(self, called: list[Callback]) -> None:
        """Tell all of them, even if one of them fails."""
        self.spent, self._started = self.seconds, None
        errors = []
        for callback in called:
            try:
                callback.end(self)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
