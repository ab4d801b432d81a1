"""Loop nests as LLVM's language.

Sums may be reordered (`reassoc`), which vectorising them takes, and a product and a sum may become one instruction
(`contract`). Everything else is as the text says: NaN, infinity and -0.0 stay what they are.
"""

from __future__ import annotations

from typing import Any

from mulgil.compile.loop.ir import Access, Expr, LoopKernel, LoopNest, Reduce
from mulgil.compile.render.instructions import in_memory, instruction, literal, type_of


def render(kernel: LoopKernel) -> str:
    """The function `@body(arrays ..., share)` and what it declares. share: [start, stop) of the shared loop, if there is one."""
    module = Module(kernel)
    for nest in kernel.nests:
        NestText(module, nest).write()
    return module.text()


class Module:
    """The text under construction."""

    def __init__(self, kernel: LoopKernel):
        self.kernel = kernel
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self.declared: dict[str, str] = {}
        self._count = 0

    def name(self, stem: str = "v") -> str:
        self._count += 1
        return f"%{stem}{self._count}"

    def declare(self, name: str, result: str, arguments: list[str], pure: bool = True) -> str:
        self.declared[name] = f"declare {result} @{name}({', '.join(arguments)})" + (" memory(none) nounwind willreturn" if pure else "")
        return f"@{name}"

    def text(self) -> str:
        arguments = [f"ptr noalias {'' if a.written else 'readonly '}%a{n}" for n, a in self.kernel.arrays.items()]
        arguments += ["ptr readonly %share"] * any(nest.shared is not None for nest in self.kernel.nests)
        head = f"define internal void @body({', '.join(arguments)}) noinline nounwind {{"
        parts = [*self.declared.values(), head, "entry:", *self.allocas, *self.lines, "  ret void", "}"]
        return "\n".join(parts) + "\n"


class NestText:
    """Writes one nest. What depends on outer loops alone is written outside the inner ones: `levels[d]` is inside of d loops."""

    def __init__(self, module: Module, nest: LoopNest):
        self.module, self.nest = module, nest
        self.depth = len(nest.counts)
        self.levels: list[list[str]] = [[] for _ in range(self.depth + 1)]
        self.loops = [module.name("i") for _ in nest.counts]
        self._values: dict[int, str] = {}
        self._offsets: dict[tuple, str] = {}

    def write(self) -> None:
        """The whole nest: what sums start with, the loops, what is left to do with the sums."""
        emit = self.module.lines.append
        for note in self.nest.notes:
            emit(f"; {note}")
        bounds = self._bounds()
        inner = [r for r in self.nest.reductions if self.nest.registers(r) is None]
        for reduction in inner:
            self._over_result(reduction, bounds, self._started, "start")
        if 0 not in self.nest.counts:
            self._loops(bounds)
        else:
            for reduction in (r for r in self.nest.reductions if r not in inner):
                self._over_result(reduction, bounds, lambda r, place: self._finished(r, r.start_text, place), "empty")
        for reduction in inner:
            if reduction.divisor != 1:
                self._over_result(reduction, bounds, self._divided, "divide")

    # ---- loops

    def _bounds(self) -> list[tuple[str, str]]:
        bounds = [("0", str(n)) for n in self.nest.counts]
        if self.nest.shared is not None:
            start, place, stop = (self.module.name("share") for _ in range(3))
            self.module.lines += [
                f"  {start} = load i64, ptr %share",
                f"  {place} = getelementptr i64, ptr %share, i64 1",
                f"  {stop} = load i64, ptr {place}",
            ]
            bounds[self.nest.shared] = start, stop
        return bounds

    def _loops(self, bounds: list[tuple[str, str]]) -> None:
        stores = [(self._offset(s.access), self.value(s.value), s.access, s.value.dtype) for s in self.nest.stores]
        sums = [Sum(self, r) for r in self.nest.reductions]
        for s in sums:
            s.prepare()
        last = self.levels[self.depth]
        for offset, value, access, dtype in stores:
            last += self._store(value, dtype, access.array, offset)
        for s in sums:
            s.accumulate(last)
        emit = self.module.lines
        ends: list[str] = []
        for d in range(self.depth):
            emit += self.levels[d]
            for s in sums:
                emit += s.before(d)
            ends.append(self._open(d, *bounds[d]))
        emit += self.levels[self.depth]
        for d in reversed(range(self.depth)):
            self._close(d, ends[d])
            for s in sums:
                emit += s.after(d)

    def _open(self, d: int, start: str, stop: str, variable: str = "") -> str:
        """The head of a loop, up to its body; gives the loop's stem for `_close`."""
        i, stem = variable or self.loops[d], self.module.name("loop")[1:]
        self.module.lines += [
            f"  br label %{stem}.entry",
            f"{stem}.entry:",
            f"  br label %{stem}",
            f"{stem}:",
            f"  {i} = phi i64 [{start}, %{stem}.entry], [{i}.next, %{stem}.latch]",
            f"  {i}.more = icmp slt i64 {i}, {stop}",
            f"  br i1 {i}.more, label %{stem}.body, label %{stem}.end",
            f"{stem}.body:",
        ]
        return stem

    def _close(self, d: int, stem: str, variable: str = "") -> None:
        i = variable or self.loops[d]
        self.module.lines += [
            f"  br label %{stem}.latch",
            f"{stem}.latch:",
            f"  {i}.next = add nuw nsw i64 {i}, 1",
            f"  br label %{stem}",
            f"{stem}.end:",
        ]

    def _over_result(self, reduction: Reduce, bounds: list[tuple[str, str]], change: Any, stem: str) -> None:
        """Loops over the elements of a reduction's result, or of the share of it that is ours."""
        own = [k for k in range(self.depth) if k in reduction.access.loops]
        variables = {k: self.module.name(stem) for k in own}
        for row, _ in reduction.access.rows:
            assert not row.loops - set(own)
        stems = [self._open(k, *bounds[k], variables[k]) for k in own]
        outer = NestText(self.module, self.nest)
        outer.loops = [variables.get(k, "0") for k in range(self.depth)]
        offset = outer._offset(reduction.access)
        for level in outer.levels:
            self.module.lines += level
        change(Result(self, reduction), self._place(reduction.access.array, offset, self.module.lines))
        for k, s in zip(reversed(own), reversed(stems), strict=True):
            self._close(k, s, variables[k])

    def _started(self, result: Result, place: str) -> None:
        self.module.lines += self._stored(literal(result.reduction.start, result.memory), result.memory, place)

    def _finished(self, result: Result, value: str, place: str) -> None:
        self.module.lines += self._stored(*result.divided(value, self.module.lines), place)

    def _divided(self, result: Result, place: str) -> None:
        raw = self._loaded(result.memory, place, self.module.lines)
        self._finished(result, result.widened(raw, self.module.lines), place)

    # ---- memory

    def _offset(self, access: Access) -> str:
        """The number of an element from the array's start: a sum that grows from the outer loops to the inner ones."""
        total = "0"
        for k, stride in enumerate(access.strides):
            if stride:
                total = self._plus(total, self._times(self.loops[k], stride, k + 1), access.strides[: k + 1], k + 1)
        for row, stride in access.rows:
            level = max([*access.loops, *row.loops], default=-1) + 1
            term = self._times(self.value(row), stride, max(row.loops, default=-1) + 1)
            total = self._plus(total, term, (access.strides, id(row), stride), level)
        return total

    def _times(self, x: str, n: int, level: int) -> str:
        if n == 1 or x == "0":
            return x
        return self._once((x, n), level, f"mul nsw i64 {x}, {n}")

    def _plus(self, a: str, b: str, key: Any, level: int) -> str:
        return b if a == "0" else a if b == "0" else self._once((a, b, "+"), level, f"add nsw i64 {a}, {b}")

    def _once(self, key: tuple, level: int, text: str) -> str:
        if key not in self._offsets:
            self._offsets[key] = self.module.name("at")
            self.levels[level].append(f"  {self._offsets[key]} = {text}")
        return self._offsets[key]

    def _place(self, array: int, offset: str, lines: list[str]) -> str:
        place = self.module.name("p")
        lines.append(f"  {place} = getelementptr inbounds {in_memory(self.module.kernel.arrays[array].dtype)}, ptr %a{array}, i64 {offset}")
        return place

    def _loaded(self, dtype: str, place: str, lines: list[str]) -> str:
        raw = self.module.name()
        lines.append(f"  {raw} = load {in_memory(dtype)}, ptr {place}")
        if dtype != "bool":
            return raw
        truth = self.module.name()
        lines.append(f"  {truth} = icmp ne i8 {raw}, 0")
        return truth

    def _stored(self, value: str, dtype: str, place: str) -> list[str]:
        if dtype != "bool":
            return [f"  store {type_of(dtype)} {value}, ptr {place}"]
        byte = self.module.name()
        return [f"  {byte} = zext i1 {value} to i8", f"  store i8 {byte}, ptr {place}"]

    def _store(self, value: str, dtype: str, array: int, offset: str) -> list[str]:
        lines: list[str] = []
        place = self._place(array, offset, lines)
        return [*lines, *self._stored(value, dtype, place)]

    # ---- expressions

    def value(self, e: Expr) -> str:
        """The name of an expression's value, which is written at the level of its loops."""
        if e.op == "const":
            return literal(e.detail, e.dtype)
        if e.op == "loop":
            return self.loops[e.detail]
        if id(e) not in self._values:
            lines = self.levels[max(e.loops, default=-1) + 1]
            if e.op == "load":
                offset = self._offset(e.detail)
                self._values[id(e)] = self._loaded(e.dtype, self._place(e.detail.array, offset, lines), lines)
            else:
                args = [self.value(a) for a in e.args]
                self._values[id(e)] = instruction(self.module, e.op, e.dtype, args, e.args[0].dtype, e.detail, lines)
        return self._values[id(e)]


class Result:
    """How a reduction's result lies in memory, and in which type it is computed: halves are summed as floats."""

    def __init__(self, text: NestText, reduction: Reduce):
        self.module, self.reduction = text.module, reduction
        self.memory = text.module.kernel.arrays[reduction.access.array].dtype
        self.dtype = "float32" if self.memory == "float16" else self.memory
        self.start_text = literal(reduction.start, self.dtype)

    def widened(self, value: str, lines: list[str]) -> str:
        return value if self.dtype == self.memory else instruction(self.module, "cast", self.dtype, [value], self.memory, None, lines)

    def divided(self, value: str, lines: list[str]) -> tuple[str, str]:
        """The finished result and its dtype in memory."""
        if self.reduction.divisor != 1:
            value = instruction(
                self.module, "div", self.dtype, [value, literal(self.reduction.divisor, self.dtype)], self.dtype, None, lines
            )
        if self.dtype != self.memory:
            value = instruction(self.module, "cast", self.memory, [value], self.dtype, None, lines)
        return value, self.memory

    def combined(self, a: str, b: str, lines: list[str]) -> str:
        return instruction(self.module, self.reduction.combine, self.dtype, [a, b], self.dtype, None, lines, "reassoc nsz contract ")


class Sum(Result):
    """A reduction in the loops: in a register along the innermost loop if that is reduced, and around it in another or in memory."""

    def __init__(self, text: NestText, reduction: Reduce):
        super().__init__(text, reduction)
        self.text, self.depth = text, text.depth
        self.first = text.nest.registers(reduction)
        reduced = self.depth - 1 not in reduction.access.loops and self.depth > 0
        self.inner = self._register() if reduced else ""
        self.outer = self._register() if self.first is not None and self.first < self.depth - 1 else ""
        self.offset = ""

    def _register(self) -> str:
        register = self.module.name("sum")
        self.module.allocas.append(f"  {register} = alloca {type_of(self.dtype)}")
        return register

    def prepare(self) -> None:
        self.offset = self.text._offset(self.reduction.access)
        self.term = self.text.value(self.reduction.value)

    def accumulate(self, lines: list[str]) -> None:
        """In the innermost loop."""
        if self.inner:
            lines += self._into_register(self.inner, self._term(lines))
        elif self.first is None:
            lines += self._into_memory(self._term(lines))
        else:  # no loop is reduced
            lines += self._finish(self._term(lines))

    def _term(self, lines: list[str]) -> str:
        return self.term if self.reduction.value.dtype == self.dtype else self.widened(self.term, lines)

    def before(self, d: int) -> list[str]:
        """What stands before loop d."""
        started = [r for r, at in ((self.inner, self.depth - 1), (self.outer, self.first)) if r and at == d]
        return [f"  store {type_of(self.dtype)} {self.start_text}, ptr {r}" for r in started]

    def after(self, d: int) -> list[str]:
        """What stands after loop d."""
        lines: list[str] = []
        if self.inner and d == self.depth - 1 and (self.outer or self.first is None):
            total = self._read(self.inner, lines)
            lines += self._into_register(self.outer, total) if self.outer else self._into_memory(total)
        if self.first == d:
            lines += self._finish(self._read(self.outer or self.inner, lines))
        return lines

    def _finish(self, total: str) -> list[str]:
        lines: list[str] = []
        value, dtype = self.divided(total, lines)
        return [*lines, *self.text._store(value, dtype, self.reduction.access.array, self.offset)]

    def _read(self, register: str, lines: list[str]) -> str:
        value = self.module.name()
        lines.append(f"  {value} = load {type_of(self.dtype)}, ptr {register}")
        return value

    def _into_register(self, register: str, term: str) -> list[str]:
        lines: list[str] = []
        total = self.combined(self._read(register, lines), term, lines)
        return [*lines, f"  store {type_of(self.dtype)} {total}, ptr {register}"]

    def _into_memory(self, term: str) -> list[str]:
        lines: list[str] = []
        place = self.text._place(self.reduction.access.array, self.offset, lines)
        old = self.widened(self.text._loaded(self.memory, place, lines), lines)
        total = self.combined(old, term, lines)
        if self.dtype != self.memory:
            total = instruction(self.module, "cast", self.memory, [total], self.dtype, None, lines)
        return [*lines, *self.text._stored(total, self.memory, place)]
