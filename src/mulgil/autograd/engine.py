"""The record of what was computed, and the walk back through it.

A `Node` is one call of an op. It knows where its inputs came from, not the inputs themselves: an array that no op saved is
freed as soon as the program forgets it. This file knows no Tensor; it is handed the few things that it needs of one.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable
from functools import wraps
from itertools import count
from typing import Any, TypeVar

from mulgil.backend import xp_of
from mulgil.errors import GradientError, OptionError
from mulgil.ops.elementwise import Add, Cast, Fill
from mulgil.ops.function import Context, Function, run
from mulgil.ops.shape import SumTo

F = TypeVar("F", bound=Callable[..., Any])


class _Mode(threading.local):
    recording = True


_mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded for backward in this thread."""
    return _mode.recording


class no_grad:
    """Operations inside are not recorded: `with no_grad():`, or `@no_grad()` on a function. Saves time and memory in evaluation."""

    recording = False

    def __init__(self) -> None:
        self._before: list[bool] = []  # a stack, so that one object may be entered again inside itself

    def __enter__(self) -> None:
        self._before.append(_mode.recording)
        _mode.recording = self.recording

    def __exit__(self, *error: object) -> None:
        _mode.recording = self._before.pop()

    def __call__(self, function: F) -> F:
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            rule = f"{type(self).__name__}: an async function gives way to others, which would run without recording too"
            raise OptionError(rule, repr(function), f"with {type(self).__name__}(): around what awaits nothing")
        if inspect.isgeneratorfunction(function):
            return self._on_generator(function)  # type: ignore[return-value]

        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]

    def _on_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The mode holds while the generator runs, not while its caller does."""

        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            generator = function(*args, **kwargs)
            resume, value = generator.send, None
            while True:
                try:
                    with type(self)():
                        result = resume(value)
                except StopIteration as end:
                    return end.value
                try:
                    value = yield result
                    resume = generator.send
                except GeneratorExit:
                    generator.close()
                    raise
                except BaseException as error:
                    resume, value = generator.throw, error

        return wrapped


class enable_grad(no_grad):
    """Operations inside are recorded again, within a `no_grad` block."""

    recording = True


no_autodiff = no_grad()  # MyGrad's spelling: `with no_autodiff:`

_order = count()


class Node:
    """One call of an op in the graph.

    Attributes:
        op, ctx: the Function and what its forward saved.
        links: for each input the leaf Tensor, or (Node, which output), or None where no gradient is wanted.
        kinds: (shape, dtype) of each input that wants a gradient: what the gradient is summed and cast to.
        sources: for each saved array, whose it is: (version, its count then, input number or ~output number), or None.
        made: of an op with several outputs whose backward wants a gradient for each: (array module, shape, dtype) of each.
        hooks: output number -> functions that see, and may replace, that output's gradient.
    """

    __slots__ = ("__weakref__", "ctx", "hooks", "kinds", "links", "made", "op", "order", "outputs", "sources", "spent", "tally")

    def __init__(
        self, op: Function, ctx: Context, links: tuple[Any, ...], kinds: tuple[Any, ...], outputs: int, made: tuple[Any, ...] = ()
    ):
        self.op, self.ctx, self.links, self.kinds, self.outputs, self.made = op, ctx, links, kinds, outputs, made
        self.order = next(_order)
        self.sources: tuple[Any, ...] = ()
        self.hooks: dict[int, list[Callable[..., Any]]] = {}
        self.spent = False
        self.tally = 0

    def __repr__(self) -> str:
        return f"<{self.op}>"

    def parents(self) -> list[Node]:
        return [link[0] for link in self.links if type(link) is tuple]

    def check_unchanged(self) -> None:
        for source in self.sources:
            if source is not None and source[0][0] != source[1]:
                place = f"input {source[2]}" if source[2] >= 0 else "the output"
                rule = f"backward: {self.op} needs an array that was changed in place after it was used"
                hint = "write y = x + 1 instead of changing x (an optimizer's step counts: run backward before it), or change x.clone()"
                raise GradientError(rule, f"{place} of {self.op}, changed {source[0][0] - source[1]} time(s) since", hint)

    def tensor_context(self, wrap: Callable[..., Any]) -> Context:
        """The context with Tensors in place of the saved arrays, connected to the graph: backward on it is itself recorded."""
        if not self.op.twice:
            raise GradientError(f"{self.op} has no second derivative", hint="use it without create_graph=True")
        saved = []
        for array, source in zip(self.ctx.saved, self.sources, strict=True):
            if not hasattr(array, "dtype"):  # a Python number
                saved.append(array)
                continue
            if source is None and array.dtype.kind == "f":
                rule = f"{self.op}: no second derivative: it saved an array that is neither an input nor an output"
                raise GradientError(rule, hint="save inputs or outputs in forward and compute the rest again in backward")
            link = None if source is None else self.links[source[2]] if source[2] >= 0 else (self, ~source[2])
            saved.append(link if link is not None and type(link) is not tuple else wrap(array, *(link or ())))
        return Context(needs=self.ctx.needs, saved=tuple(saved), static=self.ctx.static)

    def release(self) -> None:
        """Forget the arrays and the way back: the graph behind a loss is freed as soon as backward has walked it."""
        self.spent, self.links, self.sources = True, (), ()
        self.ctx = Context()


def held_bytes(node: Node) -> int:
    """How many bytes of saved arrays the graph behind `node` keeps alive, leaves' own arrays aside."""
    arrays: dict[int, Any] = {}
    leaves: set[int] = set()
    for n in reachable([node]):
        arrays.update((id(a), a) for a in n.ctx.saved if hasattr(a, "nbytes"))
        leaves.update(id(link.array) for link in n.links if link is not None and type(link) is not tuple)
    return sum(a.nbytes for key, a in arrays.items() if key not in leaves)


def reachable(roots: Iterable[Node]) -> list[Node]:
    """All nodes behind `roots`, the latest first. Iterative: a chain of any length will do."""
    seen = set(roots)
    stack = list(seen)
    while stack:
        for parent in stack.pop().parents():
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=lambda node: node.order, reverse=True)


class Walk:
    """One walk from outputs back to leaves.

    With `create_graph` the gradients are Tensors and the op texts run on them, so the walk is itself recorded;
    without it they are plain arrays. `wrap(array, node, index)` makes a Tensor.
    """

    def __init__(self, wrap: Callable, create_graph: bool):
        self.wrap, self.create_graph = wrap, create_graph
        self.pending: dict[Node, list] = {}
        self.leaves: dict[int, tuple[Any, Any]] = {}

    def call(self, op: Function, *values: Any) -> Any:
        return op(*values) if self.create_graph else run(op, "forward", Context(xp_of(values[0])), *values)[0]

    def send(self, link: Any, g: Any) -> None:
        """Add gradient `g` to what has arrived at a leaf or at a node's output."""
        if type(link) is tuple:
            slots = self.pending.setdefault(link[0], [None] * link[0].outputs)
            slots[link[1]] = g if slots[link[1]] is None else self.call(Add(), slots[link[1]], g)
        else:
            before = self.leaves.get(id(link))
            self.leaves[id(link)] = (link, g if before is None else self.call(Add(), before[1], g))

    def step(self, node: Node) -> list | None:
        """Send the gradients of one node's outputs on to its inputs; returns the outputs' gradients."""
        if node.spent:
            hint = "call backward(retain_graph=True) the first time, or compute the loss again"
            raise GradientError("backward: this graph was walked before and its arrays were released", f"again through {node.op}", hint)
        slots = self.pending.pop(node, None)
        if slots is None:
            return None
        for index, hooks in node.hooks.items():
            for hook in hooks if slots[index] is not None else ():
                slots[index] = self._after(hook, slots[index])
        if node.made:
            slots = [self._zeros(*made) if g is None else g for g, made in zip(slots, node.made, strict=True)]
        node.check_unchanged()
        for link, kind, gx in zip(node.links, node.kinds, self._pull(node, slots), strict=True):
            if link is not None and gx is not None:
                self.send(link, self._fit(gx, *kind))
        return slots

    def _zeros(self, xp: Any, shape: tuple, dtype: Any) -> Any:
        zeros = xp.zeros(shape, dtype)
        return self.wrap(zeros) if self.create_graph else zeros

    def _pull(self, node: Node, slots: list) -> tuple:
        if not self.create_graph:
            return run(node.op, "backward", node.ctx, *slots)
        gxs = node.op.backward(node.tensor_context(self.wrap), *slots)
        return gxs if type(gxs) is tuple else (gxs,)

    def _fit(self, gx: Any, shape: tuple, dtype: Any) -> Any:
        if gx.shape != shape:
            gx = self.call(SumTo(shape), gx)
        return gx if gx.dtype == dtype else self.call(Cast(dtype.str), gx)

    def _after(self, hook: Callable, g: Any) -> Any:
        result = hook(g if self.create_graph else self.wrap(g))
        return g if result is None else result if self.create_graph else result.array


def walk_back(outputs: list, seeds: list, wrap: Callable, create_graph: bool, retain_graph: bool, wanted: tuple = ()) -> tuple[dict, dict]:
    """Gradients of `outputs` (Tensors), weighted with `seeds`.

    Returns what arrived at the leaves, id -> (leaf, gradient), and at the `wanted` inner Tensors, (node, index) -> gradient.
    """
    walk = Walk(wrap, create_graph)
    if not create_graph and is_grad_enabled():
        with no_grad():
            return walk_back(outputs, seeds, wrap, create_graph, retain_graph, wanted)
    for tensor, seed in zip(outputs, seeds, strict=True):
        if seed is None:
            seed = walk.call(Fill(1.0), wrap(tensor.array) if create_graph else tensor.array)
        walk.send(tensor if tensor.node is None else (tensor.node, tensor.index), seed)
    order = reachable([t.node for t in outputs if t.node is not None])
    inner = {}
    for node in order:
        slots = walk.step(node)
        inner.update({key: slots[key[1]] for key in wanted if slots and key[0] is node})
        if not (retain_graph or create_graph):
            node.release()  # at once: the memory serves what is still to come
    return walk.leaves, inner
