"""Where mulgil keeps files of its own, how one is written so that nobody ever sees half of it, and how one from a stranger is opened.

A file or folder from elsewhere may be made to do damage: a link that leads out of it, a pipe at which one waits for ever, a device,
a file without end, text that takes a thousand times its room. So whatever lies in such a folder is opened by `open_regular`, read by
`read_regular` and `read_json`, and a folder is entered only after `refuse_link`.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from mulgil.errors import DataError

MAX_JSON = 16 << 20  # bytes of a text of facts; Python's objects take up to 24 times as much
MAX_NESTING = 100  # values inside values, of such a text


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
def atomic_file(path: str | os.PathLike[str], mode: int = 0o666) -> Iterator[BinaryIO]:
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


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Flush a folder's list of names to the disk, so that a file moved into it survives a power cut; where that cannot be, nothing."""
    if hasattr(os, "O_DIRECTORY"):
        with suppress(OSError):
            number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(number)
            finally:
                os.close(number)


# ---------------------------------------------------------------------- what may come from a stranger
def open_regular(path: str | os.PathLike, mode: str = "rb", *, follow: bool = False) -> BinaryIO:
    """Open a regular file, in binary: nothing that is a link, a pipe, a device, a socket or a folder, and without waiting for anything.

    mode: as of `open`. A file that is written must have this name alone: a hard link would be written elsewhere too.
    follow: whether the path may be a link, as where a person named it; what it leads to must be a regular file all the same.

    Raises OSError, whose `strerror` says what is there instead.
    """
    writes = mode != "rb"
    with suppress(FileNotFoundError):  # before it is opened: opening a device may do something
        _refuse_irregular(os.stat(path) if follow else os.lstat(path), path, writes)
    never = getattr(os, "O_NONBLOCK", 0) | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    file: Any = open(path, mode, opener=lambda name, flags: os.open(name, flags | never, 0o666))  # noqa: SIM115
    try:
        _refuse_irregular(os.fstat(file.fileno()), path, writes)  # what was opened, if it was put there in the meantime
    except OSError:
        file.close()
        raise
    return file


def read_regular(path: str | os.PathLike, most: int, *, follow: bool = False) -> bytes:
    """The content of a regular file, see `open_regular`. Raises OSError also for one of more than `most` bytes."""
    with open_regular(path, follow=follow) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1) if size <= most else b""
        if len(content) > size:  # it grows, or is made as it is read
            content += file.read(most + 1 - len(content))
    if max(size, len(content)) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", os.fspath(path))
    return content


def _refuse_irregular(status: os.stat_result, path: str | os.PathLike, writes: bool) -> None:
    kinds = (
        (stat.S_ISLNK, "a link, which is not followed"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"), (lambda mode: not stat.S_ISREG(mode), "a device"),
    )  # fmt: skip
    kind = next((what for test, what in kinds if test(status.st_mode)), None)
    if kind is None and writes and status.st_nlink > 1:
        kind = "one file of several names, which is not written"
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is not a regular file but {kind}", os.fspath(path))


def refuse_link(folder: str | os.PathLike) -> None:
    """Raise DataError where a folder is a link: what is in it, and is written into it, would lie elsewhere."""
    if os.path.islink(folder):
        hint = f"name the folder itself: {os.path.realpath(folder)}"
        raise DataError("a run's folder, and those in it, must be folders and no links", f"{folder} is a link", hint)


def read_text(path: str | os.PathLike, most: int = MAX_JSON) -> str:
    """A text file from a folder that may be a stranger's. Raises DataError where it is missing, no regular file, too long, or not UTF-8."""
    try:
        return read_regular(path, most).decode()
    except OSError as error:
        raise DataError("the file must be there and readable", f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError("the file must be UTF-8 text", f"{path}: {error.reason}") from None


def parse_json(text: str, nesting: int = MAX_NESTING) -> Any:
    """The value of a JSON text. Raises ValueError for another text, and for one of more than `nesting` values inside values."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"more than {nesting} levels") from None
    level = [value]
    for _ in range(nesting):
        level = [part for whole in level if isinstance(whole, (list, dict)) for part in (whole.values() if type(whole) is dict else whole)]
        if not level:
            return value
    raise ValueError(f"more than {nesting} levels")


def read_json(path: str | os.PathLike, most: int = MAX_JSON) -> dict[str, Any]:
    """A JSON object of a file, see `read_text`. Raises DataError where the file is missing, damaged or something else."""
    try:
        value = parse_json(read_text(path, most))
    except ValueError as error:
        raise DataError("the file must be whole JSON", f"{path}: {error}") from None
    if not isinstance(value, dict):
        raise DataError("the file must hold a JSON object", f"{path}: a {type(value).__name__}")
    return value
