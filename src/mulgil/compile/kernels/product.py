"""Matrix products with what follows them, shared by the plan's own threads.

c[m, n] = sum over k of a[m, k] b[k, n]. A tile of sums stays in the registers: some rows times some vectors of columns. Each
element of a meets the vectors of b's row, so b must lie row by row; where it is given transposed, as a layer's weight is, each
panel of columns is turned into scratch memory first.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from mulgil.compile.graph import Node, Value
from mulgil.compile.kernels.op import KernelOp, Launch, Text
from mulgil.compile.kernels.threads import cores
from mulgil.compile.kernels.vector import lanes_for, machine

SHORT = 16  # products in a sum: for fewer, loading and storing the sums is all the work


@dataclass(frozen=True)
class Product(KernelOp):
    """a, b, [bias[n]] -> c = a b + bias, then ReLU; or p, a, b, lr -> p (1 - lr decay) - lr a b, in p's memory.

    turned_a, turned_b: whether a is given as [k, m], b as [n, k]. decay: not None for the second form.
    """

    turned_a: bool
    turned_b: bool
    relu: bool = False
    decay: float | None = None

    @property
    def inplace(self) -> tuple[int, ...]:  # type: ignore[override]
        return () if self.decay is None else (0,)

    def launch(self, node: Node) -> Launch:
        a, b = self.factors(node)
        (m, n), k = sizes_of(self, a, b)
        lanes = lanes_for(a.dtype, n)
        rows, wide = tile(m, n, lanes)
        by_panels = self.turned_b or b.nbytes > a.nbytes  # each thread turns or gathers its own panels
        panels = -(-n // (wide * lanes))
        sizes = {"M": m, "N": n, "K": k, "panels": panels, "tiles": -(-m // rows)}
        arguments: dict[str, Any] = {"a": a, "b": b, "c": node.outputs[0]}
        if self.decay is not None:
            arguments |= {"c": node.inputs[0], "lr": node.inputs[3]}
        elif len(node.inputs) == 3:
            arguments["bias"] = node.inputs[2]
        body = product_text(self, rows, wide, "bias" in arguments, by_panels)
        scratch = k * wide * lanes
        items = panels if by_panels else sizes["tiles"]
        return Launch(body, arguments, sizes, items, 2 * m * n * k, scratch, vectors=(a.dtype, lanes))

    def factors(self, node: Node) -> tuple[Value, Value]:
        return tuple(node.inputs[:2] if self.decay is None else node.inputs[1:3])


def sizes_of(op: Product, a: Value, b: Value) -> tuple[tuple[int, int], int]:
    """((m, n), k)."""
    m, k = a.shape[::-1] if op.turned_a else a.shape
    return (m, b.shape[0] if op.turned_b else b.shape[1]), k


def supported(op: Product, a: Value, b: Value) -> bool:
    """Whether the tiles here can do it, and well."""
    (m, n), k = sizes_of(op, a, b)
    lanes = lanes_for(a.dtype, n)
    rows, wide = tile(m, n, lanes)
    fits = k >= SHORT and n >= lanes and rows * wide >= 10 and prod(a.shape) > 0
    if op.decay is None:  # tiles that overlap at the edge write the same twice
        return fits
    width = wide * lanes  # here each element may change once: the last two panels, where they overlap, must be one thread's
    return fits and m % rows == 0 and (n % width == 0 or -(-n // width) >= 2 * cores())


def tile(m: int, n: int, lanes: int) -> tuple[int, int]:
    """(rows, vectors of columns) of the sums that fit the registers and take the fewest loads."""
    best, choice = float("inf"), (1, 1)
    for rows in range(1, min(m, 14) + 1):
        for wide in range(1, max(1, min(6, n // lanes)) + 1):
            if rows * wide + wide + 1 > machine()[1]:
                continue
            waste = -(-m // rows) * rows / m * -(-n // (wide * lanes)) * wide * lanes / n + 0.2 * (m % rows > 0)
            cost = waste * (1 + (rows + wide) / (rows * wide))
            if cost < best:
                best, choice = cost, (rows, wide)
    return choice


def product_text(op: Product, rows: int, wide: int, bias: bool, by_panels: bool) -> Text:
    t = Text("for panel in range(share[0], share[1]):" if by_panels else "for panel in range(panels):")
    t(f"j = min(panel * {wide} * LANES, N - {wide} * LANES)", f"done = panel * {wide} * LANES - j")
    if op.turned_b:
        _turn(t, wide)
    else:
        t.open("for k in range(K):")
        t(*(f"store(scratch, (k * {wide} + {v}) * LANES, load(b, k * N + j + {v} * LANES))" for v in range(wide)))
        t.close()
    t.open("for tile in range(tiles):" if by_panels else "for tile in range(share[0], share[1]):")
    t(f"i = min(tile * {rows}, M - {rows})")
    each = [(r, v) for r in range(rows) for v in range(wide)]
    t(*(f"s{r}_{v} = {f'load(bias, j + {v} * LANES)' if bias else 'zero()'}" for r, v in each))
    if op.decay is not None:
        t(*(f"prefetch(c, (i + {r}) * N + j + {v} * LANES)" for r, v in each))
    t.open("for k in range(K):")
    t(*(f"b{v} = load(scratch, (k * {wide} + {v}) * LANES)" for v in range(wide)))
    for r in range(rows):
        t(f"x = broadcast(a, {f'k * M + i + {r}' if op.turned_a else f'(i + {r}) * K + k'})")
        t(*(f"s{r}_{v} = fma(x, b{v}, s{r}_{v})" for v in range(wide)))
    t.close()
    for r, v in each:
        place = f"(i + {r}) * N + j + {v} * LANES"
        if op.decay is None:
            t(f"store(c, {place}, {f'greater(zero(), s{r}_{v}, zero(), s{r}_{v})' if op.relu else f's{r}_{v}'})")  # keeps NaN
            continue
        t(f"p = load(c, {place})", f"change = fma(constant(-lr[0]), fma(constant({op.decay}), p, s{r}_{v}), zero())")
        t("change = fma(constant(-1.0), keep(change, done - " + f"{v} * LANES), change)", f"store(c, {place}, add(p, change))")
    return t


def _turn(t: Text, wide: int) -> None:
    """A panel of b[n, k] into the scratch memory, as [k, columns]."""
    t.open(f"for v in range({wide}):")
    t("first = (j + v * LANES) * K")
    t.open("for k in range(0, K - LANES + 1, LANES):")
    t(f"transpose(b, first + k, K, scratch, (k * {wide} + v) * LANES, {wide} * LANES)")
    t.close()
    t.open("for k in range(K // LANES * LANES, K):", "for lane in range(LANES):")
    t(f"scratch[(k * {wide} + v) * LANES + lane] = b[first + lane * K + k]")
    t.close(3)
