"""Explicit vectors for generated kernels: a Numba type that is an LLVM vector, and the few operations on it.

LLVM vectorises plain loops, but decides by itself what stays in registers; a convolution's sums must stay there. With these
names a generated kernel says so, and still reads like Python: `s = fma(w, load(x, at), s)`. LLVM splits a vector that is
wider than the machine's, so the kernels run everywhere.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from mulgil.native.hardware import features, vector_bytes


def machine() -> tuple[int, int]:
    """(bytes of a vector, number of vector registers) of the processor that kernels are compiled for."""
    width = vector_bytes()
    return width, 32 if width == 64 or "neon" in features() else 16


def lanes_for(dtype: np.dtype, batch: int) -> int:
    """How many images a kernel works on at once: a vector's worth, fewer for a small batch."""
    lanes = machine()[0] // dtype.itemsize
    while lanes > 4 and lanes // 2 >= batch:
        lanes //= 2
    return lanes


@cache
def vectors(dtype: str, lanes: int) -> dict[str, Any]:
    """The operations for vectors of `lanes` elements; offsets count elements of the flat array, which is not checked.

    load(a, i), store(a, i, v), broadcast(a, i): a[i] in all lanes. zero(), fma(a, b, c) = a b + c, add(a, b), total(v).
    greater(a, b, x, y), equal(a, b, x, y): x where a > b (a == b), else y.
    beats(a, b, x, y): x where a > b, or a is NaN and b is not, else y. constant(number): in all lanes.
    load_bytes, store_bytes: the same for an array of uint8. keep(v, count): zero from lane `count` on.
    store_first(a, i, v, count): the first `count` lanes alone. evens(v, w), odds(v, w): every other lane of both.
    prefetch(a, i): a[i] will be needed soon.
    transpose(a, i, leap, b, j, other): a square of `lanes` rows, `leap` elements apart in a from i, turned, `other` apart in b from j.
    """
    from llvmlite import ir
    from numba.core import types
    from numba.extending import intrinsic, models, register_model

    scalar = getattr(types, dtype)
    element = ir.FloatType() if dtype == "float32" else ir.DoubleType()
    wide, wide_bytes, index = ir.VectorType(element, lanes), ir.VectorType(ir.IntType(8), lanes), ir.IntType(32)
    contract = ("contract",)  # a product and a sum may become one instruction; NaN stays NaN

    class Vector(types.Type):
        def __init__(self) -> None:
            super().__init__(name=f"vector({dtype}, {lanes})")

    vector = Vector()

    @register_model(Vector)
    class Model(models.PrimitiveModel):
        def __init__(self, manager: Any, kind: Any) -> None:
            super().__init__(manager, kind, wide)

    def all_lanes(builder: Any, x: Any) -> Any:
        blank = ir.Constant(ir.VectorType(x.type, lanes), ir.Undefined)
        single = builder.insert_element(blank, x, ir.Constant(index, 0))
        return builder.shuffle_vector(single, blank, ir.Constant(ir.VectorType(index, lanes), [0] * lanes))

    def pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
        return builder.gep(context.make_array(kind)(context, builder, array).data, [at])

    def load_from(wide_kind: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place = builder.bitcast(pointer(context, builder, signature.args[0], *args), wide_kind.as_pointer())
            raw = builder.load(place, align=4 if wide_kind is wide else 1)
            return raw if wide_kind is wide else builder.uitofp(raw, wide)

        return emit

    def store_to(wide_kind: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place = builder.bitcast(pointer(context, builder, signature.args[0], *args[:2]), wide_kind.as_pointer())
            builder.store(args[2] if wide_kind is wide else builder.fptoui(args[2], wide_bytes), place, align=4 if wide_kind is wide else 1)
            return context.get_dummy_value()

        return emit

    def emit_load_if(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = builder.select(args[0], args[2], ir.Constant(args[2].type, 0))
        v = load_from(wide)(context, builder, signature.return_type(signature.args[1], signature.args[2]), (args[1], where))
        return builder.select(args[0], v, ir.Constant(wide, [0.0] * lanes))

    def emit_broadcast(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return all_lanes(builder, builder.load(pointer(context, builder, signature.args[0], *args)))

    def emit_constant(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return all_lanes(builder, context.cast(builder, args[0], signature.args[0], scalar))

    def emit_total(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = [builder.extract_element(args[0], ir.Constant(index, k)) for k in range(lanes)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [builder.fadd(a, b) for a, b in zip(parts[:half], parts[half:], strict=True)]
        return parts[0]

    def first(builder: Any, count: Any) -> Any:
        """Whether each lane comes before `count`."""
        numbers = ir.Constant(ir.VectorType(index, lanes), list(range(lanes)))
        return builder.icmp_signed(">", all_lanes(builder, builder.trunc(count, index)), numbers)

    def emit_keep(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(first(builder, args[1]), args[0], ir.Constant(wide, [0.0] * lanes))

    def emit_store_first(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.bitcast(pointer(context, builder, signature.args[0], *args[:2]), wide.as_pointer())
        mask, name = first(builder, args[3]), f"llvm.masked.store.v{lanes}f{8 * np.dtype(dtype).itemsize}.p0"
        kind = ir.FunctionType(ir.VoidType(), [wide, wide.as_pointer(), index, mask.type])
        builder.call(builder.module.declare_intrinsic(name, fnty=kind), [args[2], place, ir.Constant(index, 4), mask])
        return context.get_dummy_value()

    def emit_prefetch(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        function = builder.module.declare_intrinsic("llvm.prefetch.p0", fnty=ir.FunctionType(ir.VoidType(), [byte, *[index] * 3]))
        place = builder.bitcast(pointer(context, builder, signature.args[0], *args), byte)
        builder.call(function, [place, *(ir.Constant(index, n) for n in (1, 3, 1))])  # to write, into the first cache, data
        return context.get_dummy_value()

    def emit_transpose(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (a, i, leap, b, j, other), (source, at, _, target, *_) = args, signature.args
        place = [builder.add(i, builder.mul(leap, ir.Constant(leap.type, k))) for k in range(lanes)]
        rows = [load_from(wide)(context, builder, vector(source, at), (a, p)) for p in place]
        step = 1
        while step < lanes:  # swaps blocks of `step` lanes between rows `step` apart
            low = [k if not k & step else lanes + k - step for k in range(lanes)]
            high = [k + step if not k & step else lanes + k for k in range(lanes)]
            for k in (k for k in range(lanes) if not k & step):
                pair = rows[k], rows[k + step]
                rows[k], rows[k + step] = (builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(index, lanes), m)) for m in (low, high))
            step *= 2
        for k, row in enumerate(rows):
            to = builder.add(j, builder.mul(other, ir.Constant(other.type, k)))
            store_to(wide)(context, builder, types.none(target, at, vector), (b, to, row))
        return context.get_dummy_value()

    def compare(sign: str) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(sign, args[0], args[1]), args[2], args[3])

        return emit

    def emit_beats(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b, x, y = args
        return builder.select(builder.and_(builder.fcmp_unordered(">", a, b), builder.fcmp_ordered("==", b, b)), x, y)

    def every_other(start: int) -> Any:
        chosen = ir.Constant(ir.VectorType(index, lanes), list(range(start, 2 * lanes, 2)))
        return arithmetic(lambda b, v, w: b.shuffle_vector(v, w, chosen))

    def arithmetic(emit: Any) -> Any:
        return lambda context, builder, signature, args: emit(builder, *args)

    def zero(builder: Any) -> Any:
        return ir.Constant(wide, [0.0] * lanes)

    def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
        return builder.fadd(builder.fmul(a, b, flags=contract), c, flags=contract)

    at = types.intp
    table = {
        "load": (lambda c, a, i: (vector(a, at), load_from(wide))),
        "load_bytes": (lambda c, a, i: (vector(a, at), load_from(wide_bytes))),
        "store": (lambda c, a, i, v: (types.none(a, at, vector), store_to(wide))),
        "store_bytes": (lambda c, a, i, v: (types.none(a, at, vector), store_to(wide_bytes))),
        "load_if": (lambda c, ok, a, i: (vector(types.boolean, a, at), emit_load_if)),
        "broadcast": (lambda c, a, i: (vector(a, at), emit_broadcast)),
        "zero": (lambda c: (vector(), arithmetic(zero))),
        "constant": (lambda c, x: (vector(x), emit_constant)),
        "fma": (lambda c, x, y, z: (vector(vector, vector, vector), arithmetic(fma))),
        "add": (lambda c, x, y: (vector(vector, vector), arithmetic(lambda b, x, y: b.fadd(x, y)))),
        "greater": (lambda c, p, q, x, y: (vector(vector, vector, vector, vector), compare(">"))),
        "equal": (lambda c, p, q, x, y: (vector(vector, vector, vector, vector), compare("=="))),
        "beats": (lambda c, p, q, x, y: (vector(vector, vector, vector, vector), emit_beats)),
        "prefetch": (lambda c, a, i: (types.none(a, at), emit_prefetch)),
        "transpose": (lambda c, a, i, p, b, j, q: (types.none(a, at, at, b, at, at), emit_transpose)),
        "total": (lambda c, v: (scalar(vector), emit_total)),
        "keep": (lambda c, v, n: (vector(vector, at), emit_keep)),
        "evens": (lambda c, v, w: (vector(vector, vector), every_other(0))),
        "odds": (lambda c, v, w: (vector(vector, vector), every_other(1))),
        "store_first": (lambda c, a, i, v, n: (types.none(a, at, vector, at), emit_store_first)),
    }
    return {name: intrinsic(typed) for name, typed in table.items()}
