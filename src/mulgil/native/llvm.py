"""LLVM's language down to machine code for this processor, through llvmlite.

The text defines `@body(arrays ...)`. The entry beside it, `void kernel(char** fixed, passed...)`, takes the arrays' addresses
from a table or from passed array objects.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

from mulgil.native.hardware import level
from mulgil.native.loader import Spec


def machine_code(spec: Spec, symbol: str) -> tuple[bytes, tuple[str, ...]]:
    """Compile a kernel to an object file that defines `symbol`; also the names that it needs from outside."""
    import llvmlite.binding as llvm

    machine = target(level())
    module = llvm.parse_assembly(spec.source + entry(spec, symbol))
    module.triple, module.data_layout = llvm.get_process_triple(), str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = options.loop_unrolling = True
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    outside = tuple(f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm."))
    return machine.emit_object(module), outside


@cache
def target(lesser: str | None) -> Any:
    """The machine that code is made for: this one, or a lesser one of the kind that is named."""
    import llvmlite.binding as llvm

    from mulgil.native.loader import start_llvm

    start_llvm()
    host = llvm.Target.from_triple(llvm.get_process_triple())
    features = "" if lesser else llvm.get_host_cpu_features().flatten()
    name = lesser or llvm.get_host_cpu_name()
    return host.create_target_machine(cpu=name, features=features, opt=3, reloc="static", codemodel="jitdefault", jit=True)


def entry(spec: Spec, symbol: str) -> str:
    """The text of the function that the outside calls. An array object begins with a head, then the address of its elements."""
    passed = [k for k, a in enumerate(spec.arguments) if a.passed]
    lines = [f"define void @{symbol}({', '.join(['ptr %fixed', *(f'ptr %object{k}' for k in passed)])}) {{"]
    for k in range(len(spec.arguments)):
        source, offset = (f"%object{k}", object.__basicsize__) if k in passed else ("%fixed", 8 * k)
        lines += [f"  %place{k} = getelementptr i8, ptr {source}, i64 {offset}", f"  %array{k} = load ptr, ptr %place{k}"]
    call = f"  call void @body({', '.join(f'ptr %array{k}' for k in range(len(spec.arguments)))})"
    return "\n".join([*lines, *flushed([call]), "  ret void", "}", *CONTROL]) + "\n"


X86 = platform.machine().lower() in ("x86_64", "amd64")
CONTROL = ["declare void @llvm.x86.sse.stmxcsr(ptr)", "declare void @llvm.x86.sse.ldmxcsr(ptr)"] if X86 else []


def flushed(lines: list[str]) -> list[str]:
    """The lines, run with numbers below the smallest normal one as zero.

    They take a processor a hundred times as long, and training makes many: a moment of Adam whose gradient has become zero decays
    into them and never leaves.
    """
    if not X86:
        return lines
    return [
        "  %before = alloca i32",
        "  %changed = alloca i32",
        "  call void @llvm.x86.sse.stmxcsr(ptr %before)",
        "  %mode = load i32, ptr %before",
        "  %flushing = or i32 %mode, 32832",  # what is made, and what is read
        "  store i32 %flushing, ptr %changed",
        "  call void @llvm.x86.sse.ldmxcsr(ptr %changed)",
        *lines,
        "  call void @llvm.x86.sse.ldmxcsr(ptr %before)",
    ]
