"""Gradients through a compiled function from outside: `loss = f(x); loss.backward()`.

What a function returns requires a gradient when nothing inside has walked its graph. Then the way back is recorded as well, and the
record is cut into two programs: one that makes the results and keeps what the way back reads, and the way back, which is built when
somebody first asks for it. In the graph outside both are one op, so what comes before and after is differentiated as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np

from mulgil.autograd import Tensor, enable_grad
from mulgil.autograd.engine import reachable, walk_back
from mulgil.autograd.record import call as apply
from mulgil.compile.graph import Graph, Node, Value
from mulgil.compile.passes.fuse import is_view
from mulgil.compile.trace import Recorder
from mulgil.errors import TraceError
from mulgil.ops.function import Function, observed


class Piece(Function):
    """A piece of a graph as one op. work: what its forward and backward do, `forward(arrays)` and `backward(saved, gradients)`."""

    twice = False
    pure = False

    def __init__(self, name: str, work: Any):
        self.name, self.work = name, work

    def __repr__(self) -> str:
        return f"Compiled({self.name})"

    def forward(self, ctx: Any, *arrays: Any) -> tuple:
        outputs, saved = self.work.forward(arrays)
        ctx.save(*saved)
        return outputs

    def backward(self, ctx: Any, *gradients: Any) -> tuple:
        return self.work.backward(ctx.saved, gradients)


def open_ends(results: Sequence[Tensor]) -> list[int]:
    """Which results can be differentiated outside."""
    return [i for i, t in enumerate(results) if is_open(t)]


def is_open(t: Tensor) -> bool:
    """Whether there is a graph behind it, no part of which has been walked and released."""
    return t.node is not None and not any(node.spent for node in reachable([t.node]))


def joined(name: str, work: Any, inputs: Sequence[Tensor], ends: Sequence[int]) -> list[Tensor]:
    """The results of `work` on `inputs`, with a graph behind those that are `ends`."""
    with enable_grad():
        results = apply(Tensor, Piece(name, work), inputs)
    results = results if isinstance(results, tuple) else (results,)
    return [t if i in ends else Tensor.of(t.array) for i, t in enumerate(results)]


# ---- the first call, which ran eagerly on arguments cut off from their history


def mapped(tree: Any, change: Callable[[Tensor], Any]) -> Any:
    """Nested tuples, lists and dicts with `change` of each Tensor in its place."""
    if isinstance(tree, Tensor):
        return change(tree)
    if type(tree) is dict:
        return {k: mapped(v, change) for k, v in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*[mapped(v, change) for v in tree])
    return type(tree)([mapped(v, change) for v in tree]) if type(tree) in (list, tuple) else tree


class Twins:
    """Leaves that stand for arguments that were computed from others, so that the way back ends at them."""

    def __init__(self, tensors: Sequence[Tensor]):
        self.originals = {id(t): t for t in tensors if t.node is not None}
        self.leaves: dict[int, Tensor] = {}
        for key, t in self.originals.items():
            twin = self.leaves[key] = Tensor.of(t.array, version=t.version)
            twin._requires_grad = True

    def of(self, t: Tensor) -> Tensor:
        return self.leaves.get(id(t), t)

    def settle(self) -> None:
        """Pass on the gradients that the function itself brought to the leaves. Raises TraceError if there were any."""
        reached = [(self.originals[key], twin.grad) for key, twin in self.leaves.items() if twin.grad is not None]
        for t, gradient in reached:
            t.backward(gradient)
        if reached:
            rule = "compile: a step must not call backward through what its arguments were computed from"
            raise TraceError(rule, hint="pass x.detach(), or call backward on what the function returns")

    def connected(self, result: Any) -> Any:
        """What was computed from the leaves, connected with the originals instead."""
        made: dict[int, Tensor] = {}
        mapped(result, lambda t: made.setdefault(id(t), t))
        results = [t for t in made.values() if t.node is not None]
        ends = open_ends(results)
        nodes = reachable([results[i].node for i in ends])  # type: ignore[misc]
        leaves = {id(leaf): leaf for node in nodes for leaf in node.links if isinstance(leaf, Tensor)}
        back = {id(twin): self.originals[key] for key, twin in self.leaves.items()}
        new: dict[int, Tensor] = dict(back)
        if ends:
            inputs = [back.get(key, leaf) for key, leaf in leaves.items()]
            joined_up = joined("step", Eager(results, ends, list(leaves.values())), inputs, ends)
            new |= {id(t): now for t, now in zip(results, joined_up, strict=True)}
        return mapped(result, lambda t: new.get(id(t), t))


@dataclass
class Eager:
    """The graph of results that were computed already, from `leaves`."""

    results: Sequence[Tensor]
    ends: Sequence[int]
    leaves: Sequence[Tensor]

    def forward(self, arrays: Sequence[Any]) -> tuple[tuple, tuple]:
        return tuple(t.array for t in self.results), ()

    def backward(self, saved: Sequence[Any], gradients: Sequence[Any]) -> tuple:
        asked = [(self.results[i], gradients[i]) for i in self.ends if gradients[i] is not None]
        found, _ = walk_back([t for t, _ in asked], [g for _, g in asked], Tensor.of, False, True)
        return tuple(found.get(id(leaf), (leaf, None))[1] for leaf in self.leaves)


# ---- later calls


@dataclass
class WayBack:
    """The recorded way back.

    ends: results that it starts from. seeds: their gradients. leaves: whose gradients it makes. start: its first node.
    """

    ends: list[int]
    seeds: list[Value]
    leaves: list[Tensor]
    gradients: list[Value]
    start: int


def record_back(recorder: Recorder, results: Sequence[Tensor]) -> WayBack | None:
    """Record the way back from `results`; None where there is none. Their graph stays."""
    ends = open_ends(results)
    if not ends:
        return None
    start = len(recorder.nodes)
    arrays = [np.ones_like(results[i].array) for i in ends]
    seeds = [recorder.new(a, "input") for a in arrays]
    with observed(recorder):
        found, _ = walk_back([results[i] for i in ends], arrays, Tensor.of, False, True)
    leaves = [leaf for leaf, g in found.values() if g is not None]
    gradients = [recorder.known.get(id(found[id(leaf)][1])) for leaf in leaves]
    if None in gradients:
        raise TraceError("compile: a gradient was not computed by the step", hint="a hook returns what it computes from the gradient")
    return WayBack(ends, seeds, leaves, gradients, start)  # type: ignore[arg-type]


@dataclass
class Halves:
    """Two programs from one record, as the work of a `Piece`.

    first: arrays -> results and what is kept. second: makes the other program. extra: tensors behind the arguments among the piece's
    inputs, leaves and state. reread: positions of the piece's inputs that the second program is given again. watched: positions of
    those that it finds in place, which must not have changed. targets: the inputs whose gradients it makes.
    """

    first: Callable[..., tuple]
    second: Callable[[], Callable[..., tuple]]
    extra: list[Tensor]
    results: int
    ends: list[int]
    seeds: list[Value]
    reread: list[int]
    watched: list[int]
    targets: list[int]
    lock: Lock = field(default_factory=Lock)
    _program: Callable[..., tuple] | None = None

    def forward(self, arrays: Sequence[Any]) -> tuple[tuple, tuple]:
        made = self.first(arrays[: len(arrays) - len(self.extra)])
        again, watched = ([arrays[i] for i in places] for places in (self.reread, self.watched))
        self.inputs = len(arrays)
        return tuple(made[: self.results]), (*again, *made[self.results :], *watched)

    def backward(self, saved: Sequence[Any], gradients: Sequence[Any]) -> tuple:
        seeds = [np.zeros(v.shape, v.dtype) if gradients[i] is None else gradients[i] for i, v in zip(self.ends, self.seeds, strict=True)]
        given = (*saved[: len(saved) - len(self.watched)], *seeds)
        with self.lock:
            self._program = self._program or self.second()
            made = self._program(*[np.ascontiguousarray(a) if a.ndim else a for a in given])
        found: list[Any] = [None] * self.inputs
        for i, g in zip(self.targets, made, strict=True):
            found[i] = g
        return tuple(found)


def cut(graph: Graph, back: WayBack, written: set[int]) -> tuple[Graph, Graph, list[Value], list[Value]]:
    """The record in two graphs, the inputs that the second reads again, and the state that it reads.

    The first has what is kept for the second behind its results. The second takes inputs of the first, what was kept, and seeds.
    written: identities of the state's arrays that the step writes into.
    """
    makers = {id(v): node for node in graph.nodes[: back.start] for v in node.writes()}
    nodes = _needed(graph.nodes[back.start :], back.gradients)
    own = {id(v) for node in nodes for v in node.writes()} | {id(v) for v in back.seeds}
    reads = {id(v): v for node in nodes for v in node.reads()} | {id(v): v for v in back.gradients}
    views: dict[int, Node] = {}
    outer: dict[int, Value] = {}
    todo = [v for key, v in reads.items() if key not in own]
    while todo:
        v = todo.pop(0)
        maker = makers.get(id(v))
        lasting = v.root.kind == "input" or (v.root.kind in ("state", "constant") and id(v.root.array) not in written)
        if maker is not None and lasting and is_view(maker) and maker.phase == "forward":
            views[id(maker)] = maker
            todo += maker.reads()
        else:
            outer[id(v)] = v
    if any(v.kind == "state" and id(v.array) in written for v in outer.values()):
        rule = "compile: where a result is differentiated outside, the step must not write into what the way back reads"
        raise TraceError(rule, hint="call backward inside the compiled function")
    again = [v for v in outer.values() if v.kind == "input"]
    kept = [v for v in outer.values() if v.kind == "temp"]
    new = {id(v): Value(f"b{i}", v.shape, v.dtype, "input") for i, v in enumerate((*again, *kept))}
    again_views = [_copied(node, new) for node in graph.nodes if id(node) in views]
    second = Graph(
        [*(new[id(v)] for v in (*again, *kept)), *back.seeds],
        [new.get(id(v), v) for v in back.gradients],
        [*again_views, *(node.given(new) for node in nodes)],
    )
    first = Graph(graph.inputs, [*graph.results, *kept], graph.nodes[: back.start])
    return first.check(), second.check(), again, [v for v in outer.values() if v.kind == "state"]


def _needed(nodes: list[Node], results: list[Value]) -> list[Node]:
    """The nodes that lead to `results`."""
    wanted, found = {id(v) for v in results}, []
    for node in reversed(nodes):
        if any(id(v) in wanted for v in node.writes()):
            found.append(node)
            wanted.update(id(v) for v in node.reads())
    return found[::-1]


def _copied(node: Node, new: dict[int, Value]) -> Node:
    """A view once more, of what `new` says; its output joins `new`."""
    (out,) = node.writes()
    base = node.inputs[0]
    new[id(out)] = Value(f"{out.name}b", out.shape, out.dtype, "temp", base=new.get(id(base), base))
    inputs, saved = (tuple(new.get(id(v), v) for v in operands) for operands in (node.inputs, node.saved))
    return replace(node, inputs=inputs, outputs=(new[id(out)],), saved=saved)
