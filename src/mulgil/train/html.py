"""Small pieces of a page that needs nothing but itself: tables, pictures as data, curves as SVG. Every text is escaped here."""

from __future__ import annotations

import base64
import html
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mulgil.errors import visible

TRAIN, TEST = "#4878a8", "#d1653e"
DASHES = {TRAIN: "", TEST: ' stroke-dasharray="6 3"'}  # a print in grey must tell the lines apart

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1020px; padding: 28px 24px 60px; color: #1d2733; background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans KR", "Malgun Gothic", sans-serif; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 2px; }
h2 { font-size: 18px; margin: 38px 0 10px; padding-bottom: 5px; border-bottom: 1px solid #d8dee6; }
p { margin: 6px 0 12px; }
.quiet { color: #5b6875; }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0 8px; }
.card { flex: 1 1 130px; border: 1px solid #d8dee6; border-radius: 8px; padding: 10px 14px; }
.card b { display: block; font-size: 22px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.card span { color: #5b6875; font-size: 13px; }
.pair { display: flex; flex-wrap: wrap; gap: 18px; }
.pair > * { flex: 1 1 440px; min-width: 0; }
svg { max-width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 12px 3px 0; text-align: left; vertical-align: top; }
th { font-weight: 600; color: #44505c; border-bottom: 1px solid #d8dee6; }
td.n, th.n { text-align: right; }
tr.sum td { border-top: 1px solid #d8dee6; }
.heat td, .heat th { min-width: 44px; padding: 5px 4px; text-align: center; border: 1px solid #e6eaef; }
.heat th { background: #f5f7f9; font-weight: 600; }
.bar { display: inline-block; height: 9px; background: #4878a8; vertical-align: 1px; border-radius: 1px; }
.rail { display: inline-block; width: 90px; background: #e8edf2; line-height: 9px; height: 9px; margin-left: 8px; vertical-align: 1px; }
.tiles { display: flex; flex-wrap: wrap; gap: 14px 16px; }
.tile { width: 148px; font-size: 13px; line-height: 1.4; }
.tile img { width: 112px; display: block; margin-bottom: 4px; border: 1px solid #d8dee6; }
.small img { width: 62px; border: 1px solid #d8dee6; }
.small { gap: 7px; }
img { image-rendering: pixelated; max-width: 100%; }
h1, h2, p, code { overflow-wrap: anywhere; }
.wrong { color: #b03024; }
code { font: 13px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
h3 { font-size: 15px; margin: 18px 0 4px; }
@media (max-width: 480px) {
  body { padding: 16px 12px 40px; }
  h1 { font-size: 21px; }
  .tiles { gap: 12px 10px; }
  .tile { width: 104px; }
  .small img { width: 48px; }
}
@media print {
  h2 { break-after: avoid; }
  .tile, svg, tr { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def text(value: Any) -> str:
    """Escaped, for content and attributes."""
    return html.escape(visible(str(value), lines=True), quote=True)


def page(title: str, body: str) -> str:
    """A whole document."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{text(title)}</title>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}\n<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'


def section(title: str, *parts: str) -> str:
    return f"<h2>{text(title)}</h2>\n" + "\n".join(parts)


def cards(figures: Mapping[str, str]) -> str:
    """A few figures in large type: what they are -> how they are written."""
    made = "".join(f'<div class="card"><b>{text(value)}</b><span>{text(name)}</span></div>' for name, value in figures.items())
    return f'<div class="cards">{made}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[int] = ()) -> str:
    """Cells are text, escaped, except those that are `Raw`. numbers: the columns that stand on the right."""

    def cell(tag: str, i: int, value: Any) -> str:
        side = ' class="n"' if i in numbers else ""
        return f"<{tag}{side}>{value if isinstance(value, Raw) else text(value)}</{tag}>"

    lines = ["".join(cell("td", i, value) for i, value in enumerate(row)) for row in rows]
    top = "<tr>" + "".join(cell("th", i, value) for i, value in enumerate(head)) + "</tr>" if head else ""
    return f'<div class="wide"><table>{top}' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table></div>"


class Raw(str):
    """Text that is HTML already."""


def bar(share: float) -> Raw:
    """A share from 0 to 1, as a number and a bar."""
    width = 90 * min(max(share, 0.0), 1.0) if math.isfinite(share) else 0
    return Raw(f'{share:.4f}<span class="rail"><span class="bar" style="width:{width:.0f}px"></span></span>')


def heat(counts: np.ndarray, names: Sequence[str], corner: str) -> str:
    """A square table of counts, each cell as dark as its share of its row: mistakes (off the diagonal) are shaded on their own scale."""
    off = counts.copy()
    np.fill_diagonal(off, 0)
    worst, rows = max(int(off.max(initial=0)), 1), []
    for i, name in enumerate(names):
        cells = []
        for j, count in enumerate(counts[i]):
            share = count / max(counts[i].sum(), 1) * 0.45 if i == j else 0.75 * count / worst
            rgb = "72,120,168" if i == j else "192,57,43"
            dark = ";color:#fff" if share > 0.6 else ""
            shade = f' style="background:rgba({rgb},{share:.2f}){dark}"' if count else ' class="quiet"'
            cells.append(f"<td{shade}>{int(count) or '·'}</td>")
        rows.append(f"<tr><th>{text(name)}</th>{''.join(cells)}</tr>")
    top = f"<tr><th>{text(corner)}</th>" + "".join(f"<th>{text(name)}</th>" for name in names) + "</tr>"
    return f'<div class="wide"><table class="heat">{top}{"".join(rows)}</table></div>'


def picture(pixels: np.ndarray, about: str) -> str:
    """An <img> of grey [H, W] or colour [H, W, 3] uint8 pixels."""
    return f'<img src="data:image/png;base64,{base64.b64encode(png(pixels)).decode()}" alt="{text(about)}">'


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of uint8 pixels, grey [H, W] or colour [H, W, 3]. Source: W3C, Portable Network Graphics."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels, np.uint8).reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()  # each row begins with its filter: none

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def lines(title: str, x: Sequence[float], curves: Mapping[str, tuple[Sequence[float], str]], x_label: str = "epoch") -> str:
    """Curves over x as SVG: name -> (values, colour); what is not finite is a gap."""
    shown = [v for values, _ in curves.values() for v in values if math.isfinite(v)]
    if not shown:
        return ""
    width, height, left, right, top, bottom = 480, 270, 58, 14, 34, 40
    ticks = nice_ticks(min(shown), max(shown))
    low, high = min(ticks[0], *shown), max(ticks[-1], *shown)
    span = (max(x) - min(x)) or 1

    def across(value: float) -> float:
        return left + (width - left - right) * ((value - min(x)) / span if len(set(x)) > 1 else 0.5)

    def up(value: float) -> float:
        return top + (height - top - bottom) * (1 - (value - low) / (high - low))

    parts = [f'<text x="{left}" y="20" font-size="15" font-weight="600">{text(title)}</text>']
    for tick in ticks:
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{up(tick):.1f}" y2="{up(tick):.1f}" stroke="#e3e8ee"/>')
        parts.append(f'<text x="{left - 7}" y="{up(tick) + 4:.1f}" text-anchor="end" fill="#5b6875">{tick:.6g}</text>')
    for tick in whole_ticks(min(x), max(x)):
        parts.append(f'<text x="{across(tick):.1f}" y="{height - bottom + 18}" text-anchor="middle" fill="#5b6875">{tick}</text>')
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 4}" text-anchor="middle" fill="#5b6875">{text(x_label)}</text>')
    for k, (name, (values, colour)) in enumerate(curves.items()):
        parts.append(_curve([(across(a), up(b)) if math.isfinite(b) else None for a, b in zip(x, values, strict=True)], colour))
        at = width - right - 78 * (len(curves) - k)
        parts.append(f'<line x1="{at}" x2="{at + 26}" y1="15" y2="15" stroke="{colour}" stroke-width="2"{DASHES.get(colour, "")}/>')
        parts.append(f'<text x="{at + 31}" y="19" fill="#1d2733">{text(name)}</text>')
    return f'<svg viewBox="0 0 {width} {height}" font-size="12" role="img" aria-label="{text(title)}">{"".join(parts)}</svg>'


def _curve(points: Sequence[tuple[float, float] | None], colour: str) -> str:
    path, pen = [], "M"
    for point in points:
        path.append(f"{pen}{point[0]:.1f} {point[1]:.1f}" if point else "")
        pen = "L" if point else "M"
    few = sum(p is not None for p in points) <= 30
    dots = "".join(f'<circle cx="{p[0]:.1f}" cy="{p[1]:.1f}" r="3" fill="{colour}"/>' for p in points if p) if few else ""
    return f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="2"{DASHES.get(colour, "")}/>{dots}'


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that span low to high, about `count` of them."""
    if not high > low:
        low, high = low - (abs(low) * 0.1 or 1), high + (abs(high) * 0.1 or 1)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    return [k * step for k in range(math.floor(low / step), math.ceil(high / step) + 1)]


def whole_ticks(low: float, high: float, most: int = 10) -> list[int]:
    """At most about `most` whole numbers from low to high, at a round distance."""
    step = next(s for k in range(12) for s in (10**k, 2 * 10**k, 5 * 10**k) if (high - low) / s <= most)
    first = math.ceil(low / step) * step
    return sorted({int(low), *range(first, int(high) + 1, step)} if step == 1 else set(range(first, int(high) + 1, step)))
