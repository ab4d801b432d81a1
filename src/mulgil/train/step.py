"""The functions that a loop calls for each batch: a training step, an evaluation, a prediction; plain or compiled."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mulgil.autograd import Tensor, no_grad
from mulgil.backend import default_generator
from mulgil.compile import compile
from mulgil.compile.signature import Call
from mulgil.compile.trace import arrays_of
from mulgil.data import Assembly
from mulgil.nn import Module
from mulgil.ops.guard import guard
from mulgil.optim import Optimizer
from mulgil.train import interrupt
from mulgil.train.batch import Inputs, call, split
from mulgil.train.checks import check_parts
from mulgil.train.weighing import single

Loss = Callable[[Tensor, Tensor], Tensor]
Step = Callable[..., tuple]
AfterBackward = Callable[[], Tensor | None]


@dataclass
class Preparing:
    """What tracing and compiling took so far. Who measures how fast a loop is leaves it out.

    seconds: of it. whole: how many calls were nothing else; the others ran once more, compiled.
    """

    seconds: float = 0.0
    whole: int = 0


def make_step(
    model: Module,
    optimizer: Optimizer,
    loss_fn: Loss,
    compiled: bool = False,
    guarded: bool = False,
    after_backward: Sequence[AfterBackward] = (),
    assembly: Assembly | None = None,
    preparing: Preparing | None = None,
) -> Step:
    """A training step: (inputs, targets) -> (logits, loss, ...), with the update done. compiled: through `mulgil.compile`.

    inputs: a Tensor, or a tuple or dict of several, see `train.batch`.

    guarded: raise NonFiniteError, and update nothing, where the loss or a gradient is not finite.
    after_backward: functions that are called between backward and the update, such as
    `lambda: nn.utils.clip_grad_norm_(model.parameters(), 1.0)`; they are compiled with the rest. The Tensors that they return
    follow the loss.
    assembly: the step takes indices[batch] instead, puts the batch together itself, and returns the targets last.
    preparing: where a compiled step notes what compiling took.
    Raises OptionError where nothing could be learned: a loss that is a class, an optimizer of another model's parameters.
    """
    check_parts(model, optimizer, loss_fn)

    def step(inputs: Inputs, targets: Tensor) -> tuple:
        logits = call(model, inputs)
        loss = single(loss_fn(logits, targets))
        optimizer.zero_grad()
        loss.backward()
        if guarded:
            guard(loss.array, telling_gradients(model))
        with no_grad():
            more = [function() for function in after_backward]
        optimizer.step()
        return (logits, loss, *(value for value in more if value is not None))

    def gathering(indices: Tensor) -> tuple:
        inputs, targets = split(assembly(indices))  # type: ignore[misc]
        return (*step(inputs, targets), targets)

    whole = step if assembly is None else gathering
    made = Replayed(whole, [model, optimizer], [assembly, loss_fn], preparing) if compiled else whole
    made.loss = loss_fn  # type: ignore[union-attr]  # tells `train_epoch` what a batch weighs
    return made


def telling_gradients(model: Module) -> list[Any]:
    """The gradients that show whether all are finite: of each layer those of its vectors (biases), else all that it has.

    A weight's gradient is the product of the layer's input and of the gradient of its output; the bias's is the sum of the
    latter. So nobody need read a weight's gradient, which a compiled step may never write down.
    """
    layers: dict[str, list[Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            layers.setdefault(name.rpartition(".")[0], []).append(parameter.grad.array)
    return [g for own in layers.values() for g in ([g for g in own if g.ndim < 2] or own)]


def make_evaluation(model: Module, loss_fn: Loss, compiled: bool = False, preparing: Preparing | None = None) -> Step:
    """(inputs, targets) -> (logits, loss), without gradients. The caller switches the model to `eval()`."""

    def evaluation(inputs: Inputs, targets: Tensor) -> tuple[Tensor, Tensor]:
        with no_grad():
            logits = call(model, inputs)
            return logits, single(loss_fn(logits, targets))

    return Replayed(evaluation, [model], [loss_fn], preparing) if compiled else evaluation


def make_prediction(model: Module, compiled: bool = False) -> Callable[[Inputs], tuple]:
    """inputs -> (logits,), without gradients. The caller switches the model to `eval()`."""

    def prediction(inputs: Inputs) -> tuple[Tensor]:
        with no_grad():
            return (call(model, inputs),)

    return Replayed(prediction, [model]) if compiled else prediction


class Replayed:
    """A compiled function all of whose results come from its plans, so that a run that is resumed repeats the same bits.

    `Compiled` runs the first call of each signature eagerly, under its recorder; eager arithmetic may round otherwise. Here that
    call is taken back and replayed. It stands only where it made an optimizer's state: that is a run's first step, resumed or not.
    unchanged: what the function reads and never writes. preparing: where it notes what compiling took.

    An interrupt while it compiles takes the call back, too: then `error.taken_back` is True.
    """

    def __init__(self, function: Callable, state: list[Any], unchanged: Sequence[Any] = (), preparing: Preparing | None = None):
        self.compiled, self.state = compile(function, state=[*state, *unchanged]), state
        self.preparing = Preparing() if preparing is None else preparing

    def __call__(self, *tensors: Any) -> Any:
        call = Call(tensors, {})
        plan = self.compiled.find(call)
        return self._first(call) if plan is None else self.compiled.run(plan, call)

    def _first(self, call: Call) -> Any:
        if interrupt.asked() and not any(isinstance(owner, Optimizer) for owner in self.state):
            return self.compiled.function(*call.args)  # the last evaluation of a run that ends: nobody waits for kernels now
        began, before = time.perf_counter(), Snapshot(self.state)
        try:
            with interrupt.at_once():
                result = self.compiled.first(call)
                plan = self.compiled.find(call)
                again = plan is not None and before.restore()
        except (KeyboardInterrupt, SystemExit) as error:
            before.take_back()
            error.taken_back = True  # type: ignore[union-attr]
            raise
        self.preparing.seconds += time.perf_counter() - began
        self.preparing.whole += not again
        return self.compiled.run(plan, call) if again else result


class Kept:
    """Copies of some arrays, and on demand of the random state, to be put back."""

    def __init__(self, arrays: list[Any], random: bool):
        self.arrays = [(array, array.copy()) for array in arrays]
        self.random = default_generator.get_state() if random else None

    def restore(self) -> None:
        for array, before in self.arrays:
            array[...] = before
        if self.random is not None:
            default_generator.set_state(self.random)


class Snapshot:
    """The arrays of models and optimizers, what models know of their inputs, and the random state, as they are now."""

    def __init__(self, state: list[Any]):
        self.state, self._entries = state, _entries(state)
        self._known_state = [(owner, set(owner.state)) for owner in state if isinstance(owner, Optimizer)]
        self.kept = Kept(arrays_of(state), random=True)
        infos = [owner.info for owner in state if isinstance(owner, Module) and isinstance(owner.info, dict)]
        self.known = [(info, copy.deepcopy(info)) for info in infos if "input_range" in info]  # at a run's first step it is learned

    def restore(self) -> bool:
        """Put everything back in place; False, and nothing done, if an optimizer has made new state since."""
        if _entries(self.state) != self._entries:
            return False
        self.take_back()
        return True

    def take_back(self) -> None:
        """Put everything back, and forget the state that optimizers have made since."""
        if _entries(self.state) != self._entries:
            for owner, before in self._known_state:
                for p in [p for p in owner.state if p not in before]:
                    del owner.state[p]
        self.kept.restore()
        for info, known in self.known:
            info.clear()
            info.update(known)


def _entries(state: list[Any]) -> int:
    return sum(len(values) for owner in state if isinstance(owner, Optimizer) for values in owner.state.values())


def device_of(model: Module) -> Any:
    """Where the model's first parameter lives; the CPU for a model that has none."""
    return next((p.device for p in model.parameters()), "cpu")
