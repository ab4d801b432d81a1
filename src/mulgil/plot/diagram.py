"""A picture of boxes and arrows as SVG and as DOT text. No program is called and nothing is installed for it."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from unicodedata import east_asian_width
from xml.sax.saxutils import escape

from mulgil.errors import OptionError
from mulgil.files import atomic_file
from mulgil.plot.layout import Placement, Point, arrange

SIZE = 12.0  # of the text, in pixels
LINE = 15.0  # from line to line
LONGEST = 44  # letters of a line that are shown; all of them are in the tip
MARGIN = 12.0
FONTS = "'DejaVu Sans', 'Noto Sans KR', 'Noto Sans CJK KR', 'Malgun Gothic', 'Apple SD Gothic Neo', NanumGothic, sans-serif"

# kind: (shape, fill, border's width). The fills differ in lightness, so they also differ in grey.
LOOKS = {
    "data": ("ellipse", "#ffffff", 1.0),
    "input": ("ellipse", "#d9ead3", 1.6),
    "parameter": ("ellipse", "#fbd9a5", 1.6),
    "constant": ("ellipse", "#eeeeee", 1.0),
    "output": ("ellipse", "#ffffff", 2.6),
    "function": ("box", "#a9c9ea", 1.0),
    "layer": ("box", "#a9c9ea", 1.0),
    "kernel": ("box", "#dce9f7", 1.6),
}
GROUPS = ("#cfe2f3", "#fce5cd", "#d9ead3", "#ead1dc", "#fff2cc", "#d0e0e3", "#d9d2e9", "#f4cccc")


@dataclass(frozen=True)
class Box:
    """lines: the text. kind: a key of `LOOKS`. tip: shown under the mouse. group: boxes of one group share a colour, and a frame in DOT."""

    lines: tuple[str, ...]
    kind: str
    tip: str = ""
    group: str = ""

    @cached_property
    def size(self) -> tuple[float, float]:
        width = max(text_width(line) for line in self.shown)
        height = LINE * len(self.shown)
        if LOOKS[self.kind][0] == "ellipse":  # around the text's rectangle, half as high again
            return max(36.0, width * 1.34 + 8), height * 1.5 + 4
        return max(44.0, width + 18), height + 10

    @cached_property
    def shown(self) -> tuple[str, ...]:
        lines = (*((self.group,) if self.group else ()), *self.lines)
        return tuple(line if len(line) <= LONGEST else line[: LONGEST - 1] + "…" for line in lines) or ("",)


@dataclass
class Diagram:
    """Boxes and arrows. It shows itself in a notebook; elsewhere save it.

    Attributes:
        svg: the picture, for a browser. dot: text for Graphviz.
        boxes, edges: what is in it; an edge is (number of a box, number of a box).

    Example:
        >>> x = mulgil.tensor(1.0, requires_grad=True)                             # doctest: +SKIP
        >>> plot.graph(mulgil.sin(x) ** 2, names={"x": x}).save("graph.svg")       # doctest: +SKIP
    """

    title: str = ""
    boxes: list[Box] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)
    _numbers: dict[Hashable, int] = field(default_factory=dict, repr=False)

    def add(self, key: Hashable, *lines: str, kind: str, tip: str = "", group: str = "") -> int:
        """The number of the box of that key; it is made if it is new."""
        if key not in self._numbers:
            self._numbers[key] = len(self.boxes)
            self.boxes.append(Box(lines, kind, tip, group))
        return self._numbers[key]

    def connect(self, source: int, target: int) -> None:
        """An arrow; a second one between the same boxes is left out."""
        if (source, target) not in self._seen and source != target:
            self._seen.add((source, target))
            self.edges.append((source, target))

    @cached_property
    def _seen(self) -> set[tuple[int, int]]:
        return set(self.edges)

    def __repr__(self) -> str:
        return f"Diagram({self.title!r}, {len(self.boxes)} boxes, {len(self.edges)} edges)"

    @property
    def svg(self) -> str:
        return "\n".join(_svg(self, arrange([box.size for box in self.boxes], self.edges)))

    @property
    def dot(self) -> str:
        return "\n".join(_dot(self))

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | os.PathLike) -> Path:
        """Write `path`, whose ending decides: .svg, .dot or .gv. Raises OptionError for another, DataError if it cannot be written."""
        path = Path(path)
        texts = {".svg": lambda: self.svg, ".dot": lambda: self.dot, ".gv": lambda: self.dot}
        if path.suffix.lower() not in texts:
            raise OptionError("a diagram is saved as .svg, .dot or .gv", path.name, 'save("graph.svg"); a browser opens and prints it')
        with atomic_file(path) as file:
            file.write(texts[path.suffix.lower()]().encode("utf-8"))
        return path


def text_width(text: str) -> float:
    """Pixels that a line takes, on the safe side: fonts differ from reader to reader."""
    wide, narrow, broad = east_asian_width, "iljtfr.,:;|[]()'! ", "mwMW@%"
    return SIZE * sum(1.0 if wide(c) in "WF" else 0.38 if c in narrow else 0.9 if c in broad else 0.66 for c in text)


def _printable(text: str) -> str:
    """Without the characters that neither XML nor UTF-8 has."""
    return re.sub("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def _xml(text: str) -> str:
    """Safe inside XML, also between quotes."""
    return escape(_printable(text), {'"': "&quot;"})


def _svg(diagram: Diagram, placed: Placement) -> Iterator[str]:
    width, height = placed.width + 2 * MARGIN, placed.height + 2 * MARGIN
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.1f} {height:.1f}"'
        f' font-family="{FONTS}" font-size="{SIZE:g}" role="img" style="max-width: 100%">'
    )
    yield f"<title>{_xml(diagram.title)}</title>"
    yield '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    yield '<path d="M0,0.6 L8,4 L0,7.4 z" fill="#444"/></marker></defs>'
    yield '<rect width="100%" height="100%" fill="#fff"/>'
    yield f'<g transform="translate({MARGIN:g},{MARGIN:g})">'
    yield '<g fill="none" stroke="#444" stroke-width="1.1">'
    for path in placed.paths:
        yield f'<path d="{_curve(path)}" marker-end="url(#arrow)"/>'
    yield "</g>"
    groups = list(dict.fromkeys(box.group for box in diagram.boxes if box.group))
    for box, centre in zip(diagram.boxes, placed.centres, strict=True):
        yield from _drawn(box, centre, GROUPS[groups.index(box.group) % len(GROUPS)] if box.group else LOOKS[box.kind][1])
    yield "</g>\n</svg>"


def _curve(path: list[Point]) -> str:
    """Straight down through a layer, and an S from one layer to the next."""
    (x, y), text = path[0], [f"M{path[0][0]:.1f},{path[0][1]:.1f}"]
    for i, (to_x, to_y) in enumerate(path[1:], 1):
        if i % 2 == 0 and abs(to_x - x) > 0.5:
            middle = (y + to_y) / 2
            text.append(f"C{x:.1f},{middle:.1f} {to_x:.1f},{middle:.1f} {to_x:.1f},{to_y:.1f}")
        elif to_y - y > 0.05:
            text.append(f"L{to_x:.1f},{to_y:.1f}")
        x, y = to_x, to_y
    return " ".join(text)


def _drawn(box: Box, centre: Point, fill: str) -> Iterator[str]:
    (x, y), (width, height) = centre, box.size
    shape, _, border = LOOKS[box.kind]
    yield f"<g><title>{_xml(box.tip or chr(10).join(box.lines))}</title>"
    look = f'fill="{fill}" stroke="#222" stroke-width="{border:g}"'
    if shape == "ellipse":
        yield f'<ellipse cx="{x:.1f}" cy="{y:.1f}" rx="{width / 2:.1f}" ry="{height / 2:.1f}" {look}/>'
    else:
        yield f'<rect x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4" {look}/>'
    top = y - LINE * len(box.shown) / 2
    for i, line in enumerate(box.shown):
        weight = ' font-weight="bold"' if i == 0 and len(box.shown) > 1 and shape == "box" else ""
        yield f'<text x="{x:.1f}" y="{top + LINE * i + 11.3:.1f}" text-anchor="middle"{weight}>{_xml(line)}</text>'
    yield "</g>"


def _quoted(text: str) -> str:
    return '"' + _printable(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _dot(diagram: Diagram) -> Iterator[str]:
    yield f"digraph {_quoted(diagram.title or 'graph')} {{"
    yield '  node [fontname="sans-serif" fontsize=12 style=filled];'
    groups: dict[str, list[str]] = {}
    for number, box in enumerate(diagram.boxes):
        shape, fill, border = LOOKS[box.kind]
        label = _quoted("\n".join(box.lines))
        line = f'b{number} [label={label} shape={shape} fillcolor="{fill}" penwidth={border:g} tooltip={_quoted(box.tip)}];'
        groups.setdefault(box.group, []).append(line)
    for index, (name, lines) in enumerate(groups.items()):
        if not name:
            yield from (f"  {line}" for line in lines)
            continue
        yield f"  subgraph cluster_{index} {{"
        yield f'    label={_quoted(name)}; style="rounded,filled"; fillcolor="{GROUPS[index % len(GROUPS)]}";'
        yield from (f"    {line}" for line in lines)
        yield "  }"
    yield from (f"  b{u} -> b{v};" for u, v in diagram.edges)
    yield "}"
