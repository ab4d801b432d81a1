"""Who may import whom: imports go down, or stay in their own folder; `import mulgil` loads NumPy and nothing heavier."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "mulgil"
FLOORS = {
    **dict.fromkeys(("errors", "changes", "backend", "cuda", "files", "names", "npz", "options", "typing"), 0),
    "ops": 1,
    "autograd": 2,
    **dict.fromkeys(("nn", "optim", "data", "native", "plot", "check", "create", "functions"), 3),
    **dict.fromkeys(("compile", "io"), 4),
    "train": 5,  # a run draws its pictures and writes its files, so plot and io stand below it
    "web": 6,
    "cli": 7,
}
HEAVY = ("numba", "matplotlib", "cupy", "pooch", "rich", "click", "PIL", "safetensors", "torch", "scipy", "onnx", "onnxruntime")


def part_of(module: str) -> str:
    """`mulgil.nn.linear` -> `nn`; `mulgil` itself -> ``."""
    return [*module.split("."), ""][1]


def imports(tree: ast.AST, module: str, is_package: bool) -> set[tuple[str, int]]:
    """Every mulgil module that a source imports anywhere in it, with the line; names from `from mulgil import x` count as mulgil.x."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.name, node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                above = parts[: len(parts) - node.level + is_package]
                base = ".".join([*above, base] if base else above)
            names = {f"mulgil.{alias.name}" for alias in node.names} if base == "mulgil" else {base}
            found |= {(name, node.lineno) for name in names}
    return {(name, line) for name, line in found if name.split(".")[0] == "mulgil"}


def offences(source: str, module: str, is_package: bool = False) -> list[str]:
    """Each import of `source` that goes up, or sideways into another folder."""
    own = part_of(module)
    bad = []
    for name, line in sorted(imports(ast.parse(source), module, is_package)):
        other = part_of(name)
        if other == own or own in ("", "__main__"):
            continue
        if other not in FLOORS:  # a name that mulgil/__init__ re-exports, which is the roof
            if FLOORS[own] < 7:
                bad.append(f"{module}:{line} imports {name}: the package itself stands above every floor")
        elif FLOORS[other] > FLOORS[own] or (FLOORS[other] == FLOORS[own] and FLOORS[own] != 0):
            bad.append(f"{module}:{line} (floor {FLOORS[own]}) imports {name} (floor {FLOORS[other]})")
    return bad


def sources() -> list[tuple[Path, str]]:
    result = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("mulgil", *path.relative_to(PACKAGE).with_suffix("").parts)
        result.append((path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)))
    return result


@pytest.mark.parametrize(("path", "module"), sources(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_go_down(path: Path, module: str) -> None:
    own = part_of(module)
    assert own in FLOORS or own in ("", "__main__"), f"{module} has no floor: give it one in this table and in the design"
    assert not offences(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")


@pytest.mark.parametrize(
    ("module", "source", "bad"),
    [
        ("mulgil.nn.linear", "from mulgil.ops.linalg import Affine", False),
        ("mulgil.nn.linear", "from mulgil.nn.module import Module", False),
        ("mulgil.nn.linear", "from . import module", False),
        ("mulgil.nn.linear", "from ..train import loop", True),
        ("mulgil.nn.linear", "def f():\n    from mulgil.optim import SGD", True),
        ("mulgil.nn.linear", "from mulgil import optim", True),
        ("mulgil.nn.linear", "import mulgil", True),
        ("mulgil.ops.shape", "import mulgil.autograd", True),
        ("mulgil.train.run", "from mulgil.io import save", False),
        ("mulgil.io.encode", "from mulgil.train import loop", True),
        ("mulgil.cli.predict", "import mulgil", False),
        ("mulgil.train.history", "from mulgil.plot import curves", False),
        ("mulgil.plot.curves", "from mulgil.autograd import Tensor", False),
        ("mulgil.plot.curves", "from mulgil import nn", True),
    ],
)
def test_the_check_sees_what_it_should(module: str, source: str, bad: bool) -> None:
    assert bool(offences(source, module)) is bad


@pytest.mark.parametrize("first", ["mulgil", "mulgil.nn", "mulgil.data"])
def test_import_loads_nothing_heavy(first: str) -> None:
    code = f"import json, sys; import {first}; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert "numpy" in loaded
    assert not set(HEAVY) & set(loaded)


def test_command_line_loads_nothing_heavy() -> None:
    code = "import sys; from mulgil.cli.main import run; run(['--help']); print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()[-1].split()
    assert not (set(HEAVY) - {"click"}) & set(loaded)
