"""What a trainer keeps between calls: its compiled functions, the modes of a model, and the state of a run as plain data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from mulgil import nn
from mulgil.autograd import Tensor
from mulgil.backend import default_generator, to_device
from mulgil.data import Assembly
from mulgil.errors import MulgilError, OptionError
from mulgil.nn import Module
from mulgil.train.callbacks import Callback
from mulgil.train.inputs import known
from mulgil.train.metrics import METRICS
from mulgil.train.step import Kept, Step, device_of, make_evaluation, make_prediction, make_step

if TYPE_CHECKING:
    from mulgil.train.trainer import Trainer

POSITION = ("epoch", "batch", "step", "before", "in_epoch", "skipped")  # the trainer's attributes that say where a run is
FORMAT = 1  # of the state; another number is another layout


class Functions:
    """A trainer's step, evaluation and prediction: each made once, and anew when what it was compiled for is no longer there."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.measuring: list[Callback] = []  # the callbacks whose `after_backward` gave a Tensor
        self.reached: set[int] = set()  # ids of the parameters that had a gradient since the step was made
        self._made: dict[str, tuple[list[Any], Any]] = {}

    @property
    def compiled(self) -> bool:
        return self.trainer.compile and str(device_of(self.trainer.model)) == "cpu"

    @property
    def assembly(self) -> Assembly | None:
        """What puts the step's batches together from their indices, if the step does so itself."""
        return self.trainer.feed.assembly if self.compiled else None

    def renew(self) -> None:
        """Make the training step (again)."""
        t = self.trainer
        self.reached = set()
        after = [*self._after_backward(), self._note_reached]
        self.step = make_step(t.model, t.optimizer, t.loss, self.compiled, t.on_nan != "ignore", after, self.assembly, t.preparing)
        self._owned = self._arrays(t.optimizer, self.assembly)

    def what_forward_changes(self) -> Kept:
        """Copies of the buffers, and the random state of a model that draws: what a step that is left out must not leave behind."""
        return Kept(self._buffers, self._draws)

    def begin(self) -> None:
        """At the beginning of `fit`: a new step if arrays were replaced since the last one, as by `load_state_dict` or `to`."""
        model, watched = self.trainer.model, self.trainer.on_nan != "ignore"
        self._buffers = [b.array for b in model.buffers()] if watched else []
        self._draws = watched and any(isinstance(m, nn.Dropout) for m in model.modules())
        if not hasattr(self, "step") or not _same(self._owned, self._arrays(self.trainer.optimizer, self.assembly)):
            self.renew()

    def evaluation(self) -> Step:
        t = self.trainer
        return self._get("evaluation", lambda: make_evaluation(t.model, t.loss, self.compiled, t.preparing))

    def prediction(self) -> Any:
        return self._get("prediction", lambda: make_prediction(self.trainer.model, self.compiled))

    def _get(self, name: str, make: Any) -> Any:
        owned = self._arrays()
        if name not in self._made or not _same(self._made[name][0], owned):
            self._made[name] = owned, make()
        return self._made[name][1]

    def _arrays(self, optimizer: Any = None, assembly: Assembly | None = None) -> list[Any]:
        model = self.trainer.model
        tensors = [*model.parameters(), *model.buffers()]
        more = [] if optimizer is None else [optimizer, optimizer.state, *self.trainer.callbacks]
        return [*(t.array for t in tensors), *(t.requires_grad for t in tensors), model, self.trainer.loss, assembly, *more]

    def _note_reached(self) -> None:
        """Called between backward and the update; of a compiled step only when it is traced, which tells of all its calls."""
        self.reached.update(id(p) for p in self.trainer.model.parameters() if p.grad is not None)

    def _after_backward(self) -> list[Any]:
        self.measuring = []
        chosen = [c for c in self.trainer.callbacks if type(c).after_backward is not Callback.after_backward]

        def asked(callback: Callback) -> Any:
            def function() -> Tensor | None:
                value = callback.after_backward(self.trainer)
                if value is not None and callback not in self.measuring:
                    self.measuring.append(callback)
                return value

            return function

        return [asked(callback) for callback in chosen]


def _same(before: list[Any], now: list[Any]) -> bool:
    return len(before) == len(now) and all(a is b for a, b in zip(before, now, strict=True))


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode within the block; afterwards each layer has the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


# ------------------------------------------------------------------ the state of a run
def saved(trainer: Trainer) -> dict[str, Any]:
    """See `Trainer.state_dict`."""
    if trainer.cut is not None:
        return trainer.cut
    generators = {"mulgil": default_generator, **trainer.feed.generators()}
    return {
        "format": FORMAT,
        "model": {name: _array(value) for name, value in trainer.model.state_dict().items()},
        "info": deepcopy(known(trainer.model)),
        "optimizer": _plain(trainer.optimizer.state_dict()),
        "random": {name: json.dumps(generator.get_state()) for name, generator in generators.items()},
        "position": {name: getattr(trainer, name) for name in POSITION},
        "order": trainer.feed.state_dict(trainer.in_epoch),
        "meter": trainer.meter.state_dict(),
        "history": trainer.history.columns(),
        "seconds": trainer.seconds,
        "callbacks": [{"name": type(c).__name__, "state": c.state_dict()} for c in keeping(trainer)],
    }


def keeping(trainer: Trainer) -> list[Callback]:
    """The callbacks that have a state: a run may be resumed with another display, or none."""
    return [c for c in trainer.callbacks if type(c).state_dict is not Callback.state_dict]


def load(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """See `Trainer.load_state_dict`."""
    _check(trainer, state)
    before = {name: _array(value) for name, value in trainer.model.state_dict().items()}
    trainer.model.load_state_dict(dict(state["model"]))
    try:
        trainer.optimizer.load_state_dict(dict(state["optimizer"]))
    except Exception:
        trainer.model.load_state_dict(before)
        raise
    known(trainer.model).update(deepcopy(dict(state["info"])))
    for name, value in position_of(state).items():
        setattr(trainer, name, value)
    trainer.history = trainer.history.with_columns(state["history"])
    trainer.meter = trainer._meter()
    trainer.spent = float(state["seconds"])
    trainer.resume, trainer.cut = dict(state), None
    for callback, own in zip(keeping(trainer), state["callbacks"], strict=True):
        callback.load_state_dict(own["state"])


def position_of(state: Mapping[str, Any]) -> dict[str, int]:
    """Where the run of a state is. Raises OptionError for other values than counts."""
    found = state.get("position")
    position: dict[str, Any] = {name: found.get(name) for name in POSITION} if isinstance(found, Mapping) else {}
    if not position or not all(isinstance(value, int) and 0 <= value < 2**53 for value in position.values()):
        raise OptionError("a run's position must be counts", f"{found!r:.200}", "the checkpoint is damaged, or was made by hand")
    return position


def enter(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Go to the saved place, now that the data are there: the epoch's order, its sums so far, the random generators.

    Raises OptionError for a state that `state_dict` did not give.
    """
    try:
        trainer.feed.load_state_dict(state["order"])
        trainer.meter.load_state_dict(state["meter"])
        for name, generator in {"mulgil": default_generator, **trainer.feed.generators()}.items():
            if name in state["random"]:
                generator.set_state(json.loads(state["random"][name]))
    except (KeyError, IndexError, AttributeError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, MulgilError):
            raise
        raise OptionError("a run's state must be one that state_dict gave", f"{type(error).__name__}: {error}") from error


def _check(trainer: Trainer, state: Mapping[str, Any]) -> None:
    if state.get("format") != FORMAT:
        raise OptionError(f"a run's state must be of format {FORMAT}", repr(state.get("format")), "it was written by another version")
    position_of(state)
    own, given = [type(c).__name__ for c in keeping(trainer)], [c["name"] for c in state["callbacks"]]
    if own != given:
        rule = "load_state_dict: the callbacks that keep a state must be those of the run that was saved, in the same order"
        raise OptionError(rule, f"{', '.join(own) or 'none'}; saved: {', '.join(given) or 'none'}")
    columns = set(state["history"])
    if trainer.usual and not len(trainer.history):  # nobody asked for metrics: those of the run that was saved
        kept = [name.removeprefix("train_") for name in state["history"] if name.startswith("train_") and name != "train_loss"]
        trainer.metrics = {name: METRICS[name] for name in kept if name in METRICS}
        trainer.history = type(trainer.history).empty(trainer.metrics)
    if set(trainer.history.columns()) != columns:
        rule = "load_state_dict: the metrics must be those of the run that was saved"
        raise OptionError(rule, f"columns {', '.join(trainer.history.columns())}; saved: {', '.join(columns)}")


def _array(value: Any) -> np.ndarray:
    return np.array(to_device(value.array, "cpu"))


def _plain(tree: Any) -> Any:
    """Tensors as arrays of their own, keys as text, tuples as lists."""
    if isinstance(tree, Tensor):
        return _array(tree)
    if isinstance(tree, Mapping):
        return {str(key): _plain(value) for key, value in tree.items()}
    return [_plain(value) for value in tree] if isinstance(tree, (list, tuple)) else tree
