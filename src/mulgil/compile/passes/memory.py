"""Memory: buffers for the values that need one, reused as soon as what they held is no longer read."""

from __future__ import annotations

from typing import Any

import numpy as np

from mulgil.compile.graph import Graph, Value
from mulgil.compile.kernels.op import KernelOp
from mulgil.compile.passes.fuse import Kernel, Step, is_reduction
from mulgil.ops.linalg import MatMul

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


def assign(graph: Graph, steps: list[Step]) -> tuple[list[tuple[Value, np.ndarray]], dict[str, int]]:
    """Arrays for the values that kernels and matrix products write (flat ones for values in lanes), and how much memory that takes.

    A value lives from the step that writes it to the last that reads it, or any view of it. Results live to the end.
    """
    written = written_by(steps, graph)
    last: dict[int, int] = {}
    for i, step in enumerate(steps):
        for node in step.nodes if isinstance(step, Kernel) else [step]:
            for v in (*node.reads(), *node.writes()):
                last[id(v.root)] = i
    last.update((id(v.root), len(steps)) for v in graph.results)
    free: list[np.ndarray] = []  # blocks of bytes
    busy: list[tuple[int, np.ndarray]] = []
    placed: list[tuple[Value, np.ndarray]] = []
    total = 0
    for i in range(len(steps)):
        free += [block for until, block in busy if until < i]
        busy = [b for b in busy if b[0] >= i]
        for value in written.get(i, ()):
            block = _fitting(free, value.nbytes)
            if block is None:
                block = _block(max(value.nbytes, 1))
                total += block.nbytes
            busy.append((last.get(id(value), i), block))
            flat = block[: value.nbytes].view(value.dtype)
            placed.append((value, flat if value.lanes else flat.reshape(value.shape)))
    plain = sum(v.nbytes for v, _ in placed)
    return placed, {"buffers": len(placed), "bytes": total, "bytes_without_reuse": plain}


def written_by(steps: list[Step], graph: Graph) -> dict[int, list[Value]]:
    """Step -> the values that it must write into memory of their own."""
    reads_in: dict[int, set[int]] = {}
    for i, step in enumerate(steps):
        for node in step.nodes if isinstance(step, Kernel) else [step]:
            for v in node.reads():
                reads_in.setdefault(id(v), set()).add(i)
    results = {id(v) for v in graph.results} | graph.written()  # later versions lie where the first does
    written: dict[int, list[Value]] = {}
    for i, step in enumerate(steps):
        if isinstance(step, Kernel):
            for nest in step.nests:
                for node in nest.nodes:
                    for v in node.writes() if not node.op.inplace else ():
                        elsewhere = id(v) in results or reads_in.get(id(v), set()) - {i} or _read_by_other_nest(v, nest, step)
                        if elsewhere or is_reduction(node):
                            written.setdefault(i, []).append(v)
        elif step.op.kind is MatMul and step.phase == "forward" and step.outputs[0] is not None and step.outputs[0].shape:
            written.setdefault(i, []).append(step.outputs[0])
        elif isinstance(step.op, KernelOp):
            written.setdefault(i, []).extend(step.writes())
    return written


def _read_by_other_nest(value: Value, nest: Any, kernel: Kernel) -> bool:
    return any(value in node.reads() for other in kernel.nests if other is not nest for node in other.nodes)


def _block(nbytes: int) -> np.ndarray:
    raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


def aligned(size: int, dtype: np.dtype) -> np.ndarray:
    """Zeros that start at a cache line."""
    return _block(size * dtype.itemsize).view(dtype)


def _fitting(free: list[np.ndarray], nbytes: int) -> np.ndarray | None:
    """The smallest free block that is large enough, and not more than twice too large."""
    fits = [i for i, block in enumerate(free) if nbytes <= block.nbytes <= 2 * nbytes + 4096]
    return free.pop(min(fits, key=lambda i: free[i].nbytes)) if fits else None
