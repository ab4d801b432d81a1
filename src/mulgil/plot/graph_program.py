"""A compiled step as a diagram: the steps of its plan, or every call and value.

The compiler's classes are known by their attributes alone (a Program has a graph and steps, a Graph has nodes), so this file
does not import it.
"""

from __future__ import annotations

from typing import Any

from mulgil.errors import OptionError
from mulgil.plot.diagram import Diagram
from mulgil.plot.label import dtype_text, number_text, shape_text

MOST_LINES = 14  # of a kernel's calls that are listed


def plan_of(x: Any) -> tuple[Any, list] | None:
    """The graph and the steps behind a compiled function (OptionError before its first call), program or graph; None for anything else."""
    if hasattr(x, "programs"):
        programs = [p for p in x.programs.values() if p is not None]
        if not programs:
            name = getattr(x, "__name__", "the function")
            got = f"{name} runs eagerly, it could not be compiled" if x.programs else f"{name} was not called yet"
            raise OptionError("graph: a compiled function has a graph once it has run", got, "call it once, then draw it")
        x = programs[-1]
    if hasattr(x, "graph") and hasattr(x, "steps"):
        return x.graph, list(x.steps)
    if hasattr(x, "nodes") and hasattr(x, "results") and hasattr(x, "inputs"):
        return x, list(x.nodes)
    return None


def draw_program(x: Any, verbose: int) -> Diagram:
    """See `plot.graph`. Of several programs of a function, the latest."""
    found = plan_of(x)
    assert found is not None
    return _Calls(*found).diagram if verbose == 2 else _Steps(*found, verbose).diagram


def _calls(step: Any) -> list:
    return list(step.nodes) if hasattr(step, "nodes") else [step]


def _is_view(step: Any) -> bool:
    """Whether the step only gives memory another shape."""
    return not hasattr(step, "nodes") and step.op.view and step.outputs[0] is not None and step.outputs[0].base is not None


def _arguments(node: Any) -> list:
    return list(node.inputs if node.phase == "forward" else (*node.inputs, *node.saved))


def _title(node: Any) -> str:
    """The call's name without its settings: `MatMul`, `ReLU.backward`."""
    return str(node.op).split("(")[0] + (".backward" if node.phase == "backward" else "")


class _Steps:
    """A box for each step. Views are no work and are left out; what a step writes in place, such as weights, is named in it."""

    def __init__(self, graph: Any, steps: list, verbose: int):
        self.diagram = Diagram("compiled step: kernels")
        self.verbose = verbose
        self.maker: dict[int, int] = {}
        for value in graph.inputs:
            lines = [value.name, *([f"{shape_text(value.shape)} {dtype_text(value.dtype)}"] if verbose else [])]
            self.maker[id(value)] = self.diagram.add(id(value), *lines, kind="input")
        kernels = 0
        for step in steps:
            if _is_view(step):
                source = self._source(step.inputs[0])
                if source is not None:
                    self.maker[id(step.outputs[0])] = source
                continue
            kernels += hasattr(step, "nodes")
            self._box(step, f"kernel {kernels}" if hasattr(step, "nodes") else "")
        for value in graph.results:
            source = self._source(value)
            if source is not None:
                lines = [f"result {value.name}", *([shape_text(value.shape)] if verbose else [])]
                self.diagram.connect(source, self.diagram.add(("result", id(value)), *lines, kind="output"))

    def _source(self, value: Any) -> int | None:
        while value is not None and hasattr(value, "kind"):
            if id(value) in self.maker:
                return self.maker[id(value)]
            value = value.base
        return None

    def _box(self, step: Any, name: str) -> None:
        nodes = _calls(step)
        lines = [_line(node) for node in nodes] if self.verbose else []
        if len(lines) > MOST_LINES:
            lines = [*lines[: MOST_LINES - 1], f"and {len(lines) - MOST_LINES + 1} more calls"]
        if not name:
            lines = [_title(step), *([_shapes(step)] if self.verbose else [])]
        elif not self.verbose:
            name += f": {len(nodes)} calls"
        if name:
            lines = [name, *lines]
        box = self.diagram.add(id(step), *lines, kind="kernel" if name else "function", tip="\n".join(map(str, nodes)))
        for node in nodes:
            for value in _arguments(node):
                source = self._source(value)
                if source is not None:
                    self.diagram.connect(source, box)
        for node in nodes:
            self.maker.update((id(value), box) for value in node.writes())


def _shapes(node: Any) -> str:
    return ", ".join(dict.fromkeys(shape_text(v.shape) for v in node.outputs if v is not None))


def _line(node: Any) -> str:
    return f"{_title(node)} {_shapes(node)}"


class _Calls:
    """A box for each call, an ellipse for each value; the calls of a kernel are one group."""

    def __init__(self, graph: Any, steps: list):
        self.diagram = Diagram("compiled step: calls")
        kernels = 0
        group_of: dict[int, str] = {}
        for step in steps:
            if hasattr(step, "nodes"):
                kernels += 1
                group_of.update((id(node), f"kernel {kernels}") for node in step.nodes)
        results = {id(value) for value in graph.results}
        for value in graph.inputs:
            self._value(value, "input")
        for node in graph.nodes:
            box = self.diagram.add(id(node), _title(node), kind="function", tip=str(node), group=group_of.get(id(node), ""))
            for operand in _arguments(node):
                if hasattr(operand, "kind"):
                    kind = {"input": "input", "state": "parameter", "constant": "constant"}.get(operand.kind, "data")
                    self.diagram.connect(self._value(operand, kind), box)
                elif operand is not None:
                    self.diagram.connect(self.diagram.add((id(node), operand), number_text(operand), kind="constant"), box)
            for value in node.writes():
                self.diagram.connect(box, self._value(value, "output" if id(value) in results else "data"))

    def _value(self, value: Any, kind: str) -> int:
        facts = f"{shape_text(value.shape)} {dtype_text(value.dtype)}"
        return self.diagram.add(id(value), value.name, facts, kind=kind, tip=f"{value.name} {value.kind} {facts}")
