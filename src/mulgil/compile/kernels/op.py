"""Calls that have a kernel of their own: the base of compile-internal ops that patterns put into a graph.

Their images lie batch-last, [C, H, W, N], and N is padded to whole vectors (`Value.lanes`). The lanes of the padding are
zero, always: such memory is shared among values of the same pitch alone, and every kernel writes zeros there.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from mulgil.compile.graph import Node, Value
from mulgil.ops.function import Function


class Text:
    """The lines of a function's body under construction."""

    def __init__(self, *headers: str) -> None:
        self.lines: list[str] = []
        self.depth = 1
        self.open("for item in range(share[0], share[1]):", *headers)

    def __call__(self, *lines: str) -> None:
        self.lines += ["    " * self.depth + line for line in lines]

    def open(self, *headers: str) -> None:
        """Each header, one deeper than the last."""
        for header in headers:
            self(header)
            self.depth += 1

    def close(self, levels: int = 1) -> None:
        self.depth -= levels


@dataclass(frozen=True)
class Launch:
    """How a call runs: the source of `kernel(share, <arguments>, scratch)`, over flat arrays.

    share: [start, stop), which of `items` to do; they cost the same and no result depends on how they are shared.
    arguments: name -> value. sizes: name -> number, constants of the source. scratch: elements of memory that each share needs
    for itself. operations: how many the call does, to judge whether threads are worth while.
    """

    body: Text
    arguments: dict[str, Value]
    sizes: dict[str, int]
    items: int
    operations: int
    scratch: int = 0

    @property
    def image(self) -> Value:
        """The value that decides the dtype and the lanes of the vectors."""
        return next(v for v in self.arguments.values() if v.lanes and v.dtype.kind == "f")

    @property
    def source(self) -> str:
        sizes = {**self.sizes, "LANES": self.image.lanes}
        head = [f"def kernel({', '.join(['share', *self.arguments, 'scratch'])}):"]
        head += [f"    {', '.join(sizes)} = {', '.join(map(str, sizes.values()))}"]
        return "\n".join([*head, *self.body.lines]) + "\n"


class KernelOp(Function):
    """A call that `launch` turns into a kernel. It has no text for eager mode: patterns put it where its meaning is known."""

    def launch(self, node: Node) -> Launch:
        raise NotImplementedError(f"{type(self).__name__}.launch")


def vector_count(value: Value) -> int:
    """How many vectors hold one pixel of all images."""
    return -(-value.shape[0] // value.lanes)


def image_sizes(x: Value) -> dict[str, int]:
    """What kernels call the sizes of x[N, C, H, W]."""
    return {"H": x.shape[2], "W": x.shape[3], "pitch": x.pitch, "batch": vector_count(x) * x.lanes}


@dataclass(frozen=True)
class ToBatchLast(KernelOp):
    """x[N, ...] in C order -> the same, batch-last."""

    def launch(self, node: Node) -> Launch:
        x, y = node.inputs[0], node.outputs[0]
        assert y is not None
        sizes = {"size": prod(x.shape[1:]), "pitch": y.pitch, "count": x.shape[0]}
        t = Text("for k in range(size):", "for n in range(item * LANES, min(item * LANES + LANES, count)):")
        t("y[k * pitch + n] = x[n * size + k]")
        return Launch(t, {"x": x, "y": y}, sizes, vector_count(y), 20 * prod(x.shape))


@dataclass(frozen=True)
class ReLUGradient(KernelOp):
    """g where y > 0, else 0; all batch-last."""

    def launch(self, node: Node) -> Launch:
        (g, y), gx = node.inputs, node.outputs[0]
        assert gx is not None
        sizes = {"pixels": prod(y.shape[1:]), "pitch": y.pitch}
        t = Text("for k in range(item * LANES, pixels * pitch, pitch):")
        t("store(gx, k, greater(load(y, k), zero(), load(g, k), zero()))")
        return Launch(t, {"g": g, "y": y, "gx": gx}, sizes, vector_count(y), 10 * prod(y.shape))
