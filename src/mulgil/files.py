"""Where mulgil keeps files of its own, and how one is written so that nobody ever sees half of it."""

from __future__ import annotations

import errno
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mulgil.errors import DataError


def cache_folder() -> Path:
    """The user's cache for mulgil: $XDG_CACHE_HOME/mulgil, or the platform's usual place; it need not exist yet."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "mulgil"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "mulgil" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mulgil"
    return Path.home() / ".cache" / "mulgil"


@contextmanager
def atomic_file(path: str | os.PathLike, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Write a whole file or nothing: a temporary file in the same folder, flushed to the disk, then moved into place.

    Makes the folder where it is missing. Two processes that write the same path at once do each other no harm: the later
    move wins, and each move brings a whole file. mode: the file's permissions, less the user's umask.

    Raises:
        DataError: the folder cannot be made or written, or the disk is full. Nothing is left behind, after other errors neither.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            os.replace(part, path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
        hint = "free some space on that disk" if full else "make that folder writable, or choose another one"
        raise DataError(f"{path}: the file cannot be written", error.strerror or str(error), hint) from error


def sync_folder(folder: str | os.PathLike) -> None:
    """Flush a folder's list of names to the disk, so that a file moved into it survives a power cut; where that cannot be, nothing."""
    if hasattr(os, "O_DIRECTORY"):
        with suppress(OSError):
            number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(number)
            finally:
                os.close(number)
