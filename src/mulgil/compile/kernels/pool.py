"""Pooling over images in lanes, forward and backward, for any window, stride, padding and dilation."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from mulgil.compile.graph import Node
from mulgil.compile.kernels.op import ITEMS, KernelOp, Launch, Text, image_sizes
from mulgil.ops.pool import AvgPool2d, MaxPool2d, Pooling

LARGEST = 64  # positions of a window that a kernel spells out; more run as NumPy


def supported(pool: Pooling) -> bool:
    """Whether the kernels here can do it."""
    return prod(pool.kernel) <= LARGEST


def disjoint(pool: Pooling) -> bool:
    """Whether the windows touch but never overlap, and see no padding."""
    return pool.kernel == pool.stride and pool.padding == (0, 0) and pool.dilation == (1, 1)


@dataclass(frozen=True)
class PoolOp(KernelOp):
    """Pooling or its gradient; an item is a row of what it makes. names: what the text calls inputs and outputs."""

    pool: Any
    names: ClassVar[tuple[str, ...]] = ()

    def text(self, names: Container[str]) -> Text:
        """names: of the arrays that are there."""
        raise NotImplementedError(f"{type(self).__name__}.text")

    def launch(self, node: Node) -> Launch:
        operands = zip(self.names, (*node.inputs, *node.outputs), strict=True)
        arguments = {name: v for name, v in operands if v is not None}
        image, windows = (arguments["x"], arguments["y"]) if "x" in arguments else (arguments["gx"], arguments["gy"])
        made = node.outputs[0]
        assert made is not None
        sizes = {**image_sizes(image), "P": windows.shape[2], "Q": windows.shape[3], "channels": image.shape[1]}
        operations = prod(self.pool.kernel) * prod(windows.shape)
        return Launch(self.text(arguments), arguments, sizes, made.vectors * prod(made.shape[1:3]), operations)


class MaxPoolForward(PoolOp):
    """x -> y and, where it is wanted, the winner: the position in the window of the first of the largest, uint8."""

    names = ("x", "y", "winner")

    def text(self, names: Container[str]) -> Text:
        return forward_text(self.pool, "winner" in names)


class MaxPoolBackward(PoolOp):
    """gy and the winners -> gx: each element gets the gradient of the windows that it won."""

    names = ("gy", "winner", "gx")

    def text(self, names: Container[str]) -> Text:
        return backward_text(self.pool)


class AvgPoolForward(PoolOp):
    """x -> y: the mean of each window."""

    names = ("x", "y")

    def text(self, names: Container[str]) -> Text:
        return average_text(self.pool)


class AvgPoolBackward(PoolOp):
    """gy -> gx: each element gets its part of the gradients of its windows."""

    names = ("gy", "gx")

    def text(self, names: Container[str]) -> Text:
        return backward_text(self.pool)


def _over_windows(pool: Pooling, start: str, *taken: str) -> Text:
    """The loops over windows; `taken` are lines for each of its elements v. In a line, {k} is the element's number."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = pool.kernel, pool.stride, pool.padding, pool.dilation
    t = Text(ITEMS)
    t("n, c, p = item // (channels * P), item // P % channels, item % P")
    t.open("for q in range(Q):")
    t(start)
    for k, (i, j) in enumerate((i, j) for i in range(kh) for j in range(kw)):
        t(f"row, column = p * {sh} + {i * dh - ph}, q * {sw} + {j * dw - pw}")
        t.open("if 0 <= row < H and 0 <= column < W:" if any(pool.padding) else "if True:")
        t("v = load(x, (n * x_size + (c * H + row) * W + column) * LANES)", *(line.format(k=k) for line in taken))
        t.close()
    t("place = (n * y_size + (c * P + p) * Q + q) * LANES")
    return t


def forward_text(pool: MaxPool2d, winner: bool) -> Text:
    position = ["a = beats(v, m, constant({k}), a)"] if winner else []
    t = _over_windows(pool, "m, a = constant(-np.inf), zero()", *position, "m = beats(v, m, v, m)")
    t("store(y, place, m)", "store_bytes(winner, place, a)" if winner else "")
    return t


def average_text(pool: AvgPool2d) -> Text:
    t = _over_windows(pool, "s = zero()", "s = add(s, v)")
    t(f"store(y, place, fma(constant({_part(pool)}), s, zero()))")
    return t


def _part(pool: AvgPool2d) -> str:
    """1 / the number of elements in window (p, q), as text."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = pool.kernel, pool.stride, pool.padding, pool.dilation
    if pool.count_include_pad or not any(pool.padding):
        return repr(1 / (kh * kw))
    rows = " + ".join(f"(0 <= p * {sh} + {i * dh - ph} < H)" for i in range(kh))
    columns = " + ".join(f"(0 <= q * {sw} + {j * dw - pw} < W)" for j in range(kw))
    return f"1 / (({rows}) * ({columns}))"


def backward_text(pool: MaxPool2d | AvgPool2d) -> Text:
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = pool.kernel, pool.stride, pool.padding, pool.dilation
    t = Text(ITEMS)
    t("n, c, y = item // (channels * H), item // H % channels, item % H")
    t.open("for x in range(W):")
    t("s = zero()")
    if disjoint(pool):  # at most one window
        t(f"p, q, k = y // {kh}, x // {kw}, y % {kh} * {kw} + x % {kw}")
        t.open("if p < P and q < Q:")
        t("place = (n * gy_size + (c * P + p) * Q + q) * LANES")
        t(f"s = {_passed(pool, 'k')}")
        t.close()
    else:
        t.open(f"for i in range({kh}):")
        t(f"down = y + {ph} - i * {dh}", f"p = down // {sh}")
        t.open(f"if down % {sh} == 0 and 0 <= p < P:", f"for j in range({kw}):")
        t(f"right = x + {pw} - j * {dw}", f"q = right // {sw}")
        t.open(f"if right % {sw} == 0 and 0 <= q < Q:")
        t("place = (n * gy_size + (c * P + p) * Q + q) * LANES")
        t(f"s = add(s, {_passed(pool, f'i * {kw} + j')})")
        t.close(4)
    t("store(gx, (n * gx_size + (c * H + y) * W + x) * LANES, s)")
    return t


def _passed(pool: MaxPool2d | AvgPool2d, k: str) -> str:
    """What element k of window (p, q) gets of its gradient."""
    if isinstance(pool, AvgPool2d):
        return f"fma(constant({_part(pool)}), load(gy, place), zero())"
    return f"equal(load_bytes(winner, place), constant({k}), load(gy, place), zero())"
