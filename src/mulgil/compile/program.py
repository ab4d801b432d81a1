"""A program: the plan of a graph, ready to run. Its Python is generated once and is a flat list of calls on fixed buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mulgil.compile.graph import Graph, Node, Value
from mulgil.compile.kernels.jit import jit, mathematics
from mulgil.compile.passes.fuse import Kernel, Step, is_view, memory
from mulgil.compile.passes.memory import assign
from mulgil.compile.source import KernelSource
from mulgil.ops.function import Context
from mulgil.ops.linalg import MatMul

_compiled: dict[str, Callable] = {}  # source -> its function: two plans with the same kernel share it


def execute(node: Node, *arrays: Any) -> tuple:
    """Run a call that is not lowered, with its own text. Takes inputs, then (backward) what was saved; gives `node.writes()`."""
    count = len(node.inputs)
    ctx = Context(np, node.needs, arrays[count:], node.static)
    results = getattr(node.op, node.phase)(ctx, *arrays[:count])
    results = results if isinstance(results, tuple) else (results,)
    made = {id(v): r for v, r in zip(node.outputs, results, strict=True) if v is not None}
    if node.phase == "forward":
        made.update((id(v), s) for v, s in zip(node.saved, ctx.saved, strict=True) if isinstance(v, Value) and id(v) not in made)
    return tuple(np.asarray(made[id(v)]) for v in node.writes())


class Program:
    """The compiled form of one signature.

    Attributes:
        graph: what it computes, after the passes; `print(program.graph)`.
        steps: kernels and single calls, in order.
        source: the Python of the kernels and of the plan.
        memory: {"buffers", "bytes", "bytes_without_reuse"}.
    """

    def __init__(self, graph: Graph, steps: list[Step]):
        self.graph, self.steps = graph, steps
        self._scope: dict[str, Any] = {"np": np, "matmul": np.matmul, "execute": execute}
        self._fixed: dict[int, np.ndarray] = {}  # id of a value -> its array, where that never changes
        self._names: dict[int, str] = {id(v): v.name for v in graph.inputs}
        for v in graph.values():
            if v.root.kind in ("state", "constant"):
                self._fix(v.root, v.root.array)
        buffers, self.memory = assign(graph, steps)
        for value, array in buffers:
            self._fix(value, array)
        self.kernels: dict[str, str] = {}
        lines = [line for step in steps for line in self._step(step)]
        results = ", ".join(f"{self._name(v)}.copy()" for v in graph.results)
        text = f"def run({', '.join(v.name for v in graph.inputs)}):\n"
        text += "".join(f"    {line}\n" for line in lines) + f"    return ({results},)\n"
        self.source = "\n".join([*self.kernels.values(), text])
        exec(compile(text, "<mulgil plan>", "exec"), self._scope)  # our own text, from names and numbers alone
        self.run: Callable[..., tuple] = self._scope["run"]

    def __call__(self, *arrays: np.ndarray) -> tuple:
        """Run once; returns copies of the results."""
        return self.run(*arrays)

    # ---- names

    def _fix(self, value: Value, array: Any) -> None:
        self._fixed[id(value)] = array
        self._names[id(value)] = value.name
        self._scope[value.name] = array

    def _name(self, operand: Any) -> str:
        if not isinstance(operand, Value):
            return repr(operand)
        if id(operand) not in self._names:  # a version of updated state is the same memory
            return self._name(memory(operand) if memory(operand) is not operand else operand.base)
        return self._names[id(operand)]

    def _array(self, value: Value) -> np.ndarray | None:
        home = memory(value)
        return self._fixed.get(id(home))

    # ---- steps

    def _step(self, step: Step) -> list[str]:
        if isinstance(step, Kernel):
            return self._kernel(step)
        if is_view(step):
            return self._view(step)
        out = step.outputs[0]
        if isinstance(step.op, MatMul) and step.phase == "forward" and out is not None and id(out) in self._fixed:
            a, b = map(self._name, step.inputs)
            return [f"matmul({a}, {b}, {self._name(out)})"]
        return self._call(step)

    def _view(self, node: Node) -> list[str]:
        source = self._array(node.inputs[0])
        out = node.outputs[0]
        assert out is not None
        if source is None or len(node.inputs) > 1:
            return self._call(node)
        self._fix(out, execute(node, source)[0])
        return []

    def _call(self, node: Node) -> list[str]:
        name = f"node{len(self._scope)}"
        self._scope[name] = node
        operands = node.inputs if node.phase == "forward" else (*node.inputs, *node.saved)
        for v in node.writes():
            self._names[id(v)] = v.name
        targets = ", ".join(v.name for v in node.writes())
        return [f"{targets}, = execute({', '.join([name, *map(self._name, operands)])})"]

    def _kernel(self, kernel: Kernel) -> list[str]:
        here = {id(node) for node in kernel.nodes}
        stored = {id(v) for v in self.graph.results}
        stored |= {id(v) for node in self.graph.nodes if id(node) not in here for v in node.reads()}
        source = KernelSource(kernel, stored, self._is_contiguous)
        name = f"kernel{len(self.kernels)}"
        text = source.text(name)
        self.kernels[name] = text
        generic = text.replace(f"def {name}(", "def kernel(", 1)
        if generic not in _compiled:
            scope = dict(mathematics())
            exec(compile(generic, f"<mulgil {name}>", "exec"), scope)
            _compiled[generic] = jit(scope["kernel"])
        self._scope[name] = _compiled[generic]
        return [f"{name}({', '.join(self._name(v) for v in source.arguments)})"]

    def _is_contiguous(self, value: Value) -> bool:
        array = self._fixed.get(id(value))
        return array.flags.c_contiguous if array is not None else value in self.graph.inputs


def arguments(tensors: Sequence[Any]) -> list[np.ndarray]:
    """The arrays of the argument Tensors, contiguous as the kernels expect them."""
    return [np.ascontiguousarray(t.array) if t.array.ndim else t.array for t in tensors]
