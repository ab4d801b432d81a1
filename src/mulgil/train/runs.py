"""Runs that lie in folders: what each was, how far it came, what came out; also of folders that are damaged or half written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mulgil.errors import DataError
from mulgil.files import read_json
from mulgil.train.folder import RunFolder, read_lines

NOT_COMPARED = ("train_images", "test_images", "epochs")


@dataclass(frozen=True)
class RunFacts:
    """What a folder says of its run.

    state: "finished", "stopped" (Ctrl-C or a limit), "running", "unfinished" (its process died; `mulgil train --resume` goes on) or
    "damaged". problems: what could not be read, a line each. settings, summary: empty where there are none; lines: an epoch each.
    """

    folder: RunFolder
    state: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    lines: Sequence[Mapping[str, Any]] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    problems: Sequence[str] = ()

    @property
    def name(self) -> str:
        return self.folder.path.name

    def figure(self, name: str) -> float | None:
        """A figure of the end: from the summary, else of the last epoch that there is."""
        value = self.summary.get(name, self.lines[-1].get(name) if self.lines else None)
        with suppress(OverflowError):  # a whole number of hundreds of digits
            return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        return None

    @property
    def epochs(self) -> str:
        """`3/10`: done, of how many."""
        planned = self.settings.get("epochs", "?")
        return f"{len(self.lines)}/{planned}"


def read_run(path: str | os.PathLike[str]) -> RunFacts:
    """What stands in a run's folder; never raises for what a file holds."""
    folder, problems = RunFolder(path), []
    found: dict[str, Any] = {}
    try:
        folder.refuse_links()
    except DataError as error:
        return RunFacts(folder, "damaged", problems=(f"{error.rule}: {error.got}",))
    for name, file, read in (
        ("config", folder.config, lambda path: folder.read_config()),
        ("summary", folder.summary, read_json),
        ("lines", folder.metrics, read_lines),
    ):
        if not os.path.lexists(file):
            continue
        try:
            found[name] = read(file)
        except DataError as error:
            problems.append(f"{error.rule}: {error.got}")
    if "summary" in found and "interrupted" not in found["summary"]:
        problems.append(f"parts are missing: {folder.summary}")
    settings = found.get("config", {}).get("settings", {})
    held = folder.is_held()
    if not os.path.lexists(folder.config):
        problems.append("there is no config.json")
    state = "running" if held else "damaged" if problems else "unfinished"
    if not held and not problems and "summary" in found:
        state = "stopped" if found["summary"].get("interrupted") else "finished"
    return RunFacts(folder, state, settings, found.get("summary", {}), found.get("lines", ()), found.get("config", {}), tuple(problems))


def list_runs(base: str | os.PathLike[str] = "runs") -> list[RunFacts]:
    """The runs of a folder of runs, the oldest first. Folders that hold nothing of a run are left out."""
    base = Path(base)
    if not os.path.isdir(base):
        return []
    try:
        paths = sorted(path for path in base.iterdir() if os.path.isdir(path))
    except OSError as error:
        raise DataError("the folder of runs must be readable", f"{base}: {error.strerror}") from error
    traces = ("config.json", "metrics.jsonl", "summary.json", "checkpoints", "model.safetensors")
    return [read_run(path) for path in paths if any(os.path.lexists(path / name) for name in traces)]


def find_run(name: str, base: str | os.PathLike[str] = "runs") -> RunFacts:
    """A run by its path, or by its name in `base`. Raises DataError where there is none."""
    for path in (Path(name), Path(base) / name):
        if os.path.isdir(path):
            return read_run(path)
    raise DataError("there is no such run", name, "mulgil runs list shows the runs")


def differences(runs: Sequence[RunFacts]) -> list[str]:
    """The settings in which the runs differ, by name; those of a damaged run, which has none, do not count."""
    runs = [run for run in runs if run.settings]
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return [name for name in names if name not in NOT_COMPARED and len({repr(run.settings.get(name)) for run in runs}) > 1]
