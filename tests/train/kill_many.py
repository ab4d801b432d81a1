"""Kills training runs at random moments, resumes them, and compares what comes out, to the last bit, with a run that was left alone.

    python -m tests.train.kill_many cnn --epochs 2 --kills 20              # on MNIST, where it is there
    python -m tests.train.kill_many cnn --kills 20 --signals TERM HUP INT  # asked to end, INT twice, at any moment of the run

Half of the kills come while a checkpoint is being written, which is slowed down for that. A run that was asked to end has to keep all
that it had done: going on, it does no step twice.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mulgil.io import load

# what the child runs: the command line, with a disk that takes `slow` seconds to flush each file
CHILD = """
import os, sys, time
from mulgil.cli.main import main
flush, slow = os.fsync, float(sys.argv[1])
def fsync(number):
    time.sleep(slow)
    flush(number)
os.fsync = fsync
main(sys.argv[2:])
"""
PATIENCE = 300  # seconds for anything


def start(arguments: Sequence[str], slow: float = 0.0) -> subprocess.Popen:
    command = [sys.executable, "-c", CHILD, str(slow), "train", "--quiet", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> str:
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out
    return out


def killed(folder: Path, arguments: Sequence[str], chance: random.Random, while_writing: bool, seconds: float) -> bool:
    """Start a run and kill it: after its first checkpoint, within `seconds`, or while one is half written. False: it was faster."""
    process = start([*arguments, "--out", str(folder)], slow=0.02 if while_writing else 0.0)
    checkpoints, skip, until = folder / "checkpoints", chance.randrange(12), time.monotonic() + PATIENCE
    seen: set[str] = set()
    while process.poll() is None and time.monotonic() < until:
        parts = {path.name for path in checkpoints.glob(".*.part")} if checkpoints.is_dir() else set()
        if while_writing and len(seen | parts) > skip and parts:
            break
        if not while_writing and checkpoints.is_dir() and any(checkpoints.glob("step-*")):
            time.sleep(chance.uniform(0, seconds))
            break
        seen |= parts
        time.sleep(0.001)
    alive = process.poll() is None
    process.kill()
    process.communicate()
    return alive


def asked(folder: Path, arguments: Sequence[str], chance: random.Random, name: str, seconds: float) -> str | None:
    """Start a run and send it a signal within `seconds` of its beginning, INT twice. None: it was faster; else what is wrong, or ""."""
    process = start([*arguments, "--out", str(folder)])
    until = time.monotonic() + PATIENCE
    while not (folder / "config.json").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(chance.uniform(0, seconds))
    number = getattr(signal, f"SIG{name}")
    process.send_signal(number)
    sent = time.monotonic()
    if name == "INT":
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(number)
    out, _ = process.communicate(timeout=PATIENCE)
    if process.returncode == 0 and "stop" not in out:
        return None
    wrong = [] if process.returncode in (128 + number, -number) else [f"exit code {process.returncode}: {out[-300:]}"]
    wrong += ["it took too long"] if time.monotonic() - sent > 10 else []
    lines = (folder / "metrics.jsonl").read_text().splitlines() if (folder / "metrics.jsonl").exists() else []
    if lines and not any((folder / "checkpoints").glob("step-*")):
        wrong.append(f"{len(lines)} epochs were done, and no checkpoint is there")
    return "; ".join(wrong)


def ask_many(work: Path, arguments: Sequence[str], names: Sequence[str], times: int, seed: int = 0, say: Any = print) -> int:
    """Ask `times` runs to end, resume and compare each; returns how many kept all and ended with the same bits."""
    chance, good, done, tries = random.Random(seed), 0, 0, 0
    began = time.monotonic()
    finish(start([*arguments, "--out", str(work / "whole")]))
    seconds = max(0.05, 0.8 * (time.monotonic() - began))
    while done < times and tries < 5 * times:
        folder, tries, name = work / f"asked{tries}", tries + 1, names[done % len(names)]
        wrong = asked(folder, arguments, chance, name, seconds)
        if wrong is None:
            seconds *= 0.7
            continue
        left = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
        finish(start([*arguments, "--resume", str(folder)]))  # the same words as at first, as a job that is put in the queue again
        found, done = [*([wrong] if wrong else []), *differences(work / "whole", folder)], done + 1
        good += not found
        say(f"{done:>3}  {name}, left {left[-1:]}: {found or 'the same bits'}")
    say(f"{good} of {done} kept all and ended with the same bits")
    return good if done == times else -1


def differences(one: Path, two: Path) -> list[str]:
    """What is not the same in two finished runs, times apart: figures, weights, the last state, pictures."""
    names = ["metrics.jsonl", "model.safetensors", *(path.name for path in one.glob("*.png"))]
    wrong = [name for name in names if (one / name).read_bytes() != (two / name).read_bytes()]
    mine, other = (sorted((folder / "checkpoints").glob("*.safetensors")) for folder in (one, two))
    if [path.name for path in mine[:1] + mine[-1:]] != [path.name for path in other[:1] + other[-1:]]:  # best, and the last step
        return [*wrong, f"checkpoints {mine} and {other}"]
    for a, b in ((mine[0], other[0]), (mine[-1], other[-1])):
        wrong += [f"{a.name}{place}" for place in unequal(load(a), load(b))]
    return wrong + [str(path) for path in two.rglob("*.part")]


def unequal(a: Any, b: Any, place: str = "") -> list[str]:
    """The places at which two trees differ, seconds apart."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [found for key in a if key not in ("seconds", "times") for found in unequal(a[key], b[key], f"{place}.{key}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [found for i, (x, y) in enumerate(zip(a, b, strict=True)) for found in unequal(x, y, f"{place}[{i}]")]
    if isinstance(a, np.ndarray):
        return [] if isinstance(b, np.ndarray) and a.dtype == b.dtype and a.tobytes() == b.tobytes() else [place]
    return [] if a == b or (a != a and b != b) else [place]


def kill_many(work: Path, arguments: Sequence[str], kills: int, seed: int = 0, say: Any = print) -> int:
    """Kill `kills` runs, each once, resume and compare each; returns how many ended with the same bits. Faster ones do not count."""
    chance, good, done, tries = random.Random(seed), 0, 0, 0
    began = time.monotonic()
    finish(start([*arguments, "--out", str(work / "whole")]))
    seconds = max(0.05, 0.6 * (time.monotonic() - began))
    while done < kills and tries < 5 * kills:
        folder, tries, while_writing = work / f"killed{tries}", tries + 1, done % 2 == 1
        if not killed(folder, arguments, chance, while_writing, seconds):
            seconds *= 0.7
            continue
        left = sorted(path.name for path in (folder / "checkpoints").iterdir()) if (folder / "checkpoints").is_dir() else []
        finish(start(["--resume", str(folder), *(a for a in arguments if a == "--no-plots")]))
        wrong, done = differences(work / "whole", folder), done + 1
        good += not wrong
        say(f"{done:>3}  killed {'while writing' if while_writing else 'at some time'}, left {left[-2:]}: {wrong or 'the same bits'}")
    say(f"{good} of {done} ended with the same bits")
    return good if done == kills else -1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--epochs", default="2")
    parser.add_argument("--every", default="20steps")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signals", nargs="+", choices=["TERM", "HUP", "INT"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        asked_for = ["--recipe", options.recipe, "--data", options.data, "--epochs", options.epochs, "--checkpoint-every", options.every]
        if options.signals:
            sys.exit(ask_many(Path(work), asked_for, options.signals, options.kills, options.seed) != options.kills)
        sys.exit(kill_many(Path(work), asked_for, options.kills, options.seed) != options.kills)
