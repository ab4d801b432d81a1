"""`program.profile()`: where the time of a plan goes, beside what the machine could do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np

from mulgil.compile.cost import nodes_of, operations, traffic
from mulgil.compile.passes.fuse import Kernel, iteration_shape


@dataclass(frozen=True)
class Row:
    """A line of the plan: the median seconds of a call, its arithmetic operations, and the bytes of the arrays that it reads and writes."""

    line: str
    work: str
    seconds: float
    operations: int
    bytes: int

    @property
    def gflops(self) -> float:
        return self.operations / self.seconds / 1e9

    @property
    def gbytes(self) -> float:
        """GB/s, as if every array went through memory; more than the machine's figure means that caches served."""
        return self.bytes / self.seconds / 1e9


@dataclass(frozen=True)
class Profile:
    """rows: one for each line of the plan, in order. peaks: (GFLOP/s, GB/s) of this machine, measured."""

    rows: tuple[Row, ...]
    peaks: tuple[float, float]

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return sum(row.seconds for row in self.rows)

    @property
    def floor(self) -> float:
        """Seconds that the arithmetic alone would take at the machine's peak."""
        return sum(row.operations for row in self.rows) / self.peaks[0] / 1e9

    def __str__(self) -> str:
        lines = [f"{'line':10} {'ms':>8} {'share':>6} {'GFLOP/s':>8} {'GB/s':>7}  work"]
        for row in self.rows:
            share = row.seconds / self.seconds
            lines.append(f"{row.line:10} {1e3 * row.seconds:8.3f} {share:6.1%} {row.gflops:8.1f} {row.gbytes:7.1f}  {row.work}")
        lines.append(f"{'whole':10} {1e3 * self.seconds:8.3f}; the arithmetic at this machine's peak would take {1e3 * self.floor:.3f} ms")
        lines.append(f"the machine: {self.peaks[0]:.0f} GFLOP/s (product of 1024x1024 matrices), {self.peaks[1]:.0f} GB/s (copy of 64 MB)")
        return "\n".join(lines)

    __repr__ = __str__


def timed_rows(
    lines: Sequence[tuple[str, Any]], scope: dict[str, Any], inputs: list[np.ndarray], names: list[str], repeats: int
) -> list[Row]:
    """Time each line of a plan. lines: (source, the step that it runs). scope: what the source names. inputs: arrays for `names`."""
    times = np.zeros((repeats, len(lines)))
    body = [f"    {text}\n    t, u = clock(), t\n    times[{i}] = t - u\n" for i, (text, _) in enumerate(lines)]
    space = {**scope, "clock": time.perf_counter}
    exec(compile(f"def timed(times, {', '.join(names)}):\n    t = clock()\n{''.join(body)}", "<mulgil profile>", "exec"), space)
    timed: Callable[..., None] = space["timed"]
    for row in times:
        timed(row, *inputs)
    seconds = np.maximum(np.median(times, axis=0), 1e-9)
    return [Row(_name(text), work(step), float(s), operations(step), traffic(step)) for (text, step), s in zip(lines, seconds, strict=True)]


def _name(line: str) -> str:
    return line.partition("(")[0].rpartition(" ")[2]


def work(step: Any) -> str:
    """The calls of a step, shortened: `Add ReLU.backward Sum x3`."""
    counts: dict[str, int] = {}
    for node in nodes_of(step):
        name = type(node.op).__name__ + (".backward" if node.phase == "backward" else "")
        counts[name] = counts.get(name, 0) + 1
    parts = [name if n == 1 else f"{name} x{n}" for name, n in counts.items()]
    if isinstance(step, Kernel):
        shape = max(map(iteration_shape, step.nodes), key=prod)
    else:
        shape = next((v.shape for v in step.writes()), ())
    return f"{list(shape)} {' '.join(parts[:8])}{' ...' if len(parts) > 8 else ''}"


@cache
def peaks() -> tuple[float, float]:
    """(GFLOP/s, GB/s) of this machine with all its threads: the best of a few tries."""
    a, big = np.ones((1024, 1024), np.float32), np.ones(8 << 20)
    b, other = np.empty_like(a), np.empty_like(big)
    product = min(_seconds(lambda: np.matmul(a, a, b)) for _ in range(10))
    copy = min(_seconds(lambda: np.copyto(other, big)) for _ in range(5))
    return 2 * 1024**3 / product / 1e9, 2 * big.nbytes / copy / 1e9


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
