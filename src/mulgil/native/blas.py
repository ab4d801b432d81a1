"""The BLAS library that NumPy has brought: its threads, and C <- alpha A B + beta C, the product that NumPy does not offer."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from threading import RLock, local
from typing import Any, NamedTuple

import numpy as np

from mulgil.errors import OptionError

ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112  # CBLAS' names for them
SWITCHES = (  # functions that tell and take the number of threads
    ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
    ("scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads"),
    ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
    ("openblas_get_num_threads", "openblas_set_num_threads"),
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
    ("bli_thread_get_num_threads", "bli_thread_set_num_threads"),
    ("flexiblas_get_num_threads", "flexiblas_set_num_threads"),
)
OPENMP = ("omp_get_max_threads", "omp_set_num_threads")  # these hold for the calling thread alone
SPELLINGS = (("scipy_cblas_{}gemm64_", ctypes.c_int64), ("cblas_{}gemm64_", ctypes.c_int64), ("cblas_{}gemm", ctypes.c_int))


def add_product(c: np.ndarray, a: np.ndarray, b: np.ndarray, alpha: float, beta: float) -> None:
    """c[n, m] <- alpha a[n, k] b[k, m] + beta c, in place. c lies row by row; all have one dtype, for which there is a `gemm`."""
    a, b = _matrix(a), _matrix(b)
    (n, m), k = c.shape, a.shape[1]
    (order_a, *where_a), (order_b, *where_b) = _operand(a), _operand(b)
    product: Any = gemm(c.dtype.char)
    product(ROW_MAJOR, order_a, order_b, n, m, k, alpha, *where_a, *where_b, beta, _address(c), m)


@cache
def gemm(kind: str) -> Callable[..., None] | None:
    """`cblas_sgemm` ("f") or `cblas_dgemm` ("d") of the library that NumPy uses; None where it cannot be told."""
    for library in blas_libraries():
        with suppress(OSError):
            names = ctypes.CDLL(library.filepath)
            for spelling, integer in SPELLINGS:
                function = getattr(names, spelling.format({"f": "s", "d": "d"}[kind]), None)
                if function is not None:
                    real, place = {"f": ctypes.c_float, "d": ctypes.c_double}[kind], ctypes.c_void_p
                    function.argtypes = [*[ctypes.c_int] * 3, *[integer] * 3, real, place, integer, place, integer, real, place, integer]
                    function.restype = None
                    return function
    return None


def _matrix(x: np.ndarray) -> np.ndarray:
    """x, or a copy, such that it lies row by row or column by column."""
    rows, columns = x.strides[1] == x.itemsize, x.strides[0] == x.itemsize
    return x if (rows and x.strides[0] > 0) or (columns and x.strides[1] > 0) else np.ascontiguousarray(x)


def _operand(x: np.ndarray) -> tuple[int, int, int]:
    """(order, address, leading length) of such a matrix."""
    by_rows = x.strides[1] == x.itemsize
    return PLAIN if by_rows else TRANSPOSED, _address(x), x.strides[0 if by_rows else 1] // x.itemsize


def _address(x: np.ndarray) -> int:
    return x.__array_interface__["data"][0]


# ---- threads


class Switch(NamedTuple):
    """read, write: the number of threads of one library. own: whether each calling thread has a number of its own."""

    read: Callable[[], int]
    write: Callable[[int], Any]
    own: bool


class _Everyone:
    """users: who is within `single_blas`. wanted: the threads of each library outside it."""

    users, wanted = 0, ()


class _EachThread(_Everyone, local):
    """The same, for libraries whose number is the calling thread's own."""


class SingleBlas:
    """Within the block, matrix products run on one thread.

    A product over several threads adds up in another order than one over a single thread, so its bits would depend on how many there
    are, and on whether another thread of the program is within such a block. OpenBLAS' own threads also go on spinning after each
    product, on the cores that the kernels' threads need.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._switches: list[Switch] = []
        self._state: Any = None

    def __enter__(self) -> None:
        state = self._state
        if state is None:
            state = self._begin()
        with self._lock:
            if not state.users:
                state.wanted = wanted = []
                for read, write, _ in self._switches:
                    wanted.append(read())
                    write(1)
            state.users += 1

    def __exit__(self, *_: object) -> None:
        state = self._state
        with self._lock:
            state.users = max(0, state.users - 1)  # 0 already in a process forked within the block
            if not state.users:
                self._write(state.wanted)

    @property
    def counts(self) -> list[int]:
        """The threads of each library outside such blocks."""
        state = self._begin()
        with self._lock:
            return state.wanted if state.users else [switch.read() for switch in self._switches]

    @counts.setter
    def counts(self, counts: list[int]) -> None:
        state = self._begin()
        with self._lock:
            if state.users:
                state.wanted = counts
            else:
                self._write(counts)

    def _begin(self) -> Any:
        with self._lock:
            if self._state is None:
                self._switches = _switches()
                self._state = _EachThread() if any(switch.own for switch in self._switches) else _Everyone()
        return self._state

    def _write(self, counts: list[int]) -> None:
        for (_, write, _), count in zip(self._switches, counts, strict=True):
            write(count)

    def after_fork(self) -> None:
        """Threads that were within the block are not in the new process."""
        self._lock = RLock()
        if self._state is not None and self._state.users:
            self._state.users = 0
            self._write(self._state.wanted)


single_blas = SingleBlas()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=single_blas.after_fork)


class set_num_threads:
    """Let matrix products and compiled kernels use so many threads, from now on, or within `with set_num_threads(1): ...`.

    threads: at least 1, for the whole process. Of several such blocks, in whatever threads, the one that was entered last rules.
    The number changes no bit of what is compiled. Eager products are the BLAS library's: its bits hold for a given number.
    Raises OptionError.
    """

    limit: int | None = None  # what rules now
    _asked: list[set_num_threads] = []
    _first: list[int] = []  # the library's own numbers
    _lock = RLock()

    def __init__(self, threads: int):
        if threads < 1:
            raise OptionError("set_num_threads: at least one thread is needed", repr(threads))
        self.threads, self._within = int(threads), False
        with self._lock:
            if not self._asked:
                set_num_threads._first = single_blas.counts
            if len(self._asked) > 1 and not any(asked._within for asked in self._asked[-2:]):
                del self._asked[-2]  # it was replaced for good
            self._asked.append(self)
            self._apply()

    def __enter__(self) -> set_num_threads:
        with self._lock:
            self._within = True
            if self not in self._asked:
                self._asked.append(self)
                self._apply()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            at = self._asked.index(self)
            self._asked[at:] = [asked for asked in self._asked[at + 1 :] if asked._within]  # what was asked within ends with it
            self._apply()

    @classmethod
    def _apply(cls) -> None:
        cls.limit = cls._asked[-1].threads if cls._asked else None
        single_blas.counts = cls._first if cls.limit is None else [cls.limit] * len(cls._first)


def _switches() -> list[Switch]:
    """Of the libraries whose functions are known. threadpoolctl's own setters do nothing in a second thread."""
    return [switch for library in blas_libraries() if (switch := _switch(library)) is not None]


def _switch(library: Any) -> Switch | None:
    own = getattr(library, "threading_layer", "") == "openmp" and getattr(library, "internal_api", "") == "openblas"
    with suppress(OSError):
        names = ctypes.CDLL(library.filepath)
        for read, write in (OPENMP,) if own else SWITCHES:
            if hasattr(names, read) and hasattr(names, write):
                switch = Switch(getattr(names, read), getattr(names, write), own)
                switch.read.argtypes, switch.write.argtypes, switch.write.restype = [], [ctypes.c_int], None  # type: ignore[attr-defined]
                return switch
    return None


@cache
def blas_libraries() -> list[Any]:
    """The BLAS libraries of this process, as threadpoolctl's controllers."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas").lib_controllers
