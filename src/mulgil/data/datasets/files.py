"""Where data files lie."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from mulgil.files import cache_folder


def search_folders(name: str, title: str, root: str | os.PathLike[str] | None) -> list[Path]:
    """The folders where the files of a data set may lie, in the order of looking.

    `root`, then the environment's MULGIL_DATA, then the user's cache; in each of them the layout of torchvision
    (`MNIST/raw`), a subfolder named after the data set, and the folder itself.
    """
    bases = [root, os.environ.get("MULGIL_DATA"), cache_folder()]
    inside = (f"{title}/raw", title, name, "raw", ".")
    return [Path(base) / part for base in bases if base for part in inside]


def download_folder(name: str, title: str, root: str | os.PathLike[str] | None) -> Path:
    """Where a download goes: torchvision's layout below `root`, so that both find it; the user's cache without a root."""
    return Path(root) / title / "raw" if root else cache_folder() / name


def find_file(folder: Path, name: str) -> Path | None:
    """`name` or `name.gz` in `folder`; None where neither is there."""
    for path in (folder / name, folder / f"{name}.gz"):
        with suppress(OSError):  # a folder that may not be looked into holds nothing for us
            if path.is_file():
                return path
    return None
