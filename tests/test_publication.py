"""What others get: an sdist that can be tested, a wheel that is whole, a workflow for what is promised, a changelog in its form."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta as b; to = sys.argv[1]; b.build_sdist(to); b.build_wheel(to)"
NOT_SOURCES = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist", "runs", "sweeps")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def files_under(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in found if path.suffix != ".pyc" and ".egg-info" not in str(path)}


@pytest.mark.slow
def test_sdist_and_wheel(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools 77")
    tree, dist = tmp_path / "tree", tmp_path / "dist"
    dist.mkdir()
    shutil.copytree(ROOT, tree, ignore=NOT_SOURCES)
    made = subprocess.run([sys.executable, "-c", BUILD, str(dist)], cwd=tree, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("src", "tests", "docs", "examples", "benchmarks"):
        assert {f"{folder}/{name}" for name in files_under(ROOT / folder)} <= held
    assert {"Makefile", "LICENSE", "README.md", "README.ko.md", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml"} <= held
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as archive:
        installed = {name for name in archive.namelist() if name.startswith("mulgil/")}
    assert installed == {f"mulgil/{name}" for name in files_under(ROOT / "src" / "mulgil")}


def test_the_workflow_covers_what_is_promised() -> None:
    path = ROOT / ".github" / "workflows" / "test.yml"
    if not path.exists():
        pytest.skip("no workflow beside an unpacked sdist")
    text = path.read_text(encoding="utf-8")
    promised = [c.rpartition(" ")[2] for c in project()["classifiers"] if re.search(r"Python :: 3\.\d", c)]
    assert re.search(r"python: \[(.*)\]", text)[1].replace('"', "").split(", ") == promised
    assert project()["requires-python"] == f">={promised[0]}"
    assert all(system in text for system in ("ubuntu", "macos", "windows"))
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"run: make (\w+)", text)) <= set(targets)


def test_the_changelog_is_in_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.*?)\]", text, re.MULTILINE)
    assert versions[0] == "Unreleased" and project()["version"] in versions
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^\[(.*?)\]: ", text, re.MULTILINE)) == set(versions)
