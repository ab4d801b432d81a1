"""Sources of the convolution kernels: the output, the input's gradient and the weight's gradient.

Memory is [N / LANES, C, H, W, LANES]: a vector holds one element of several images. Each kernel keeps a tile of sums in registers:
`block` channels times some neighbouring positions, so that every vector that is loaded serves several sums. Items go vector
of images by vector of images, so that a thread mostly reads what it has itself written before. All arrays are flat.
`vectors`: how many hold the batch; `x_size`: elements of one image of x.
"""

from __future__ import annotations

from dataclasses import dataclass

from mulgil.compile.kernels.op import ITEMS, Text
from mulgil.native.vector import machine
from mulgil.ops.window import Pair


@dataclass(frozen=True)
class Filter:
    """What a kernel's text depends on: the filter's geometry, all pairs (height, width)."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]


@dataclass(frozen=True)
class Finish:
    """What a forward kernel does beside the products."""

    bias: bool = False
    relu: bool = False
    pool: bool = False
    winner: bool = False


def tile(channels: int, width: int, reserved: int = 0, rows: int = 1, fixed: int = 0) -> tuple[int, int]:
    """(channels, neighbouring positions) of a tile of sums that fits the registers and wastes least of `width`.

    reserved: registers that each channel needs beside its sums. rows: rows of sums. fixed: the positions, if they are given.
    """
    registers = machine()[1] * 3 // 4 if not reserved else machine()[1] - 3
    best, choice = float("inf"), (1, fixed or 1)
    for block in (b for b in range(1, min(channels, 16) + 1) if channels % b == 0):
        for wide in [fixed] if fixed else range(1, min(width, 8) + 1):
            sums = rows * wide
            if block * (sums + reserved) > registers and (block, wide) != (1, fixed):
                continue
            waste = -(-width // wide) * wide / width
            cost = waste * (1 + (block + sums) / (block * sums))
            if cost < best:
                best, choice = cost, (block, wide)
    return choice


def _item(channel: str, row: str, rows: str, block: int) -> list[str]:
    """Which images, channels and row an item is. Of large images all channels of a row come one after the other."""
    return [
        f"n, rest = item // (blocks * {rows}), item % (blocks * {rows})",
        f"{row}, {channel} = (rest // blocks, rest % blocks * {block}) if large else (rest % {rows}, rest // {rows} * {block})",
    ]


def forward_text(f: Filter, block: int, window: Pair, finish: Finish) -> Text:
    """y = max over `window` of relu(x * w + b); without `finish.pool`, `window` is a tile of positions that are all kept."""
    (kh, kw), (sh, sw), (ph, pw), (th, tw), dh = f.kernel, f.stride, f.padding, window, f.dilation[0]
    t = Text(ITEMS)
    t(*_item("o", "p", "P", block), "first = o // outs * ins")
    t.open("for q in range(tiles):")
    t(f"left = {f'min(q * {tw}, Q - {tw})' if not finish.pool else f'q * {tw}'}")
    at = [(b, u, v) for b in range(block) for u in range(th) for v in range(tw)]
    t(*(f"s{b}_{u}_{v} = " + (f"broadcast(b, o + {b})" if finish.bias else "zero()") for b, u, v in at))
    t.open("for c in range(ins):", f"for i in range({kh}):")
    t(f"k = ((o * ins + c) * {kh} + i) * {kw}", f"column = left * {sw} - {pw}")
    for u in range(th):
        t(f"row{u} = (p * {th} + {u}) * {sh} - {ph} + i * {dh}", f"at{u} = (n * x_size + ((first + c) * H + row{u}) * W + column) * LANES")
    if any(f.padding):
        reach = (tw - 1) * sw + (kw - 1) * f.dilation[1]
        t.open(f"if 0 <= row0 and row{th - 1} < H and 0 <= column and column + {reach} < W:")
        _taps(t, f, block, window, guarded=False)
        t.close()
        t.open("else:")
        _taps(t, f, block, window, guarded=True)
        t.close()
    else:
        _taps(t, f, block, window, guarded=False)
    t.close(2)
    for b in range(block):
        _finish(t, b, window, finish)
    return t


def _taps(t: Text, f: Filter, block: int, window: Pair, guarded: bool) -> None:
    """The products of one row of the filter. guarded: rows and columns may lie beyond the image, and give nothing."""
    (_, kw), (_, sw), (_, dw), (th, tw) = f.kernel, f.stride, f.dilation, window
    loaded: set[str] = set()
    for j in range(kw):
        for u in range(th):
            for v in range(tw):
                name, offset = f"x{u}_{v * sw + j * dw}", v * sw + j * dw
                if name not in loaded:
                    loaded.add(name)
                    inside = f"0 <= row{u} < H and 0 <= column + {offset} < W"
                    load = f"load(x, at{u} + {offset} * LANES)" if not guarded else f"load_if({inside}, x, at{u} + {offset} * LANES)"
                    t(f"{name} = {load}")
        for b in range(block):
            t(f"w{b} = broadcast(w, k + {b} * ins * {f.taps} + {j})")
            t(*(f"s{b}_{u}_{v} = fma(w{b}, x{u}_{v * sw + j * dw}, s{b}_{u}_{v})" for u in range(th) for v in range(tw)))


def _finish(t: Text, b: int, window: Pair, finish: Finish) -> None:
    """ReLU, pooling and storing of one channel's sums. Lanes beyond the batch stay zero."""
    sums = [f"s{b}_{u}_{v}" for u in range(window[0]) for v in range(window[1])]
    if finish.pool:
        t(f"m = {sums[0]}", "a = zero()")
        for k, s in enumerate(sums[1:], 1):
            t(f"a = beats({s}, m, constant({k}), a)", f"m = beats({s}, m, {s}, m)")
        if finish.relu:
            t("a = greater(m, zero(), a, constant(255))")
        sums = ["m"]
    for v, s in enumerate(sums):
        value = f"greater(zero(), {s}, zero(), {s})" if finish.relu else s  # keeps NaN
        t(f"place = (n * y_size + ((o + {b}) * P + p) * Q + {'q' if finish.pool else f'left + {v}'}) * LANES")
        t(f"store(y, place, {f'keep({value}, count - n * LANES)' if finish.bias else value})")
        if finish.winner:
            t("store_bytes(winner, place, a)")


def input_gradient_text(f: Filter, block: int, wide: int, relu: bool) -> Text:
    """gx from the gradient g of the output.

    A tile is `wide` positions of `block` channels of one row; it starts at a multiple of the stride.
    """
    (kh, kw), (sh, sw), ph, dh = f.kernel, f.stride, f.padding[0], f.dilation[0]
    t = Text(ITEMS)
    t(*_item("c", "down", "H", block), "first = c // ins * outs", "c0 = c % ins")
    t.open("for tile in range(tiles):")
    t(f"left = min(tile * {wide}, W - {wide})" if sw == 1 else f"left = tile * {wide}", f"column = left // {sw}")
    t(*(f"s{b}_{v} = zero()" for b in range(block) for v in range(wide)))
    t.open("for o in range(first, first + outs):", f"for i in range({kh}):")
    t(f"row = (down + {ph} - i * {dh}) // {sh}")
    t.open("if 0 <= row < P:" if sh == 1 else f"if 0 <= row < P and row * {sh} == down + {ph} - i * {dh}:")
    t(f"k = ((o * ins + c0) * {kh} + i) * {kw}", "at = (n * g_size + (o * P + row) * Q + column) * LANES")
    t(*(f"w{b}_{j} = broadcast(w, k + {b * f.taps + j})" for b in range(block) for j in range(kw)))
    _scatter(t, f, block, wide)
    t.close(3)
    for v in range(wide):
        t.open("if True:" if sw == 1 else f"if left + {v} < W:")
        for b in range(block):
            t(f"place = (n * gx_size + ((c + {b}) * H + down) * W + left + {v}) * LANES")
            t(f"store(gx, place, {f'greater(load(y, place), zero(), s{b}_{v}, zero())' if relu else f's{b}_{v}'})")
        t.close()
    return t


def _scatter(t: Text, f: Filter, block: int, wide: int) -> None:
    """What one row of g adds to the sums: each of its columns serves several positions of the tile."""
    (_, kw), (_, sw), (_, pw), (_, dw) = f.kernel, f.stride, f.padding, f.dilation
    columns: dict[int, list[Pair]] = {}  # offset of a column -> (position, tap)s
    for v in range(wide):
        for j in range(kw):
            if (v + pw - j * dw) % sw == 0:
                columns.setdefault((v + pw - j * dw) // sw, []).append((v, j))

    def products(offset: int) -> None:
        t(f"v = load(g, at + {offset} * LANES)")
        t(*(f"s{b}_{v} = fma(w{b}_{j}, v, s{b}_{v})" for b in range(block) for v, j in columns[offset]))

    if not columns:
        return
    t.open(f"if 0 <= column + {min(columns)} and column + {max(columns)} < Q:")
    for offset in sorted(columns):
        products(offset)
    t.close()
    t.open("else:")
    for offset in sorted(columns):
        t.open(f"if 0 <= column + {offset} < Q:")
        products(offset)
        t.close()
    t.close()


def weight_gradient_text(f: Filter, block: int, window: Pair | None, bias: bool) -> Text:
    """gw, and gb, from x and the gradient g. An item is `block` output channels with one input channel.

    A vector of images goes through all items of a share before the next, so that it is read from memory once; each item's sums
    wait in the scratch memory meanwhile. window: g is the gradient after non-overlapping pooling over it, sent to the `winner`
    of each window.
    """
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = f.kernel, f.stride, f.padding, f.dilation
    th, tw = window or (1, 1)
    each = [(b, j) for b in range(block) for j in range(kw)]
    item = f"o, c, sums = item // ins * {block}, item % ins, strip_rows + (item - share[0]) * {block * f.taps} * LANES"
    t = Text(ITEMS)
    t(item)
    t.open(f"for k in range(sums, sums + {block * f.taps} * LANES, LANES):")
    t("store(scratch, k, zero())")
    t.close()
    if bias:
        _bias_gradient(t, block, window)
    t.close()
    t.open("for n in range(vectors):", ITEMS)
    t(item, "channel = o // outs * ins + c")
    t.open("for top in range(0, P, strip):")
    t("bottom = min(top + strip, P)")
    if window:
        _expand(t, block, window)
    t.open(f"for i in range({kh}):")
    t(f"k = sums + i * {block * kw} * LANES")
    t(*(f"s{b}_{j} = load(scratch, k + {b * kw + j} * LANES)" for b, j in each))
    t.open("for p in range(top, bottom):")
    for u in range(th):
        t(f"row = (p * {th} + {u}) * {sh} - {ph} + i * {dh}")
        t.open("if 0 <= row < H:" if ph else "if True:")
        t(f"at = (n * x_size + (channel * H + row) * W - {pw}) * LANES")
        source = (u, th, tw) if window else None
        if pw:  # the columns that padding touches, on the left and on the right, apart
            t(f"left = min({-(-pw // sw)}, Q * {tw})", f"right = min(max((W - {1 + (kw - 1) * dw - pw}) // {sw} + 1, left), Q * {tw})")
        for start, stop, guarded in (
            (("0", "left", True), ("left", "right", False), ("right", f"Q * {tw}", True)) if pw else (("0", f"Q * {tw}", False),)
        ):
            t.open(f"for q in range({start}, {stop}):")
            _outer(t, f, block, source, guarded)
            t.close()
        t.close()
    t.close()
    t(*(f"store(scratch, k + {b * kw + j} * LANES, s{b}_{j})" for b, j in each))
    t.close(4)
    t.open(ITEMS)
    t(item)
    t.open(f"for i in range({kh}):")
    t(f"k = sums + i * {block * kw} * LANES")
    t(*(f"gw[(((o + {b}) * ins + c) * {kh} + i) * {kw} + {j}] = total(load(scratch, k + {b * kw + j} * LANES))" for b, j in each))
    return t


def _outer(t: Text, f: Filter, block: int, row: tuple[int, int, int] | None, guarded: bool) -> None:
    """Each of a row of x times the gradient of each channel. guarded: columns may lie beyond the image, and give nothing."""
    (_, kw), (_, sw), (_, pw), (_, dw) = f.kernel, f.stride, f.padding, f.dilation
    for j in range(kw):
        inside = f"0 <= q * {sw} + {j * dw - pw} < W, "
        t(f"x{j} = load{'_if' if guarded else ''}({inside if guarded else ''}x, at + (q * {sw} + {j * dw}) * LANES)")
    for b in range(block):
        t(f"v = {_gradient(b, block, row)}")
        t(*(f"s{b}_{j} = fma(v, x{j}, s{b}_{j})" for j in range(kw)))


def _gradient(b: int, block: int, row: tuple[int, int, int] | None) -> str:
    """The gradient of channel b at q: in g, or in the scratch memory. row: (row in the window, height and width of the window)."""
    if row is None:
        return f"load(g, (n * g_size + ((o + {b}) * P + p) * Q + q) * LANES)"
    u, height, width = row
    return f"load(scratch, ((((p - top) * {height} + {u}) * Q * {width} + q) * {block} + {b}) * LANES)"


def _expand(t: Text, block: int, window: Pair) -> None:
    """Pooled rows of g, of all channels of the block, become the rows that they came from."""
    t.open("for p in range(top, bottom):", "for q in range(Q):")
    for b in range(block):
        t(f"place = (n * g_size + ((o + {b}) * P + p) * Q + q) * LANES", "v, a = load(g, place), load_bytes(winner, place)")
        for u in range(window[0]):
            for k in range(window[1]):
                row = f"((p - top) * {window[0]} + {u}) * Q"
                place = f"(({row} + q) * {window[1] * block} + {k * block + b}) * LANES"
                t(f"store(scratch, {place}, equal(a, constant({u * window[1] + k}), v, zero()))")
    t.close(2)


def _bias_gradient(t: Text, block: int, window: Pair | None) -> None:
    """gb, once for each block of channels."""
    t.open("if c == 0:", f"for b in range(o, o + {block}):")
    t("s = zero()")
    t.open("for n in range(vectors):", "for k in range((n * g_size + b * P * Q) * LANES, (n * g_size + (b + 1) * P * Q) * LANES, LANES):")
    t("s = add(s, load(g, k))" if window is None else "s = add(s, equal(load_bytes(winner, k), constant(255), zero(), load(g, k)))")
    t.close(2)
    t("gb[b] = total(s)")
    t.close(2)
