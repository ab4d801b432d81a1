"""What a run ran on: the code's version and the machine, kept beside its figures."""

from __future__ import annotations

import platform
import subprocess
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = Path(__file__).parents[1]


def code_version() -> dict[str, Any]:
    """mulgil's version, a digest of its sources, and the commit where they stand in a git repository."""
    digest = sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    own = getattr(sys.modules.get("mulgil"), "__version__", None)
    return {"mulgil": own, "sources": digest.hexdigest()[:16], "commit": _commit()}


def _commit() -> str | None:
    if not (PACKAGE.parents[1] / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def machine() -> dict[str, Any]:
    """Processor, cores, threads and versions: with the same ones the same seed gives the same bits."""
    from mulgil.native.threads import cores, thread_count

    return {
        "system": platform.platform(),
        "processor": processor(),
        "cores": cores(),
        "threads": thread_count(),
        "blas_threads": _blas_threads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": _version("numba"),
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _blas_threads() -> int | None:
    from threadpoolctl import threadpool_info

    return next((pool["num_threads"] for pool in threadpool_info() if pool.get("user_api") == "blas"), None)


def processor() -> str:
    """Its name, where the system tells it."""
    if sys.platform == "linux":
        with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
