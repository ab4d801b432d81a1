"""Where the boxes of a directed graph go: layers from top to bottom, few crossings, long edges straight.

Source: Sugiyama, Tagawa and Toda, "Methods for Visual Understanding of Hierarchical System Structures", IEEE SMC 11(2), 1981. The
places within a layer are the nearest ones to the neighbours' middle that keep the order and the distances: an isotonic regression.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mulgil.errors import OptionError

SPACING = 18.0  # between boxes of a layer
GAP = 34.0  # between layers
LANE = 10.0  # the width kept free for an edge that passes a layer
MANY = 4000  # places in all layers, edges that pass among them, above which fewer rounds are made
Point = tuple[float, float]


@dataclass(frozen=True)
class Placement:
    """centres: of the boxes. paths: of the edges, points from the source's lower rim to the target's upper one, two a layer passed."""

    centres: list[Point]
    paths: list[list[Point]]
    width: float
    height: float


def arrange(sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]]) -> Placement:
    """Place boxes of these (width, height) with edges from box to box. Raises OptionError if the edges go round in a circle."""
    if not sizes:
        return Placement([], [], 0.0, 0.0)
    layered = _Layered([w for w, _ in sizes], edges)
    layered.reduce_crossings()
    x = layered.positions()
    heights = [max((sizes[v][1] for v in layer if v < len(sizes)), default=0.0) for layer in layered.layers]
    tops = [sum(heights[:i]) + GAP * i for i in range(len(heights))]
    left = min(x[v] - w / 2 for v, w in enumerate(layered.widths))
    right = max(x[v] + w / 2 for v, w in enumerate(layered.widths))
    centres = [(x[v] - left, tops[r] + heights[r] / 2) for v, r in enumerate(layered.ranks[: len(sizes)])]
    paths = []
    for u, v in edges:
        path = [(centres[u][0], centres[u][1] + sizes[u][1] / 2), (centres[u][0], tops[layered.ranks[u]] + heights[layered.ranks[u]])]
        for d in layered.between(u, v):
            top = tops[layered.ranks[d]]
            path += [(x[d] - left, top), (x[d] - left, top + heights[layered.ranks[d]])]
        path += [(centres[v][0], tops[layered.ranks[v]]), (centres[v][0], centres[v][1] - sizes[v][1] / 2)]
        paths.append(path)
    return Placement(centres, paths, right - left, tops[-1] + heights[-1])


def ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The layer of each box: below everything that points to it; a box that nothing points to stands just above its first user."""
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    for u, v in edges:
        above[v].append(u)
        below[u].append(v)
    waiting = [len(a) for a in above]
    ready = [v for v in range(count) if not waiting[v]]
    rank = [0] * count
    for v in ready:  # grows while it is walked
        for w in below[v]:
            rank[w] = max(rank[w], rank[v] + 1)
            waiting[w] -= 1
            if not waiting[w]:
                ready.append(w)
    if len(ready) < count:
        raise OptionError("a layered picture needs a graph without circles", f"{count - len(ready)} boxes in or behind one")
    for v in range(count):
        if below[v] and not above[v]:
            rank[v] = min(rank[w] for w in below[v]) - 1
    return rank


class _Layered:
    """Boxes, and places where edges pass through layers ("lanes", numbered after the boxes). Edges of one source share their lanes."""

    def __init__(self, widths: list[float], edges: Sequence[tuple[int, int]]):
        self.boxes = len(widths)
        self.widths = list(widths)
        self.ranks = ranks(len(widths), edges)
        self.lanes: dict[tuple[int, int], int] = {}  # (source, layer) -> lane
        self.origin = list(range(len(widths)))  # of a box itself, of a lane the box that its edge comes from
        self.above: list[list[int]] = [[] for _ in widths]
        self.below: list[list[int]] = [[] for _ in widths]
        for u, v in dict.fromkeys(edges):
            last = u
            for rank in range(self.ranks[u] + 1, self.ranks[v]):
                last = self._lane(u, rank, last)
            self._join(last, v)
        self.layers: list[list[int]] = [[] for _ in range(max(self.ranks) + 1)]
        for v in sorted(range(len(self.widths)), key=self.origin.__getitem__):  # the first order: boxes as they were given
            self.layers[self.ranks[v]].append(v)
        self.place = {v: i for layer in self.layers for i, v in enumerate(layer)}

    def _lane(self, source: int, rank: int, last: int) -> int:
        key = source, rank
        if key not in self.lanes:
            self.lanes[key] = len(self.widths)
            self.widths.append(LANE)
            self.ranks.append(rank)
            self.origin.append(source)
            self.above.append([])
            self.below.append([])
            self._join(last, self.lanes[key])
        return self.lanes[key]

    def _join(self, u: int, v: int) -> None:
        self.below[u].append(v)
        self.above[v].append(u)

    def between(self, u: int, v: int) -> list[int]:
        return [self.lanes[u, rank] for rank in range(self.ranks[u] + 1, self.ranks[v])]

    # ---- order

    def reduce_crossings(self) -> None:
        """Sort each layer by the mean place of its neighbours above, then below, and again; keep the best of what was seen."""
        rounds = 8 if len(self.widths) < MANY else 2
        best, fewest = [list(layer) for layer in self.layers], self.crossings()
        for _ in range(rounds):
            if not fewest:
                break
            for neighbours, layers in ((self.above, self.layers[1:]), (self.below, self.layers[-2::-1])):
                for layer in layers:
                    self._sort(layer, neighbours)
            found = self.crossings()
            if found < fewest:
                best, fewest = [list(layer) for layer in self.layers], found
        self.layers = best
        self.place = {v: i for layer in self.layers for i, v in enumerate(layer)}

    def _sort(self, layer: list[int], neighbours: list[list[int]]) -> None:
        middle = {v: _mean([self.place[u] for u in neighbours[v]], self.place[v]) for v in layer}
        layer.sort(key=middle.__getitem__)  # a stable sort: what has no reason to move stays
        self.place.update((v, i) for i, v in enumerate(layer))

    def crossings(self) -> int:
        """How many pairs of edges cross."""
        total = 0
        for layer in self.layers:
            ends: list[int] = []
            for v in layer:
                targets = sorted(self.place[w] for w in self.below[v])
                total += sum(len(ends) - bisect_right(ends, t) for t in targets)
                for t in targets:
                    insort(ends, t)
        return total

    # ---- places

    def positions(self) -> list[float]:
        """The horizontal middle of each box and lane."""
        x = [0.0] * len(self.widths)
        for layer in self.layers:
            for u, v in pairwise(layer):
                x[v] = x[u] + self._distance(u, v)
        both = [[*a, *b] for a, b in zip(self.above, self.below, strict=True)]
        down, up = self.layers, self.layers[::-1]
        rounds = 10 if len(self.widths) < MANY else 3
        for neighbours, layers in [(self.above, down), (self.below, up)] * rounds + [(both, down), (both, up)] * 2:
            for layer in layers:
                self._settle(layer, [_mean([x[u] for u in neighbours[v]], x[v]) for v in layer], x)
        for layers in (down, up) * 3:  # all lanes of an edge in one line
            middle = self._lane_middles(x)
            for layer in layers:
                self._settle(layer, [_mean([x[u] for u in both[v]], x[v]) if v < self.boxes else middle[self.origin[v]] for v in layer], x)
        return x

    def _lane_middles(self, x: list[float]) -> dict[int, float]:
        """By source, the mean place of its lanes."""
        members: dict[int, list[float]] = {}
        for (source, _), lane in self.lanes.items():
            members.setdefault(source, []).append(x[lane])
        return {source: sum(places) / len(places) for source, places in members.items()}

    def _distance(self, u: int, v: int) -> float:
        lanes = (u >= self.boxes) + (v >= self.boxes)
        return (self.widths[u] + self.widths[v]) / 2 + (SPACING, SPACING / 2, 0.0)[lanes]

    def _settle(self, layer: list[int], wanted: list[float], x: list[float]) -> None:
        """Move a layer as near as possible to the places wanted: pool adjacent violators. Lanes weigh more, to stay straight."""
        offset = 0.0
        pools: list[list[float]] = []  # [weighted sum, weight, members]
        offsets = []
        for i, v in enumerate(layer):
            offset += self._distance(layer[i - 1], v) if i else 0.0
            offsets.append(offset)
            weight = 1.0 if v < self.boxes else 8.0
            pools.append([weight * (wanted[i] - offset), weight, 1])
            while len(pools) > 1 and pools[-2][0] * pools[-1][1] > pools[-1][0] * pools[-2][1]:
                last = pools.pop()
                pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
        at = 0
        for total, weight, members in pools:
            for i in range(at, at + int(members)):
                x[layer[i]] = total / weight + offsets[i]
            at += int(members)


def _mean(values: list, default: float) -> float:
    return sum(values) / len(values) if values else default
