"""Downloads: mirrors in turn, bounded in time and size, checked before they are believed, moved into place whole.

A file travels as gzip and is kept unpacked, because it is the unpacked bytes that are checked: any mirror's gzip will do. Nothing
is ever held in memory but the piece at hand.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

from mulgil.errors import DataError, visible
from mulgil.files import atomic_file, open_regular

_PIECE = 1 << 16


@dataclass(frozen=True)
class Published:
    """A file as it was published: its name, its unpacked size in bytes, and a checksum.

    sha256 is that of the unpacked bytes; md5 that of the published .gz, for data sets that name no other.
    """

    name: str
    size: int
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Patience:
    """How long a download may take, in seconds: to connect or to send anything at all, to send 1 kB/s, and altogether."""

    answer: float = 10.0
    stall: float = 15.0
    total: float = 3600.0


class MirrorError(Exception):
    """What one mirror did wrong; the next one is tried."""


def fetch(
    file: Published,
    mirrors: Sequence[str],
    folder: Path,
    patience: Patience = Patience(),
    report: bool = True,
) -> Path:
    """Download `file` from the first mirror that delivers it into `folder`, unpacked, and return its path.

    Args:
        mirrors: addresses of folders that hold `<name>.gz`, tried in this order.
        report: show progress on stderr: a bar on a terminal, else a line for each mirror that is tried.

    Raises:
        DataError: no mirror delivered it (each one's fault is named), or it cannot be written.
    """
    target, faults = folder / file.name, []
    until = time.monotonic() + patience.total
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{file.name}.gz"
        host = urlsplit(url).netloc
        try:
            with _progress(f"{file.name} from {host}", file.size, report) as advance:
                blocks = _checked(_received(url, patience, until, file.size + _PIECE), file)
                first = next(blocks, b"")  # nothing is made on the disk before a mirror answers
                with atomic_file(target) as out:
                    for block in chain([first], blocks):
                        out.write(block)
                        advance(len(block))
            return target
        except MirrorError as fault:
            faults.append(f"{host}: {fault}")
            if report:
                print(visible(f"  {host}: {fault}"), file=sys.stderr)
    raise DataError(
        f"{file.name}: no mirror delivered the file",
        "; ".join(faults) or "no mirror is known",
        f"check the network; or put {file.name}.gz into {folder}, or set MULGIL_DATA to a folder that holds it",
    )


def matches(path: Path, file: Published) -> bool:
    """Whether the file at `path`, packed or not, holds the published bytes (where no sha256 is known: as many of them)."""
    digest, size = hashlib.sha256(), 0
    try:
        with open_regular(path, follow=True) as raw, gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw as stream:
            while size <= file.size and (block := stream.read(_PIECE)):
                digest.update(block)
                size += len(block)
    except (OSError, EOFError, zlib.error):
        return False
    return size == file.size and file.sha256 in (None, digest.hexdigest())


def reachable(urls: Iterable[str], within: float = 4.0) -> bool:
    """Whether one of the addresses answers within so many seconds. All are asked at once; a dead name server cannot hold us up."""
    urls, answers, done = list(urls), [], threading.Event()

    def ask(url: str) -> None:
        from urllib.request import Request, urlopen

        try:
            with urlopen(Request(url, method="HEAD", headers={"User-Agent": "mulgil"}), timeout=within):
                answers.append(True)
        except Exception:
            answers.append(False)
        if answers[-1] or len(answers) == len(urls):
            done.set()

    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    done.wait(within)
    return any(answers)


def _received(url: str, patience: Patience, until: float, most: int) -> Iterator[bytes]:
    """The bytes of an address as they come; MirrorError where it fails, stalls, or sends more than `most`."""
    from http.client import HTTPException
    from urllib.request import Request, urlopen

    received = window = 0
    try:
        with urlopen(Request(url, headers={"User-Agent": "mulgil"}), timeout=patience.answer) as response:
            expected = response.headers.get("Content-Length", "")
            started = time.monotonic()
            while piece := response.read1(_PIECE):
                received, window, now = received + len(piece), window + len(piece), time.monotonic()
                if received > most:
                    raise MirrorError(f"sends more than the {most:,} bytes that the file can have")
                if now > until:
                    raise MirrorError(f"too slow, {received:,} bytes so far")
                if now - started > patience.stall:
                    if window < 1000 * patience.stall:
                        raise MirrorError(f"stalled after {received:,} bytes")
                    started, window = now, 0
                yield piece
    except TimeoutError as error:
        raise MirrorError(f"no answer for {patience.answer:g} s" if not received else f"stalled after {received:,} bytes") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise MirrorError(f"no answer for {patience.answer:g} s" if isinstance(reason, TimeoutError) else str(reason)) from error
    if expected.isdigit() and received < int(expected):
        raise MirrorError(f"cut short, {received:,} of {int(expected):,} bytes")


def _checked(pieces: Iterable[bytes], file: Published) -> Iterator[bytes]:
    """Unpack gzip bytes, block by block; MirrorError unless they turn out to be the published file."""
    engine, plain, packed, size = zlib.decompressobj(wbits=31), hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    for piece in pieces:
        packed.update(piece)
        rest = piece
        while rest:
            if engine.eof:  # gzip files may be chained
                engine = zlib.decompressobj(wbits=31)
            try:
                block = engine.decompress(rest, _PIECE)
            except zlib.error:
                raise MirrorError("another file: not gzip, or damaged") from None
            rest = engine.unconsumed_tail or engine.unused_data
            size += len(block)
            if size > file.size:
                raise MirrorError(f"another file: longer than {file.size:,} bytes")
            plain.update(block)
            yield block
    if not engine.eof:
        raise MirrorError(f"cut short, {size:,} of {file.size:,} bytes unpacked")
    if size != file.size or file.sha256 not in (None, plain.hexdigest()) or file.md5 not in (None, packed.hexdigest()):
        raise MirrorError("another file: its checksum is wrong")


@contextmanager
def _progress(label: str, total: int, report: bool) -> Iterator[Callable[[int], None]]:
    """A function to call with each number of bytes that came: moves a bar on a terminal."""
    if report and sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import Progress
        except ImportError:
            pass
        else:
            with Progress(console=Console(stderr=True)) as bar:
                task = bar.add_task(label, total=total)
                yield lambda count: bar.advance(task, count)
            return
    if report:
        print(f"downloading {label} ({total / 1e6:.1f} MB)", file=sys.stderr, flush=True)
    yield lambda count: None
