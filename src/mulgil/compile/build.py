"""From a call to a plan: run the function once, watched; see what it did to the world; make the program."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any

from mulgil.autograd import Tensor
from mulgil.compile.graph import Graph, Value
from mulgil.compile.guards import World
from mulgil.compile.outside import Halves, Twins, WayBack, cut, is_open, mapped, record_back
from mulgil.compile.passes.fuse import fuse
from mulgil.compile.passes.patterns import convolutions
from mulgil.compile.passes.products import descents, large_products, predictions
from mulgil.compile.passes.recompute import recompute
from mulgil.compile.passes.simplify import draw_first, drop_dead, fold_constants, share_common
from mulgil.compile.plan import Argument, Gradients, Leaf, Plan, template
from mulgil.compile.program import Program
from mulgil.compile.signature import Call
from mulgil.compile.trace import Recorder
from mulgil.errors import TraceError
from mulgil.native.blas import single_blas
from mulgil.ops.function import observed

PASSES = (draw_first, fold_constants, share_common, drop_dead, convolutions, descents, predictions, large_products, recompute, drop_dead)
COUNTS = (int, float, complex)
_building = RLock()  # numba and LLVM serve one thread at a time


def simplified(graph: Graph) -> Graph:
    """The passes that turn a graph into a smaller one."""
    for rewrite in PASSES:
        graph = rewrite(graph)
    return graph


def compiled(graph: Graph) -> Program:
    """The program of a graph."""
    with _building:
        graph = simplified(graph)
        return Program(graph, fuse(graph))


class Trace:
    """One eager run under a recorder. result: what the function returned, for the caller. world: as it was before.

    Products take one thread, as in the plan, so that the number of threads changes no bit.
    """

    def __init__(self, function: Callable, call: Call, world: World):
        self.call, self.world = call, world
        self.twins = Twins(call.tensors)
        self.tensors = [self.twins.of(t) for t in call.tensors]
        leaves = [t for t in (*world.tensors.values(), *self.tensors) if t.requires_grad and t.node is None]
        self.recorder = Recorder([t.array for t in call.tensors], leaves)
        self.draws = world.draws()
        args, kwargs = mapped(call.args, self.twins.of), mapped(call.kwargs, self.twins.of)
        with observed(self.recorder), single_blas:
            self.made = function(*args, **kwargs)
        self.result = self.twins.connected(self.made) if self.twins.leaves else self.made

    def refuse_frozen_python(self, later: World) -> dict[str, tuple[Any, Any]]:
        """What the call changed of the world, apart from beginnings. Raises TraceError for what would be frozen into a plan."""
        drawn = [path for path, state in self.world.draws().items() if state != self.draws[path]]
        if drawn:
            raise TraceError(
                "compile: random numbers that are not drawn by an op would be the same at each call",
                f"the step drew from {drawn[0]}",
                "draw outside and pass the result, or use dropout and the ops of mulgil",
            )
        changed = self.world.difference(later)
        for path, (before, after) in changed.items():
            if before and after and before[0] is after[0] and (before[0] in COUNTS or before[0] is list):
                raise counting(path, before, after)
        return changed

    def plan(self, later: World) -> Plan:
        """The plan of what was recorded. later: the world after the call."""
        recorder = self.recorder
        self.twins.settle()
        tensors = later.tensors | {id(t): t for t in self.tensors}
        arguments = {id(t): i for i, t in reversed(list(enumerate(self.tensors))) if id(t) not in later.tensors}
        given: dict[int, Any] = {key: Argument(arguments[key]) if key in arguments else t for key, t in tensors.items()}
        structure, results = template(self.made, given)
        written, inputs = recorder.written()
        self._refuse_shared_writes(written, inputs)
        gradients = self._gradients(tensors, arguments, written | {id(recorder.array(v)) for v in inputs})
        made = [*results, *(tensors[key].grad for key in self._keys(gradients.made))]
        earlier = [recorder.earlier[key] for key in self._keys(gradients.read)]
        recorder.settle(made)  # type: ignore[arg-type]
        back = record_back(recorder, results)
        graph = recorder.graph(made, earlier)  # type: ignore[arg-type]
        versions = [t.version for t in later.tensors.values() if id(t.array) in written]
        writes = [i for i, v in enumerate([*recorder.inputs, *earlier]) if any(v is w for w in inputs)]
        kept = self.call.objects, *(f for t in self.call.tensors for f in (t._hooks or ()))
        halves = None if back is None else cut(graph, back, written)
        program = compiled(graph if halves is None else halves[0])
        plan = Plan(program, structure, gradients, writes, versions, self.call.coarse, kept)
        if halves is not None and back is not None:
            plan.outside = self._outside(plan, back, halves, tensors, len(earlier))
        return plan

    def sealed(self) -> Any:
        """The result as later calls will give it: one op behind what is differentiated outside, no graph behind what was inside."""
        result = self.result if self.twins.leaves else self.twins.connected(self.result)
        return mapped(result, lambda t: Tensor.of(t.array) if t.node is not None and not is_open(t) else t)

    def _outside(self, plan: Plan, back: WayBack, halves: tuple, tensors: dict[int, Tensor], more: int) -> Halves:
        first, second, again, state = halves
        positions = {id(t): i for i, t in reversed(list(enumerate(self.tensors)))}
        by_array = {id(t.array): t for t in tensors.values()}
        others = {id(t): t for t in back.leaves if id(t) not in positions}
        others |= {id(t): t for v in state if (t := by_array.get(id(v.array))) is not None and id(t) not in positions}
        given = len(self.tensors) + more
        positions |= {key: given + i for i, key in enumerate(others)}
        watched = [positions[id(t)] for v in state if (t := by_array.get(id(v.array))) is not None]
        return Halves(
            plan.compute,
            lambda: compiled(second),
            list(others.values()),
            len(first.results) - sum(1 for _ in second.inputs) + len(again) + len(back.seeds),
            back.ends,
            back.seeds,
            [next(i for i, w in enumerate(first.inputs) if w is v) for v in again],
            watched,
            [positions[id(t)] for t in back.leaves],
        )

    def _keys(self, leaves: list[Leaf]) -> list[int]:
        return [id(self.tensors[leaf] if isinstance(leaf, int) else leaf) for leaf in leaves]

    def _gradients(self, tensors: dict[int, Tensor], arguments: dict[int, int], written: set[int]) -> Gradients:
        """What the step did to gradients. written: identities of the arrays that it wrote into."""
        recorder, found = self.recorder, Gradients()
        reads = {id(v) for node in recorder.nodes for v in node.reads()}
        looks = recorder.looks or self.world.looks or any(node.phase == "backward" for node in recorder.nodes)
        for key, t in tensors.items():
            before, leaf = recorder.gradients.get(key), arguments.get(key, t)
            if t.node is not None:
                continue
            read, replaced = before is not None and id(recorder.earlier[key]) in reads, t.grad is not before
            clears = key in recorder.clears or (before is not None and replaced and not read)
            if read:
                found.read.append(leaf)
            if replaced and (t.grad is None or (clears and id(t.array) in written)):
                found.dropped.append(leaf)
            elif replaced:
                found.made.append(leaf)
            if not clears and key in recorder.gradients and (looks or read or replaced):
                found.conditions.append((leaf, before is None))
        return found

    def _refuse_shared_writes(self, written: set[int], inputs: list[Value]) -> None:
        shared = [entry for entry in self.call.aliases if entry[1] == "shares"]
        if shared and (inputs or (written and any(entry[2] == "state" for entry in shared))):
            raise TraceError(
                "compile: what the step writes into must not share memory with an argument",
                f"argument {shared[0][0]} is a view of {'the state' if shared[0][2] == 'state' else f'argument {shared[0][2]}'}",
                "pass a copy: x.clone()",
            )


def counting(path: str, before: Any, after: Any) -> TraceError:
    """The error for what Python counts or collects during a call."""
    kind = "list" if before[0] is list else "number"
    return TraceError(
        f"compile: Python runs at the trace alone, so a {kind} that the step changes would not change at later calls",
        f"{path} was {before[1]} and is {after[1]}" if kind == "number" else f"{path} grew from {before[1]} to {after[1]}",
        "count outside, or return the tensors that you collect",
    )
