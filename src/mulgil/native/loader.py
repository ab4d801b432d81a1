"""Kernels as machine code: described by a `Spec`, found in the cache or compiled, loaded, and bound to their arrays.

A kernel's arrays have shapes, strides and dtypes that never change, so the machine code is a function of addresses alone:
`void kernel(char** fixed, passed...)`. Loading it takes LLVM's linker, not Numba, which stays unimported while
the cache has everything; and a call costs a fraction of a microsecond, whatever the number of arrays.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from threading import RLock
from typing import Any

import numpy as np

from mulgil.errors import MulgilError
from mulgil.native.cache import Entry, Store, machine
from mulgil.native.threads import shared


@dataclass(frozen=True)
class Argument:
    """An array that a kernel takes.

    strides: in bytes; None for C order. passed: the array is given at each call; else its memory never changes.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    passed: bool = False

    @classmethod
    def of(cls, array: np.ndarray, passed: bool = False) -> Argument:
        return cls(array.dtype.str, array.shape, None if array.flags.c_contiguous else array.strides, passed)


@dataclass(frozen=True)
class Spec:
    """A kernel to compile.

    Attributes:
        source: LLVM's language that defines `@body(array, ...)`; or Python that defines `kernel(a0, a1, ...)` with the names of
            `jit.NAMES`. It takes arrays and returns nothing.
        arguments: one for each parameter.
        vectors: (dtype, lanes) for a source that uses the names of `vector.vectors`; it may also use LANES, and real and
            dtype for the type of their elements.
    """

    source: str
    arguments: tuple[Argument, ...]
    vectors: tuple[str, int] | None = None
    language: str = "python"

    @cached_property
    def key(self) -> str:
        """The name of its machine code: a hash of all that decides it."""
        return hashlib.sha256(json.dumps([self.to_json(), machine()], sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Spec:
        """The inverse of `to_json`, also after a journey as JSON text, where tuples become lists."""
        arguments: list[dict[str, Any]] = [
            {name: tuple(x) if isinstance(x, list) else x for name, x in a.items()} for a in fields["arguments"]
        ]
        vectors = fields["vectors"] and tuple(fields["vectors"])
        return cls(fields["source"], tuple(Argument(**a) for a in arguments), vectors, fields["language"])


_lock = RLock()
_addresses: dict[str, int] = {}  # key -> where the function lies in this process
counts = {"loaded": 0, "compiled": 0}  # since the process began: from the cache, and compiled for want of an entry


def prepare(specs: Sequence[Spec]) -> None:
    """Make sure that the kernels are in this process: from the cache, or compiled now (and kept in the cache)."""
    from mulgil.native.build import compile_all

    with _lock:
        wanted = {spec.key: spec for spec in specs if spec.key not in _addresses}
        if not wanted:
            return
        store = Store()
        found = {key: entry for key in wanted if (entry := store.read(key)) is not None and resolve(entry)}
        missing = [spec for key, spec in wanted.items() if key not in found]
        counts["loaded"] += len(found)
        if missing:
            made = compile_all(missing, store.folder)
            counts["compiled"] += len(made)
            if all(store.write(key, entry) for key, entry in made.items()):
                store.trim()
            found |= made
        _load(found)


def bind(spec: Spec, arrays: Sequence[np.ndarray | None]) -> Callable[..., None]:
    """The kernel as a function of its passed arrays, in their order. Other threads may run meanwhile.

    arrays: one for each argument; None for a passed one.
    """
    prepare([spec])
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *passed_by(spec))(_addresses[spec.key])
    table = table_of(arrays)
    bound = partial(function, ctypes.addressof(table))
    bound.kept = table, arrays  # type: ignore[attr-defined]  # the memory lives as long as the function
    return bound


def bind_shares(spec: Spec, arrays_of_shares: Sequence[Sequence[np.ndarray | None]]) -> Callable[..., None]:
    """The same for a kernel whose shares, each with its arrays, run side by side."""
    if len(arrays_of_shares) == 1:
        return bind(spec, arrays_of_shares[0])
    prepare([spec])
    tables = [table_of(arrays) for arrays in arrays_of_shares]
    bound = shared(_addresses[spec.key], [ctypes.addressof(table) for table in tables], len(passed_by(spec)))
    bound.kept += tables, arrays_of_shares  # type: ignore[attr-defined]
    return bound


def passed_by(spec: Spec) -> list[Any]:
    return [ctypes.py_object for a in spec.arguments if a.passed]


def table_of(arrays: Sequence[np.ndarray | None]) -> Any:
    """The addresses of the arrays, as machine code reads them."""
    return (ctypes.c_void_p * max(1, len(arrays)))(*[a.ctypes.data if a is not None else None for a in arrays])


class ByLayout:
    """A kernel some of whose passed arrays come from NumPy, which decides their strides: one function for each layout met.

    spec_for: the kernel for passed arrays with these strides (None for C order). arrays: one for each argument; None for a passed one.
    """

    def __init__(self, spec_for: Callable[[tuple], Spec], arrays: Sequence[np.ndarray | None]):
        self.spec_for, self.arrays = spec_for, arrays
        self._functions: dict[tuple, Callable[..., None]] = {}

    def __call__(self, *passed: np.ndarray) -> None:
        layout = tuple([None if a.flags.c_contiguous else a.strides for a in passed])
        if layout not in self._functions:
            self._functions[layout] = bind(self.spec_for(layout), self.arrays)
        self._functions[layout](*passed)


# ---- loading


@cache
def start_llvm() -> None:
    """What LLVM wants before its first use."""
    import llvmlite.binding as llvm

    with suppress(RuntimeError, AttributeError):  # older releases ask for it, newer ones refuse it
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@cache
def _engine() -> Any:
    """The linker of this process. Only machine code goes in."""
    import llvmlite.binding as llvm

    start_llvm()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    host = target.create_target_machine(cpu=llvm.get_host_cpu_name(), reloc="static", codemodel="jitdefault", jit=True)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), host)


def add_assembly(text: str) -> Callable[[str], int]:
    """Load functions that are written in LLVM's own language; gives what finds their addresses."""
    import llvmlite.binding as llvm

    with _lock:
        engine = _engine()
        module = llvm.parse_assembly(text)
        module.verify()
        engine.add_module(module)
        engine.finalize_object()
        return engine.get_function_address


def resolve(entry: Entry) -> bool:
    """Whether all that the code calls is in this process: the linker ends the process over a name that is not."""
    import llvmlite.binding as llvm

    _engine()  # making it lets LLVM see what this process has loaded, such as the C library's functions
    if all(map(llvm.address_of_symbol, entry.externals)):
        return True
    from numba.core.registry import cpu_target  # brings helpers of its own
    from numba.core.runtime import rtsys

    rtsys.initialize(cpu_target.target_context)
    return all(map(llvm.address_of_symbol, entry.externals))


def _load(entries: dict[str, Entry]) -> None:
    import llvmlite.binding as llvm

    engine = _engine()
    for entry in entries.values():
        if not resolve(entry):
            rule = "compile: a kernel calls functions that are not there"
            raise MulgilError(rule, ", ".join(entry.externals), "please report this program")
        engine.add_object_file(llvm.ObjectFileRef.from_data(entry.code))
    engine.finalize_object()
    _addresses.update((key, engine.get_function_address(entry.symbol)) for key, entry in entries.items())
