"""Functions as texts over symbols, which loops can vectorise: the C library's are a call for each element.

Float32 errors, over the whole range: exp 2 ulp (results below 1.2e-38 are 0), tanh 2 ulp, log 2 ulp, log1p 3 ulp; infinities and
NaN as in NumPy. Coefficients: S. Moshier, Cephes, expf, tanhf and logf.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mulgil.errors import TraceError

if TYPE_CHECKING:
    from mulgil.compile.loop.symbol import Symbol, Writer

HALF_LN2, REST_LN2 = 0.693359375, -2.12194440e-4  # ln 2 in two parts: a whole number times the first is exact
MAGIC = 12582912.0  # 1.5 * 2^23: adding it to a small number leaves the nearest whole number in the last bits


def polynomial(x: Symbol, *coefficients: float) -> Symbol:
    """By Horner's rule, the highest power first."""
    total: Any = coefficients[0]
    for c in coefficients[1:]:
        total = total * x + c
    return total


def exp(xp: Writer, x: Symbol) -> Symbol:
    """2^n p(r), with n = round(x / ln 2) and r the rest. The halves of n go into exponents' bits: 2^128 itself is none."""
    z = xp.minimum(xp.maximum(x, -104.0), 88.8)  # type: ignore[attr-defined]
    shifted = z * 1.44269504088896341 + MAGIC
    n = shifted - MAGIC
    r = z - n * HALF_LN2 - n * REST_LN2
    p = polynomial(r, 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
    p = p * (r * r) + r + 1.0
    half = bits_of(xp, n * 0.5 + MAGIC)
    rest = bits_of(xp, shifted) - half
    return p * power_of_two(xp, half) * power_of_two(xp, rest)


def tanh(xp: Writer, x: Symbol) -> Symbol:
    """An odd polynomial near zero, 1 - 2 / (exp(2 |x|) + 1) elsewhere."""
    size, z = abs(x), x * x
    near = polynomial(z, -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1) * z * x + x
    far = 1.0 - 2.0 / (exp(xp, 2.0 * size) + 1.0)
    return xp.where(size < 0.625, near, xp.copysign(far, x))


def log(xp: Writer, x: Symbol) -> Symbol:
    """x = 2^e (1 + f) with 1 + f between the roots of 1/2 and 2."""
    least = 0x3F3504F3  # the bits of the root of 1/2
    i = bits_of(xp, x) + (0x3F800000 - least)
    e = xp.cast(xp.emit("shr", (i, xp.constant(23, np.int32)), np.int32) - 127, np.dtype(np.float32))
    f = xp.emit("bits", ((i & 0x007FFFFF) + least,), np.float32) - 1.0
    z = f * f
    y = polynomial(f, 7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
                   2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1) * f * z  # fmt: skip
    y = f + (y + e * REST_LN2 - 0.5 * z) + e * HALF_LN2
    y = xp.where(x == math.inf, math.inf, y)
    return xp.where(x > 0, y, xp.where(x == 0, xp.constant(-math.inf, x.dtype), math.nan))


def log1p(xp: Writer, x: Symbol) -> Symbol:
    """log(1 + x), with what 1 + x has lost added to first order."""
    u = 1.0 + x
    y = log(xp, u)
    inside = xp.logical_and(u > 0, u < math.inf)
    return xp.where(inside, y + (x - (u - 1.0)) / u, y)


def power(xp: Writer, x: Symbol, exponent: float) -> Symbol:
    """x to a number: by multiplications where they are few, as NumPy's own short cuts."""
    if x.dtype.kind == "f" and exponent in (-1, 0.5):
        return xp.sqrt(x) if exponent == 0.5 else xp.reciprocal(x)
    if exponent == int(exponent) and 0 <= exponent <= (3 if x.dtype.kind == "f" else 64):
        return _repeated(xp, x, int(exponent))
    if x.dtype.kind != "f":
        raise TraceError("lowering: integers to such a power", str(exponent))
    return xp.call("pow", *xp.common(x, exponent))


def _repeated(xp: Writer, x: Symbol, n: int) -> Symbol:
    if n < 2:
        return x if n else xp.ones_like(x)
    half = _repeated(xp, x, n // 2)
    return half * half * x if n % 2 else half * half


def divmod(xp: Writer, a: Symbol, b: Symbol) -> tuple[Symbol, Symbol]:
    """(floor(a / b), the rest of b's sign), as NumPy computes them; for integers divided by zero (0, 0)."""
    if a.dtype == np.bool_:
        raise TraceError("lowering: booleans have no such arithmetic", "floor division")
    if a.dtype.kind == "f":
        return _divmod_of_reals(xp, a, b)
    safe = xp.where(b == 0, 1, b)
    if a.dtype.kind == "u":
        quotient, rest = xp.emit("quot", (a, safe), a.dtype), xp.emit("rem", (a, safe), a.dtype)
    else:
        by_minus_one = b == -1  # the lowest number divided by it is itself; processors stop there
        safe = xp.where(by_minus_one, 1, safe)
        quotient, rest = xp.emit("quot", (a, safe), a.dtype), xp.emit("rem", (a, safe), a.dtype)
        other_side = xp.logical_and(rest != 0, (rest < 0) ^ (safe < 0))
        quotient = xp.where(by_minus_one, -a, xp.where(other_side, quotient - 1, quotient))
        rest = xp.where(other_side, rest + safe, rest)
    zero = xp.zeros_like(a)
    return xp.where(b == 0, zero, quotient), xp.where(b == 0, zero, rest)


def _divmod_of_reals(xp: Writer, a: Symbol, b: Symbol) -> tuple[Symbol, Symbol]:
    rest = xp.emit("rem", (a, b), a.dtype)
    other_side = xp.logical_and(rest != 0, (rest < 0) ^ (b < 0))
    whole = (a - rest) / b
    rest = xp.where(rest == 0, xp.copysign(xp.zeros_like(a), b), xp.where(other_side, rest + b, rest))
    whole = xp.where(other_side, whole - 1.0, whole)
    down = xp.floor(whole)  # type: ignore[attr-defined]
    down = xp.where(whole - down > 0.5, down + 1.0, down)
    down = xp.where(whole == 0, xp.copysign(xp.zeros_like(a), a / b), down)
    return xp.where(b == 0, a / b, down), rest


def power_of_two(xp: Writer, n: Symbol) -> Symbol:
    """2^n as a float32, of an int32 whose last eight bits are n: as a number's exponent."""
    return xp.emit("bits", (xp.emit("shl", (n + 127, xp.constant(23, np.int32)), np.int32),), np.float32)


def bits_of(xp: Writer, x: Symbol) -> Symbol:
    """The bits of a float32 as an int32."""
    return xp.emit("bits", (x,), np.int32)


VECTORISED = {"exp": exp, "tanh": tanh, "log": log, "log1p": log1p}
