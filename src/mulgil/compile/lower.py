"""Lowering: op texts called with symbols instead of arrays leave the body of a loop.

A `Symbol` stands for one element. `op.forward(ctx, *symbols)`, with `ctx.xp` a `Writer`, runs the very text that eager mode
runs, and each arithmetic step on a symbol writes a line of Python, which Numba compiles. Python numbers are weak, as in
NumPy: they take the dtype of the element beside them, so that float32 loops stay float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mulgil.autograd.record import NUMBERS
from mulgil.errors import TraceError

VECTORISED = ("exp", "tanh")  # for float32 the kernels have their own
SHORT = {"float32": "f32", "float64": "f64", "int64": "i64"}


class Symbol:
    """One element of an array, or an intermediate result: a name in the loop body, and its dtype."""

    __array_ufunc__ = None  # NumPy scalars leave the operation to the symbol

    def __init__(self, writer: Writer, name: str, dtype: np.dtype):
        self.writer, self.name, self.dtype = writer, name, np.dtype(dtype)

    def __add__(self, other: Any) -> Symbol:
        return self.writer.binary("{} + {}", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return self.writer.binary("{} + {}", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return self.writer.binary("{} - {}", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return self.writer.binary("{} - {}", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return self.writer.product(self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return self.writer.product(other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return self.writer.binary("{} / {}", self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self.writer.binary("{} / {}", other, self)

    def __pow__(self, other: Any) -> Symbol:
        return self.writer.power(self, other)

    def __rpow__(self, other: Any) -> Symbol:
        return self.writer.power(other, self)

    def __floordiv__(self, other: Any) -> Symbol:
        return self.writer.binary("{} // {}", self, other)

    def __mod__(self, other: Any) -> Symbol:
        return self.writer.binary("{} % {}", self, other)

    def __and__(self, other: Any) -> Symbol:
        return self.writer.binary("{} & {}", self, other, self.dtype)

    def __or__(self, other: Any) -> Symbol:
        return self.writer.binary("{} | {}", self, other, self.dtype)

    def __xor__(self, other: Any) -> Symbol:
        return self.writer.binary("{} ^ {}", self, other, self.dtype)

    def __neg__(self) -> Symbol:
        return self.writer.emit(f"-{self.name}", self.dtype)

    def __abs__(self) -> Symbol:
        return self.writer.emit(f"abs({self.name})", self.dtype)

    def __invert__(self) -> Symbol:
        return self.writer.emit(f"not {self.name}", self.dtype)

    def __eq__(self, other: object) -> Any:
        return self.writer.binary("{} == {}", self, other, bool)

    def __ne__(self, other: object) -> Any:
        return self.writer.binary("{} != {}", self, other, bool)

    def __lt__(self, other: Any) -> Symbol:
        return self.writer.binary("{} < {}", self, other, bool)

    def __le__(self, other: Any) -> Symbol:
        return self.writer.binary("{} <= {}", self, other, bool)

    def __gt__(self, other: Any) -> Symbol:
        return self.writer.binary("{} > {}", self, other, bool)

    def __ge__(self, other: Any) -> Symbol:
        return self.writer.binary("{} >= {}", self, other, bool)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TraceError("lowering: a text that asks whether an element is true cannot be a loop body", hint="use xp.where")

    def astype(self, dtype: Any) -> Symbol:
        return self.writer.cast(self, np.dtype(dtype))

    def copy(self) -> Symbol:
        return self


class Writer:
    """Collects the lines of one loop body; as `ctx.xp` it is the module whose functions the texts call."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._made: dict[tuple[str, str], Symbol] = {}

    def emit(self, text: str, dtype: Any) -> Symbol:
        """A line `r7 = text`; the same text is written once."""
        key = text, np.dtype(dtype).name
        if key not in self._made:
            name = f"r{len(self._made)}"
            self.lines.append(f"{name} = {text}")
            self._made[key] = Symbol(self, name, np.dtype(dtype))
        return self._made[key]

    def cast(self, x: Symbol, dtype: np.dtype) -> Symbol:
        if x.dtype == dtype:
            return x
        if dtype == np.bool_:
            return self.emit(f"{x.name} != 0", dtype)
        return self.emit(f"{SHORT[dtype.name]}({x.name})", dtype)

    def _common(self, *operands: Any) -> tuple[list[str], np.dtype]:
        """The operands as text of one dtype; Python numbers are weak."""
        dtype = np.result_type(*(np.dtype(o.dtype) if isinstance(o, Symbol) else o for o in operands))
        if dtype.name not in SHORT and dtype != np.bool_:
            raise TraceError("lowering: no loops over this dtype", str(dtype))
        return [self.cast(o, dtype).name if isinstance(o, Symbol) else self.literal(o, dtype) for o in operands], dtype

    @staticmethod
    def literal(value: Any, dtype: np.dtype) -> str:
        text = repr(float(value) if dtype.kind == "f" else value)
        text = {"inf": "np.inf", "-inf": "-np.inf", "nan": "np.nan"}.get(text, text)
        return text if dtype == np.bool_ else f"{SHORT[dtype.name]}({text})"

    def binary(self, pattern: str, a: Any, b: Any, result: Any = None) -> Symbol:
        names, dtype = self._common(a, b)
        if result is None and dtype == np.bool_:
            raise TraceError("lowering: arithmetic of booleans", pattern)
        return self.emit(pattern.format(*names), result or dtype)

    def product(self, a: Any, b: Any) -> Symbol:
        """a * b; a boolean factor selects, which is quicker than converting it and keeps 0 * inf away."""
        for mask, x in ((a, b), (b, a)):
            if isinstance(mask, Symbol) and mask.dtype == np.bool_ and isinstance(x, Symbol) and x.dtype.kind == "f":
                return self.emit(f"{x.name} if {mask.name} else {self.literal(0, x.dtype)}", x.dtype)
        return self.binary("{} * {}", a, b)

    def power(self, a: Any, b: Any) -> Symbol:
        if isinstance(a, Symbol) and isinstance(b, NUMBERS) and b in (1, 2, 3):
            return a if b == 1 else a * a if b == 2 else a * a * a
        return self.binary("{} ** {}", a, b)

    # ---- the functions that texts call as ctx.xp.name

    def _real(self, name: str, x: Any) -> Symbol:
        (text,), dtype = self._common(x)
        if dtype.kind != "f":
            raise TraceError("lowering: a real function of integers", f"{name} of {dtype}")
        return self.emit(f"{name}32({text})" if name in VECTORISED and dtype == np.float32 else f"np.{name}({text})", dtype)

    def exp(self, x: Any) -> Symbol:
        return self._real("exp", x)

    def log(self, x: Any) -> Symbol:
        return self._real("log", x)

    def log1p(self, x: Any) -> Symbol:
        return self._real("log1p", x)

    def sqrt(self, x: Any) -> Symbol:
        return self._real("sqrt", x)

    def sin(self, x: Any) -> Symbol:
        return self._real("sin", x)

    def cos(self, x: Any) -> Symbol:
        return self._real("cos", x)

    def tanh(self, x: Any) -> Symbol:
        return self._real("tanh", x)

    def floor(self, x: Any) -> Symbol:
        return self._real("floor", x) if x.dtype.kind == "f" else x

    def ceil(self, x: Any) -> Symbol:
        return self._real("ceil", x) if x.dtype.kind == "f" else x

    def trunc(self, x: Any) -> Symbol:
        return self._real("trunc", x) if x.dtype.kind == "f" else x

    def rint(self, x: Any) -> Symbol:
        return self._real("rint", x) if x.dtype.kind == "f" else x

    def isnan(self, x: Any) -> Symbol:
        return self.emit(f"np.isnan({x.name})", bool)

    def isinf(self, x: Any) -> Symbol:
        return self.emit(f"np.isinf({x.name})", bool)

    def isfinite(self, x: Any) -> Symbol:
        return self.emit(f"np.isfinite({x.name})", bool)

    def sign(self, x: Any) -> Symbol:
        zero, one, minus = (self.literal(v, x.dtype) for v in (0, 1, -1))
        return self.emit(f"{one} if {x.name} > {zero} else {minus} if {x.name} < {zero} else {zero}", x.dtype)

    def maximum(self, a: Any, b: Any) -> Symbol:
        (x, y), dtype = self._common(a, b)
        return self.emit(f"{y} if {x} <= {y} else {x}", dtype)  # a NaN in x comes through, as in NumPy

    def minimum(self, a: Any, b: Any) -> Symbol:
        (x, y), dtype = self._common(a, b)
        return self.emit(f"{y} if {x} >= {y} else {x}", dtype)

    def where(self, condition: Any, a: Any, b: Any) -> Symbol:
        (x, y), dtype = self._common(a, b)
        return self.emit(f"{x} if {condition.name} else {y}", dtype)

    def full_like(self, x: Symbol, value: Any) -> Symbol:
        return self.emit(self.literal(value, x.dtype), x.dtype)

    def zeros_like(self, x: Symbol) -> Symbol:
        return self.full_like(x, 0)
