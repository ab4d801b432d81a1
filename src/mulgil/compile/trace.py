"""Tracing: run the function once, eagerly, while a recorder watches `run`; what it saw is the graph.

Arrays are known by identity. One that came neither from an argument, nor from `state`, nor from an op is an error: it would
be frozen into the program as a silent constant. Ops whose text is made of other ops (`composed`) are traced through: the
same text runs on Tensors, as it does for second derivatives, and leaves simpler calls.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from mulgil.autograd import Tensor, enable_grad
from mulgil.autograd.record import NUMBERS
from mulgil.compile.graph import Graph, Node, Value
from mulgil.compile.marks import Action, Constant, Renew
from mulgil.errors import TraceError, describe
from mulgil.ops.function import Context, Function

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
        self.fault: TraceError | None = None  # why there can be no graph
        self._kept: list[Any] = []  # keeps the arrays and values alive, so that no identity is used twice
        self._through: Function | None = None  # the op whose text is being traced through
        self.looks = False  # whether the step looked which tensors have a gradient
        self.asked: list[tuple[np.ndarray, str]] = []  # arrays that nobody had met, whose values Python read
        self._roots: list[tuple[Value, np.ndarray]] = []  # inputs and state
        self._constants: dict[int, np.ndarray] = {}  # id of a value -> the array that was made of Python's numbers
        self._age: dict[int, int] = {}  # id of a value -> a number; later ones have larger ones
        self._views: dict[int, Node] = {}  # id of a value that shares an input's memory -> the call that made it
        self._written: dict[int, Value] = {}  # id of a root -> what was last written in its memory
        self._newer: dict[int, Value] = {}  # id of a value -> its next version
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
        now = [self._now(v) for v in values if v is not None]
        self._check_memory()
        if self.fault is not None:
            raise self.fault
        return Graph([*self.inputs, *more_inputs], now, self.nodes).check()

    def _check_memory(self) -> None:
        """What is written must be known under all its names; arguments and state that overlap by themselves are not."""
        spans = sorted((*byte_bounds(a), i) for i, (_, a) in enumerate(self._roots) if a.size)
        for (_, end, i), (start, _, j) in pairwise(spans):
            if start < end and any(id(self._roots[k][0]) in self._written for k in (i, j)):
                self._refuse("compile: memory is written that two arguments or arrays of the state share", str(self._roots[j][0]))

    def settle(self, tensors: Sequence[Tensor]) -> None:
        """Bring what is known of these up to what has been written since."""
        self.known.update((id(t.array), self._now(self.known[id(t.array)])) for t in tensors if id(t.array) in self.known)

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
        elif self.known[id(array)].kind != "constant" and id(self.known[id(array)]) not in self._constants:
            self.left = self.left or f"{describe(value=array)} at {user_line()}"

    def made(self, array: np.ndarray) -> None:
        """Told of an array that was made of Python's numbers."""
        if id(array) not in self.known:
            value = self.new(array, "temp")
            self._constants[id(value)] = array
            self.nodes.append(Node(Constant(array.copy()), "forward", (), (value,), (), (), None, user_line()))

    def beside(self, action: Callable[[], Any]) -> None:
        """Told of what a replayed step has to do itself, such as a schedule's step."""
        self.nodes.append(Node(Action(action), "forward", (), (), (), (), None, user_line()))

    def array(self, value: Value) -> np.ndarray:
        """The array that an input was at this call."""
        return next(array for v, array in self._roots if v is value)

    def new(self, array: np.ndarray, kind: str, base: Value | None = None, updates: bool = False) -> Value:
        own = array if kind in ("state", "constant") else None
        value = Value(f"{kind[0]}{len(self._kept)}", array.shape, array.dtype, kind, own, base, updates)
        self.known[id(array)] = value
        self._age[id(value)] = len(self._kept)
        self._kept += [array, value]
        if kind in ("input", "state"):
            self._roots.append((value, array))
        return value

    def read(self, array: Any, op: Function) -> Any:
        """The Value of an array that an op was given; Python numbers stay themselves."""
        if isinstance(array, NUMBERS) or array is None:
            return array
        if id(array) not in self.known and self._through is not None:
            return self.new(array, "constant")  # made by the op's own text
        if id(array) not in self.known:
            self.strangers[id(array)] = self.new(array, "state"), f"{op} read {describe(array=array)} at {user_line()}"
        value = self.known[id(array)] = self._now(self.known[id(array)])
        return value

    def _now(self, value: Value) -> Value:
        """The latest version of a value: a new one, if its memory was written to under another name since it was made."""
        while id(value) in self._newer:
            value = self._newer[id(value)]
        last = self._written.get(id(value.root))
        if last is None or self._age[id(last)] <= self._age[id(value)]:
            return value
        node = self._views.get(id(value))
        if node is None:
            node, source = Node(Renew(), "forward", (value, last), (), (), (), None, user_line()), value
        else:
            source = self._now(node.inputs[0])
            node = replace(node, inputs=(source, *node.inputs[1:]))
            if not (node.op.view and node.op.pure):
                self._refuse("compile: memory is written in place that an op from outside also gave as its result", str(node.op))
        new = Value(f"t{len(self._kept)}", value.shape, value.dtype, "temp", None, source, source is value)
        self._age[id(new)] = len(self._kept)
        self._kept.append(new)
        self.nodes.append(replace(node, outputs=(new,), saved=()))
        if id(value) in self._views:
            self._views[id(new)] = node
        self._newer[id(value)] = new
        return new

    def _refuse(self, rule: str, got: str) -> None:
        """Remember why there can be no graph: the function itself, which is running, is sound."""
        self.fault = self.fault or TraceError(rule, f"{got} at {user_line()}", "without compile it runs correctly")

    def __call__(self, op: Function, phase: str, ctx: Context, arrays: tuple, outputs: tuple) -> None:
        if phase in op.composed and op.pure and self._trace_through(op, phase, ctx, arrays, outputs):
            return
        inputs = tuple(self.read(a, op) for a in arrays)
        changing = (a for a, v in zip(arrays, inputs, strict=True) if id(v) not in self._constants)
        if phase == "forward" and op.sized_by_values(*changing):
            self._refuse("compile: the shape of a result must not depend on values", str(op))
        saved = tuple(self.read(a, op) for a in ctx.saved) if phase == "backward" else None
        made = self._updated(op, arrays, inputs) if op.inplace else self._outputs(op, arrays, inputs, outputs)
        if saved is None:
            saved = tuple(a if isinstance(a, NUMBERS) else self.known.get(id(a)) or self._output(a, arrays, inputs) for a in ctx.saved)
        node = Node(op, phase, inputs, made, saved, ctx.needs, ctx.static, user_line())
        self.nodes.append(node)
        self._views.update((id(v), node) for v in node.writes() if v.base is not None and not op.inplace)

    def _outputs(self, op: Function, arrays: tuple, inputs: tuple, outputs: tuple) -> tuple[Value | None, ...]:
        made: list[Value | None] = []
        for i, array in enumerate(outputs):
            again = array is not None and id(array) in self.known
            if again and not any(array is other for other in (*arrays, *outputs[:i])):
                self._refuse("compile: an op gave an array that it had given before, with other contents", str(op))
            made.append(None if array is None or again else self._output(array, arrays, inputs))
        return tuple(made)

    def _output(self, array: np.ndarray, arrays: tuple, inputs: tuple) -> Value:
        """A new value, in the memory of an input if the op gave a view of it (a reshape of strided memory copies)."""
        pairs = zip(arrays, inputs, strict=True) if array.base is not None else ()
        return self.new(array, "temp", next((v for a, v in pairs if isinstance(v, Value) and np.may_share_memory(a, array)), None))

    def _updated(self, op: Function, arrays: tuple, inputs: tuple) -> tuple[Value, ...]:
        """New versions of what an op in place has overwritten."""
        targets = [arrays[i] for i in op.inplace]
        others = [a for i, a in enumerate(arrays) if i not in op.inplace and isinstance(a, np.ndarray)]
        if any(a is not t and np.may_share_memory(a, t) for t in targets for a in others):
            self._refuse("compile: an op in place must not read the memory that it writes under another name", str(op))
        versions = []
        for i in op.inplace:
            version = self.new(arrays[i], "temp", inputs[i], updates=True)
            self._newer[id(inputs[i])] = self._written[id(version.root)] = version
            if id(inputs[i]) in self._views:
                self._views[id(version)] = self._views[id(inputs[i])]
            versions.append(version)
        return tuple(versions)

    def _trace_through(self, op: Function, phase: str, ctx: Context, arrays: tuple, outputs: tuple) -> bool:
        """Record the calls that an op's text is made of. False, and nothing recorded, where Tensors' dtypes differ from arrays'."""

        def tensor(a: Any) -> Any:
            return a if isinstance(a, NUMBERS) or a is None else Tensor.of(a)

        for a in (*arrays, *(ctx.saved if phase == "backward" else ())):
            self.read(a, op)
        inner = Context(np, ctx.needs, tuple(map(tensor, ctx.saved)), ctx.static)
        outer, self._through = self._through, op
        count = len(self.nodes)
        with enable_grad():  # nothing here requires a gradient; but `y += bias` makes a new tensor, as in the arrays' text
            results = getattr(op, phase)(inner, *map(tensor, arrays))
        self._through = outer
        results = results if isinstance(results, tuple) else (results,)
        if any(output is not None and result.dtype != output.dtype for result, output in zip(results, outputs, strict=True)):
            del self.nodes[count:]
            return False
        for result, output in zip(results, outputs, strict=True):
            if output is not None:
                self.known[id(output)] = self.read(result.array, op)
                self._kept.append(output)
        if phase == "forward":  # backward will find what was saved under the identity of the eager call's arrays
            for mine, theirs in zip(inner.saved, ctx.saved, strict=True):
                if not isinstance(theirs, NUMBERS) and id(theirs) not in self.known:
                    self.known[id(theirs)] = self.read(mine.array, op)
                    self._kept.append(theirs)
        return True


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
