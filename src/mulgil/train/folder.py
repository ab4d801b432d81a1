"""A run's folder: one run at a time, what it was told, where it ran, what came out. Everything in it is written whole or not at all."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mulgil.errors import DataError, OptionError
from mulgil.files import atomic_file, open_regular, parse_json, read_json, read_text, refuse_link
from mulgil.train.callbacks import Callback
from mulgil.train.logs import epoch_record
from mulgil.train.machine import code_version, machine

if TYPE_CHECKING:
    from mulgil.train.trainer import Trainer

FORMAT = 1
MAX_LINE = 1 << 16  # bytes of an epoch's line
TIMES = ("images_per_second", "seconds")  # what no seed repeats


class RunFolder:
    """`runs/<time>-<recipe>/`.

    config.json (options, settings, code, machine), metrics.jsonl (the figures of each epoch, which the same seed repeats to the bit),
    times.jsonl (what each epoch took), summary.json (when it has ended), checkpoints/, model.safetensors, pictures, report.html.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.config, self.metrics, self.times = self.path / "config.json", self.path / "metrics.jsonl", self.path / "times.jsonl"
        self.summary, self.model, self.report = self.path / "summary.json", self.path / "model.safetensors", self.path / "report.html"
        self.checkpoints = self.path / "checkpoints"

    # ------------------------------------------------------------------ a new one, one that is there
    @classmethod
    def create(cls, out: str | os.PathLike[str] | None, recipe: str, base: str | os.PathLike[str] = "runs") -> RunFolder:
        """A folder for a new run: `out`, or `base`/<time>-<recipe>.

        Raises DataError where it cannot be made or written, OptionError where `out` holds a run already.
        """
        if out is not None:
            refuse_link(out)
        try:
            folder = cls(out) if out is not None else cls._new(Path(base), recipe)
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _no_folder(Path(error.filename or out or base), error) from error
        if not os.access(folder.path, os.W_OK | os.X_OK):
            raise _no_folder(folder.path, PermissionError(13, "Permission denied"))
        folder.refuse_another()
        return folder

    def refuse_another(self) -> None:
        """Raise OptionError if a run was begun here."""
        if os.path.lexists(self.config):
            hint = f"go on with it: mulgil train --resume {self.path}; or choose another folder"
            raise OptionError("a new run needs a folder of its own", f"{self.path} holds a run already", hint)

    @classmethod
    def _new(cls, base: Path, recipe: str) -> RunFolder:
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{recipe}"
        for n in range(1, 1000):
            path = base / (name if n == 1 else f"{name}-{n}")
            try:
                path.mkdir(parents=True)
                return cls(path)
            except FileExistsError:  # two runs in one second
                if not path.is_dir():
                    raise
        raise FileExistsError(17, "too many runs of this second", str(base / name))

    @classmethod
    def existing(cls, path: str | os.PathLike[str]) -> RunFolder:
        """The folder of a run that was begun. Raises DataError where there is none, or it is a link."""
        folder = cls(path)
        folder.refuse_links()
        if not os.path.lexists(folder.config):
            got = "there is no config.json" if os.path.isdir(path) else "there is no such folder"
            raise DataError("a run's folder holds its config.json", f"{folder.path}: {got}", "mulgil runs list shows the runs")
        return folder

    def is_link(self) -> bool:
        """Whether the folder, or the one of its checkpoints, lies elsewhere."""
        return self.path.is_symlink() or self.checkpoints.is_symlink()

    def refuse_links(self) -> None:
        """Raise DataError where the folder, or the one of its checkpoints, is a link."""
        for folder in (self.path, self.checkpoints):
            refuse_link(folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder alone; the system lets go of it when the process ends, however it ends.

        Raises OptionError while another process holds it, DataError where it is a link or cannot be written.
        """
        self.refuse_links()
        try:
            file = open_regular(self.path / ".lock", "a+b")
        except OSError as error:
            raise _no_folder(self.path / ".lock", error) from error
        with file:
            for _ in range(4):  # `is_held` of another process is over in an instant
                if _hold(file):
                    break
                time.sleep(0.05)
            else:
                file.seek(0)
                holder = file.read(100).decode(errors="replace").strip() or "another process"
                hint = "wait until it has ended, or choose another folder"
                raise OptionError("two runs cannot share a folder", f"{self.path} is in use by {holder}", hint)
            file.truncate(0)
            file.write(f"process {os.getpid()} since {time.strftime('%H:%M:%S')}".encode())
            file.flush()
            try:
                yield
            finally:
                file.truncate(0)

    def is_held(self) -> bool:
        """Whether a process works in it."""
        try:
            with open_regular(self.path / ".lock") as file:
                return not _hold(file)
        except OSError:
            return False

    # ------------------------------------------------------------------ what stands in it
    def write_config(self, options: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """options: what the person chose. settings: what came of it; a run that goes on must have the same.

        Raises OptionError where a run has its config.json already.
        """
        self.refuse_another()
        began = time.strftime("%Y-%m-%d %H:%M:%S")
        facts = {"format": FORMAT, "began": began, "options": dict(options), "settings": dict(settings)}
        write_json(self.config, {**facts, "code": code_version(), "machine": machine()})

    def lengthen(self, epochs: int) -> None:
        """Note in config.json that the run has so many epochs now."""
        config = self.read_config()
        if config["settings"].get("epochs") != epochs:
            parts = {part: {**config[part], "epochs": epochs} for part in ("options", "settings")}
            write_json(self.config, {**config, **parts})

    def read_config(self) -> dict[str, Any]:
        """config.json. Raises DataError for one that is damaged or of another version."""
        config = read_json(self.config)
        if config.get("format") != FORMAT or not all(isinstance(config.get(part), dict) for part in ("options", "settings")):
            raise DataError("config.json must be as the run wrote it", f"{self.config}: parts are missing, or of another version")
        return config

    def tidy(self) -> None:
        """Before a run goes on: remove what a killed process left half written, and the summary of an end that no longer holds."""
        for part in (*self.path.glob(".*.part"), *self.checkpoints.glob(".*.part")):
            with suppress(OSError):  # what cannot go harms nobody
                part.unlink()
        try:
            self.summary.unlink(missing_ok=True)
        except OSError as error:
            raise _no_folder(self.summary, error) from error

    def changes(self) -> list[str]:
        """What is another here than where the run began, a line each: with it, the same seed may give other last bits."""
        config = self.read_config()
        pairs = (("machine", machine()), ("code", code_version()))
        return [
            f"{name} was {before[name]!r} when the run began and is {value!r} now: the last bits may differ"
            for part, now in pairs
            if isinstance(before := config.get(part), dict)
            for name, value in now.items()
            if name in before and before[name] != value and name not in ("system", "commit")
        ]


class RunLog(Callback):
    """Writes metrics.jsonl and times.jsonl, a line an epoch; a run that goes on begins them with the lines of its past.

    records: receives what metrics.jsonl holds. part: what the second set of figures is called.
    Raises DataError, which ends the training, where they cannot be written.
    """

    def __init__(self, folder: RunFolder, records: list[dict[str, Any]], part: str = "test"):
        self.folder, self.records, self.part = folder, records, part
        self.times: list[dict[str, Any]] = []

    def start(self, trainer: Trainer) -> None:
        for path, rows in ((self.folder.metrics, self.records), (self.folder.times, self.times)):
            with atomic_file(path) as file:
                file.write("".join(map(_line, rows)).encode())

    def epoch(self, trainer: Trainer) -> None:
        record = epoch_record(trainer, self.part)
        times = {"epoch": trainer.epoch, **{name: record.pop(name) for name in TIMES}}
        for path, rows, row in ((self.folder.metrics, self.records, record), (self.folder.times, self.times, times)):
            rows.append(row)
            try:
                with open_regular(path, "ab") as file:
                    file.write(_line(row).encode())
            except OSError as error:
                got = f"{path}: {error.strerror}"
                raise DataError("the run's figures cannot be written", got, "free some space on that disk") from error

    def state_dict(self) -> dict[str, Any]:
        return {"records": list(self.records), "times": list(self.times)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        rows = state["records"], state["times"]
        if not all(isinstance(part, list) and all(map(_is_row, part)) for part in rows):
            raise OptionError("a run's log must be rows of numbers", "other values in the checkpoint", "start the run anew")
        self.records[:], self.times[:] = rows


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(number, (int, float)) for number in value.values())


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a .jsonl file; a last one that was cut off is left out. Raises DataError for another damage."""
    lines, text = [], read_text(path)
    whole = text.split("\n")[:-1]
    for number, line in enumerate(whole, 1):
        try:
            if len(line) > MAX_LINE:
                raise ValueError(f"longer than {MAX_LINE:,} letters")
            value = parse_json(line)
            if not isinstance(value, dict):
                raise ValueError("not an object")
            lines.append(value)
        except ValueError as error:
            raise DataError("each line of the file must be a JSON object", f"{path}, line {number}: {error}") from None
    return lines


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    with atomic_file(path) as file:
        file.write((json.dumps(value, indent=2) + "\n").encode())


def _no_folder(path: Path, error: OSError) -> DataError:
    return DataError("the run's folder must be writable", f"{path}: {error.strerror or error}", "choose another one with --out")


def _hold(file: IO) -> bool:
    """Try to lock an open file; False while another process has it. Where the system has no such lock: True."""
    try:
        import fcntl
    except ImportError:
        return _hold_on_windows(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network disk without locks
        return True
    return True


def _hold_on_windows(file: IO) -> bool:
    try:
        import msvcrt

        file.seek(1 << 20)  # a byte behind the text, so that others can still read who holds it
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        file.seek(0)
    except ImportError:
        return True
    except OSError:
        return False
    return True
