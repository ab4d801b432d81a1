"""Numba's compiler with the switches that the kernels need, and the exponential in arithmetic that vectorises.

fastmath: sums may be reordered, which vectorising them takes. error_model="numpy": a division needs no branch.
noalias: LLVM gives up on loops with many arrays when it must check that they do not overlap. The arguments of a kernel never
do, unless they are the same; Numba sets the flag for the bodies of `prange` loops and offers no switch for others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any


def jit(function: Callable) -> Callable:
    """Compile a kernel: `nogil`, fast-math, without alias checks."""
    import numba

    dispatcher: Any = numba.njit(fastmath=True, error_model="numpy", nogil=True)(function)

    class NoAlias(type(dispatcher._compiler)):  # type: ignore[misc]
        def _customize_flags(self, flags: Any) -> Any:
            flags = super()._customize_flags(flags)
            flags.noalias = True
            return flags

    dispatcher._compiler.__class__ = NoAlias
    return dispatcher


@cache
def mathematics() -> dict[str, Any]:
    """The names that generated kernels use beside NumPy's.

    exp for float32 is arithmetic (n = round(x / ln 2), a polynomial, and n added to the exponent's bits), so that LLVM
    vectorises the loop around it; the library's is a call an element. Within 2 ulp; 0 below -87.3, inf above 88.7.
    Source of the coefficients: S. Moshier, Cephes, expf.
    """
    import math

    import numba
    import numpy as np
    from llvmlite import ir
    from numba.core import types
    from numba.extending import intrinsic

    f32 = np.float32

    @intrinsic
    def bits_to_float(typingctx, n):  # type: ignore[no-untyped-def]  # noqa: ANN001
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ANN001
            return builder.bitcast(args[0], ir.FloatType())

        return types.float32(types.int32), codegen

    inline = numba.njit(fastmath=True, error_model="numpy", inline="always")

    @inline
    def exp32(x):  # type: ignore[no-untyped-def]  # noqa: ANN001
        x = min(max(x, f32(-87.3)), f32(88.7))
        n = np.floor(x * f32(1.44269504088896341) + f32(0.5))
        r = x - n * f32(0.693359375) + n * f32(2.12194440e-4)
        p = f32(1.9875691500e-4)
        p = p * r + f32(1.3981999507e-3)
        p = p * r + f32(8.3334519073e-3)
        p = p * r + f32(4.1665795894e-2)
        p = p * r + f32(1.6666665459e-1)
        p = p * r + f32(5.0000001201e-1)
        p = p * r * r + r + f32(1)
        return p * bits_to_float(np.int32((np.int32(n) + np.int32(127)) << np.int32(23)))

    return {"np": np, "math": math, "f32": f32, "f64": np.float64, "i64": np.int64, "exp32": exp32}
