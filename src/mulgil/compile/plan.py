"""What a signature runs: a program, and what Python did around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.compile.marks import Action
from mulgil.compile.outside import Halves, joined
from mulgil.compile.program import Program
from mulgil.errors import OptionError, TraceError, describe

Leaf = Tensor | int  # a tensor of the state, or the number of an argument


@dataclass
class Gradients:
    """What a step does to the `.grad` of tensors that outlive it.

    read: whose gradient it reads before it makes one: an input. made: whose gradient it leaves behind: a result. dropped: whose is
    None afterwards, because the step clears it, or made it, used it up in an update and clears it before it makes the next.
    conditions: (leaf, whether its gradient is None): what the plan holds for.
    """

    read: list[Leaf] = field(default_factory=list)
    made: list[Leaf] = field(default_factory=list)
    dropped: list[Leaf] = field(default_factory=list)
    conditions: list[tuple[Leaf, bool]] = field(default_factory=list)


@dataclass
class Plan:
    """What serves a signature.

    program: None for one that runs eagerly. structure: of what the function returns, see `template`. writes: arguments that the step
    writes into. versions: of the state's tensors that it writes into. kept: what the signature knows by identity. verify: replays
    still to be compared. outside: for results that can be differentiated outside.
    """

    program: Program | None
    structure: Any = None
    gradients: Gradients = field(default_factory=Gradients)
    writes: list[int] = field(default_factory=list)
    versions: list[list[int]] = field(default_factory=list)
    coarse: tuple | None = None
    kept: tuple = ()
    verify: int = 0
    outside: Halves | None = None
    lock: Lock = field(default_factory=Lock)  # the buffers serve one call at a time

    @property
    def actions(self) -> list[Any]:
        """What is done beside arithmetic, such as a schedule's step."""
        nodes = [] if self.program is None else self.program.graph.nodes
        return [node.op.action for node in nodes if isinstance(node.op, Action)]

    def fits(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the gradients are there, or not there, as the plan needs them."""
        return all((found(leaf, tensors).grad is None) is none for leaf, none in self.gradients.conditions)

    def replay(self, tensors: Sequence[Tensor]) -> Any:
        """Do it. tensors: the arguments'."""
        with self.lock:
            given = tensors
            if self.gradients.read:
                given = [*tensors, *(found(leaf, tensors).grad for leaf in self.gradients.read)]  # type: ignore[list-item]
            if self.outside is None:
                results = [Tensor.of(a) for a in self.compute([t.array for t in given])]
            else:
                results = joined("step", self.outside, [*given, *self.outside.extra], self.outside.ends)
            for i in self.writes:
                given[i].bump()
            for version in self.versions:
                version[0] += 1
            if self.gradients.made:
                for leaf, gradient in zip(self.gradients.made, results[len(results) - len(self.gradients.made) :], strict=True):
                    found(leaf, tensors).grad = gradient
            for leaf in self.gradients.dropped:
                (tensors[leaf] if type(leaf) is int else leaf).grad = None  # type: ignore[union-attr]
        return results[0] if self.structure is RESULT else rebuilt(self.structure, iter(results), tensors)

    def compute(self, arrays: Sequence[np.ndarray]) -> tuple:
        """The program on these arrays, what it writes into them included."""
        if any(not arrays[i].flags.writeable for i in self.writes):
            rule = "assignment: the memory is read-only, such as what expand() shares"
            raise OptionError(rule, describe(**{f"x{i}": arrays[i] for i in self.writes}), "write to a copy: x.clone()")
        given = [a if a.flags.c_contiguous else np.ascontiguousarray(a) for a in arrays]
        results = self.program(*given)  # type: ignore[misc]
        for i in self.writes:
            if given[i] is not arrays[i]:
                arrays[i][...] = given[i]
        return results


def found(leaf: Leaf, tensors: Sequence[Tensor]) -> Tensor:
    """The tensor itself."""
    return tensors[leaf] if type(leaf) is int else leaf  # type: ignore[return-value]


# ---- what a function returns


class _Result:
    """Stands for a tensor that the program makes."""


@dataclass(frozen=True)
class Argument:
    """Stands for an argument that comes back as it is."""

    number: int


RESULT = _Result()
CONTAINERS = (list, tuple, dict)


def template(tree: Any, given: dict[int, Any]) -> tuple[Any, list[Tensor]]:
    """The structure of a result, and the Tensors that a program has to make for it. given: what stands for a Tensor that was there before.

    Raises TraceError for what is no Tensor and no container of these.
    """
    made: list[Tensor] = []

    def visit(x: Any) -> Any:
        if isinstance(x, Tensor):
            if id(x) in given:
                return given[id(x)]
            made.append(x)
            return RESULT
        if type(x) is dict:
            return {k: visit(v) for k, v in x.items()}
        if type(x) in (list, tuple) or hasattr(x, "_fields"):
            return like(x, [visit(v) for v in x])
        if x is None:
            return None
        hint = "return the tensor, not loss.item()"
        raise TraceError("compile: a function returns Tensors, or lists, tuples and dicts of them", repr(type(x)), hint)

    return visit(tree), made


def like(x: Any, parts: list[Any]) -> Any:
    """A list, tuple or named tuple as `x`, of these parts."""
    return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)


def rebuilt(tree: Any, results: Iterator[Tensor], tensors: Sequence[Tensor]) -> Any:
    """The structure with Tensors in it."""
    if tree is RESULT:
        return next(results)
    if isinstance(tree, Argument):
        return tensors[tree.number]
    if type(tree) is dict:
        return {k: rebuilt(v, results, tensors) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return like(tree, [rebuilt(v, results, tensors) for v in tree])
    return tree  # None, or a tensor of the state
