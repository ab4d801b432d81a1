"""Downloads from a server on this machine: mirrors that hang, cut, lie or stall; two processes at once; full disks."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mulgil.data import datasets
from mulgil.data.datasets import MNIST, fetch, read_idx
from mulgil.data.datasets.fetch import Patience, Published, matches, reachable
from mulgil.errors import DataError

CONTENT = bytes(range(256)) * 400
FILE = Published("images", len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
BOMB = gzip.compress(bytes(50_000_000), 1)
QUICK = Patience(answer=1.0, stall=0.3)
NOWHERE = "http://127.0.0.1:9/"  # the discard port: nobody listens, the answer is a refusal


class Server:
    """Serves `/<behaviour>/<name>.gz` and counts what was asked."""

    def __init__(self) -> None:
        self.files = {"images": CONTENT}
        self.asked: list[str] = []
        self.over = threading.Event()
        behaviours: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = {
            "good": lambda handler, body: self._send(handler, body),
            "hangs": lambda handler, body: self.over.wait(5),
            "truncated": lambda handler, body: self._send(handler, body[: len(body) // 2], len(body)),
            "short": lambda handler, body: self._send(handler, body[: len(body) // 2]),
            "wrong": lambda handler, body: self._send(handler, gzip.compress(bytes(len(CONTENT)))),
            "page": lambda handler, body: self._send(handler, b"<html>Welcome to our hotel</html>"),
            "bomb": lambda handler, body: self._send(handler, BOMB),
            "endless": lambda handler, body: self._endless(handler),
            "trickles": lambda handler, body: self._trickle(handler, body),
            "stops": lambda handler, body: (self._send(handler, body[:500], len(body)), self.over.wait(5)),
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                _, behaviour, name = handler.path.split("/")
                self.asked.append(behaviour)
                if behaviour not in behaviours:
                    handler.send_error(404)
                    return
                with suppress(OSError):  # the client may hang up, as it should
                    behaviours[behaviour](handler, gzip.compress(self.files[name.removesuffix(".gz")]))

            do_HEAD = do_GET

            def log_message(handler, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def __call__(self, *behaviours: str) -> list[str]:
        """Addresses of mirrors that behave so."""
        return [f"http://127.0.0.1:{self.http.server_address[1]}/{behaviour}/" for behaviour in behaviours]

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, body: bytes, announced: int | None = None) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) if announced is None else announced))
        handler.end_headers()
        handler.wfile.write(body)
        handler.wfile.flush()

    def _endless(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        empty = gzip.compress(b"")  # unpacks to nothing, for ever
        while not self.over.is_set():
            handler.wfile.write(empty * 1000)

    def _trickle(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self._send(handler, b"", len(body))
        for byte in body:
            if self.over.wait(0.02):
                break
            handler.wfile.write(bytes([byte]))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.over.set()
    server.http.shutdown()
    server.http.server_close()


def test_the_fourth_mirror_works(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = fetch.fetch(FILE, server("hangs", "truncated", "wrong", "good"), tmp_path / "new" / "folder", QUICK)
    assert path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]
    assert server.asked == ["hangs", "truncated", "wrong", "good"]
    told = capsys.readouterr().err
    assert "no answer for 1 s" in told and "cut short" in told and "checksum is wrong" in told
    assert len(told.splitlines()) == 7  # a line for each attempt and each fault: nothing floods a log


FAULTS = {
    "hangs": "no answer",
    "truncated": "cut short",
    "short": "cut short",
    "wrong": "checksum is wrong",
    "page": "not gzip",
    "bomb": "longer than",
    "endless": "more than the",
    "trickles": "stalled",
    "stops": "stalled",
    "absent": "Not Found",
}


@pytest.mark.parametrize("behaviour", FAULTS)
def test_each_fault_is_named_and_leaves_nothing(server: Server, tmp_path: Path, behaviour: str) -> None:
    with pytest.raises(DataError, match="no mirror delivered") as caught:
        fetch.fetch(FILE, server(behaviour), tmp_path, QUICK, report=False)
    assert FAULTS[behaviour] in str(caught.value) and "MULGIL_DATA" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_refused_and_unknown_hosts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="refused"):
        fetch.fetch(FILE, [NOWHERE], tmp_path / "folder", report=False)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="no mirror is known"):
        fetch.fetch(FILE, [], tmp_path, report=False)
    assert not reachable([NOWHERE, "http://127.0.0.1:9/again"])


def test_reachable(server: Server) -> None:
    assert reachable([NOWHERE, server("good")[0] + "images.gz"], within=3)
    assert not reachable([server("hangs")[0] + "images.gz"], within=0.2)


def test_md5_of_the_packed_file(server: Server, tmp_path: Path) -> None:
    packed = gzip.compress(CONTENT, mtime=0)
    good = Published("images", len(CONTENT), md5=hashlib.md5(packed).hexdigest())
    assert b"".join(fetch._checked([packed], good)) == CONTENT
    assert b"".join(fetch._checked([bytes([b]) for b in packed], good)) == CONTENT
    with pytest.raises(DataError, match="checksum is wrong"):
        fetch.fetch(Published("images", len(CONTENT), md5="0" * 32), server("good"), tmp_path, report=False)


def test_two_processes_at_once_do_no_harm(server: Server, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mulgil.data.datasets.fetch import Published, fetch\n"
        "for _ in range(5): fetch(Published('images', int(sys.argv[1]), sys.argv[2]), [sys.argv[3]], Path(sys.argv[4]), report=False)"
    )
    run = [sys.executable, "-c", program, str(FILE.size), str(FILE.sha256), *server("good"), str(tmp_path)]
    both = [subprocess.Popen(run) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert list(tmp_path.iterdir()) == [tmp_path / "images"] and matches(tmp_path / "images", FILE)
    assert server.asked == ["good"] * 10


def test_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    real = open

    def opened(path, mode="r", *rest, **named):
        return Full(path, mode) if "x" in mode else real(path, mode, *rest, **named)

    monkeypatch.setattr("builtins.open", opened)
    with pytest.raises(DataError, match="cannot be written") as caught:
        fetch.fetch(FILE, server("good", "good"), tmp_path, report=False)
    assert "No space left" in str(caught.value) and "free some space" in str(caught.value)
    assert server.asked == ["good"]  # another mirror would not help
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="cannot be written") as caught:
        fetch.fetch(FILE, server("good"), tmp_path / "file" / "below", report=False)
    assert str(tmp_path / "file") in str(caught.value)

    def refuse(*args: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(DataError, match="cannot be written") as caught:
        fetch.fetch(FILE, server("good"), tmp_path / "folder", report=False)
    assert "Permission denied" in str(caught.value) and "writable" in str(caught.value)
    assert not list((tmp_path / "folder").iterdir())


def test_interrupted(server: Server, tmp_path: Path) -> None:
    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    class Bar:
        def __enter__(self) -> Callable[[int], None]:
            return interrupt

        def __exit__(self, *error: object) -> None: ...

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fetch, "_progress", lambda *args: Bar())
        fetch.fetch(FILE, server("good"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_matches(tmp_path: Path) -> None:
    for name, content, right in (
        ("plain", CONTENT, True),
        ("packed.gz", gzip.compress(CONTENT), True),
        ("short", CONTENT[:-1], False),
        ("other", bytes(len(CONTENT)), False),
        ("damaged.gz", gzip.compress(CONTENT)[:-20], False),
        ("bomb.gz", BOMB, False),
    ):
        (tmp_path / name).write_bytes(content)
        assert matches(tmp_path / name, FILE) is right, name
    assert not matches(tmp_path / "absent", FILE)


@pytest.fixture
def small_mnist(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """MNIST's class over a small published set that the server holds."""
    random, files = np.random.default_rng(0), []
    for split, count in (("train", 30), ("t10k", 10)):
        for kind, axes, array in (
            ("images", 3, random.integers(256, size=(count, 28, 28), dtype=np.uint8)),
            ("labels", 1, random.integers(10, size=count, dtype=np.uint8)),
        ):
            header = bytes([0, 0, 8, axes]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            content = header + array.tobytes()
            name = f"{split}-{kind}-idx{axes}-ubyte"
            server.files[name] = content
            files.append(Published(name, len(content), sha256=hashlib.sha256(content).hexdigest()))
    monkeypatch.setattr(MNIST, "files", tuple(files))
    monkeypatch.setattr(MNIST, "mirrors", tuple(server("absent", "good")))
    return server


def test_download_into_root(small_mnist: Server, bare_machine: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = tmp_path / "MNIST_data"
    with pytest.raises(DataError, match="download=True"):
        MNIST(root)
    train = MNIST(root, train=True, download=True)
    assert len(train) == 30 and sorted(p.name for p in (root / "MNIST" / "raw").iterdir()) == sorted(f.name for f in MNIST.files)
    asked = len(small_mnist.asked)
    assert len(MNIST(root, train=False, download=True)) == 10
    assert len(small_mnist.asked) == asked  # all four came the first time
    capsys.readouterr()
    datasets.download_mnist(root)
    assert capsys.readouterr().out.count("File already exists: ") == 4


def test_damaged_file_is_fetched_again(small_mnist: Server, bare_machine: Path) -> None:
    paths = datasets.download("mnist", report=False)
    assert paths[0].parent == bare_machine / "mnist"
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[:-5])
    with pytest.raises(DataError, match="cut short"):
        MNIST()
    asked = len(small_mnist.asked)
    assert datasets.download("mnist", report=False) == paths and paths[0].read_bytes() == whole
    assert len(small_mnist.asked) == asked + 2
    assert read_idx(paths[0]).shape == (30, 28, 28)


def test_auto_takes_what_it_can_get(small_mnist: Server, bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(MNIST, "mirrors", (NOWHERE,))
    assert datasets.auto(say=said.append) is datasets.Digits
    assert len(said) == 1 and "embedded digits" in said[0] and "\n" not in said[0]
    monkeypatch.setattr(MNIST, "mirrors", tuple(small_mnist("wrong")))
    assert datasets.auto(say=said.append) is datasets.Digits
    assert len(said) == 2 and not datasets.is_available("mnist")
    monkeypatch.setattr(MNIST, "mirrors", tuple(small_mnist("wrong", "good")))
    assert datasets.auto(say=said.append) is MNIST
    monkeypatch.setattr(MNIST, "mirrors", ())
    assert datasets.auto(say=said.append) is MNIST and len(said) == 2
