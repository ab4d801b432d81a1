"""`mulgil.compile`: a function of tensors, or a whole training step, traced once and then replayed as a plan."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import update_wrapper
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

import numpy as np

from mulgil.autograd import Tensor, is_grad_enabled
from mulgil.compile.graph import Graph
from mulgil.compile.passes.fuse import fuse
from mulgil.compile.passes.patterns import convolutions
from mulgil.compile.passes.products import descents, large_products, predictions
from mulgil.compile.passes.recompute import recompute
from mulgil.compile.passes.simplify import drop_dead, fold_constants, share_common
from mulgil.compile.program import Program, arguments
from mulgil.compile.trace import arrays_of, tensors_of, trace
from mulgil.errors import MulgilError, TraceError

P = ParamSpec("P")
R = TypeVar("R")
MANY = 8  # plans for settings of an optimizer; more, and they change at each step
TRAINING = itemgetter("training")
NUMBERS = (int, float, bool, str, type(None))


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
            zero_grad, forward, loss, backward, clipping, optimizer.step. Also used as a decorator.
        state: the models and optimizers that the function reads and changes. Every array that outlives the call must be there.
        strict: raise `TraceError` when the function cannot be traced, instead of running it eagerly with one warning.
        verify: run the first N replays eagerly as well, on a copy of the state, and compare.

    One plan is kept for each signature: shapes and dtypes of the tensors, other arguments, train/eval modes, requires_grad.
    Python code of the function runs at the trace alone: what it prints, counts or decides is frozen into the plan.

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
    owners = list(state) if isinstance(state, (list, tuple)) else [state]
    if function is None:
        return lambda f: Compiled(f, owners, strict, verify)
    return Compiled(function, owners, strict, verify)


@dataclass
class Plan:
    """What a signature runs.

    program: None for one that runs eagerly. structure: of what the function returns. before, after: what to do beside, such as a
    schedule's step. flat: whether the arguments are Tensors and nothing else. verify: replays that are still to be compared.
    """

    program: Program | None
    structure: Any = None
    before: list[Callable[[], Any]] = field(default_factory=list)
    after: list[Callable[[], Any]] = field(default_factory=list)
    flat: bool = False
    verify: int = 0


class Compiled(Generic[P, R]):
    """A compiled function. `programs`: signature -> `Program`, or None for one that runs eagerly."""

    def __init__(self, function: Callable[P, R], state: list[Any], strict: bool, verify: int):
        update_wrapper(self, function)
        self.function: Callable[..., R] = function
        self.state, self.strict, self.verify = state, strict, verify
        self._plans: dict[tuple, Plan] = {}
        self._recent: tuple[tuple, Plan] = (), Plan(None)  # comparing with the last signature is quicker than hashing one
        self._flags = [vars(m) for owner in state if hasattr(owner, "modules") for m in owner.modules()]  # a dict is read quicker
        self._optimizers = [owner for owner in state if hasattr(owner, "refresh")]

    @property
    def programs(self) -> dict[tuple, Program | None]:
        return {key: plan.program for key, plan in self._plans.items()}

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    else:

        def __call__(self, *args):
            return self.at(self.signature(args), args)

    def at(self, key: tuple, args: tuple) -> Any:
        """The call of these arguments, whose `signature` is known."""
        if key == self._recent[0]:
            plan = self._recent[1]
        elif key in self._plans:
            plan = self._plans[key]
            self._recent = key, plan
        else:
            return self._first(key, args)
        if plan.program is None:
            return self.function(*args)
        return self._verified(plan, args) if plan.verify else self._replay(plan, args)

    def _replay(self, plan: Plan, args: tuple) -> Any:
        for action in plan.before:
            action()
        for optimizer in self._optimizers:
            optimizer.refresh()
        results = plan.program(*arguments(args if plan.flat else tensors_of(args)))  # type: ignore[misc]
        for action in plan.after:
            action()
        return Tensor.of(results[0]) if plan.structure is True else rebuilt(plan.structure, iter(results))

    def signature(self, args: tuple) -> tuple:
        """What decides which plan serves these arguments now."""
        parts: list[Any] = [is_grad_enabled(), *map(TRAINING, self._flags)]
        for optimizer in self._optimizers:
            parts.append(optimizer.settings())
        for a in args:
            if isinstance(a, Tensor):
                parts += a.array.shape, a.array.dtype, a.requires_grad
            elif isinstance(a, NUMBERS):
                parts.append(a)
            else:
                parts.append(tuple((t.array.shape, t.array.dtype, t.requires_grad) for t in tensors_of(a)))
        return tuple(parts)

    def _first(self, key: tuple, args: tuple) -> Any:
        """Run eagerly, watched; build the plan."""
        recorder, result = trace(self.function, args, [t.array for t in tensors_of(args)])
        try:
            self._refuse_the_restless(key)
            structure, (before, after) = template(result), recorder.around()
            graph = simplified(recorder.graph(result, self.state))
            flat = all(isinstance(a, Tensor) for a in args)
            self._plans[key] = Plan(Program(graph, fuse(graph)), structure, before, after, flat, self.verify)
        except Exception as error:  # a TraceError, or a fault of Numba or LLVM on this machine: the function itself is sound
            if self.strict:
                raise
            name = getattr(self.function, "__name__", "the function")
            warnings.warn(f"{name} runs eagerly, because it cannot be compiled.\n{error}", stacklevel=3)
            self._plans[key] = Plan(None)
        return result

    def _refuse_the_restless(self, key: tuple) -> None:
        """Raise TraceError when an optimizer's options change so often that each plan serves but a few steps."""
        start = 1 + len(self._flags)
        stop = start + len(self._optimizers)
        alike = sum(k[:start] + k[stop:] == key[:start] + key[stop:] for k in self._plans)
        if alike >= MANY:
            raise TraceError(
                "compile: of an optimizer's options only lr, momentum and the first of betas may change from step to step",
                f"{alike + 1} different settings",
                "leave the others as they are",
            )

    def _verified(self, plan: Plan, args: tuple) -> Any:
        """Replay, then run eagerly from the same state, and compare results and state."""
        plan.verify -= 1
        arrays = arrays_of(self.state)
        before = [a.copy() for a in arrays]
        results = self._replay(plan, args)
        replayed = [a.copy() for a in arrays]
        for a, b in zip(arrays, before, strict=True):
            a[...] = b
        expected = self.function(*args)
        pairs = [(r.array, e.array) for r, e in zip(tensors_of(results), tensors_of(expected), strict=True)]
        pairs += list(zip(replayed, arrays, strict=True))
        for mine, eager in pairs:
            if not close(mine, eager):
                raise MulgilError(
                    "compile: the compiled step must do what the eager one does",
                    f"an array of shape {list(eager.shape)} differs by {float(np.abs(mine - eager).max()):.3g}",
                    "please report this program; without compile it runs correctly",
                )
        return results


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to the rounding that another order of summation brings."""
    tolerance = 1e-4 if a.dtype == np.float32 else 1e-9
    return (a.dtype.kind not in "f" and bool((a == b).all())) or np.allclose(
        a, b, rtol=tolerance, atol=tolerance * max(1e-3, float(np.abs(b).max(initial=0))), equal_nan=True
    )


PASSES = (fold_constants, share_common, drop_dead, convolutions, descents, predictions, large_products, recompute, drop_dead)


def simplified(graph: Graph) -> Graph:
    """The passes that turn a graph into a smaller one."""
    for rewrite in PASSES:
        graph = rewrite(graph)
    return graph


def template(tree: Any) -> Any:
    """The structure of a result, with True where a Tensor stands."""
    if isinstance(tree, Tensor):
        return True
    if isinstance(tree, dict):
        return {k: template(v) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(template(v) for v in tree)
    if tree is None:
        return None
    raise TraceError(
        "compile: a function returns Tensors, or lists, tuples and dicts of them", repr(type(tree)), "return the tensor, not loss.item()"
    )


def rebuilt(tree: Any, arrays: Any) -> Any:
    """The structure with fresh Tensors in it."""
    if tree is True:
        return Tensor.of(next(arrays))
    if isinstance(tree, dict):
        return {k: rebuilt(v, arrays) for k, v in tree.items()}
    return type(tree)(rebuilt(v, arrays) for v in tree) if isinstance(tree, (list, tuple)) else None
