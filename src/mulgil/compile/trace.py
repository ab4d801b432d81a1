"""Tracing: run the function once, eagerly, while a recorder watches `run`; what it saw is the graph.

Arrays are known by identity. One that came neither from an argument, nor from `state`, nor from an op is an error: it would
be frozen into the program as a silent constant. Ops whose text is made of other ops (`composed`) are traced through: the
same text runs on Tensors, as it does for second derivatives, and leaves simpler calls.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mulgil.autograd import Tensor, enable_grad
from mulgil.autograd.record import NUMBERS
from mulgil.compile.graph import Graph, Node, Value
from mulgil.errors import TraceError, describe
from mulgil.ops.function import Context, Function
from mulgil.ops.update import SGD, BiasCorrection

PACKAGE = str(Path(__file__).parents[1])


def arrays_of(thing: Any) -> list[np.ndarray]:
    """Every array that a model, optimizer, schedule, Tensor or container of these owns, gradients included."""
    found: dict[int, np.ndarray] = {}
    seen: set[int] = set()
    todo = [thing]
    while todo:
        x = todo.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, np.ndarray):
            found[id(x)] = x
        elif isinstance(x, Tensor):
            todo += [x.array, x.grad]
        elif isinstance(x, dict):
            todo += [*x.keys(), *x.values()] if any(isinstance(k, Tensor) for k in x) else x.values()
        elif isinstance(x, (list, tuple, set)):
            todo += x
        elif hasattr(x, "__dict__") and not isinstance(x, (type, Function)) and not callable(getattr(x, "__code__", None)):
            todo += vars(x).values()
    return list(found.values())


class Recorder:
    """An observer of `run` that writes nodes."""

    def __init__(self, inputs: Sequence[np.ndarray], leaves: Iterable[Tensor] = ()):
        self.nodes: list[Node] = []
        self.known: dict[int, Value] = {}
        self.strangers: dict[int, tuple[Value, str]] = {}  # arrays met before anybody said whose they are
        self.left = ""  # where a value first left the step
        self.actions: list[tuple[int, Callable[[], Any]]] = []  # what was done beside the calls, after so many of them
        self._kept: list[Any] = []  # keeps the arrays alive, so that no identity is used twice
        self._through: Function | None = None  # the op whose text is being traced through
        self._inputs: dict[int, np.ndarray] = {}  # id of an input -> its array
        self.looks = False  # whether the step looked which tensors have a gradient
        self.asked: list[tuple[np.ndarray, str]] = []  # arrays that nobody had met, whose values Python read
        self.inputs = [self.new(a, "input") for a in inputs]
        self.gradients = {id(t): t.grad for t in leaves}  # as they are before; they hold what an earlier call left
        self.earlier = {key: self.new(g.array, "input") for key, g in self.gradients.items() if g is not None}
        self.clears: set[int] = set()  # tensors whose gradients the step drops before it makes new ones

    def refuse(self, state: Any) -> None:
        """Raise TraceError for an array that nobody owns, and for a value that left the step for Python.

        state: models, optimizers and the like that own what outlives the step.
        """
        owned = {id(a) for a in arrays_of(state)}
        for key, (value, story) in self.strangers.items():
            if key not in owned:
                raise TraceError(
                    "compile: an array entered the step without passing through an op, and would be frozen as a constant",
                    f"{list(value.shape)} {value.dtype}: {story}",
                    "pass it as an argument, or list its owner in state=[...]",
                )
        self.left = self.left or next((story for a, story in self.asked if id(a) in owned), "")
        if self.left:
            rule = "compile: a value left the step for Python, where it cannot be followed"
            raise TraceError(rule, self.left, "return the tensor and call .item() outside; decide with where(), not with if")

    def graph(self, results: Sequence[Tensor], more_inputs: Sequence[Value] = ()) -> Graph:
        """What was recorded. results: what it has to make."""
        values = [self.known.get(id(t.array)) for t in results]
        if None in values:
            raise TraceError("compile: a result was not computed by the step", hint="return what the step computed")
        return Graph([*self.inputs, *more_inputs], values, self.nodes).check()  # type: ignore[arg-type]

    def cleared(self, tensors: list[Tensor]) -> None:
        """Told of gradients that are about to be dropped."""
        for t in tensors if not self.looks else ():
            if t.grad is self.gradients.get(id(t)):  # none made yet
                self.clears.add(id(t))

    def looked(self) -> None:
        """Told by an optimizer's step, and the like, that it depends on which tensors have a gradient."""
        self.looks = True

    def written(self) -> tuple[set[int], list[Value]]:
        """What in-place calls wrote into: identities of the state's arrays, and inputs."""
        roots = [node.inputs[k].root for node in self.nodes if node.phase == "forward" for k in node.op.inplace]
        return {id(v.array) for v in roots if v.kind == "state"}, [v for v in roots if v.kind == "input"]

    def to_python(self, array: np.ndarray) -> None:
        """Told by a Tensor when its value becomes a Python number or a NumPy array."""
        if self._through is not None:
            return
        if id(array) not in self.known:
            self.asked.append((array, f"{describe(value=array)} at {user_line()}"))
        elif self.known[id(array)].kind != "constant":
            self.left = self.left or f"{describe(value=array)} at {user_line()}"

    def beside(self, action: Callable[[], Any]) -> None:
        """Told of what a replayed step has to do itself, such as a schedule's step."""
        self.actions.append((len(self.nodes), action))

    def around(self) -> tuple[list[Callable[[], Any]], list[Callable[[], Any]]]:
        """The actions before the first update of an optimizer, and those after it."""
        first = next((i for i, node in enumerate(self.nodes) if isinstance(node.op, (SGD, BiasCorrection))), len(self.nodes))
        return [do for at, do in self.actions if at <= first], [do for at, do in self.actions if at > first]

    def array(self, value: Value) -> np.ndarray:
        """The array that an input was at this call."""
        return self._inputs[id(value)]

    def new(self, array: np.ndarray, kind: str, base: Value | None = None) -> Value:
        value = Value(f"{kind[0]}{len(self._kept)}", array.shape, array.dtype, kind, None if kind in ("temp", "input") else array, base)
        self.known[id(array)] = value
        self._kept.append(array)
        if kind == "input":
            self._inputs[id(value)] = array
        return value

    def read(self, array: Any, op: Function) -> Any:
        """The Value of an array that an op was given; Python numbers stay themselves."""
        if isinstance(array, NUMBERS) or array is None:
            return array
        if id(array) not in self.known and self._through is not None:
            return self.new(array, "constant")  # made by the op's own text
        if id(array) not in self.known:
            self.strangers[id(array)] = self.new(array, "state"), f"{op} read {describe(array=array)} at {user_line()}"
        return self.known[id(array)]

    def __call__(self, op: Function, phase: str, ctx: Context, arrays: tuple, outputs: tuple) -> None:
        if phase in op.composed:
            self._trace_through(op, phase, ctx, arrays, outputs)
            return
        inputs = tuple(self.read(a, op) for a in arrays)
        saved = tuple(self.read(a, op) for a in ctx.saved) if phase == "backward" else None
        made = tuple(None if a is None else self._made(op, a, i, inputs, arrays) for i, a in enumerate(outputs))
        if saved is None:
            saved = tuple(a if isinstance(a, NUMBERS) else self.known.get(id(a)) or self.new(a, "temp") for a in ctx.saved)
        self.nodes.append(Node(op, phase, inputs, made, saved, ctx.needs, ctx.static, user_line()))

    def _made(self, op: Function, array: np.ndarray, position: int, inputs: tuple, arrays: tuple) -> Value | None:
        if op.inplace:  # a new version of the value, in the same memory
            return self.new(array, "temp", base=inputs[op.inplace[position]])
        if id(array) in self.known:  # an op that returned its input, or one array twice, made nothing new
            return None
        shares = op.view and np.may_share_memory(arrays[0], array)  # a reshape of strided memory copies
        return self.new(array, "temp", base=inputs[0] if shares else None)

    def _trace_through(self, op: Function, phase: str, ctx: Context, arrays: tuple, outputs: tuple) -> None:
        def tensor(a: Any) -> Any:
            return a if isinstance(a, NUMBERS) or a is None else Tensor.of(a)

        for a in (*arrays, *(ctx.saved if phase == "backward" else ())):
            self.read(a, op)
        inner = Context(np, ctx.needs, tuple(map(tensor, ctx.saved)), ctx.static)
        outer, self._through = self._through, op
        with enable_grad():  # nothing here requires a gradient; but `y += bias` makes a new tensor, as in the arrays' text
            results = getattr(op, phase)(inner, *map(tensor, arrays))
        self._through = outer
        results = results if isinstance(results, tuple) else (results,)
        for result, output in zip(results, outputs, strict=True):
            if output is not None:
                self.known[id(output)] = self.read(result.array, op)
                self._kept.append(output)
        if phase == "forward":  # backward will find what was saved under the identity of the eager call's arrays
            for mine, theirs in zip(inner.saved, ctx.saved, strict=True):
                if not isinstance(theirs, NUMBERS) and id(theirs) not in self.known:
                    self.known[id(theirs)] = self.read(mine.array, op)
                    self._kept.append(theirs)


def user_line() -> str:
    """File and line of the innermost frame outside mulgil."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back  # type: ignore[assignment]
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame is not None else "?"


def tensors_of(tree: Any) -> list[Tensor]:
    """The Tensors in nested tuples, lists and dicts, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    return [t for part in tree for t in tensors_of(part)] if isinstance(tree, (list, tuple, type({}.values()))) else []
