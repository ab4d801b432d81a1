"""Where data files lie, and how one is written so that nobody ever sees half of it."""

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


def search_folders(name: str, title: str, root: str | os.PathLike | None) -> list[Path]:
    """The folders where the files of a data set may lie, in the order of looking.

    `root`, then the environment's MULGIL_DATA, then the user's cache; in each of them the layout of torchvision
    (`MNIST/raw`), a subfolder named after the data set, and the folder itself.
    """
    bases = [root, os.environ.get("MULGIL_DATA"), cache_folder()]
    inside = (f"{title}/raw", title, name, "raw", ".")
    return [Path(base) / part for base in bases if base for part in inside]


def download_folder(name: str, title: str, root: str | os.PathLike | None) -> Path:
    """Where a download goes: torchvision's layout below `root`, so that both find it; the user's cache without a root."""
    return Path(root) / title / "raw" if root else cache_folder() / name


def find_file(folder: Path, name: str) -> Path | None:
    """`name` or `name.gz` in `folder`; None where neither is there."""
    for path in (folder / name, folder / f"{name}.gz"):
        with suppress(OSError):  # a folder that may not be looked into holds nothing for us
            if path.is_file():
                return path
    return None


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Write a whole file or nothing: a temporary file in the same folder, flushed to the disk, then moved into place.

    Makes the folder where it is missing. Two processes that write the same path at once do each other no harm: the later
    move wins, and each move brings a whole file.

    Raises:
        DataError: the folder cannot be made or written, or the disk is full. Nothing is left behind, after other errors neither.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "xb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            os.replace(part, path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
        hint = "free some space on that disk" if full else "make that folder writable, or choose another one"
        raise DataError(f"{path}: the file cannot be written", error.strerror or str(error), hint) from error
