"""Loop nests as text for people: what `program.source` shows."""

from __future__ import annotations

from mulgil.compile.loop.ir import Access, Expr, LoopKernel, LoopNest, Reduce

PAD = "    "
SIGNS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "quot": "//", "rem": "%", "and": "&", "or": "|", "xor": "^", "shl": "<<", "shr": ">>",
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
}  # fmt: skip


def render(kernel: LoopKernel, name: str) -> str:
    """The kernel as a function in the manner of Python. a0, a1, ... are its arrays as rows of elements."""
    shared = any(nest.shared is not None for nest in kernel.nests)
    lines = [f"def {name}({', '.join([*(f'a{n}' for n in kernel.arrays), *['share'] * shared])}):"]
    for nest in kernel.nests:
        lines += [PAD + line for line in NestText(nest).lines()]
    return "\n".join(lines) + "\n"


class NestText:
    """Writes one nest. An expression that is used more than once gets a name, at the level of its loops."""

    def __init__(self, nest: LoopNest):
        self.nest = nest
        self.levels: list[list[str]] = [[] for _ in range(len(nest.counts) + 1)]
        self._uses: dict[int, int] = {}
        self._names: dict[int, str] = {}
        for s in nest.results:
            self._count(s.value)

    def _count(self, e: Expr) -> None:
        self._uses[id(e)] = self._uses.get(id(e), 0) + 1
        if self._uses[id(e)] == 1:
            for a in e.args:
                self._count(a)

    def lines(self) -> list[str]:
        nest, depth = self.nest, len(self.nest.counts)
        updates = [f"{self.element(s.access)} = {self.text(s.value)}" for s in nest.stores]
        updates += [self._combined(r) for r in nest.reductions]
        lines = [f"# {note}" for note in nest.notes]
        lines += [f"{self.element(r.access)} = {r.start}{self._everywhere(r)}" for r in nest.reductions]
        for d, n in enumerate(nest.counts):
            rounds = "share[0], share[1]" if d == nest.shared else str(n)
            lines += [*(PAD * d + line for line in self.levels[d]), f"{PAD * d}for i{d} in range({rounds}):"]
        lines += [PAD * depth + line for line in (*self.levels[depth], *updates)]
        return lines + [f"{self.element(r.access)} /= {r.divisor}{self._everywhere(r)}" for r in nest.reductions if r.divisor != 1]

    def _everywhere(self, reduction: Reduce) -> str:
        own = sorted(reduction.access.loops)
        return f"  # for each {', '.join(f'i{k}' for k in own)}" if own else ""

    def _combined(self, r: Reduce) -> str:
        place, value = self.element(r.access), self.text(r.value)
        return f"{place} += {value}" if r.combine == "add" else f"{place} = {r.combine}({place}, {value})"

    def element(self, access: Access) -> str:
        terms = [f"i{k} * {stride}" if stride != 1 else f"i{k}" for k, stride in enumerate(access.strides) if stride]
        terms += [f"{self.text(row)} * {stride}" for row, stride in access.rows]
        return f"a{access.array}[{' + '.join(terms) or '0'}]"

    def text(self, e: Expr) -> str:
        if id(e) in self._names:
            return self._names[id(e)]
        text = self._written(e)
        if self._uses.get(id(e), 0) < 2 or e.op in ("const", "loop"):
            return text
        self._names[id(e)] = name = f"r{len(self._names)}"
        self.levels[max(e.loops, default=-1) + 1].append(f"{name} = {text}")
        return name

    def _written(self, e: Expr) -> str:
        if e.op == "const":
            return repr(e.detail)
        if e.op == "loop":
            return f"i{e.detail}"
        if e.op == "load":
            return self.element(e.detail)
        args = [self.text(a) for a in e.args]
        if e.op in SIGNS:
            return f"({args[0]} {SIGNS[e.op]} {args[1]})"
        if e.op == "select":
            return f"({args[1]} if {args[0]} else {args[2]})"
        if e.op == "neg":
            return f"-{args[0]}"
        name = {"cast": e.dtype, "call": e.detail, "bits": f"bits_as_{e.dtype}"}.get(e.op, e.op)
        return f"{name}({', '.join(args)})"
