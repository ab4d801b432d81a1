"""The graph that a trace leaves: values, and the calls of ops' forward and backward that make one from another.

A `Node` is one call that went through `run`, so a graph reads like the step's own history. Passes take a Graph and give a
Graph; `check` holds after each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mulgil.compile.marks import Renew
from mulgil.errors import TraceError
from mulgil.ops.function import Context, Function
from mulgil.ops.shape import Transpose


@dataclass(eq=False)
class Value:
    """An array of the step.

    kind: "input" (an argument), "state" (belongs to a model or optimizer and outlives the step), "constant" or "temp".
    array: the array itself, for state and constants. base: the value whose memory this one shares, if any.
    updates: whether it is a later version of `base`, in the same place of the same memory.
    lanes: 0 for memory in C order; else memory is [N / lanes, ..., lanes], so many images side by side, the last vector padded with zeros.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    kind: str
    array: Any = None
    base: Value | None = None
    updates: bool = False
    lanes: int = 0

    @property
    def vectors(self) -> int:
        """With lanes: how many vectors hold one element of all images."""
        return -(-self.shape[0] // self.lanes)

    @property
    def root(self) -> Value:
        """The value that owns the memory."""
        return self if self.base is None else self.base.root

    @property
    def nbytes(self) -> int:
        shape = (self.vectors * self.lanes, *self.shape[1:]) if self.lanes else self.shape
        return int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"{self.name}:{self.dtype.name.replace('float', 'f').replace('int', 'i')}{list(self.shape)}"


Operand = Any  # a Value, or a Python number


def replaced(operand: Operand, others: dict[int, Value]) -> Operand:
    """What stands for an operand. others: id of a value -> what to read in its place, for which there may be another in turn."""
    while (other := others.get(id(operand), operand)) is not operand:
        operand = other
    return operand


@dataclass(eq=False)
class Node:
    """One call.

    saved: what forward saved, or backward reads. where: the line of the user's program that caused it. again: whether it repeats
    an earlier call for the one that reads it next.
    """

    op: Function
    phase: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Value | None, ...]
    saved: tuple[Operand, ...]
    needs: tuple[bool, ...]
    static: Any
    where: str = ""
    again: bool = False

    def reads(self) -> list[Value]:
        """The values that the call needs to exist."""
        operands = self.inputs if self.phase == "forward" else (*self.inputs, *self.saved)
        return [v for v in operands if isinstance(v, Value)]

    def writes(self) -> list[Value]:
        """The values that the call makes: outputs, and what forward saved beside inputs and outputs."""
        made = [v for v in self.outputs if v is not None]
        if self.phase == "forward":
            known = {id(v) for v in (*self.inputs, *made)}
            made += [v for v in self.saved if isinstance(v, Value) and id(v) not in known]
        return made

    def replaces(self, position: int, new: Value | None) -> bool:
        """Whether `new` can be the next version of an input."""
        old: Value = self.inputs[position]
        return new is not None and new.base is old and (new.shape, new.dtype) == (old.shape, old.dtype)

    def given(self, others: dict[int, Value]) -> Node:
        """The same call on other operands. others: id of a value -> what to read in its place.

        A value that shares the memory of such an operand is made anew with it, and `others` then says so for the calls that follow.
        """

        def now(operands: tuple) -> tuple:
            return tuple([replaced(v, others) for v in operands])

        for v in self.writes():
            base = replaced(v.base, others)
            if base is not v.base:
                others[id(v)] = replace(v, base=base)
        return replace(self, inputs=now(self.inputs), outputs=now(self.outputs), saved=now(self.saved))

    def run(self, *arrays: Any) -> tuple:
        """Do it with its own text, in place where it is in place. Takes inputs, then (backward) what was saved; gives `writes()`."""
        count = len(self.inputs)
        ctx = Context(np, self.needs, arrays[count:], self.static)
        if self.op.inplace:
            return self.op.overwrite(ctx, *arrays[:count])
        results = getattr(self.op, self.phase)(ctx, *arrays[:count])
        results = results if isinstance(results, tuple) else (results,)
        made = {id(v): r for v, r in zip(self.outputs, results, strict=True) if v is not None}
        if self.phase == "forward":
            made.update((id(v), s) for v, s in zip(self.saved, ctx.saved, strict=True) if isinstance(v, Value) and id(v) not in made)
        return tuple(np.asarray(made[id(v)]) for v in self.writes())

    @property
    def title(self) -> str:
        return str(self.op).replace("(axis=None, keepdims=False)", "()") + (".backward" if self.phase == "backward" else "")

    def __repr__(self) -> str:
        return self.text({})

    def text(self, names: dict[int, str]) -> str:
        """The call in a line. names: id of a value -> what to call it, if not by its name."""

        def shown(v: Operand) -> str:
            return names.get(id(v), v.name) if isinstance(v, Value) else repr(v)

        outputs = ", ".join(map(str, (v for v in self.outputs if v is not None)))
        kept = [shown(v) for v in self.saved if isinstance(v, Value)] if self.phase == "backward" else []
        return f"{outputs} = {self.title}({', '.join(map(shown, self.inputs))}{'; ' + ', '.join(kept) if kept else ''})"


@dataclass
class Graph:
    """inputs: the arguments' arrays. results: what the function returned (see `trace.Result`). nodes: in order of execution."""

    inputs: list[Value]
    results: list[Value]
    nodes: list[Node] = field(default_factory=list)

    def values(self) -> Iterator[Value]:
        """Every value, in order of appearance."""
        seen: set[int] = set()
        for v in (*self.inputs, *(v for n in self.nodes for v in (*n.reads(), *n.writes())), *self.results):
            if id(v) not in seen:
                seen.add(id(v))
                yield v

    def copied(self) -> Graph:
        """The same graph with values of its own for all that calls make."""
        new: dict[int, Value] = {}
        nodes = []
        for node in self.nodes:
            new.update((id(v), replace(v, base=replaced(v.base, new))) for v in node.writes())
            nodes.append(node.given(new))
        return Graph(self.inputs, [replaced(v, new) for v in self.results], nodes)

    def written(self) -> set[int]:
        """Ids of the roots whose memory some call writes in place."""
        return {id(v.root) for node in self.nodes if node.op.inplace for v in node.writes()}

    def check(self) -> Graph:
        """Returns the graph, if it is one that can be run in its order; TraceError otherwise, which would be a fault of a pass.

        Every value is made before it is read, once. What is written in place replaces the input that it names, in its shape and
        dtype, and nobody reads an older version of that memory afterwards, under any name.
        """
        made = {id(v): -1 for v in self.inputs}  # id of a value -> the call that makes it
        changed: dict[int, int] = {}  # id of a root -> the call that has written its memory last

        def readable(v: Value, where: object) -> None:
            if v.kind == "temp" and id(v) not in made:
                raise TraceError("compile: a value is read before it is made", f"{v} in {where}", "please report this program")
            if made.get(id(v), -1) < changed.get(id(v.root), -1):
                raise TraceError("compile: an old version of written memory is read", f"{v} in {where}", "please report this program")

        for i, node in enumerate(self.nodes):
            for v in node.reads()[1:] if node.op.kind is Renew else node.reads():
                readable(v, node)
            for v in node.writes():
                if id(v) in made:
                    raise TraceError("compile: a value is made twice", f"{v} in {node}", "please report this program")
                made[id(v)] = i
            for position, new in zip(node.op.inplace, node.outputs, strict=True) if node.op.inplace else ():
                if not node.replaces(position, new):
                    raise TraceError("compile: what a call overwrites is not its input", str(node), "please report this program")
            changed.update((id(v.root), i) for v in node.writes() if node.op.inplace)
        for v in self.results:
            readable(v, "the results")
        return self

    def __str__(self) -> str:
        state = [v for v in self.values() if v.kind == "state"]
        lines = [f"inputs:  {', '.join(map(str, self.inputs))}"]
        lines.append(f"state:   {len(state)} arrays, {sum(v.nbytes for v in state):,} bytes")
        names: dict[int, str] = {}
        for node in self.nodes:
            if node.op.kind is Transpose and len(node.inputs[0].shape) == 2:
                names[id(node.outputs[0])] = f"{names.get(id(node.inputs[0]), node.inputs[0].name)}.T"
            else:
                lines.append(f"  {node.text(names)}")
        lines.append(f"results: {', '.join(map(str, self.results))}")
        return "\n".join(lines)
