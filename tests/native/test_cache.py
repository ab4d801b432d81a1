"""Compiled kernels on disk: what is kept is used again, what is not whole and one's own is made again, and all of it runs right."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mulgil.cli.main import run
from mulgil.native import build, loader
from mulgil.native import cache as cache_module
from mulgil.native.cache import Entry, Store, machine
from mulgil.native.loader import Argument, ByLayout, Spec, bind, prepare

pytestmark = pytest.mark.filterwarnings("error")
SOURCE = str(Path(loader.__file__).parents[2])
ROW = Argument("<f4", (5,))
PROGRAM = """
import json, sys
import numpy as np
import mulgil
from mulgil import nn, optim
from mulgil.native.loader import counts
mulgil.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 3))
optimizer, loss = optim.Adam(model.parameters()), nn.CrossEntropyLoss()
def step(x, t):
    optimizer.zero_grad()
    value = loss(model(x), t)
    value.backward()
    optimizer.step()
    return value
x, t = mulgil.tensor(np.linspace(-1, 1, 48, dtype=np.float32).reshape(8, 6)), mulgil.tensor(np.arange(8) % 3)
compiled = mulgil.compile(step, state=[model, optimizer], strict=True)
losses = [float(compiled(x, t)) for _ in range(4)]
print(json.dumps({"losses": losses, "numba": "numba" in sys.modules, **counts}))
"""


def scaled(factor: int) -> Spec:
    """A kernel of its own for each factor: y = factor * x."""
    return Spec(f"def kernel(x, y):\n    for i in range(5):\n        y[i] = x[i] * f32({factor})\n", (ROW, ROW))


def result_of(spec: Spec) -> list[float]:
    x, y = np.arange(5, dtype=np.float32), np.zeros(5, np.float32)
    bind(spec, [x, y])()
    return y.tolist()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("MULGIL_CACHE", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


@pytest.fixture
def restart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forgets what is loaded, as a new process does."""
    engines = []  # machine code lives as long as its engine
    original = loader._engine.__wrapped__

    def forget() -> None:
        engines.append(loader._engine)
        monkeypatch.setattr(loader, "_engine", functools.cache(original))
        monkeypatch.setattr(loader, "_addresses", {})
        monkeypatch.setattr(loader, "counts", {"loaded": 0, "compiled": 0})
        cache_module.warn_once.cache_clear()

    forget()
    return forget


def process(folder: Path, text: str = PROGRAM) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": SOURCE, "MULGIL_CACHE": str(folder)}
    return subprocess.Popen([sys.executable, "-c", text], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(program: subprocess.Popen) -> dict[str, Any]:
    out, error = program.communicate(timeout=120)
    assert program.returncode == 0, error
    return {**json.loads(out), "stderr": error}


# ---- kernels


def test_kernels_do_what_their_text_says(restart: Callable) -> None:
    text = """
def kernel(a, t, s, m, p, out):
    for i in range(3):
        for j in range(4):
            out[i, j] = a[i, j] + t[i, j] * s[()] if m[j] else p[i] + np.log1p(np.exp(a[i, j]))
"""
    rng = np.random.default_rng(0)
    a, s, m, p, out = rng.normal(size=(3, 4)), np.array(0.5), np.array([True, False, True, False]), rng.normal(size=3), np.zeros((3, 4))
    t = rng.normal(size=(8, 3)).T[:, ::-2]  # strided, and backwards
    arrays = [a, t, s, m, None, out]
    kernel = bind(Spec(text, tuple(Argument.of(p, passed=True) if x is None else Argument.of(x) for x in arrays)), arrays)
    for _ in range(2):
        kernel(p)
        np.testing.assert_allclose(out, np.where(m, a + t * 0.5, p[:, None] + np.log1p(np.exp(a))), rtol=1e-14)
        a += 1  # the same memory, other numbers
        p = p - 1  # another array


def test_passed_arrays_may_have_any_layout(restart: Callable) -> None:
    text = "def kernel(x, y):\n    for i in range(3):\n        for j in range(4):\n            y[i, j] = x[i, j]\n"
    y = np.zeros((3, 4))
    kernel = ByLayout(lambda layout: Spec(text, (Argument("<f8", (3, 4), *layout, passed=True), Argument("<f8", (3, 4)))), [None, y])
    base = np.arange(48.0)
    for x in (base[:12].reshape(3, 4), base[:12].reshape(4, 3).T, base[:24].reshape(3, 8)[:, ::2], base[12:24].reshape(3, 4)[::-1]):
        kernel(x)
        assert (y == x).all()


def test_a_key_tells_kernels_apart() -> None:
    row, column = Argument("<f4", (4, 6)), Argument("<f4", (4, 6), (4, 16))
    specs = [
        Spec("def kernel(a): pass", (row,)),
        Spec("def kernel(a): pass ", (row,)),
        Spec("def kernel(a): pass", (column,)),
        Spec("def kernel(a): pass", (Argument("<f4", (6, 4)),)),
        Spec("def kernel(a): pass", (Argument("<f8", (4, 6)),)),
        Spec("def kernel(a): pass", (Argument("<f4", (4, 6), passed=True),)),
        Spec("def kernel(a): pass", (row,), ("float32", 16)),
        Spec("def kernel(a): pass", (row, row)),
    ]
    assert len({spec.key for spec in specs}) == len(specs)
    again = [Spec.from_json(json.loads(json.dumps(spec.to_json()))) for spec in specs]
    assert again == specs and [s.key for s in again] == [s.key for s in specs]


# ---- what is kept


def test_a_second_process_compiles_nothing(folder: Path) -> None:
    first, second = finished(process(folder)), finished(process(folder))
    assert first["compiled"] > 0 and first["loaded"] == 0
    assert not first["stderr"]  # loops take milliseconds: nothing is worth a line
    assert second["loaded"] == first["compiled"] and second["compiled"] == 0 and not second["numba"] and not second["stderr"]
    assert second["losses"] == first["losses"]  # the same bits


def test_two_processes_on_an_empty_cache(folder: Path) -> None:
    results = [finished(program) for program in [process(folder), process(folder)]]
    after = finished(process(folder))
    assert results[0]["losses"] == results[1]["losses"] == after["losses"]
    assert after["compiled"] == 0, "both signed with the same key"
    assert not [path for path in folder.iterdir() if path.suffix not in (".kernel", "") or path.name.startswith(".")]


def alter(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def other_machine(path: Path, fact: str) -> None:
    """Make this entry, correctly signed, one of another version or processor."""
    store, facts = Store(path.parent), machine()
    entry = store.read(scaled(2).key)
    assert entry is not None
    cache_module.machine = lambda: {**facts, fact: "another"}  # type: ignore[assignment]
    try:
        store.write(scaled(2).key, entry)
    finally:
        cache_module.machine = machine


def replaced_by_another(path: Path) -> None:
    prepare([scaled(3)])
    os.replace(path.parent / (scaled(3).key[:40] + ".kernel"), path)


def calling_what_is_not_there(path: Path) -> None:
    entry = Store().read(scaled(2).key)
    assert entry is not None
    Store().write(scaled(2).key, Entry(entry.symbol, ("no_such_function",), entry.source, entry.code))


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path) if hasattr(os, "mkfifo") else None


DAMAGE: dict[str, Callable[[Path], object]] = {
    "code": lambda path: alter(path, lambda b: b[:-100] + bytes([b[-100] ^ 1]) + b[-99:]),
    "signature": lambda path: alter(path, lambda b: b[:20] + bytes(32) + b[52:]),
    "truncated": lambda path: alter(path, lambda b: b[: len(b) // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: alter(path, lambda b: b + b"\0"),
    "foreign key": lambda path: (path.parent / "key").write_bytes(bytes(32)),
    "no key": lambda path: (path.parent / "key").unlink(),
    "short key": lambda path: (path.parent / "key").write_bytes(b"key"),
    "key for all to read": lambda path: (path.parent / "key").chmod(0o644),
    "other Numba": lambda path: other_machine(path, "numba"),
    "other compiler": lambda path: other_machine(path, "mulgil"),
    "other processor": lambda path: other_machine(path, "cpu"),
    "another kernel": replaced_by_another,
    "calls what is not there": calling_what_is_not_there,
    "writable by others": lambda path: path.chmod(0o666),
    "a link": linked,
    "a pipe": pipe_instead,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_foreign_entry_is_made_again(damage: str, folder: Path, restart: Callable) -> None:
    assert result_of(scaled(2)) == [0, 2, 4, 6, 8] and loader.counts == {"loaded": 0, "compiled": 1}
    restart()
    assert result_of(scaled(2)) == [0, 2, 4, 6, 8] and loader.counts == {"loaded": 1, "compiled": 0}
    DAMAGE[damage](folder / (scaled(2).key[:40] + ".kernel"))
    restart()
    assert result_of(scaled(2)) == [0, 2, 4, 6, 8] and loader.counts == {"loaded": 0, "compiled": 1}
    restart()
    assert result_of(scaled(2)) == [0, 2, 4, 6, 8] and loader.counts == {"loaded": 1, "compiled": 0}, "it was replaced"


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_changed_byte_goes_unnoticed(data: st.DataObject, folder: Path) -> None:
    store, entry = Store(), Entry("f", ("sqrtf",), "def kernel(): pass", bytes(range(64)))
    assert store.write("k" * 64, entry) and store.read("k" * 64) == entry
    path = folder / ("k" * 40 + ".kernel")
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert store.read("k" * 64) is None


# ---- folders that cannot be used


def not_a_folder(folder: Path) -> None:
    folder.write_text("a file")


def others_may_write(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def somebody_elses(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(folder, 12345, 12345)


def below_a_file(folder: Path) -> None:
    folder.parent.joinpath("file").write_text("")
    os.environ["MULGIL_CACHE"] = str(folder.parent / "file" / "kernels")


@pytest.mark.parametrize("spoil", [not_a_folder, others_may_write, somebody_elses, below_a_file])
def test_without_a_usable_folder_kernels_run_uncached(spoil: Callable, folder: Path, restart: Callable) -> None:
    spoil(folder)
    with pytest.warns(UserWarning, match="is not used, and each run compiles anew") as caught:
        assert result_of(scaled(2)) == [0, 2, 4, 6, 8]
        assert result_of(scaled(3)) == [0, 3, 6, 9, 12]
    assert len(caught) == 1
    assert not folder.is_dir() or not list(folder.iterdir())


def test_a_full_disk_is_no_error(restart: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    assert result_of(scaled(2)) == [0, 2, 4, 6, 8]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.warns(UserWarning, match="No space left"):
        assert result_of(scaled(3)) == [0, 3, 6, 9, 12]


def test_the_oldest_entries_go_first(folder: Path) -> None:
    store = Store()
    for age in range(5):
        store.write(str(age) * 64, Entry("f", (), "", bytes(10_000)))
        os.utime(folder / (str(age) * 40 + ".kernel"), (1e9 - age, 1e9 - age))
    (folder / ".left.part").write_text("half")
    os.utime(folder / ".left.part", (1e9, 1e9))
    (folder / "mine.txt").write_text("not an entry")
    store.read("4" * 64)  # was the oldest; now it is in use
    store.trim(35_000)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*(c * 40 + ".kernel" for c in "014"), "key", "mine.txt"])


def test_the_command_line(folder: Path, restart: Callable, capsys: pytest.CaptureFixture) -> None:
    assert run(["cache", "info"]) == 0 and run(["cache", "clear"]) == 0, "before anything was compiled"
    prepare([scaled(2), scaled(3)])
    (folder / "mine.txt").write_text("not an entry")
    capsys.readouterr()
    assert run(["cache", "info"]) == 0
    told = capsys.readouterr().out
    assert str(folder) in told and "kernels   2," in told and machine()["numba"] in told and "not used" not in told
    assert run(["cache", "clear"]) == 0
    assert "2 kernels removed" in capsys.readouterr().out and [path.name for path in folder.iterdir()] == ["mine.txt"]
    folder.chmod(0o777)
    assert run(["cache", "info"]) == 0 and "not used  others may write there" in capsys.readouterr().out


# ---- helper processes


def test_helpers_compile(restart: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def here(_: Spec) -> Entry:
        raise AssertionError("a helper should have done it")

    monkeypatch.setattr(build, "compile_here", here)
    prepare([scaled(n) for n in (2, 3, 4)])
    assert [result_of(scaled(n))[1] for n in (2, 3, 4)] == [2, 3, 4] and loader.counts["compiled"] == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_helpers_wait_for_more(restart: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    build.dismiss()
    prepare([scaled(n) for n in (2, 3, 4)])
    waiting = [helper for _, helper in build._idle]
    assert waiting and all(helper.poll() is None for helper in waiting)
    monkeypatch.setattr(build, "start_helper", lambda: None)
    monkeypatch.setattr(build, "compile_here", None)  # nothing is left for this process
    prepare([scaled(n) for n in (5, 6, 7)])
    assert loader.counts["compiled"] == 6 and result_of(scaled(6))[1] == 6
    build.dismiss()
    assert not build._idle and all(helper.poll() is not None for helper in waiting)


@pytest.mark.parametrize("text", ["", "print('{}', flush=True); input()", "print('rubbish', flush=True)", "import os; os.abort()"])
def test_what_helpers_do_not_do_is_done_here(text: str, restart: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def helper() -> subprocess.Popen:
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", text], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    build.dismiss()
    monkeypatch.setattr(build, "start_helper", helper)
    prepare([scaled(n) for n in (2, 3, 4)])
    assert [result_of(scaled(n))[1] for n in (2, 3, 4)] == [2, 3, 4] and loader.counts["compiled"] == 3


def test_a_helper_that_hangs_is_given_up(restart: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def helper() -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    build.dismiss()
    monkeypatch.setattr(build, "start_helper", helper)
    monkeypatch.setattr(build, "PATIENCE", 0.1)
    prepare([scaled(n) for n in (2, 3, 4)])
    assert loader.counts["compiled"] == 3


def test_no_interpreter_for_helpers(restart: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert build.start_helper() is None
    prepare([scaled(n) for n in (2, 3, 4)])
    assert loader.counts["compiled"] == 3


def test_an_error_of_a_kernel_is_shown(restart: Callable) -> None:
    bad = Spec("def kernel(x, y):\n    y[0] = no_such_name(x[0])\n", (ROW, ROW))
    with pytest.raises(Exception, match="no_such_name"):
        prepare([bad, *(scaled(n) for n in (2, 3, 4))])
    assert result_of(scaled(2)) == [0, 2, 4, 6, 8]


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with build.Progress(build.FEW, tmp_path) as progress:
        progress.show(1)
    assert not capsys.readouterr().err, "not worth a line"
    with build.Progress(7, tmp_path) as progress:
        progress.show(0)
        progress.show(3)
    told = capsys.readouterr().err
    assert told.startswith("\rmulgil: compiling 7 kernels for this machine, once") and "... 3/7" in told and told.endswith(" s\n")
