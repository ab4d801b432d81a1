"""Op texts called with symbols instead of arrays leave the expressions of a loop body.

A `Symbol` stands for one element. `op.forward(ctx, *symbols)`, with `ctx.xp` a `Writer`, runs the very text that eager mode
runs, and each arithmetic step on a symbol adds an expression. Dtypes follow NumPy: Python numbers are weak, operands are brought
to their common dtype, integers wrap, float16 is computed in float32 and rounded after each step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mulgil.autograd.record import NUMBERS
from mulgil.compile.loop import mathematics
from mulgil.compile.loop.ir import Body, Expr
from mulgil.errors import TraceError

DTYPES = {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"}
LIBRARY = (  # functions of the C library; for float32 some have vector texts of their own, see `mathematics`
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "cbrt", "sin", "cos", "tan", "sinh", "cosh", "tanh"),
    *("arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh"),
)
ROUNDINGS = ("floor", "ceil", "trunc", "rint")  # integers are whole already
COMPARISONS = {"equal": "eq", "not_equal": "ne", "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge"}
TWO = {"add": "add", "subtract": "sub", "multiply": "mul", "maximum": "maximum", "minimum": "minimum"}
OF_BOOLEANS = {"add": "or", "mul": "and", "maximum": "or", "minimum": "and"}  # what arithmetic of booleans is in NumPy


def _operator(name: str) -> tuple[Any, Any]:
    """A Python operator and its reflection, by the name of NumPy's function."""
    return (
        lambda self, other: getattr(self.writer, name)(self, other),
        lambda self, other: getattr(self.writer, name)(other, self),
    )


class Symbol:
    """One element of an array, or an intermediate result."""

    def __init__(self, writer: Writer, expr: Expr):
        self.writer, self.expr, self.dtype = writer, expr, np.dtype(expr.dtype)

    __add__, __radd__ = _operator("add")
    __sub__, __rsub__ = _operator("subtract")
    __mul__, __rmul__ = _operator("multiply")
    __truediv__, __rtruediv__ = _operator("divide")
    __pow__, __rpow__ = _operator("power")
    __floordiv__, __rfloordiv__ = _operator("floor_divide")
    __mod__, __rmod__ = _operator("remainder")
    __and__, __rand__ = _operator("bitwise_and")
    __or__, __ror__ = _operator("bitwise_or")
    __xor__, __rxor__ = _operator("bitwise_xor")
    __eq__, _ = _operator("equal")
    __ne__, _ = _operator("not_equal")
    __lt__, _ = _operator("less")
    __le__, _ = _operator("less_equal")
    __gt__, _ = _operator("greater")
    __ge__, _ = _operator("greater_equal")
    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> Symbol:
        return self.writer.negative(self)

    def __pos__(self) -> Symbol:
        return self

    def __abs__(self) -> Symbol:
        return self.writer.absolute(self)

    def __invert__(self) -> Symbol:
        return self.writer.invert(self)

    def __bool__(self) -> bool:
        raise TraceError("lowering: a text that asks whether an element is true cannot be a loop body", hint="use xp.where")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """np.exp(symbol), and NumPy scalars beside symbols."""
        if method != "__call__" or options or not hasattr(Writer, ufunc.__name__):
            return NotImplemented
        return getattr(self.writer, ufunc.__name__)(*inputs)

    def astype(self, dtype: Any) -> Symbol:
        return self.writer.cast(self, np.dtype(dtype))

    def copy(self) -> Symbol:
        return self


class Writer:
    """Makes the expressions of one loop body; as `ctx.xp` it is the module whose functions the texts call."""

    pi, inf, nan, e = math.pi, math.inf, math.nan, math.e

    def __init__(self, body: Body | None = None):
        self.body = body or Body()

    # ---- making expressions

    def emit(self, op: str, operands: tuple[Symbol, ...], dtype: Any, detail: Any = None) -> Symbol:
        """One operation. Float16 is computed in float32 and rounded: what processors and NumPy do."""
        half = any(o.expr.dtype == "float16" for o in operands) and op != "select"
        args = tuple(self.cast(o, np.dtype(np.float32)).expr if o.expr.dtype == "float16" and half else o.expr for o in operands)
        wide = np.float32 if half and np.dtype(dtype) == np.float16 else dtype
        result = Symbol(self, self.body.expr(op, args, wide, detail))
        return self.cast(result, np.dtype(dtype))

    def constant(self, value: Any, dtype: Any) -> Symbol:
        """A number as an element of a dtype. Raises OverflowError as NumPy does where it does not fit."""
        with np.errstate(all="ignore"):
            return Symbol(self, self.body.const(np.dtype(dtype).type(value).item(), dtype))

    def cast(self, x: Symbol, dtype: np.dtype) -> Symbol:
        if x.dtype == dtype:
            return x
        _check(dtype)
        if dtype == np.bool_:
            return self.emit("ne", (x, self.constant(0, x.dtype)), dtype)
        if {x.expr.dtype, dtype.name} == {"float16", "float64"} or (x.dtype.kind != "f" and dtype == np.float16):
            return self.cast(self.cast(x, np.dtype(np.float32)), dtype)
        if x.expr.dtype == "float16" and dtype.kind != "f":
            x = self.cast(x, np.dtype(np.float32))
        if x.dtype.kind == "f" and dtype.kind in "iu" and (dtype.itemsize < 4 or dtype == np.uint32):
            wide = np.dtype(np.int32 if dtype.itemsize < 4 else np.int64)  # negative ones wrap, as where NumPy computes on x86
            return self.cast(self.cast(x, wide), dtype)
        return Symbol(self, self.body.expr("cast", (x.expr,), dtype))

    def common(self, *operands: Any) -> tuple[Symbol, ...]:
        """The operands in their common dtype; Python numbers are weak."""
        for o in operands:
            if not isinstance(o, (Symbol, *NUMBERS, np.generic)):
                raise TraceError("lowering: an operand is no number and no element", type(o).__name__)
        dtype = _check(np.result_type(*(o.dtype if isinstance(o, Symbol) else o for o in operands)))
        return tuple(self.cast(o, dtype) if isinstance(o, Symbol) else self.constant(o, dtype) for o in operands)

    def real(self, name: str, *operands: Any) -> tuple[Symbol, ...]:
        """The operands of a real function in their common dtype, which must be a floating one: ops cast before."""
        operands = self.common(*operands)
        if operands[0].dtype.kind != "f":
            raise TraceError("lowering: a real function of integers", f"{name} of {operands[0].dtype}")
        return operands

    def arithmetic(self, op: str, a: Any, b: Any) -> Symbol:
        a, b = self.common(a, b)
        if a.dtype == np.bool_:
            if op not in OF_BOOLEANS:
                raise TraceError("lowering: booleans have no such arithmetic", op)
            op = OF_BOOLEANS[op]
        return self.emit(op, (a, b), a.dtype)

    # ---- the functions that texts call as ctx.xp.name

    def divide(self, a: Any, b: Any) -> Symbol:
        return self.emit("div", both := self.real("division", a, b), both[0].dtype)

    true_divide = divide

    def power(self, a: Any, b: Any) -> Symbol:
        if isinstance(a, Symbol) and isinstance(b, NUMBERS) and not isinstance(b, bool):
            return mathematics.power(self, self.common(a, b)[0], b)
        return self.call("pow", *self.real("power", a, b))

    def floor_divide(self, a: Any, b: Any) -> Symbol:
        return mathematics.divmod(self, *self.common(a, b))[0]

    def remainder(self, a: Any, b: Any) -> Symbol:
        return mathematics.divmod(self, *self.common(a, b))[1]

    mod = remainder

    def fmod(self, a: Any, b: Any) -> Symbol:
        return self.emit("rem", both := self.real("fmod", a, b), both[0].dtype)

    def _bitwise(self, op: str, a: Any, b: Any) -> Symbol:
        a, b = self.common(a, b)
        if a.dtype.kind == "f":
            raise TraceError("lowering: bits of real numbers", op)
        return self.emit(op, (a, b), a.dtype)

    def bitwise_and(self, a: Any, b: Any) -> Symbol:
        return self._bitwise("and", a, b)

    def bitwise_or(self, a: Any, b: Any) -> Symbol:
        return self._bitwise("or", a, b)

    def bitwise_xor(self, a: Any, b: Any) -> Symbol:
        return self._bitwise("xor", a, b)

    def invert(self, x: Symbol) -> Symbol:
        """Not x for booleans, the complement for integers."""
        ones = True if x.dtype.kind == "b" else -1 if x.dtype.kind == "i" else np.iinfo(x.dtype).max
        return self._bitwise("xor", x, self.constant(ones, x.dtype))

    bitwise_not = invert

    def truth(self, x: Any) -> Symbol:
        """x as a boolean."""
        return self.cast(self.common(x)[0], np.dtype(np.bool_))

    def logical_and(self, a: Any, b: Any) -> Symbol:
        return self.emit("and", (self.truth(a), self.truth(b)), np.bool_)

    def logical_or(self, a: Any, b: Any) -> Symbol:
        return self.emit("or", (self.truth(a), self.truth(b)), np.bool_)

    def logical_xor(self, a: Any, b: Any) -> Symbol:
        return self.emit("xor", (self.truth(a), self.truth(b)), np.bool_)

    def logical_not(self, x: Any) -> Symbol:
        return self.invert(self.truth(x))

    def negative(self, x: Any) -> Symbol:
        (x,) = self.common(x)
        if x.dtype == np.bool_:
            raise TraceError("lowering: booleans have no such arithmetic", "negative")
        return self.emit("neg", (x,), x.dtype)

    def positive(self, x: Any) -> Symbol:
        return self.common(x)[0]

    def absolute(self, x: Any) -> Symbol:
        (x,) = self.common(x)
        return x if x.dtype.kind in "bu" else self.emit("abs", (x,), x.dtype)

    abs = fabs = absolute

    def sqrt(self, x: Any) -> Symbol:
        return self.emit("sqrt", one := self.real("sqrt", x), one[0].dtype)

    def square(self, x: Any) -> Symbol:
        return self.multiply(x, x)  # type: ignore[attr-defined]

    def reciprocal(self, x: Any) -> Symbol:
        return self.divide(1, x)

    def sign(self, x: Any) -> Symbol:
        (x,) = self.common(x)
        if x.dtype.kind == "b":
            return x
        return self.where(x > 0, 1, self.where(x < 0, -1, x) if x.dtype.kind != "u" else x)

    def copysign(self, a: Any, b: Any) -> Symbol:
        return self.emit("copysign", both := self.real("copysign", a, b), both[0].dtype)

    def where(self, condition: Any, a: Any, b: Any) -> Symbol:
        a, b = self.common(a, b)
        return self.emit("select", (self.truth(condition), a, b), a.dtype)

    def clip(self, x: Any, low: Any = None, high: Any = None) -> Symbol:
        x = x if low is None else self.maximum(x, low)  # type: ignore[attr-defined]
        return x if high is None else self.minimum(x, high)  # type: ignore[attr-defined]

    def isnan(self, x: Any) -> Symbol:
        (x,) = self.common(x)
        return x != x

    def isinf(self, x: Any) -> Symbol:
        (x,) = self.common(x)
        return abs(x) == math.inf if x.dtype.kind == "f" else self.constant(False, np.bool_)

    def isfinite(self, x: Any) -> Symbol:
        (x,) = self.common(x)
        return abs(x) < math.inf if x.dtype.kind == "f" else self.constant(True, np.bool_)

    def full_like(self, x: Symbol, value: Any, dtype: Any = None) -> Symbol:
        return self.constant(value, dtype or x.dtype)

    def zeros_like(self, x: Symbol, dtype: Any = None) -> Symbol:
        return self.full_like(x, 0, dtype)

    def ones_like(self, x: Symbol, dtype: Any = None) -> Symbol:
        return self.full_like(x, 1, dtype)

    def arctan2(self, a: Any, b: Any) -> Symbol:
        return self.call("arctan2", *self.real("arctan2", a, b))

    def hypot(self, a: Any, b: Any) -> Symbol:
        return self.call("hypot", *self.real("hypot", a, b))

    def call(self, name: str, *operands: Symbol) -> Symbol:
        """A function of the C library, or this package's own text for it."""
        dtype = operands[0].dtype
        own = mathematics.VECTORISED.get(name)
        if own is not None and dtype in (np.float32, np.float16):
            wide = [self.cast(o, np.dtype(np.float32)) for o in operands]
            return self.cast(own(self, *wide), dtype)
        return self.emit("call", operands, dtype, name)


def _two(op: str) -> Any:
    return lambda self, a, b: self.arithmetic(op, a, b)


def _compare(op: str) -> Any:
    return lambda self, a, b: self.emit(op, self.common(a, b), np.bool_)


def _library(name: str) -> Any:
    return lambda self, x: self.call(name, *self.real(name, x))


def _rounding(op: str) -> Any:
    def rounded(self: Writer, x: Any) -> Symbol:
        (x,) = self.common(x)
        return self.emit(op, (x,), x.dtype) if x.dtype.kind == "f" else x

    return rounded


for _make, _names in ((_two, TWO), (_compare, COMPARISONS), (_library, dict.fromkeys(LIBRARY)), (_rounding, dict.fromkeys(ROUNDINGS))):
    for _name, _op in _names.items():
        setattr(Writer, _name, _make(_op or _name))


def _check(dtype: Any) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype.name not in DTYPES or not dtype.isnative:
        raise TraceError("lowering: no loops over this dtype", str(dtype))
    return dtype
