"""NumPy's .npz files, read by their letter: numbers and text alone, and no more memory than was agreed.

`numpy.load` hands a header to Python's own parser, which long or deeply nested text can exhaust, and unpacks whatever an archive claims.
Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import math
import re
import struct
from io import BytesIO
from typing import IO, Any

import numpy as np

MAX_BYTES = 64 << 20  # of a file, and of its arrays together
MAX_ENTRIES = 10_000
HEADER = re.compile(
    r"\{'descr': '([<>|=]?(?:b1|[iu][1248]|f[248]|U\d{1,7}))', 'fortran_order': (True|False), "
    r"'shape': \((|\d{1,15},|\d{1,15}(?:, \d{1,15}){1,7})\), ?\} *\n"
)
FAULTS = (EOFError, NotImplementedError, RuntimeError, KeyError, OverflowError, OSError)  # of zipfile, on damaged files


def read_npz(content: bytes, most: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """name -> array of an .npz file's bytes. most: bytes that the arrays may take.

    Raises ValueError for a file that is none, is damaged, holds other things than numbers and text, or more than `most`.
    """
    import zipfile
    import zlib

    if len(content) > most or content.count(b"PK\x01\x02") > MAX_ENTRIES:
        raise ValueError(f"more than {most:,} bytes or {MAX_ENTRIES:,} arrays")
    arrays, left = {}, most
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            for entry in archive.infolist():
                if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
                    raise ValueError(f"{entry.filename!r:.100} is packed in a way that NumPy does not use")
                with archive.open(entry) as file:
                    array = _read_array(file, left)
                left -= _room(array.shape, array.dtype)
                arrays[entry.filename.removesuffix(".npy")] = array
    except (zipfile.BadZipFile, zlib.error, struct.error, *FAULTS) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    return arrays


def _read_array(file: IO[bytes], most: int) -> np.ndarray:
    start = file.read(8)
    if start[:6] != b"\x93NUMPY" or start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("an array that does not begin as NumPy's do")
    size = file.read(2 if start[6] == 1 else 4)
    found = HEADER.fullmatch(file.read(min(int.from_bytes(size, "little"), 1 << 12)).decode("latin-1"))
    if found is None:
        raise ValueError("an array whose header is not one of numbers or text")
    dtype, shape = np.dtype(found[1]), tuple(int(n) for n in found[3].split(",") if n.strip())
    if _room(shape, dtype) > most:
        raise ValueError(f"an array that claims more than the {most:,} bytes that are left")
    wanted = math.prod(shape) * dtype.itemsize
    data = file.read(wanted)
    if len(data) != wanted or file.read(1):  # one byte more, so that the checksum is looked at
        raise ValueError("an array of another size than its header says")
    made: Any = np.frombuffer(data, dtype).reshape(shape, order="F" if found[2] == "True" else "C")
    if dtype.kind == "U" and (made.reshape(-1).view(np.uint32 if dtype.isnative else dtype.byteorder + "u4") > 0x10FFFF).any():
        raise ValueError("text with letters that Unicode does not have")
    return made.astype(dtype.newbyteorder("="))


def _room(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes, where each number counts for eight: so many it takes as soon as somebody computes with it."""
    return math.prod(shape) * max(dtype.itemsize, 8)
