"""`mulgil.compile`: a function of tensors, or a whole training step, traced once and then replayed as a plan."""

from __future__ import annotations

import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from threading import RLock
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from mulgil.compile.build import Trace
from mulgil.compile.guards import VISITS, Survey, World
from mulgil.compile.model import twin
from mulgil.compile.plan import Plan
from mulgil.compile.program import Program
from mulgil.compile.signature import Call, aliases
from mulgil.compile.verify import verified
from mulgil.errors import TraceError
from mulgil.nn import Module
from mulgil.ops.function import observers
from mulgil.typing import MaybeNone

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")
S = TypeVar("S")
T = TypeVar("T")
M = TypeVar("M", bound=Module)
MANY = 8  # settings of the state, or numbers among the arguments, for which plans are kept
LIMIT = 64  # plans for one setting of the state
TRIES = 3  # traces of one signature while the state is still being made
PACKAGE = str(Path(__file__).parents[1])


@overload
def compile(function: M, *, state: object = (), strict: bool = False, verify: int = 0) -> M: ...  # type: ignore[overload-overlap]
@overload
def compile(function: Callable[P, R], *, state: object = (), strict: bool = False, verify: int = 0) -> Compiled[P, R]: ...
@overload
def compile(
    function: None = None, *, state: object = (), strict: bool = False, verify: int = 0
) -> Callable[[Callable[P, R]], Compiled[P, R]]: ...
def compile(function: Callable | None = None, *, state: object = (), strict: bool = False, verify: int = 0) -> Any:
    """Trace `function` at its first call and replay it, fused and without allocation, at the next ones.

    Args:
        function: takes Tensors (and numbers), returns Tensors in tuples, lists or dicts; it may contain a whole training step:
            zero_grad, forward, loss, backward, clipping, optimizer.step. Also used as a decorator, of methods too. A Module gives a
            Module with the same attributes, whose calls are compiled.
        state: the models and optimizers that the function reads and changes. Every array that outlives the call must be there.
        strict: raise `TraceError` when the function cannot be traced, instead of running it eagerly with one warning.
        verify: run the first N replays eagerly as well, on a copy of the state, and compare.

    One plan is kept for each signature: shapes and dtypes of the tensors, other arguments, and what the function finds in `state`, in
    its closure and in its globals (layers, modes, hooks, options, numbers), which may change between calls. Python code of the
    function runs at the trace alone: what it prints, reads from the clock or looks up in ways that cannot be seen is frozen into the
    plan. Where no plan is possible, the function runs eagerly. A compiled function may be called from several threads.

    Example:
        >>> model, optimizer = nn.Linear(784, 10), None          # doctest: +SKIP
        >>> @compile(state=[model, optimizer])                   # doctest: +SKIP
        ... def train_step(x, t):
        ...     optimizer.zero_grad()
        ...     loss = F.cross_entropy(model(x), t)
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss
    """
    if function is None:
        return lambda f: compile(f, state=state, strict=strict, verify=verify)
    if isinstance(function, Module):
        model = function
        compiled = Compiled(lambda *args, **kwargs: model(*args, **kwargs), [model, state], strict, verify)
        compiled.__name__ = type(model).__name__  # type: ignore[attr-defined]
        return twin(model, compiled, lambda: compiled.programs)
    return Compiled(function, state, strict, verify)


class Compiled(Generic[P, R]):
    """A compiled function. `programs`: signature -> `Program`, or None for one that runs eagerly."""

    def __init__(self, function: Callable[P, R], state: object, strict: bool, verify: int):
        update_wrapper(self, function, updated=())
        self.function: Callable[..., R] = function
        self.state, self.strict, self.verify = state, strict, verify
        self._current: OrderedDict[tuple, World] = OrderedDict()  # identities of the objects among the arguments -> what is so now
        self._known: OrderedDict[tuple, World] = OrderedDict()  # what was so -> with its plans
        self._tries: dict[tuple, int] = {}
        self._said: set[str] = set()
        self._lock = RLock()

    @property
    def programs(self) -> dict[tuple[Any, ...], Program | MaybeNone]:
        worlds = enumerate(self._known.values())
        return {(n, key, i): plan.program for n, w in worlds for key, plans in w.plans.items() for i, plan in enumerate(plans)}

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self: Compiled[Concatenate[S, Q], T], instance: S, owner: type | None = None) -> Callable[Q, T]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """In a class: the method of an instance, whose state is its own."""
        return self if instance is None else MethodType(self, instance)

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    else:

        def __call__(self, *args, **kwargs):
            if observers():  # within another step that is being recorded: a part of it
                return self.function(*args, **kwargs)
            call = Call(args, kwargs)
            plan = self.find(call)
            if plan is None or plan.program is None or plan.verify:
                return self.run(plan, call)
            return plan.replay(call.tensors)

    def find(self, call: Call) -> Plan | None:
        """The plan that serves a call now; None if there is none yet."""
        world = self._current.get(call.ids)
        if world is None or not world.holds():
            world = self._look(call)
        if call.tensors:
            call.aliases = aliases(call, world.owned, world.arrays)
        key = call.key, call.aliases
        recent, plan = world.recent  # comparing with the last signature is quicker than hashing one
        if key == recent and (not plan.gradients.conditions or plan.fits(call.tensors)):
            return plan
        plan = next((plan for plan in world.plans.get(key, ()) if plan.fits(call.tensors)), None)
        if plan is not None:
            world.recent, world.serves = (key, plan), True
        return plan

    def run(self, plan: Plan | None, call: Call) -> Any:
        """Serve a call with what `find` found."""
        if plan is None:
            return self.first(call)
        if plan.program is None:
            return self.function(*call.args, **call.kwargs)
        if plan.verify:
            return verified(self, plan, call)
        return plan.replay(call.tensors)

    def first(self, call: Call) -> Any:
        """Run eagerly, watched, and build the plan; or what another thread has built meanwhile."""
        with self._lock:
            plan = self.find(call)
            if plan is None:
                if not self._refused(call, self._current[call.ids]):
                    return self._traced(call, self._current[call.ids])
                plan = Plan(None)
        return self.run(plan, call)

    def _roots(self, call: Call) -> tuple[list[tuple[str, Any]], Any]:
        """Where to look: at all that the state and the arguments hold, and at what the function reads."""
        return [("state", self.state), *((f"arguments[{i}]", x) for i, x in enumerate(call.objects))], self.function

    def _owners(self, call: Call) -> list[Any]:
        """Who may own arrays that outlive a call."""
        bare = getattr(self.function, "func", self.function)  # of a partial
        return [self.state, *call.objects, getattr(bare, "__self__", bare), getattr(self.function, "args", None)]

    def _look(self, call: Call) -> World:
        """What is so now."""
        with self._lock:
            world = World(*self._roots(call))
            known = self._known.pop((call.ids, world.key), None)
            if known is not None:
                world.plans, world.recent, world.serves = known.plans, known.recent, known.serves
            for key in [key for key, w in self._known.items() if not w.plans]:
                del self._known[key]
            self._known[call.ids, world.key] = world
            self._current.pop(call.ids, None)
            self._current[call.ids] = world
            if len(self._current) > LIMIT:
                self._forget(self._current.popitem(last=False)[0], 0)
            self._forget(call.ids, MANY + 1)
            return world

    def _forget(self, ids: tuple, left: int) -> None:
        """Of what is known for these objects among the arguments, keep but the newest."""
        keys = [key for key in self._known if key[0] == ids]
        for key in keys[: max(0, len(keys) - left)]:
            del self._known[key]

    def _refused(self, call: Call, world: World) -> bool:
        """Whether a call gets no plan, whatever the function does; says so once."""
        try:
            call.refuse_arrays()
            self._refuse_the_restless(call, world)
        except TraceError as error:
            if self.strict:
                raise
            self._warn(error)
            return True
        return False

    def _traced(self, call: Call, world: World) -> Any:
        trace = Trace(self.function, call, world)
        later = self._look(call)
        key = call.key, call.aliases
        try:
            trace.recorder.refuse(self._owners(call))
            changed = trace.refuse_frozen_python(later)
            if changed and self._try_again(call, changed):
                return trace.sealed()
            plan = trace.plan(later)
            plan.verify = self.verify
            result = trace.sealed()
        except Exception as error:  # a TraceError, or a fault of LLVM on this machine: the function itself is sound
            if self.strict:
                raise
            self._warn(error)
            plan, result = Plan(None, coarse=call.coarse, kept=call.objects), trace.result
        plans = later.plans.setdefault(key, [])
        plans.insert(len(plans) if plan.gradients.conditions else 0, plan)  # what always fits comes first
        if len(later.plans) > LIMIT:
            later.plans.pop(next(iter(later.plans)))
        return result

    def _try_again(self, call: Call, changed: dict[str, tuple[Any, Any]]) -> bool:
        """Whether to trace once more at the next call, because this one changed what plans hold for, as a first call may."""
        kind = call.coarse or call.key
        tries = self._tries[kind] = self._tries.get(kind, 0) + 1
        if tries < TRIES:
            return True
        path = next(iter(changed))
        raise TraceError(
            "compile: Python runs at the trace alone, so what the step changes besides tensors would not change at later calls",
            f"each of {TRIES} calls changed {path}",
            "keep it out of the step, or return it",
        )

    def _refuse_the_restless(self, call: Call, world: World) -> None:
        """Raise TraceError when numbers or the state change so often that each plan serves but a few steps."""
        if call.coarse is not None:
            alike = sum(plan.coarse == call.coarse for plans in world.plans.values() for plan in plans)
            if alike >= MANY:
                raise too_many(f"{alike + 1} different ones")
        unused = [(ids, w) for (ids, _), w in self._known.items() if w.plans and not w.serves and w is not world]
        served = [w for ids, w in unused if ids == call.ids]
        if len(unused) >= LIMIT // 2:
            raise too_many("plans that nothing has used since they were made")
        if len(served) >= MANY:
            changed = next(iter(served[-1].difference(world)), "the state")
            raise TraceError(
                "compile: of what a step reads only lr, momentum and the first of betas may change from step to step",
                f"{len(served) + 1} different settings; the last to change was {changed}",
                "leave the others as they are, or pass what varies as a tensor",
            )

    def _warn(self, error: Exception) -> None:
        """Say once that the function runs eagerly, and why."""
        kind = getattr(error, "rule", str(error))
        if kind not in self._said:
            self._said.add(kind)
            name = getattr(self, "__name__", type(self.function).__name__)
            warnings.warn(f"{name} runs eagerly, because it cannot be compiled.\n{error}", stacklevel=user_level())


def too_many(got: str) -> TraceError:
    rule = "compile: each number, function or object among the arguments makes a plan of its own"
    return TraceError(rule, got, "pass a number that varies as a tensor: mulgil.tensor(0.5); make functions and objects once")


def user_level() -> int:
    """The `stacklevel` of the innermost line outside mulgil, for a warning given by the function that calls this one."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


def _visit(survey: Survey, path: str, compiled: Compiled, names: Any, plain: bool) -> None:
    """What a compiled function within another one reads."""
    survey.facts[path] = Compiled, id(compiled)
    survey.visit(f"{path}.state", compiled.state)
    survey.visit(f"{path}.function", compiled.function)


VISITS.append((Compiled, _visit))
