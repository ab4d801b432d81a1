"""Who asks a Tensor for its numbers: `np.asarray(t)` says so, `np.sum([a, b])` takes them in passing and would lose a gradient.

NumPy looks for protocols in a call's arguments, not within lists, so all that a Tensor in a list sees is a call of `__array__`.
What was called is read off the frame that called into NumPy.
"""

from __future__ import annotations

import dis
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

import numpy as np

from mulgil.autograd.numpy_functions import WITHOUT_GRADIENT

CONVERSIONS = (np.array, np.asarray, np.asanyarray, np.ascontiguousarray, np.asfortranarray, np.asarray_chkfinite)


def taken_in_passing(frame: FrameType | None) -> str | None:
    """What NumPy was doing when it called `__array__`, if a gradient is lost by it: "np.exp". frame: the caller's.

    None where it was a conversion, or a function that has no gradient to lose, or cannot be told.
    """
    if frame is None:
        return None
    called: Any = None
    if _is_numpys(frame):
        while frame.f_back is not None and _is_numpys(frame.f_back):
            frame = frame.f_back
        called = getattr(np, frame.f_code.co_name, getattr(np.linalg, frame.f_code.co_name, None))
        if called is None:
            return f"numpy's {frame.f_code.co_name}"
    else:
        operation, names = _instruction(frame.f_code, frame.f_lasti)
        if operation.startswith(("STORE_SUBSCR", "BINARY")):
            return "an assignment to an array" if operation.startswith("STORE") else "arithmetic of a list"
        if names:
            called = frame.f_locals.get(names[0], frame.f_globals.get(names[0]))
            for name in names[1:]:
                called = getattr(called, name, None)
        numpys = isinstance(called, np.ufunc) or (getattr(called, "__module__", None) or "").partition(".")[0] == "numpy"
        if not numpys and not isinstance(getattr(called, "__self__", None), (np.ndarray, np.random.Generator)):
            return None
    free = called in CONVERSIONS or called in WITHOUT_GRADIENT or isinstance(called, type)
    return None if free else f"np.{called.__name__}"


def _is_numpys(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] == "numpy"


@lru_cache(maxsize=1024)
def _instruction(code: CodeType, at: int) -> tuple[str, tuple[str, ...]]:
    """The name of the instruction at this offset, and, of a call, the dotted name of what it calls; () if it is no name."""
    call, *rest = reversed([i for i in dis.get_instructions(code) if i.offset <= at])
    if not call.opname.startswith("CALL"):
        return call.opname, ()
    arguments = 1 + (call.arg or 0) % 2 if call.opname == "CALL_FUNCTION_EX" else (call.arg or 0) + (call.opname == "CALL_KW")
    for i, instruction in enumerate(rest):  # back over what put the arguments on the stack
        if arguments == 0 and instruction.opname not in ("PRECALL", "KW_NAMES", "CACHE", "PUSH_NULL"):
            return call.opname, _dotted(rest[i:])
        arguments -= dis.stack_effect(instruction.opcode, instruction.arg, jump=False) if instruction.opname != "PRECALL" else 0
    return call.opname, ()


def _dotted(rest: list[dis.Instruction]) -> tuple[str, ...]:
    """The names that the last instructions loaded: ("np", "linalg", "norm")."""
    names: tuple[str, ...] = ()
    for instruction in rest:
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            names = (instruction.argval, *names)
        elif instruction.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FAST", "LOAD_DEREF")) and isinstance(instruction.argval, str):
            return instruction.argval, *names
        else:
            break
    return ()
