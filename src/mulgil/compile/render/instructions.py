"""One operation of the loop IR as one of LLVM's instructions."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mulgil.compile.render.llvm import Module

TYPES = {"bool": "i1", "float16": "half", "float32": "float", "float64": "double"}
SUFFIXES = {"half": "f16", "float": "f32", "double": "f64"}
REAL = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "rem": "frem"}
WHOLE = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor", "shl": "shl", "shr": "ashr"}
INTRINSICS = ("sqrt", "floor", "ceil", "trunc", "rint", "copysign", "maximum", "minimum")
LIBRARY = {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
}  # fmt: skip
SIGNS = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}


def type_of(dtype: str) -> str:
    return TYPES.get(dtype) or f"i{8 * np.dtype(dtype).itemsize}"


def in_memory(dtype: str) -> str:
    return "i8" if dtype == "bool" else type_of(dtype)


def literal(value: Any, dtype: str) -> str:
    """A constant; of reals the bits, which are exact."""
    kind = np.dtype(dtype).kind
    if kind == "b":
        return "true" if value else "false"
    if kind != "f":
        return str(int(value))
    if dtype == "float16":
        return f"0xH{struct.unpack('<H', struct.pack('<e', value))[0]:04X}"
    return f"0x{struct.unpack('<Q', struct.pack('<d', float(np.dtype(dtype).type(value))))[0]:016X}"


def instruction(
    module: Module, op: str, dtype: str, args: list[str], of: str, detail: Any, lines: list[str], flags: str = "contract "
) -> str:
    """Add one operation; returns the name of what it makes. dtype: of the result. of: of the first operand."""
    result, kind, source = module.name(), np.dtype(of).kind, type_of(of)
    lines.append(f"  {result} = {_text(module, op, dtype, args, of, kind, source, detail, flags)}")
    if op == "cast" and kind == "f" and np.dtype(dtype).kind in "iu":  # a number that does not fit gives an unknown one, but one
        frozen = module.name()
        lines.append(f"  {frozen} = freeze {type_of(dtype)} {result}")
        return frozen
    return result


def _text(module: Module, op: str, dtype: str, args: list[str], of: str, kind: str, source: str, detail: Any, flags: str) -> str:
    both, target = ", ".join(args), type_of(dtype)
    if op in SIGNS:
        return f"fcmp {SIGNS[op]} {source} {both}" if kind == "f" else f"icmp {_whole_sign(op, kind)} {source} {both}"
    if op == "select":
        return f"select i1 {args[0]}, {target} {args[1]}, {target} {args[2]}"
    if op == "cast":
        return f"{_cast(of, dtype)} {source} {args[0]} to {target}"
    if op == "bits":
        return f"bitcast {source} {args[0]} to {target}"
    if op == "call":
        name = LIBRARY.get(detail, detail) + ("f" if dtype == "float32" else "")
        module.declare(name, target, [source] * len(args))
        return f"call {target} @{name}({', '.join(f'{source} {a}' for a in args)})"
    if kind == "f":
        return _real(module, op, args, source, flags)
    if op in ("quot", "rem"):
        return f"{'u' if kind in 'ub' else 's'}{'div' if op == 'quot' else 'rem'} {source} {both}"
    if op == "neg":
        return f"sub {source} 0, {args[0]}"
    if op == "abs":
        return f"call {source} {module.declare(f'llvm.abs.{source}', source, [source, 'i1'])}({source} {args[0]}, i1 false)"
    if op in ("maximum", "minimum"):
        name = f"llvm.{'u' if kind in 'ub' else 's'}{op[:3]}.{source}"
        return f"call {source} {module.declare(name, source, [source] * 2)}({source} {args[0]}, {source} {args[1]})"
    return f"{WHOLE[op]} {source} {both}"


def _real(module: Module, op: str, args: list[str], source: str, flags: str) -> str:
    if op in REAL:
        return f"{REAL[op]} {flags}{source} {', '.join(args)}"
    if op == "neg":
        return f"fneg {source} {args[0]}"
    name = f"llvm.{'fabs' if op == 'abs' else op}.{SUFFIXES[source]}"
    free = "nsz " if op in ("maximum", "minimum") else ""  # which zero is larger, NumPy leaves open too
    return f"call {free}{source} {module.declare(name, source, [source] * len(args))}({', '.join(f'{source} {a}' for a in args)})"


def _whole_sign(op: str, kind: str) -> str:
    return op if op in ("eq", "ne") else f"{'s' if kind == 'i' else 'u'}{op}"


def _cast(of: str, dtype: str) -> str:
    a, b = np.dtype(of), np.dtype(dtype)
    if a.kind == b.kind == "f":
        return "fpext" if b.itemsize > a.itemsize else "fptrunc"
    if a.kind == "f":
        return "fptosi" if b.kind == "i" else "fptoui"
    if b.kind == "f":
        return "sitofp" if a.kind == "i" else "uitofp"
    if a.kind != "b" and b.itemsize < a.itemsize:
        return "trunc"
    if a.kind != "b" and b.itemsize == a.itemsize:
        return "bitcast"
    return "sext" if a.kind == "i" else "zext"
