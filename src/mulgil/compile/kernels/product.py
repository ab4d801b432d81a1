"""Matrix products with what follows them, shared by the plan's own threads.

c[m, n] = sum over k of a[m, k] b[k, n]. A tile of sums stays in the registers: some rows times some vectors of columns. Each
element of a meets the vectors of b's row, so b must lie row by row; where it is given transposed, as a layer's weight is, each
panel of columns is turned into scratch memory first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mulgil.compile.graph import Node, Value
from mulgil.compile.kernels.op import KernelOp, Launch, Text
from mulgil.native import threads
from mulgil.native.vector import lanes_for, machine

SHORT = 8  # products in a sum: for fewer, loading and storing the sums is all the work
SUMS = 8  # sums side by side: with fewer, each multiplication waits for the one before


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
        how = tiling(self, a, b)
        sizes = {"M": m, "N": n, "K": k, "panels": how.panels, "tiles": how.tiles}
        arguments: dict[str, Any] = {"a": a, "b": b, "c": node.outputs[0]}
        if self.decay is not None:
            arguments |= {"c": node.inputs[0], "lr": node.inputs[3]}
        elif len(node.inputs) == 3:
            arguments["bias"] = node.inputs[2]
        body = product_text(self, how, "bias" in arguments, n < how.lanes)
        scratch = (k + 1) * how.wide * how.lanes
        return Launch(body, arguments, sizes, how.items, 2 * m * n * k, scratch, vectors=(a.dtype, how.lanes))

    def factors(self, node: Node) -> tuple[Value, Value]:
        return tuple(node.inputs[:2] if self.decay is None else node.inputs[1:3])


@dataclass(frozen=True)
class Tiling:
    """c in tiles of rows and panels of `wide` vectors of columns; threads share the panels, or the tiles."""

    rows: int
    wide: int
    lanes: int
    tiles: int
    panels: int
    by_panels: bool

    @property
    def items(self) -> int:
        return self.panels if self.by_panels else self.tiles


def sizes_of(op: Product, a: Value, b: Value) -> tuple[tuple[int, int], int]:
    """((m, n), k)."""
    m, k = a.shape[::-1] if op.turned_a else a.shape
    return (m, b.shape[0] if op.turned_b else b.shape[1]), k


def supported(op: Product, a: Value, b: Value) -> bool:
    """Whether the tiles here can do it, and well."""
    (m, n), k = sizes_of(op, a, b)
    if k < SHORT or not m * n:
        return False
    how = tiling(op, a, b)
    if how.rows * how.wide < SUMS:
        return False
    if op.decay is None:  # tiles that overlap at the edge write the same twice
        return True
    width = how.wide * how.lanes  # here each element may change once: the last two panels, where they overlap, must be one thread's
    return n >= how.lanes and m % how.rows == 0 and (n % width == 0 or how.panels >= 2 * threads.cores())


def tiling(op: Product, a: Value, b: Value) -> Tiling:
    """The tiles that fit the registers and leave the threads the least to do."""
    (m, n), k = sizes_of(op, a, b)
    lanes = lanes_for(a.dtype, n)
    by_panels = n >= lanes and (op.turned_b or b.nbytes > a.nbytes)  # each thread turns or gathers its own panels
    count = threads.cores() if threads.worth(2 * m * n * k, a.nbytes + b.nbytes + m * n * a.dtype.itemsize) else 1
    choices = []
    for rows in range(1, min(m, machine()[1]) + 1):
        for wide in range(1, max(1, min(6, n // lanes)) + 1):
            how = Tiling(rows, wide, lanes, -(-m // rows), -(-n // (wide * lanes)), by_panels)
            if rows * wide + wide + 1 <= machine()[1] and (op.decay is None or m % rows == 0):
                choices.append((cost(how, m, n, count), how))
    return min(choices, key=lambda choice: choice[0])[1]


def cost(how: Tiling, m: int, n: int, count: int) -> float:
    """Of an element of c: more than 1 for what is done twice at the edges, for a thread that waits, for loading."""
    waste = how.tiles * how.rows / m * how.panels * how.wide * how.lanes / n
    rounds = -(-how.items // count) * count / how.items
    loads = (how.rows + how.wide) / (how.rows * how.wide)
    return waste * rounds * (1 + 0.25 * loads) * max(1, SUMS / (how.rows * how.wide))


def product_text(op: Product, how: Tiling, bias: bool, narrow: bool) -> Text:
    """narrow: the columns do not fill one vector."""
    rows, wide, by_panels = how.rows, how.wide, how.by_panels
    t = Text("for panel in range(share[0], share[1]):" if by_panels else "for panel in range(panels):")
    t("j = 0" if narrow else f"j = min(panel * {wide} * LANES, N - {wide} * LANES)", f"done = panel * {wide} * LANES - j")
    if narrow:
        _pad(t, op.turned_b, bias)
    elif op.turned_b:
        _turn(t, wide)
    else:
        t.open("for k in range(K):")
        t(*(f"store(scratch, (k * {wide} + {v}) * LANES, load(b, k * N + j + {v} * LANES))" for v in range(wide)))
        t.close()
    t.open("for tile in range(tiles):" if by_panels else "for tile in range(share[0], share[1]):")
    t(f"i = min(tile * {rows}, M - {rows})")
    each = [(r, v) for r in range(rows) for v in range(wide)]
    start = "load(scratch, K * LANES)" if narrow else "load(bias, j + {} * LANES)"
    t(*(f"s{r}_{v} = {start.format(v) if bias else 'zero()'}" for r, v in each))
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
            result = f"greater(zero(), s{r}_{v}, zero(), s{r}_{v})" if op.relu else f"s{r}_{v}"  # keeps NaN
            t(f"store_first(c, {place}, {result}, N)" if narrow else f"store(c, {place}, {result})")
            continue
        t(f"p = load(c, {place})", f"change = fma(constant(-lr[0]), fma(constant({op.decay}), p, s{r}_{v}), zero())")
        t("change = fma(constant(-1.0), keep(change, done - " + f"{v} * LANES), change)", f"store(c, {place}, add(p, change))")
    return t


def _pad(t: Text, turned: bool, bias: bool) -> None:
    """All of b into the scratch memory, and the bias after it, each row filled up with the zeros that are there."""
    t.open("for lane in range(N):", "for k in range(K):")
    t(f"scratch[k * LANES + lane] = b[{'lane * K + k' if turned else 'k * N + lane'}]")
    t.close()
    t("scratch[K * LANES + lane] = bias[lane]" if bias else "")
    t.close()


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
