"""The documentation is true: its examples run, its commands parse, its links lead somewhere, both languages say the same."""

from __future__ import annotations

import doctest
import importlib
import io
import re
import shlex
import socket
import tokenize
import tomllib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import mulgil
from mulgil import nn, optim
from mulgil.autograd import numpy_functions
from mulgil.cli.main import cli

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "mulgil"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PAIRS = [page for page in PAGES if page.with_suffix(".ko.md").exists()]
REASONS = {"no-run: download", "no-run: gpu"}  # why a block may not run: ```python no-run: download
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
DOCUMENTED = ("errors", "backend", "create", "functions", "ops", "autograd", "nn", "optim", "data")

FENCE = re.compile(r"^```(\w*)[ \t]*([^\n]*)\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
# An address of a file of this project. The README has no other links to them: a package index shows it without the folder around it.
HERE = re.compile(r"https://(?:github\.com/mulgil/mulgil/(?:blob|tree)|raw\.githubusercontent\.com/mulgil/mulgil)/main/")
LINK = re.compile(r"\]\(\s*([^)\s]+)\s*\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)  # [text](address), or [name]: address
REFERENCE = re.compile(r"\[([^\[\]]+)\]\[([^\]]*)\]")  # [text][name], or [name][]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, what stands behind it, its text and the line where the text begins."""

    language: str
    note: str
    text: str
    line: int


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(m[1], m[2].strip(), m[3], text.count("\n", 0, m.start(3))) for m in FENCE.finditer(text)]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    return [inline or named for inline, named in LINK.findall(prose(page))]


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, no data set on disk, no network, no window."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError("the examples of the documentation do without the network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MULGIL_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def run_session(text: str, names: dict[str, Any], where: str, line: int) -> None:
    """Run a `>>>` session in `names` and compare what it prints."""
    test = doctest.DocTestParser().get_doctest(text, names, where, where, line)
    report = io.StringIO()
    failed, attempted = doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=report.write, clear_globs=False)
    assert attempted and not failed, report.getvalue()
    names.update(test.globs)


# A Korean page that stands beside an English one shows the same code, which a test below holds: it need not run twice.
RUNNING = [page for page in PAGES if not page.name.endswith(".ko.md") and any(b.language in ("python", "pycon") for b in blocks(page))]


@pytest.mark.parametrize("page", RUNNING, ids=name_of)
@pytest.mark.usefixtures("alone")
def test_the_examples_of_a_page_run(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "documentation"}
    for block in blocks(page):
        assert not block.note or block.note in REASONS, f"{name_of(page)}:{block.line}: {block.note}"
        if block.note:
            continue
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, str(page), "exec", dont_inherit=True), names)  # lines count as in the page
        elif block.language == "pycon":
            run_session(block.text, names, str(page), block.line)
    if page.name == "README.md":  # its first example learns, and its second finds what the first has saved
        assert 0.95 < float(re.findall(r"test accuracy ([\d.]+)", capsys.readouterr().out)[0]) <= 1
        assert Path("digits.safetensors").stat().st_size > 400_000


def test_the_first_example_is_short() -> None:
    first = next(block for block in blocks(ROOT / "README.md") if block.language == "python")
    assert len(first.text.splitlines()) <= 22


# ---- docstrings


def names_for_docstrings() -> dict[str, Any]:
    """What the examples in docstrings take for granted."""
    model = nn.Linear(784, 10)
    images, labels = mulgil.rand(4, 784), mulgil.randint(0, 10, (4,))
    names = {name: getattr(nn, name) for name in nn.__all__}
    names |= {"mulgil": mulgil, "Tensor": mulgil.Tensor, "np": np, "nn": nn, "F": nn.functional, "optim": optim, "OrderedDict": OrderedDict}
    names |= {"model": model, "images": images, "labels": labels, "optimizer": optim.SGD(model.parameters(), lr=0.1)}
    return names | {"loss": nn.functional.cross_entropy(model(images), labels)}


def modules_with_examples() -> list[str]:
    sources = [PACKAGE / f"{part}.py" for part in DOCUMENTED if (PACKAGE / f"{part}.py").exists()]
    sources += [path for part in DOCUMENTED for path in sorted((PACKAGE / part).rglob("*.py"))]
    found = [path for path in sources if ">>> " in path.read_text(encoding="utf-8")]
    return [".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in found]


@pytest.mark.parametrize("module", modules_with_examples())
@pytest.mark.usefixtures("alone")
def test_the_examples_of_docstrings_run(module: str) -> None:
    found = importlib.import_module(module)
    tests = [test for test in doctest.DocTestFinder(exclude_empty=True).find(found, module) if test.examples]
    assert tests
    for test in tests:
        test.globs = {**names_for_docstrings(), **vars(found)}
        report = io.StringIO()
        failed, _ = doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=report.write)
        assert not failed, report.getvalue()


# ---- what pages say besides


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        inside = HERE.match(target)
        if re.match(r"[a-z]+:", target) and not inside:
            continue
        path, _, anchor = target.partition("#")
        goal = ROOT / path[inside.end() :] if inside else (page.parent / path).resolve() if path else page
        assert goal.exists(), f"{name_of(page)} links to {target}, which is not there"
        assert ROOT in (goal, *goal.parents)
        assert not anchor or anchor in anchors(goal), f"{name_of(page)} links to {target}: no such heading"
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    named = set(re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE))
    assert {name or shown for shown, name in REFERENCE.findall(text)} <= named


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
def test_links_of_the_readme_work_on_a_package_index(page: str) -> None:
    assert [t for t in links(ROOT / page) if not re.match(r"https://|#", t)] == []
    assert all(url.startswith("https://github.com/mulgil/mulgil") for url in project()["urls"].values())


def anchors(page: Path) -> set[str]:
    """The names that a page's headings get on the usual hosts: lower case, hyphens for spaces, no punctuation."""
    headings = re.findall(r"^#+\s+(.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def without_comments(block: Block) -> str:
    """The code of a block: comments, which are in the reader's language, and the space before them taken out."""
    if block.language == "python":
        tokens = tokenize.generate_tokens(io.StringIO(block.text).readline)
        return tokenize.untokenize([t[:2] for t in tokens if t.type not in (tokenize.COMMENT, tokenize.NL)])
    return re.sub(r"[ \t]+#[ \t].*$", "", block.text, flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAIRS, ids=name_of)
def test_both_languages_show_the_same(page: Path) -> None:
    other = page.with_suffix(".ko.md")
    shown = [[(b.language, b.note, without_comments(b)) for b in blocks(p)] for p in (page, other)]
    assert shown[0] == shown[1]
    goals = [sorted(link.replace(".ko.md", ".md").partition("#")[0] for link in links(p)) for p in (page, other)]
    assert goals[0] == goals[1]
    levels = [[len(marks) for marks in re.findall(r"^(#+) ", prose(p), re.MULTILINE)] for p in (page, other)]
    assert levels[0] == levels[1]


def test_every_korean_page_stands_beside_an_english_one() -> None:
    assert {page.with_suffix(".ko.md") for page in PAIRS} == {page for page in PAGES if page.name.endswith(".ko.md")}
    alone = {name_of(page) for page in PAGES if page not in PAIRS and not page.name.endswith(".ko.md")}
    assert alone == {"CHANGELOG.md", "docs/decisions.md", "docs/performance.md", "docs/results.md"}  # records and figures


def shell_lines() -> list[tuple[str, str]]:
    return [
        (name_of(page), line)
        for page in PAGES
        for block in blocks(page)
        if block.language == "sh"
        for line in block.text.splitlines()
        if line.strip() and not line.startswith("#")
    ]


@pytest.mark.parametrize(("page", "line"), shell_lines())
def test_the_shell_commands_exist(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    while "=" in words[0]:  # VARIABLE=value command
        words.pop(0)
    command, rest = words[0].removeprefix(".venv/bin/"), words[1:]
    if command == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert {word for word in rest if "=" not in word} <= set(targets)
    elif command == "mulgil":
        parse(rest)
    elif command == "pip":
        extras = re.findall(r"\[(\w+)\]", rest[-1])
        assert extras and set(extras) <= set(project()["optional-dependencies"])
    elif command in ("python", "python3"):
        assert rest[0] == "-m" or (ROOT / rest[0]).exists()
    else:
        pytest.fail(f"{page}: no check knows the command {line!r}")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def parse(arguments: list[str]) -> None:
    """Read a command line as the program does, up to the point where it would begin to work."""
    command: click.Command | None = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        command = command.get_command(context, arguments.pop(0))
    assert command is not None
    command.make_context("mulgil", arguments)


def test_the_map_shows_every_part_of_the_package() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = [part.rstrip("/") for row in re.findall(r"^\| \d \| (.*?) \|", text, re.MULTILINE) for part in re.findall("`(.*?)`", row)]
    there = [p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists() or (p.suffix == ".py" and not p.name.startswith("__"))]
    assert sorted(shown) == sorted(there)


@pytest.mark.parametrize("page", ["docs/autograd.md", "docs/autograd.ko.md"])
def test_the_list_of_numpy_functions_is_the_table(page: str) -> None:
    part = re.search(r"<!-- numpy:.*?-->(.*?)<!-- end -->", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    assert part
    listed = {getattr(np, name) for name in re.findall(r"`(\w+)`", part[1])}
    table = {*numpy_functions.UFUNCS, *numpy_functions.FUNCTIONS}
    assert listed <= table
    assert {f.__name__ for f in table - listed} <= {"amax", "amin", "around", "ndim", "shape", "size"}  # other names, and no arrays
