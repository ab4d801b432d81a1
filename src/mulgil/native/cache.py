"""Compiled kernels on disk, across processes: one file an entry, checked before its machine code is run.

An entry is native code, so it counts only if it is this user's own: in a folder and a file that nobody else may write, made
on this machine by these versions, and signed with the user's secret key, which lies beside it. Anything else (cut short,
corrupted, copied from elsewhere) is as good as absent: the kernel is compiled again and the file replaced.

    file = MAGIC, HMAC-SHA256 of the rest [32], length of the header [4, little endian], header (JSON), machine code
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mulgil.errors import DataError
from mulgil.files import atomic_file, cache_folder, open_regular
from mulgil.native.hardware import level

COMPILING = ("llvm.py", "jit.py", "vector.py", "hardware.py")  # the texts that help to compile a source
MAGIC = b"mulgil kernel 1\n"
LIMIT = 256 << 20  # bytes: beyond this the entries that were longest without use are removed
LARGEST = 16 << 20  # bytes of one entry; no kernel comes near
SUFFIX = ".kernel"
DAY = 86_400


def machine() -> dict[str, str]:
    """What machine code depends on beside its source: the versions, the processor, and the text of mulgil's own compiler."""
    return _machine(level())


@cache
def _machine(lesser: str | None) -> dict[str, str]:
    from importlib.metadata import version

    import llvmlite.binding as llvm

    texts = [Path(__file__).parent / name for name in COMPILING]
    return {
        "mulgil": hashlib.sha256(b"".join(path.read_bytes() for path in texts)).hexdigest()[:16],
        "numba": version("numba"),
        "llvmlite": version("llvmlite"),
        "numpy": version("numpy"),
        "python": f"{sys.implementation.cache_tag} {object.__basicsize__}",
        "cpu": f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()} {lesser or ''}".strip(),
        "options": " ".join(sorted(f"{k}={v}" for k, v in os.environ.items() if k.startswith("NUMBA_"))),
    }


@dataclass(frozen=True)
class Entry:
    """A compiled kernel. symbol: the name of its function. externals: what it calls outside itself. source: its Python."""

    symbol: str
    externals: tuple[str, ...]
    source: str
    code: bytes


def default_folder() -> Path:
    """$MULGIL_CACHE, or `kernels` in the user's cache for mulgil."""
    return Path(os.environ.get("MULGIL_CACHE") or cache_folder() / "kernels")


class Store:
    """The entries in a folder. Reading and writing never raise: what cannot be used is absent, with one warning a folder."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder or default_folder()

    def read(self, key: str) -> Entry | None:
        """The entry of this key, if there is one that may be run."""
        secret = self._secret(make=False)
        content = secret and own_file(self._path(key), LARGEST)
        if not secret or not content:
            return None
        signed = content[len(MAGIC) + 32 :]
        if not content.startswith(MAGIC) or not hmac.compare_digest(content[len(MAGIC) :][:32], sign(secret, signed)):
            return None
        size = int.from_bytes(signed[:4], "little")
        header = json.loads(signed[4 : 4 + size])  # whoever signed it wrote it whole
        if header["key"] != key or header["machine"] != machine():
            return None
        self._used(self._path(key))
        return Entry(header["symbol"], tuple(header["externals"]), header["source"], signed[4 + size :])

    def write(self, key: str, entry: Entry) -> bool:
        """Keep an entry; returns whether that was possible."""
        secret = self._secret(make=True)
        if not secret:
            return False
        fields = {"key": key, "machine": machine(), "symbol": entry.symbol, "externals": entry.externals, "source": entry.source}
        header = json.dumps(fields).encode()
        signed = len(header).to_bytes(4, "little") + header + entry.code
        try:
            with atomic_file(self._path(key), 0o600) as file:
                file.write(MAGIC + sign(secret, signed) + signed)
        except DataError as error:
            self._warn(error.got or str(error))
            return False
        return True

    def trim(self, limit: int = LIMIT) -> None:
        """Remove what was longest without use until the rest fits, and what broken-off writes left an hour ago."""
        entries = sorted(((s.st_mtime, s.st_size, path) for path, s in self._files(SUFFIX)), reverse=True)
        total = 0
        for _, size, path in entries:
            total += size
            if total > limit:
                with suppress(OSError):
                    path.unlink()
        for path, status in self._files(".part"):
            if status.st_mtime < time.time() - 3600:
                with suppress(OSError):
                    path.unlink()

    def info(self) -> dict[str, Any]:
        """{"folder", "entries", "bytes", "limit", "fault"}: fault is "" or why the folder cannot be used."""
        sizes = [status.st_size for _, status in self._files(SUFFIX)]
        return {"folder": self.folder, "entries": len(sizes), "bytes": sum(sizes), "limit": LIMIT, "fault": self._fault()}

    def clear(self) -> int:
        """Remove every entry, and the key; other files stay. Returns how many entries there were. Raises OSError."""
        entries = [path for path, _ in self._files(SUFFIX)]
        for path in (*entries, *(path for path, _ in self._files(".part")), self.folder / "key"):
            path.unlink(missing_ok=True)
        return len(entries)

    # ---- the folder

    def _path(self, key: str) -> Path:
        return self.folder / (key[:40] + SUFFIX)

    def _files(self, suffix: str) -> Iterator[tuple[Path, os.stat_result]]:
        with suppress(OSError):
            for path in sorted(self.folder.iterdir()):
                with suppress(OSError):  # another process may be removing it
                    status = path.lstat()
                    if path.name.endswith(suffix) and stat.S_ISREG(status.st_mode):
                        yield path, status

    @staticmethod
    def _used(path: Path) -> None:
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - DAY:
                os.utime(path)

    def _fault(self) -> str:
        """Why the folder may not be used; nothing where it may, or does not exist yet."""
        try:
            status = self.folder.stat()
        except FileNotFoundError:
            return ""
        except OSError as error:
            return error.strerror or str(error)
        if not stat.S_ISDIR(status.st_mode):
            return "it is not a folder"
        return "" if is_private(status) else "others may write there, or own it (chmod 700 makes it yours alone)"

    def _warn(self, reason: str) -> None:
        warn_once(str(self.folder), reason)

    def _secret(self, make: bool) -> bytes | None:
        """The user's key; a missing or unfit one is made anew, which makes every older entry foreign."""
        if fault := self._fault():
            self._warn(fault)
            return None
        path = self.folder / "key"
        secret = own_file(path, 32, secret=True)
        if is_key(secret) or not make:
            return secret if is_key(secret) else None
        draft = path.with_name(f".key.{os.getpid()}-{secrets.token_hex(4)}.part")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with atomic_file(draft, 0o600) as file:
                file.write(secrets.token_bytes(32))
            try:
                if os.path.lexists(path) and not is_key(own_file(path, 32, secret=True)):  # in this order: it may appear in between
                    path.unlink()
                os.link(draft, path)  # fails where another process was quicker: then its key is the key
            except FileExistsError:
                pass
            finally:
                draft.unlink(missing_ok=True)
        except (OSError, DataError) as error:
            self._warn(error.got or str(error) if isinstance(error, DataError) else error.strerror or str(error))
            return None
        return own_file(path, 32, secret=True)


def is_key(content: bytes | None) -> bool:
    return content is not None and len(content) == 32


def sign(secret: bytes, content: bytes) -> bytes:
    return hmac.digest(secret, content, "sha256")


def is_private(status: os.stat_result, secret: bool = False) -> bool:
    """Whether this belongs to the user, and nobody else may write it (secret: nor read it). Windows' folders of users are."""
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (0o077 if secret else 0o022)


def own_file(path: Path, most: int, secret: bool = False) -> bytes | None:
    """The content of a plain file of the user's own; None for anything else, and for more than `most` bytes."""
    try:
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            if not is_private(status, secret) or status.st_size > most:
                return None
            return file.read(most)
    except OSError:
        return None


@cache
def warn_once(folder: str, reason: str) -> None:
    warnings.warn(f"the cache of compiled kernels is not used, and each run compiles anew. {folder}: {reason}", stacklevel=2)
