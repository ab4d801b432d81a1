"""The BLAS library that NumPy has brought: its threads, and C <- alpha A B + beta C, the product that NumPy does not offer."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from threading import Lock
from typing import Any

import numpy as np

ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112  # CBLAS' names for them
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


class SingleBlas:
    """Within the block, matrix products run on one thread.

    OpenBLAS' own threads go on spinning after each product, on the cores that the kernels' threads need.
    """

    def __init__(self) -> None:
        self._lock, self._users = Lock(), 0
        self._before: list[tuple[Any, int]] = []

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._before = [(library, library.get_num_threads()) for library in blas_libraries()]
                for library, _ in self._before:
                    library.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                for library, count in self._before:
                    library.set_num_threads(count)


single_blas = SingleBlas()


@cache
def blas_libraries() -> list[Any]:
    """The BLAS libraries of this process, as threadpoolctl's controllers."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas").lib_controllers
