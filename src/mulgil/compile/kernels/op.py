"""Calls that have a kernel of their own: the base of compile-internal ops that patterns put into a graph.

Their images lie in lanes, [N / lanes, C, H, W, lanes] (`Value.lanes`): a vector's worth of images after the other. The last
vector is padded with zeros, which everything that writes such memory writes too, for sums over the batch read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from mulgil.compile.graph import Node, Value
from mulgil.ops.function import Function

ITEMS = "for item in range(share[0], share[1]):"


class Text:
    """The lines of a function's body under construction."""

    def __init__(self, *headers: str) -> None:
        self.lines: list[str] = []
        self.depth = 1
        self.open(*headers)

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
    arguments: name -> value. sizes: name -> number, constants of the source. operations: of its arithmetic. scratch: elements of
    memory that each share needs for itself, and scratch_each: for each of its items besides; zeros at first.
    vectors: dtype and lanes, where no argument lies in lanes.
    """

    body: Text
    arguments: dict[str, Value]
    sizes: dict[str, int]
    items: int
    operations: int
    scratch: int = 0
    scratch_each: int = 0
    vectors: tuple[np.dtype, int] | None = None

    @property
    def vector(self) -> tuple[np.dtype, int]:
        """The dtype and number of a vector's elements: those of the images."""
        if self.vectors:
            return self.vectors
        image = max((v for v in self.arguments.values() if v.lanes), key=lambda v: v.dtype.kind == "f")
        return image.dtype if image.dtype.kind == "f" else np.dtype(np.float32), image.lanes

    @property
    def source(self) -> str:
        sizes = {**self.sizes, "LANES": self.vector[1]}
        sizes |= {f"{name}_size": prod(v.shape[1:]) for name, v in self.arguments.items() if v.lanes}
        head = [f"def kernel({', '.join(['share', *self.arguments, 'scratch'])}):"]
        head += [f"    {', '.join(sizes)} = {', '.join(map(str, sizes.values()))}"]
        return "\n".join([*head, *self.body.lines]) + "\n"


class KernelOp(Function):
    """A call that `launch` turns into a kernel. It has no text for eager mode: patterns put it where its meaning is known."""

    def launch(self, node: Node) -> Launch:
        raise NotImplementedError(f"{type(self).__name__}.launch")


def image_sizes(x: Value) -> dict[str, int]:
    """What kernels call the sizes of x[N, C, H, W]."""
    return {"H": x.shape[2], "W": x.shape[3], "vectors": x.vectors}


@dataclass(frozen=True)
class ToLanes(KernelOp):
    """x[N, ...] in C order -> the same in lanes."""

    def launch(self, node: Node) -> Launch:
        x, y = node.inputs[0], node.outputs[0]
        assert y is not None
        t = Text(ITEMS, "for k in range(y_size):")
        t("at, n = (item * y_size + k) * LANES, item * LANES", "live = min(count - n, LANES)")
        t.open("for lane in range(live):")
        t("y[at + lane] = x[(n + lane) * y_size + k]")
        t.close()
        t.open("for lane in range(live, LANES):")
        t("y[at + lane] = 0")
        return Launch(t, {"x": x, "y": y}, {"count": x.shape[0]}, y.vectors, 0)


@dataclass(frozen=True)
class FromLanes(KernelOp):
    """x[N, ...] in lanes -> the same in C order."""

    def launch(self, node: Node) -> Launch:
        x, y = node.inputs[0], node.outputs[0]
        assert y is not None
        t = Text(ITEMS, "for n in range(item * LANES, min(item * LANES + LANES, count)):", "for k in range(x_size):")
        t("y[n * x_size + k] = x[(item * x_size + k) * LANES + n - item * LANES]")
        return Launch(t, {"x": x, "y": y}, {"count": x.shape[0]}, x.vectors, 0)
