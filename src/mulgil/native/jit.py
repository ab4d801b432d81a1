"""Numba's compiler with the switches that the kernels shaped by hand need, down to machine code.

FAST: sums may be reordered, which vectorising them takes; but NaN and infinity stay what they are.
error_model="numpy": a division needs no branch.
noalias: LLVM gives up on loops with many arrays when it must check that they do not overlap. The arguments of a kernel never
do, unless they are the same; Numba sets the flag for the bodies of `prange` loops and offers no switch for others.

The machine code is that of `void kernel(char** fixed, passed...)`, where passed are array objects; shapes and strides are
constants.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import numpy as np

from mulgil.native import llvm
from mulgil.native.hardware import level
from mulgil.native.loader import Argument, Spec

FAST = {"reassoc", "nsz", "arcp", "contract", "afn"}


NAMES = {"np": np, "f32": np.float32, "f64": np.float64, "i64": np.int64}  # what generated kernels use beside vectors


def machine_code(spec: Spec, symbol: str) -> tuple[bytes, tuple[str, ...]]:
    """Compile a kernel to an object file that defines `symbol`; also the names that it needs from outside.

    Numba types and lowers the Python function and leaves its code unoptimised; the entry with the constants is put beside it,
    so that LLVM's passes run once, over both.
    """
    from numba.core import compiler, cpu, registry, types
    from numba.core.compiler_lock import global_compiler_lock
    from numba.np.numpy_support import from_dtype

    scope: dict[str, Any] = dict(NAMES)
    if spec.vectors:
        from mulgil.native.vector import vectors

        dtype = np.dtype(spec.vectors[0])
        scope |= {**vectors(*spec.vectors), "LANES": spec.vectors[1], "real": dtype.type, "dtype": dtype}
    exec(compile(spec.source, "<mulgil kernel>", "exec"), scope)  # text that this process or its parent wrote
    target = registry.cpu_target
    kinds = tuple(types.Array(from_dtype(np.dtype(a.dtype)), len(a.shape), "A" if a.strides else "C") for a in spec.arguments)
    flags: Any = compiler.Flags()
    flags.nrt = flags.noalias = flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.fastmath, flags.error_model = cpu.FastMathOptions(FAST), "numpy"
    with global_compiler_lock:
        made = compiler.compile_extra(target.typing_context, target.target_context, scope["kernel"], kinds, types.none, flags, {})
        library = made.library
        library.add_ir_module(entry_module(target.target_context, made, kinds, spec.arguments, symbol))
        module = library._final_module
        for other in dict.fromkeys(library._linking_libraries):
            module.link_in(other._get_module_for_linking(), preserve=True)
        for thing in (*module.functions, *module.global_variables):
            if not thing.is_declaration and thing.name != symbol:
                thing.linkage = "internal"  # what the entry does not use disappears
        made_for = library.codegen._tm
        library.codegen._tm = llvm.target(lesser) if (lesser := level()) else made_for
        try:
            library._optimize_final_module()
            module.verify()
            code = library.codegen._tm.emit_object(module)
        finally:
            library.codegen._tm = made_for
        outside = [x.name for x in (*module.functions, *module.global_variables) if x.is_declaration and not x.name.startswith("llvm.")]
        return code, tuple(outside)


def entry_module(context: Any, made: Any, kinds: tuple, arguments: tuple[Argument, ...], symbol: str) -> Any:
    """LLVM code of the entry: takes the arrays' addresses, from the table or from the passed objects, and calls the kernel."""
    from llvmlite import ir
    from numba.core import types

    number, address = ir.IntType(64), ir.IntType(8).as_pointer()
    module = made.library.create_ir_module(symbol)
    convention = context.call_conv
    callee = ir.Function(module, convention.get_function_type(types.none, kinds), made.fndesc.llvm_func_name)
    passed = [address for a in arguments if a.passed]
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [address.as_pointer(), *passed]), symbol)
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    given = iter(entry.args[1:])
    values = []
    for position, (kind, argument) in enumerate(zip(kinds, arguments, strict=True)):
        if argument.passed:  # of an array object, the first field after the head is the address of its elements
            place = builder.bitcast(builder.gep(next(given), [number(object.__basicsize__)]), address.as_pointer())
        else:
            place = builder.gep(entry.args[0], [number(position)])
        values.append(array_value(context, builder, kind, argument, builder.load(place)))
    restore = flush_denormals(builder)
    convention.call_function(builder, callee, types.none, kinds, values)
    restore()
    builder.ret_void()
    return module


def flush_denormals(builder: Any) -> Callable[[], None]:
    """From here on numbers below the smallest normal one are zero; gives what writes the code that ends it.

    They take a processor a hundred times as long, and training makes many: a moment of Adam whose gradient has become zero decays
    into them and never leaves.
    """
    from llvmlite import ir

    number, byte = ir.IntType(32), ir.IntType(8)
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return lambda: None

    def call(name: str, value: Any) -> None:
        function = builder.module.declare_intrinsic(name, fnty=ir.FunctionType(ir.VoidType(), [byte.as_pointer()]))
        builder.call(function, [builder.bitcast(value, byte.as_pointer())])

    before, changed = builder.alloca(number), builder.alloca(number)
    call("llvm.x86.sse.stmxcsr", before)
    builder.store(builder.or_(builder.load(before), number(0x8040)), changed)  # what is made, and what is read
    call("llvm.x86.sse.ldmxcsr", changed)
    return lambda: call("llvm.x86.sse.ldmxcsr", before)


def array_value(context: Any, builder: Any, kind: Any, argument: Argument, address: Any) -> Any:
    """Numba's record of an array at `address`, with constants for everything else."""
    from llvmlite.ir import IntType
    from numba.np.arrayobj import make_array, populate_array

    array = make_array(kind)(context, builder)
    size = np.dtype(argument.dtype).itemsize
    number = IntType(64)
    shape = [number(n) for n in argument.shape]
    strides = [number(n) for n in argument.strides or c_strides(argument.shape, size)]
    populate_array(array, builder.bitcast(address, array.data.type), shape, strides, number(size), None)
    return array._getvalue()


def c_strides(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """The strides in bytes of an array in C order."""
    strides = [size]
    for n in shape[:0:-1]:
        strides.insert(0, strides[0] * n)
    return tuple(strides) if shape else ()
