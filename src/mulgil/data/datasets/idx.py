"""IDX, the file format of MNIST: a short header of sizes, then one block of numbers.

    byte 0-1   zero
    byte 2     type of the numbers (8: uint8, the only one that image data sets use, and five more)
    byte 3     d, how many axes
    then       d sizes, 4 bytes each, big-endian
    then       the numbers, big-endian, last axis fastest

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section "The IDX file format".

A file may be damaged, or made to do damage. So nothing is believed before it is checked: the header is read first, what it
asks for is compared with what the file can hold, and then exactly that much is read, in pieces, and one byte more to see that
the file ends there. Memory therefore grows with what really arrives and never beyond what the header honestly asks.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mulgil.errors import DataError
from mulgil.files import atomic_file, open_regular

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_BYTES = 1 << 30  # more than any published IDX set of small images; a header that asks for more is refused
GZIP_MAGIC = b"\x1f\x8b"

_MAX_AXES = 8
_PIECE = 1 << 20
_GZIP_MAX_RATIO = 1032  # deflate cannot pack more than this into one byte
_AGAIN = "delete it and download it again, for example with download=True"


@dataclass(frozen=True)
class IdxHeader:
    """What the first bytes of an IDX file say: the dtype of the numbers and the shape of the array."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the numbers in bytes, a Python integer that cannot overflow."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_idx(path: str | os.PathLike[str], ndim: int | None = None, max_bytes: int = MAX_BYTES) -> np.ndarray:
    """Read an IDX file, plain or gzip (told by its content, not its name), as a writable array in native byte order.

    Args:
        path: the file.
        ndim: how many axes it must have, for example 3 for images [N, H, W] and 1 for labels [N]; None takes any.
        max_bytes: refuse a file that announces more than this many bytes of numbers; default 1 GiB.

    Raises:
        DataError: the file is missing, unreadable, truncated, too long, damaged, too large, or no IDX file of `ndim` axes.

    Example:
        >>> images = read_idx("train-images-idx3-ubyte.gz", ndim=3)   # doctest: +SKIP
    """
    with _opened(path) as (stream, room):
        header = _read_header(stream, path, ndim, max_bytes)
        _check_room(header, path, room)
        content = _read_exactly(stream, header, path)
    return np.frombuffer(content, header.dtype).reshape(header.shape).astype(header.dtype.newbyteorder("="), copy=False)


def read_header(path: str | os.PathLike[str], ndim: int | None = None) -> IdxHeader:
    """The dtype and shape of an IDX file, from its first bytes and its size only. Raises `DataError` as `read_idx` does."""
    with _opened(path) as (stream, room):
        header = _read_header(stream, path, ndim, MAX_BYTES)
        _check_room(header, path, room)
    return header


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write `array` as an IDX file, gzip where the name ends in .gz: the inverse of `read_idx`, for tests and own data sets.

    Raises:
        DataError: a dtype that IDX does not know, or a folder that cannot be written.
    """
    codes = {np.dtype(name).newbyteorder("=").str: code for code, name in DTYPES.items()}
    code = codes.get(array.dtype.newbyteorder("=").str)
    if code is None:
        raise DataError(
            "write_idx: IDX knows uint8, int8, int16, int32, float32 and float64", str(array.dtype), "convert it: array.astype(numpy.uint8)"
        )
    content = struct.pack(f">2x2B{array.ndim}I", code, array.ndim, *array.shape) + array.astype(DTYPES[code]).tobytes()
    path = Path(path)
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    with atomic_file(path) as out:
        out.write(content)


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[tuple[BinaryIO, int]]:
    """The decompressed stream of a file and the number of bytes that it can hold at most; every failure becomes a DataError."""
    try:
        with open_regular(path, follow=True) as raw:
            size = os.fstat(raw.fileno()).st_size
            packed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield stream, size * _GZIP_MAX_RATIO  # type: ignore[misc]
            else:
                yield raw, size
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file", None, "check the path, or download the data with download=True") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip data is damaged or cut short", str(error), _AGAIN) from error
    except OSError as error:
        got = error.strerror or str(error)
        raise DataError(f"{path}: the file cannot be read", got, "check that it is a file and that you may read it") from error


def _read_header(stream: BinaryIO, path: str | os.PathLike, ndim: int | None, max_bytes: int) -> IdxHeader:
    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in DTYPES or not 1 <= start[3] <= _MAX_AXES:
        got = f"{len(start)} bytes: {start.hex(' ')}" if start else "an empty file"
        raise DataError(
            f"{path}: an IDX file starts with 00 00, a type and a number of axes", got, "this is another kind of file; " + _AGAIN
        )
    axes = start[3]
    if ndim is not None and axes != ndim:
        kind = {1: "labels", 3: "images"}
        hint = f"this looks like a file of {kind[axes]}; are two files swapped?" if axes in kind else _AGAIN
        raise DataError(f"{path}: {kind.get(ndim, 'this file')} must have {ndim} axes", f"{axes} axes", hint)
    sizes = stream.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise DataError(f"{path}: the file ends inside its header", f"{4 + len(sizes)} bytes", _AGAIN)
    header = IdxHeader(np.dtype(DTYPES[start[2]]), struct.unpack(f">{axes}I", sizes))
    if math.prod(max(1, size) for size in header.shape) * header.dtype.itemsize > max_bytes:  # an axis of 0 must not hide the others
        got = f"{list(header.shape)} {header.dtype.newbyteorder('=')}, {header.nbytes:,} bytes"
        raise DataError(f"{path}: an IDX file may announce at most {max_bytes:,} bytes", got, "the header is damaged; " + _AGAIN)
    return header


def _check_room(header: IdxHeader, path: str | os.PathLike, room: int) -> None:
    wanted = 4 + 4 * len(header.shape) + header.nbytes
    if wanted > room:
        got = f"the header announces {wanted:,} bytes, the file holds {room:,} at most"
        raise DataError(f"{path}: the file is cut short", got, _AGAIN)


def _read_exactly(stream: BinaryIO, header: IdxHeader, path: str | os.PathLike) -> bytearray:
    """The numbers behind the header; asking for one byte more also makes gzip check its checksum."""
    wanted, content = header.nbytes, bytearray()
    while len(content) <= wanted:
        piece = stream.read(min(_PIECE, wanted + 1 - len(content)))
        if not piece:
            break
        content += piece
    if len(content) != wanted:
        what, got = (
            ("cut short", f"{len(content):,}") if len(content) < wanted else ("longer than its header says", f"more than {wanted:,}")
        )
        raise DataError(
            f"{path}: the file is {what}", f"{got} bytes of numbers, the header announces {wanted:,} for {list(header.shape)}", _AGAIN
        )
    return content
