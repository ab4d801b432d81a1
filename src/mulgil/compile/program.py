"""A program: the plan of a graph, ready to run. Its Python is generated once and is a flat list of calls on fixed buffers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from math import prod
from traceback import walk_tb
from typing import Any

import numpy as np

from mulgil.compile.cost import arithmetic
from mulgil.compile.graph import Graph, Node, Value
from mulgil.compile.kernels.descend import Descend
from mulgil.compile.kernels.op import KernelOp
from mulgil.compile.loop.build import build, shared, split
from mulgil.compile.loop.ir import LoopKernel
from mulgil.compile.passes.fuse import Kernel, Step, is_gather, is_view, memory
from mulgil.compile.passes.memory import aligned, assign
from mulgil.compile.profile import Profile, peaks, timed_rows
from mulgil.compile.render import llvm, text
from mulgil.native import threads
from mulgil.native.blas import single_blas
from mulgil.native.loader import Argument, ByLayout, Spec, bind, bind_shares, prepare
from mulgil.ops.explain import PLAN, explain
from mulgil.ops.function import Context
from mulgil.ops.linalg import MatMul
from mulgil.ops.shape import Reshape

FEWEST = 1 << 14  # operations of a product: below, no library starts threads
SHARE = Argument("<i8", (2,))  # [start, stop) of a kernel's items


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
        self._scope: dict[str, Any] = {"np": np, "matmul": np.matmul, "ravel": np.ravel}
        self._fixed: dict[int, np.ndarray] = {}  # id of a value -> its array, where that never changes
        self._names: dict[int, str] = {id(v): v.name for v in graph.inputs}
        self._reshaped: dict[int, str] = dict(self._names)  # id of an argument, or of a reshaped one -> the argument's name
        for v in graph.values():
            if v.root.kind in ("state", "constant"):
                self._fix(v.root, v.root.array)
        buffers, self.memory = assign(graph, steps)
        self._placed = {id(value) for value, _ in buffers}
        for value, array in buffers:
            self._fix(value, array)
        self.kernels: dict[str, str] = {}
        self._specs: dict[str, tuple[Spec, list[np.ndarray | None], Callable[[tuple], Spec] | None]] = {}  # with what other strides want
        self._shared: dict[str, tuple[Spec, list[list[np.ndarray | None]]]] = {}  # with the arrays of each share
        calls = [step for step in steps if isinstance(step, Node)]
        self._layouts: dict[int, np.ndarray] = {}  # id of a value that has no fixed array -> one with the strides that it will have
        self._lines = [(line, step) for step in steps for line in self._step(step)]
        self._bind()
        self._threaded = any(len(arrays) > 1 for _, arrays in self._shared.values())
        self._single_blas = any(map(may_take_threads, calls))
        results = "".join(f"{self._name(v)}.copy(), " for v in graph.results)
        plan = f"def run({', '.join(v.name for v in graph.inputs)}):\n"
        plan += "".join(f"    {line}\n" for line, _ in self._lines) + f"    return ({results})\n"
        self.source = "\n".join([*self.kernels.values(), plan])
        exec(compile(plan, PLAN, "exec"), self._scope)  # our own text, from names and numbers alone
        self.run: Callable[..., tuple] = self._scope["run"]

    def __call__(self, *arrays: np.ndarray) -> tuple:
        """Run once; returns copies of the results."""
        if self._threaded:
            threads.allow()
        try:
            if not self._single_blas:
                return self.run(*arrays)
            with single_blas:
                return self.run(*arrays)
        except (ValueError, IndexError) as error:
            self._explain(error)
            raise

    def _explain(self, error: Exception) -> None:
        """Raise the error that the step has when it is run eagerly, where NumPy refused what a line of the plan does."""
        numbers = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == PLAN]
        line, step = self._lines[numbers[-1] - 2] if numbers else ("", None)  # the first line is the head of the function
        nodes = step.nodes if isinstance(step, Kernel) else [step] if isinstance(step, Node) else []
        for node in nodes:
            if node.phase == "forward" and (node is step or (is_gather(node) and self._row_check(node) == line)):
                explain(node.op, node.inputs, error)

    def profile(self, *arrays: Any, repeats: int = 20) -> Profile:
        """Time each line of the plan: `print(program.profile())`. What the step changes is put back afterwards.

        arrays: the arguments, as Tensors or arrays; zeros where none are given. repeats: the time of a line is the median of so many.
        """
        given = [np.asarray(a) for a in arrays] or [np.zeros(v.shape, v.dtype) for v in self.graph.inputs]
        state = [v.array for v in self.graph.values() if v.kind == "state"]
        before = [a.copy() for a in state]
        if self._threaded:
            threads.allow()
        try:
            with single_blas if self._single_blas else nullcontext():
                rows = timed_rows(self._lines, self._scope, given, [v.name for v in self.graph.inputs], repeats)
        finally:
            for a, b in zip(state, before, strict=True):
                a[...] = b
        return Profile(tuple(rows), peaks())  # with all threads, which go on spinning for a while

    # ---- names

    def _fix(self, value: Value, array: Any) -> None:
        self._fixed[id(value)] = array
        self._names[id(value)] = value.name
        self._scope[value.name] = array

    def _name(self, operand: Any) -> str:
        if not isinstance(operand, Value):
            return f"float('{operand}')" if isinstance(operand, float) else repr(operand)
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
        if isinstance(step.op, KernelOp):
            return self._launch(step)
        if step.op.inplace or not step.writes():
            return [self._act(step)]
        out = step.outputs[0]
        if step.op.kind is MatMul and step.phase == "forward" and out is not None and id(out) in self._fixed:
            a, b = map(self._name, step.inputs)
            return [f"matmul({a}, {b}, {self._name(out)})"]
        return self._call(step)

    def _view(self, node: Node) -> list[str]:
        source = self._array(node.inputs[0])
        out = node.outputs[0]
        assert out is not None
        if out.updates:  # the same place in the same memory
            return []
        if source is None:
            stand_in = self._layouts.get(id(node.inputs[0]))
            if node.inputs[0].kind == "input":
                stand_in = np.empty(node.inputs[0].shape, node.inputs[0].dtype)
            if stand_in is not None:
                self._layouts[id(out)] = node.run(stand_in)[0]
            if node.op.kind is Reshape and node.phase == "forward":
                self._names[id(out)] = f"{self._name(node.inputs[0])}.reshape({out.shape})"
                if id(node.inputs[0]) in self._reshaped:
                    self._reshaped[id(out)] = self._reshaped[id(node.inputs[0])]
                return []
            return self._call(node)
        view = node.run(source)[0]
        if not np.may_share_memory(view, source):  # a reshape that was a view for eager mode's strides, and is a copy for these
            return self._call(node)
        self._fix(out, view)
        return []

    def _act(self, node: Node) -> str:
        """A call whose results lie where its inputs did, or that gives nothing."""
        name = f"{type(node.op).__name__.lower()}{len(self._scope)}"
        call = node.op.overwrite if node.op.inplace else getattr(node.op, node.phase)
        self._scope[name] = partial(call, Context(np, node.needs, static=node.static))
        return f"{name}({', '.join(map(self._name, node.inputs))})"

    def _call(self, node: Node) -> list[str]:
        name = f"node{len(self._scope)}"
        self._scope[name] = node.run
        operands = node.inputs if node.phase == "forward" else (*node.inputs, *node.saved)
        for v in node.writes():
            self._names[id(v)] = v.name
        targets = ", ".join(v.name for v in node.writes())
        return [f"{targets}, = {name}({', '.join(map(self._name, operands))})"]

    def _kernel(self, kernel: Kernel) -> list[str]:
        loops, values = build(kernel, self._placed, self._strides)
        name = f"kernel{len(self.kernels)}"
        arrays = [self._scope.get(self._name(v)) for v in values]
        names = list(map(self._name, values))
        arguments = [Argument(v.dtype.str, v.shape, passed=a is None) for v, a in zip(values, arrays, strict=True)]
        cuts = self._cuts(loops, arrays)
        if cuts:
            loops = shared(loops, split(loops))  # type: ignore[arg-type]
            self._shared[name] = Spec(llvm.render(loops), (*arguments, SHARE), language="llvm"), [[*arrays, cut] for cut in cuts]
        else:
            passed = [v for v, a in zip(values, arrays, strict=True) if a is None]
            known = all(v.kind == "input" for v in passed)
            spec = Spec(llvm.render(loops), tuple(arguments), language="llvm")
            self._specs[name] = spec, arrays, None if known else self._by_layout(kernel, passed, tuple(arguments))
        self.kernels[name] = text.render(loops, name)
        checks = [self._row_check(node) for node in kernel.nodes if is_gather(node)]
        passed_names = ", ".join(n for n, array in zip(names, arrays, strict=True) if array is None)
        return [*dict.fromkeys(checks), f"{name}({passed_names})  # {', '.join(names)}"]

    def _strides(self, value: Value) -> tuple[int, ...] | None:
        """The strides in bytes of a value's memory as far as they are known; None for C order."""
        array = self._scope.get(self._name(value))
        layout = array if array is not None else self._layouts.get(id(value))
        return None if layout is None or layout.flags.c_contiguous else layout.strides

    def _by_layout(self, kernel: Kernel, passed: list[Value], arguments: tuple[Argument, ...]) -> Callable[[tuple], Spec]:
        """The kernel for other strides of the arrays that it is passed."""

        def spec_for(layout: tuple) -> Spec:
            given = {id(v): strides for v, strides in zip(passed, layout, strict=True)}
            loops, _ = build(kernel, self._placed, lambda v: given[id(v)] if id(v) in given else self._strides(v))
            return Spec(llvm.render(loops), arguments, language="llvm")

        return spec_for

    def _row_check(self, node: Node) -> str:
        """A line that raises IndexError, as NumPy does, for a row that is not there: the kernel would read beyond the array."""
        x, rows = node.inputs
        self._scope[f"rows_{x.shape[0]}"] = np.empty(x.shape[0], np.bool_)
        return f"rows_{x.shape[0]}.take({self._name(rows)})"

    def _cuts(self, loops: LoopKernel, arrays: list[np.ndarray | None]) -> list[np.ndarray]:
        """How threads share a kernel; none for a small one, whatever the number of threads."""
        nbytes, loop = sum(a.nbytes for a in arrays if a is not None), split(loops)
        if loop is None or not threads.worth(0, nbytes) or any(a is None for a in arrays):
            return []
        return [np.array(cut) for cut in threads.shares(loops.nests[0].counts[loop], 0, nbytes)]

    def _launch(self, node: Node) -> list[str]:
        """A call with a kernel of its own, in as many shares as there are threads for it."""
        launch = node.op.launch(node)  # type: ignore[attr-defined]
        name = f"kernel{len(self.kernels)}"
        self.kernels[name] = f"# {node}\n{launch.source.replace('def kernel(', f'def {name}(', 1)}"
        values = list(launch.arguments.values())
        arrays = list(map(self._flat, values))
        elements = [prod(v.shape) if a is None else a.size for v, a in zip(values, arrays, strict=True)]
        given = [Argument(v.dtype.str, (n,), passed=a is None) for v, n, a in zip(values, elements, arrays, strict=True)]
        cuts = [np.array(share) for share in threads.shares(launch.items, launch.operations, sum(v.nbytes for v in values))]
        scratch = launch.scratch + launch.scratch_each * max(int(stop - start) for start, stop in cuts)
        dtype, lanes = launch.vector
        spec = Spec(launch.source, (SHARE, *given, Argument(dtype.str, (scratch,))), (dtype.name, lanes))
        self._shared[name] = spec, [[cut, *arrays, aligned(scratch, dtype)] for cut in cuts]
        passed = ", ".join(self._elements(v) for v, a in zip(values, arrays, strict=True) if a is None)
        return [f"{name}({passed})  # {', '.join(v.name for v in values)}"]

    def _elements(self, value: Value) -> str:
        """What names a contiguous array with the elements of a value. Arguments are contiguous, and their shapes do not matter."""
        return self._reshaped.get(id(value)) or f"ravel({self._name(value)})"

    def _flat(self, value: Value) -> np.ndarray | None:
        """The memory of a value that has a place of its own, flat; None where a copy may be needed at each call."""
        array = self._array(value)
        return array.reshape(-1) if array is not None and array.flags.c_contiguous else None

    def _bind(self) -> None:
        """Compile or load all kernels at once, and tie each to its arrays."""
        prepare([*(spec for spec, _, _ in self._specs.values()), *(spec for spec, _ in self._shared.values())])
        for name, (spec, arrays_of_shares) in self._shared.items():
            self._scope[name] = bind_shares(spec, arrays_of_shares)
        for name, (spec, arrays, spec_for) in self._specs.items():
            self._scope[name] = ByLayout(spec_for, arrays) if spec_for else bind(spec, arrays)


def may_take_threads(node: Node) -> bool:
    """Whether the call, which is not a kernel of ours, may be a product that the BLAS library does on several threads."""
    if isinstance(node.op, KernelOp) or is_view(node) or node.op.raises or node.op.early or not node.writes():
        return False
    return node.op.kind not in (MatMul, Descend) or node.phase == "backward" or arithmetic(node) >= FEWEST
