"""Functions in PyTorch's form: static `forward(ctx, x, *settings)` and `backward(ctx, gy)` on Tensors, called by `apply`."""

from __future__ import annotations

from typing import Any

import numpy as np

from mulgil.autograd.engine import no_grad
from mulgil.errors import GradientError, OptionError
from mulgil.ops.function import Context, Function, unobserved


class FunctionContext:
    """PyTorch's `ctx`: what forward leaves for backward. Other attributes may be set freely.

    Attributes:
        saved_tensors: what `save_for_backward` was given.
        needs_input_grad: for each argument of forward, whether its gradient is wanted.
    """

    def __init__(self, needs_input_grad: tuple[bool, ...]):
        self.needs_input_grad = needs_input_grad
        self.saved_tensors: tuple[Any, ...] = ()
        self._constant: tuple[Any, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors, or None, for backward: inputs and outputs, or others (then there is no second derivative)."""
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *outputs: Any) -> None:
        """These outputs get no gradient, and ask for none."""
        self._constant = outputs

    def set_materialize_grads(self, value: bool) -> None:
        """False: an output that nobody used gives backward None instead of zeros."""
        self._materialize = value

    def mark_dirty(self, *_: Any) -> None:
        raise GradientError("mark_dirty: a Function does not change its inputs in mulgil", hint="return a new tensor")


class StaticFunction(Function):
    """One call of a Function in PyTorch's form: an op whose text is the user's, opaque to a compiler.

    It remembers what the last forward left in `ctx`: a compiled step that runs forward again then runs backward with that.
    """

    pure = False
    takes_none = True

    def __init__(self, function: type, arguments: tuple[Any, ...], tensor: Any):
        self.function, self.tensor = function, tensor
        self.places = tuple(i for i, a in enumerate(arguments) if isinstance(a, tensor))
        self.arguments = tuple(None if i in self.places else a for i, a in enumerate(arguments))
        self.left: Any = None  # the ctx, its tensors taken out
        self.held: tuple = ()  # where among saved_tensors, or by which name, each of the saved arrays belongs
        self.outputs: tuple = ()  # shape and dtype of each
        self.constant: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        return f"{self.function.__name__}()"

    def forward(self, ctx: Context, *arrays: Any) -> tuple:
        inputs = [self.tensor.of(a) for a in arrays]
        given = iter(inputs)
        arguments = [next(given) if i in self.places else a for i, a in enumerate(self.arguments)]
        needs = iter(ctx.needs)
        own = FunctionContext(tuple(next(needs) if i in self.places else False for i in range(len(arguments))))
        with no_grad(), unobserved():
            result = self._called(own, arguments)
        results = result if isinstance(result, tuple) else (result,)
        if not all(isinstance(y, self.tensor) for y in results):
            raise OptionError(f"{self}: forward returns a Tensor, or a tuple of them", ", ".join(type(y).__name__ for y in results))
        self.constant = frozenset(i for i, y in enumerate(results) if any(y is c for c in own._constant))
        self._keep(ctx, own)
        self.outputs = tuple((y.shape, y.dtype) for y in results)
        return tuple(y.array.copy() if any(y.array is a for a in arrays) else y.array for y in results)

    def _called(self, own: FunctionContext, arguments: list) -> Any:
        if hasattr(self.function, "setup_context"):  # forward(x, ...) without ctx, and what to keep told apart
            result = self.function.forward(*arguments)  # type: ignore[attr-defined]
            self.function.setup_context(own, tuple(arguments), result)
            return result
        return self.function.forward(own, *arguments)  # type: ignore[attr-defined]

    def _keep(self, ctx: Context, own: FunctionContext) -> None:
        """Tensors in `own` become saved arrays, which the graph and a compiler know; the rest waits in `left`."""
        kept: dict[Any, Any] = {i: t for i, t in enumerate(own.saved_tensors) if t is not None}
        kept.update((name, value) for name, value in vars(own).items() if isinstance(value, self.tensor))
        for name in [name for name in kept if isinstance(name, str)]:
            delattr(own, name)
        ctx.save(np.zeros((), bool), *(t.array for t in kept.values()))  # the first tells a compiler that backward needs this forward
        self.held = tuple(kept)
        own.saved_tensors, own._constant = (None,) * len(own.saved_tensors), ()
        self.left = own

    def backward(self, ctx: Context, *gradients: Any) -> tuple:
        recorded = any(isinstance(g, self.tensor) for g in (*gradients, *ctx.saved[1:]))
        own, tensors = self.left, [self._tensor(s) for s in ctx.saved[1:]]
        held = dict(zip(self.held, tensors, strict=True))
        own.saved_tensors = tuple(held.get(i) for i in range(len(own.saved_tensors)))
        named = {name: t for name, t in held.items() if isinstance(name, str)}
        for name, t in named.items():
            setattr(own, name, t)
        if own._materialize:
            gradients = tuple(self._zeros(i) if g is None else g for i, g in enumerate(gradients))
        try:
            if recorded:
                found = self.function.backward(own, *map(self._tensor, gradients))  # type: ignore[attr-defined]
            else:
                with no_grad(), unobserved():
                    found = self.function.backward(own, *map(self._tensor, gradients))  # type: ignore[attr-defined]
        finally:
            own.saved_tensors = (None,) * len(own.saved_tensors)
            for name in named:
                delattr(own, name)
        return self._sent(found, recorded)

    def _sent(self, found: Any, recorded: bool) -> tuple:
        gxs = found if isinstance(found, tuple) else (found,)
        if len(gxs) < len(self.arguments) or any(g is not None for g in gxs[len(self.arguments) :]):
            rule = f"{self}: backward returns one gradient, or None, for each argument of forward"
            raise GradientError(rule, f"{len(gxs)} for {len(self.arguments)} arguments")
        wanted = [gxs[i] for i in self.places]
        return tuple(g if g is None or recorded else self.tensor(g).array for g in wanted)

    def _tensor(self, x: Any) -> Any:
        return x if x is None or isinstance(x, self.tensor) else self.tensor.of(x)

    def _zeros(self, i: int) -> Any:
        shape, dtype = self.outputs[i]
        return self.tensor.of(np.zeros(shape, dtype))


def apply_static(tensor: Any, function: type, arguments: tuple[Any, ...]) -> Any:
    """`function.apply(*arguments)` for a Function in PyTorch's form; tensor: the Tensor class."""
    op = StaticFunction(function, arguments, tensor)
    results = tensor.apply_function(arguments[op.places[0]], op, [arguments[i] for i in op.places])
    if not op.constant:
        return results
    several = results if isinstance(results, tuple) else (results,)
    several = tuple(y.detach() if i in op.constant else y for i, y in enumerate(several))
    return several if isinstance(results, tuple) else several[0]
