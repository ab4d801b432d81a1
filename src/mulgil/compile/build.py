"""From a call to a plan: run the function once, watched; see what it did to the world; make the program."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any

from mulgil.autograd import Tensor
from mulgil.compile.graph import Graph, Value
from mulgil.compile.guards import World
from mulgil.compile.passes.fuse import fuse
from mulgil.compile.passes.patterns import convolutions
from mulgil.compile.passes.products import descents, large_products, predictions
from mulgil.compile.passes.recompute import recompute
from mulgil.compile.passes.simplify import drop_dead, fold_constants, share_common
from mulgil.compile.plan import Argument, Gradients, Leaf, Plan, template
from mulgil.compile.program import Program
from mulgil.compile.signature import Call
from mulgil.compile.trace import Recorder
from mulgil.errors import TraceError
from mulgil.ops.function import observed

PASSES = (fold_constants, share_common, drop_dead, convolutions, descents, predictions, large_products, recompute, drop_dead)
COUNTS = (int, float, complex)
_building = RLock()  # numba and LLVM serve one thread at a time


def simplified(graph: Graph) -> Graph:
    """The passes that turn a graph into a smaller one."""
    for rewrite in PASSES:
        graph = rewrite(graph)
    return graph


class Trace:
    """One eager run under a recorder. result: what the function returned. world: as it was before."""

    def __init__(self, function: Callable, call: Call, world: World):
        self.call, self.world = call, world
        leaves = [t for t in (*world.tensors.values(), *call.tensors) if t.requires_grad and t.node is None]
        self.recorder = Recorder([t.array for t in call.tensors], leaves)
        self.draws = world.draws()
        with observed(self.recorder):
            self.result = function(*call.args, **call.kwargs)

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
        call, recorder = self.call, self.recorder
        tensors = later.tensors | {id(t): t for t in call.tensors}
        arguments = {id(t): i for i, t in reversed(list(enumerate(call.tensors))) if id(t) not in later.tensors}
        given: dict[int, Any] = {key: Argument(arguments[key]) if key in arguments else t for key, t in tensors.items()}
        structure, made = template(self.result, given)
        written, inputs = recorder.written()
        self._refuse_shared_writes(written, inputs)
        gradients = self._gradients(tensors, arguments, written | {id(recorder.array(v)) for v in inputs})
        made += [tensors[key].grad for key in self._keys(gradients.made)]  # type: ignore[misc]
        earlier = [recorder.earlier[key] for key in self._keys(gradients.read)]
        graph = recorder.graph(made, earlier)
        before, after = recorder.around()
        with _building:
            graph = simplified(graph)
            program = Program(graph, fuse(graph))
        places = [*recorder.inputs, *earlier]
        versions = [t.version for t in later.tensors.values() if id(t.array) in written]
        writes = [i for i, v in enumerate(places) if any(v is w for w in inputs)]
        kept = call.objects, *(f for t in call.tensors for f in (t._hooks or ()))
        return Plan(program, structure, before, after, gradients, writes, versions, call.coarse, kept)

    def _keys(self, leaves: list[Leaf]) -> list[int]:
        return [id(self.call.tensors[leaf] if isinstance(leaf, int) else leaf) for leaf in leaves]

    def _gradients(self, tensors: dict[int, Tensor], arguments: dict[int, int], written: set[int]) -> Gradients:
        """What the step did to gradients. written: identities of the arrays that it wrote into."""
        recorder, found = self.recorder, Gradients()
        reads = {id(v) for node in recorder.nodes for v in node.reads()}
        for key, t in tensors.items():
            if t.node is not None:
                continue
            before, leaf = recorder.gradients.get(key), arguments.get(key, t)
            read = before is not None and id(recorder.earlier[key]) in reads
            if t.grad is not before and t.grad is not None:
                clears = key in recorder.clears or (before is not None and not read)
                if clears and id(t.array) in written:
                    found.dropped.append(leaf)
                else:
                    found.made.append(leaf)
                if not clears:
                    found.conditions.append((leaf, before is None))
            elif t.grad is not before:
                found.dropped.append(leaf)
            if read:
                found.read.append(leaf)
                found.conditions.append((leaf, False))
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
