"""`Trainer`: fit, evaluate and predict, with one stream of events for everything that watches."""

from __future__ import annotations

import time
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
from mulgil.train import batch as batches_of
from mulgil.train import interrupt, nonfinite, state
from mulgil.train.callbacks import Callback
from mulgil.train.checks import check_parts, no_batches, warn_unreached
from mulgil.train.feed import EVAL_BATCH, TRAIN_BATCH, Batches, Feed, as_batches
from mulgil.train.history import History
from mulgil.train.inputs import prepare, remember
from mulgil.train.metrics import Meter, Metric, Metrics, named
from mulgil.train.step import Loss, Preparing, device_of, make_prediction
from mulgil.train.weighing import is_regression
from mulgil.typing import DeviceLike, MaybeNone

ON_NAN = ("stop", "skip", "ignore")


class Trainer:
    """Trains a model, evaluates it, predicts with it.

    Args:
        model, optimizer, loss: as in a loop of one's own; loss(outputs, targets) is one number, the batch's mean or sum.
        metrics: names ("accuracy", "top5", "mse", "mae"), or functions (outputs, targets) -> the batch's mean or a value a sample;
            default accuracy, where the targets are classes.
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
        complete: whether the epoch that ended last was whole. torn: whether a batch is under way, so that model and optimizer may not fit.
        preparing: what tracing and compiling took so far, see `train.step.Preparing`.

    A copy (`copy.deepcopy`, or sent to a process pool) has its own model, optimizer and callbacks, and no data.
    Raises OptionError for parts that cannot learn together, see `train.checks`.

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
        metrics: Iterable[str | Metric] | str | None = None,
        callbacks: Sequence[Callback] = (),
        device: DeviceLike | None = None,
        compile: bool = True,
        on_nan: str = "stop",
    ):
        if on_nan not in ON_NAN:
            raise OptionError(f"Trainer: on_nan must be one of {', '.join(ON_NAN)}", repr(on_nan))
        check_parts(model, optimizer, loss)
        self.model = model if device is None else model.to(device)
        self.optimizer, self.loss = optimizer, loss
        self.usual = metrics is None  # then the first batch may show that they are not classes
        self.metrics = named(metrics if metrics is not None else () if is_regression(loss) else ("accuracy",))
        self.callbacks = list(callbacks)
        self.compile, self.on_nan = compile, on_nan
        self.epochs = self.epoch = self.batches = self.batch = self.step = 0
        self.indices: list[int] | MaybeNone = None
        self.skipped = self.in_a_row = 0
        self.history = History.empty(self.metrics)
        self.preparing = Preparing()
        self.meter = self._meter()
        self.train_metrics: Metrics | MaybeNone = None
        self.validation_metrics: Metrics | MaybeNone = None
        self.outputs: dict[Callback, Tensor] = {}
        self._last: tuple[Tensor, Tensor, Tensor] | None = None  # the current batch's logits, targets, loss
        self.stopped: str | None = None
        self.complete, self.torn = True, False
        # what `state` saves and loads beside these
        self.feed, self.in_epoch = Feed(()), False
        self.before = 0  # epochs done when this fit began: its `epochs` are counted from there
        self.spent = 0.0  # seconds of earlier fits
        self.resume: dict[str, Any] | None = None  # what load_state_dict was given, until fit goes on
        self.cut: dict[str, Any] | None = None  # the state at the place where an epoch was left
        self._started: float | None = None
        self._told: list[Callback] = []
        self._warned = False  # of parameters without gradients
        self._functions = state.Functions(self)
        self._eager = make_prediction(self.model)

    # ------------------------------------------------------------------ what a person calls
    def fit(self, train: Batches, validation: Batches | None = None, epochs: int = 1) -> History:
        """Train for `epochs` (more), evaluate after each, return the history.

        train, validation: loaders, data sets or arrays (inputs, targets); of several inputs see `train.batch`. After `load_state_dict`
        the saved run goes on, in the middle of its epoch too, up to `epochs` since its beginning. Whatever ends it, each callback's
        `end` is called. Ctrl-C, SIGTERM and SIGHUP end it after the batch under way (see `train.interrupt`), with KeyboardInterrupt or
        SystemExit after the last event. Raises OptionError for data without a batch.
        """
        check_count("Trainer.fit: epochs", epochs)
        self.train_data, self.validation = as_batches(train, TRAIN_BATCH, shuffle=True), validation
        if self.feed.source is not self.train_data:
            self.feed = Feed(self.train_data)
        remember(self.model, self.train_data)
        self._begin(epochs)
        with interrupt.watched() as self._signals, self._signals.telling(self.stop):
            self._run()
        return self.history

    def evaluate(self, data: Batches) -> Metrics:
        """Loss, metrics and predictions over `data`, in evaluation mode; the model's mode is as before afterwards."""
        function, meter, batches = self._functions.evaluation(), self._meter(keep_predictions=True), as_batches(data, EVAL_BATCH)
        device = device_of(self.model)
        with state.evaluating(self.model):
            for batch in batches:
                inputs, targets = batches_of.prepared(batch, device)
                inputs = prepare(self.model, inputs).to(device) if isinstance(inputs, Tensor) else inputs
                logits, loss = function(inputs, targets)
                meter.add(logits, targets, loss)
        if not meter.samples:
            raise no_batches(1, batches)
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
                inputs = batches_of.inputs_of(batch, self.model)
                several = isinstance(inputs, (tuple, list, dict))
                # a plan for each size that somebody asks for once would take longer than it saves
                function = self._functions.prediction() if batches_of.length(inputs) == full else self._eager
                inputs = batches_of.moved(inputs, device, "inputs") if several else prepare(self.model, inputs).to(device)
                (logits,) = function(inputs)
                parts.append(to_device((F.softmax(logits, 1) if probabilities else logits).array, "cpu"))
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    def stop(self, reason: str = "stopped") -> None:
        """End the run after this batch, or from `Callback.epoch` after this epoch. The first reason is kept."""
        self.stopped = self.stopped or reason

    def batch_metrics(self) -> dict[str, float]:
        """{"loss": ..., "accuracy": ...} of the current batch alone; empty before the first one."""
        if self._last is None:
            return {}
        meter = self._meter()
        meter.add(*self._last)
        return meter.result().as_dict()

    def _meter(self, keep_predictions: bool = False) -> Meter:
        metrics = None if self.usual and not len(self.history) else self.metrics
        return Meter(metrics, keep_predictions, self.loss, self.preparing)

    @property
    def seconds(self) -> float:
        """Seconds spent in `fit`, those before a resume included."""
        return self.spent + (0.0 if self._started is None else time.perf_counter() - self._started)

    def __getstate__(self) -> dict[str, Any]:
        """For `copy.deepcopy` and process pools: without the data and what is compiled, which the copy makes anew."""
        gone = dict.fromkeys(("_functions", "_eager", "_last", "_signals", "_started", "train_data", "validation"))
        return {**self.__dict__, **gone, "_told": [], "outputs": {}, "feed": Feed(()), "preparing": Preparing(), "meter": None}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.__dict__.update(saved)
        self.meter = self._meter()
        self._functions, self._eager = state.Functions(self), make_prediction(self.model)

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
        self.stopped, self.complete, self.torn = None, True, False
        self._told = sorted(self.callbacks, key=lambda callback: callback.late)
        self._started = time.perf_counter()
        check_parts(self.model, self.optimizer, self.loss)  # they may have changed since they came together
        self._functions.begin()

    def _run(self) -> None:
        """From the callbacks' `start` to their `end`."""
        called: list[Callback] = []
        try:
            for callback in self._told:
                called.append(callback)
                callback.start(self)
            while (self.epoch < self.epochs or self.in_epoch) and not self.stopped:
                self._run_epoch()
        except BaseException as error:
            self.stopped = self.stopped or type(error).__name__
            if isinstance(error, NonFiniteError):
                nonfinite.tell(self, error, called)
            raise
        finally:
            with self._signals:
                self._end(called)

    def _run_epoch(self) -> None:
        if not self.in_epoch:
            self.epoch, self.batch = self.epoch + 1, 0
            self.meter = self._meter()
            self.feed.new_epoch()
        self.in_epoch = True
        self.batches = len(self.feed)
        self.model.train()
        cut = False
        for indices, batch in self.feed.batches(self.batch, assembled=self._functions.assembly is not None):
            with self._signals:
                self._batch(indices, batch)
            if self.stopped and (cut := self.batch != self.batches):
                break
        if not self.batch:
            self.in_epoch, self.epoch = False, self.epoch - 1
            raise no_batches(self.epoch + 1, self.feed.source)
        self._close_epoch(complete=not cut)

    def _batch(self, indices: list[int] | None, batch: Any) -> None:
        """A step and what is told of it. If it is torn in two, model and optimizer no longer belong together."""
        self.batch, self.step, self.indices, self.torn = self.batch + 1, self.step + 1, indices, True
        try:
            self._step(batch)
        except (KeyboardInterrupt, SystemExit) as error:
            if getattr(error, "taken_back", False):  # interrupted while it compiled: as if it had not begun
                self.batch, self.step, self.torn = self.batch - 1, self.step - 1, False
            raise
        self._tell("batch")
        self.torn = False

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
                inputs, targets = self._on_device(batch or self.feed.fetch(self.indices))
                nonfinite.leave_out(self, error, inputs, targets)
            finally:
                before.restore()  # the search ran the step's forward pass again
            return
        self.outputs, self.in_a_row = dict(zip(self._functions.measuring, more, strict=True)), 0
        self._last = logits, targets, loss
        self.meter.add(*self._last)
        if self.usual and self.meter.metrics != self.metrics and not len(self.history):
            self.metrics = dict(self.meter.metrics or {})
            self.history = History.empty(self.metrics)

    def _on_device(self, batch: Any) -> tuple[Any, Tensor]:
        return batches_of.prepared(batch, device_of(self.model))

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
        with self._signals:
            self.torn = True
            self._tell("epoch")
            self.torn = False
        if complete and self._functions.reached and not self._warned:
            self._warned = warn_unreached(self.model, self.optimizer, self._functions.reached)

    def _tell(self, event: str) -> None:
        for callback in self._told:
            getattr(callback, event)(self)

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
