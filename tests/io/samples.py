"""The kinds of files that mulgil reads: a good one of each, how it is mutated, and how it is read."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
import socket
import struct
import warnings
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tests.io.mutations import BYTES, edit_json, edit_model, edit_png

Mutation = tuple[str, bool]  # what was done; whether by somebody who knows the checksums


@dataclass(frozen=True)
class Kind:
    """make: fills a folder. read: what it means, for a person. checked: a file that is read means what was written, if at all."""

    make: Callable[[Path], None]
    mutate: Callable[[Path, random.Random], Mutation]
    read: Callable[[Path], Any]
    checked: bool = False


@dataclass
class Sample:
    kind: Kind
    folder: Path
    meaning: Any = None


def make_samples(folder: Path) -> dict[str, Sample]:
    """A good one of each kind."""
    samples = {}
    for name, kind in KINDS.items():
        samples[name] = Sample(kind, folder / name)
        samples[name].folder.mkdir(parents=True)
        kind.make(samples[name].folder)
    return samples


# ---------------------------------------------------------------------- mutations of a file in a folder
def some_bytes(*names: str) -> Callable[[Path, random.Random], Mutation]:
    def mutate(folder: Path, r: random.Random) -> Mutation:
        path, change = folder / r.choice(names), r.choice(BYTES)
        path.write_bytes(change(path.read_bytes(), r))
        return change.__name__, False

    return mutate


def json_or_bytes(*names: str) -> Callable[[Path, random.Random], Mutation]:
    """Two times of three the JSON, of a .jsonl one line or all of them."""

    def mutate(folder: Path, r: random.Random) -> Mutation:
        if r.random() < 0.33:
            return some_bytes(*names)(folder, r)
        path = folder / r.choice(names)
        lines = path.read_text().splitlines(keepends=True) if path.suffix == ".jsonl" else [path.read_text()]
        i = r.randrange(len(lines))
        done, text = edit_json(lines[i], r)
        lines[i] = text + "\n"
        path.write_text("".join(lines) * r.choice((1, 1, 1, 40)), "utf-8", errors="replace")
        return f"json {done}", True

    return mutate


def with_edit(name: str, edit: Callable[[bytes, random.Random], tuple[str, bytes]]) -> Callable[[Path, random.Random], Mutation]:
    """Half of the times bytes, half of the times an edit that knows the format."""

    def mutate(folder: Path, r: random.Random) -> Mutation:
        if r.random() < 0.5:
            return some_bytes(name)(folder, r)
        path = folder / name
        done, content = edit(path.read_bytes(), r)
        path.write_bytes(content)
        return done, True

    return mutate


def edit_gzip(data: bytes, r: random.Random) -> tuple[str, bytes]:
    change = r.choice(BYTES)
    return f"gzip {change.__name__}", gzip.compress(change(gzip.decompress(data), r))


def edit_npz(data: bytes, r: random.Random) -> tuple[str, bytes]:
    """An array of an archive, often its header, packed again."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name, change = r.choice(list(entries)), r.choice(BYTES)
    if r.random() < 0.5:
        header = entries[name].split(b"\n", 1)[0][10:].rstrip()
        types = (b"f4", b"O", b"U9", b"V8", b"i1", b"c16", b"M8[s]", b"f8, 'x'", b"U99999999")
        made = r.choice(
            (
                change(header, r),
                b"(" * r.choice((100, 9000)),
                b"-" * 9000 + b"1",
                header[: r.randrange(len(header))],
                header.replace(b"<", b">"),
                header.replace(b"(", b"(%d, " % 10 ** r.randrange(12), 1),
                header.replace(b"False", b"True"),
                header.replace(b"f8", r.choice(types)),
            )
        )
        text = made + b" " * (-len(made) % 64) + b"\n"
        start = b"\x93NUMPY\2\0" + struct.pack("<I", len(text)) if len(text) > 65535 else b"\x93NUMPY\1\0" + struct.pack("<H", len(text))
        entries[name] = start + text + entries[name].split(b"\n", 1)[1]
    else:
        entries[name] = change(entries[name], r)
    if r.random() < 0.2:
        entries[r.choice(("../x.npy", "sep.npy", "x", "train;accuracy;batch_data.npy", "\x1b[2J.npy"))] = entries.pop(name)
    out = io.BytesIO()
    packing = r.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(out, "w", packing) as archive:
        for key, content in entries.items():
            archive.writestr(key, content)
    return "npz", out.getvalue()


def strange_entry(folder: Path, r: random.Random) -> Mutation:
    """Something in a run's folder is no plain file any more, or is gone, or is another's."""
    run = folder / "runs" / "x"
    paths = [path for path in run.rglob("*") if not path.is_symlink()] + [run / ".lock", run]
    path = r.choice(sorted(paths))
    content = path.read_bytes() if path.is_file() else b"{}"
    if path.is_dir():
        shutil.move(path, folder / "away")
    else:
        path.unlink(missing_ok=True)
    target = folder / "target"
    target.write_bytes(b"precious")
    makers: dict[str, Callable[[], object]] = {
        "nothing": lambda: None, "link": lambda: path.symlink_to(target), "dangling": lambda: path.symlink_to(folder / "nowhere"),
        "link to itself": lambda: path.symlink_to(path.name), "link up": lambda: path.symlink_to(".."), "pipe": lambda: os.mkfifo(path),
        "zeros": lambda: path.symlink_to("/dev/zero"), "random": lambda: path.symlink_to("/dev/urandom"), "folder": path.mkdir,
        "sparse": lambda: (path.write_bytes(content), os.truncate(path, r.choice((1 << 24, 1 << 34, 1 << 42)))),
        "hard link": lambda: os.link(target, path), "link away": lambda: path.symlink_to(folder / "away"),
        "unreadable": lambda: (path.write_bytes(content), path.chmod(0)), "socket": lambda: local_socket(path),
    }  # fmt: skip
    done = r.choice(list(makers))
    makers[done]()
    return done, True


def local_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the address of a socket may have a hundred letters
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


# ---------------------------------------------------------------------- reading, as a person would
def command(*arguments: str, codes: tuple[int, ...] = (0, 1)) -> str:
    """The command line in this process; what it prints. AssertionError for a traceback, a control character or another exit code."""
    from mulgil.cli.main import run

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = run(arguments)
    told = out.getvalue() + err.getvalue()
    bad = [c for c in told if (ord(c) < 32 and c not in "\n\t") or c in "\x7f\x9b\u202e"]
    assert code in codes and not bad and "Traceback" not in told and len(told) < 200_000, (arguments, code, told[-500:])
    assert "more memory than there is" not in told, told
    return told


def meaning(found: Any) -> str:
    """Everything that a loaded object is."""
    from mulgil import nn

    if isinstance(found, nn.Module):
        state = {name: (str(value.dtype), value.shape, value.array.tobytes()) for name, value in found.state_dict().items()}
        return repr((found, found.info, sorted(state.items())))
    if isinstance(found, dict):
        return repr({key: meaning(value) for key, value in found.items()})
    return repr((found.dtype, found.shape, np.asarray(found).tobytes()) if hasattr(found, "shape") else found)


def read_model(folder: Path) -> str:
    from mulgil.errors import MulgilError
    from mulgil.io import load, read_info

    command("predict", str(folder / "m"), str(folder / "x.png"))
    with suppress(MulgilError):
        assert isinstance(read_info(folder / "m"), dict)
    return meaning(load(folder / "m"))


def read_checkpoint(folder: Path) -> str:
    from mulgil.train.checkpoint import Checkpoints

    return meaning(Checkpoints(folder / "runs" / "x" / "checkpoints").read())


def read_runs(folder: Path) -> None:
    base = ("--dir", str(folder / "runs"))
    command("runs", "list", *base)
    command("runs", "show", "x", *base)
    command("runs", "compare", "x", "x", "--no-plots", *base)
    if (folder / "target").exists():
        assert (folder / "target").read_bytes() == b"precious" and not (folder / "nowhere").exists()


def read_and_resume(folder: Path) -> None:
    """Also goes on with the run, as somebody does who trusts it more than she should."""
    if not (folder / "runs" / "x").is_symlink():
        with suppress(OSError):
            (folder / "runs" / "x" / "summary.json").unlink()
    command("train", "--resume", str(folder / "runs" / "x"), "--quiet", "--no-plots", codes=(0, 1, 2))
    read_runs(folder)


def read_metrics(folder: Path) -> str:
    from mulgil import plot

    train, test = plot.load_metrics(folder / "m.npz")
    return meaning({"train": train, "test": test})


def read_digits(folder: Path) -> str:
    from mulgil.errors import DataError
    from mulgil.npz import read_npz

    try:
        return meaning(read_npz((folder / "digits.npz").read_bytes()))
    except ValueError as error:  # as Digits does
        raise DataError(str(error)) from error


def read_idx_pair(ending: str) -> Callable[[Path], str]:
    def read(folder: Path) -> None:
        from mulgil.data.datasets import MNIST
        from mulgil.data.datasets.images import read_pair

        MNIST.find(folder, train=False)
        images, labels = read_pair(folder / f"t10k-images-idx3-ubyte{ending}", folder / f"t10k-labels-idx1-ubyte{ending}", 10)
        assert images.dtype == labels.dtype == np.uint8 and len(images) == len(labels) and not (labels > 9).any()

    return read  # type: ignore[return-value]


def read_picture(folder: Path) -> None:
    from mulgil.cli.images import read_image

    for centre in (True, False):
        image, notes = read_image(folder / "x", centre=centre)
        assert image.shape == (28, 28) and image.dtype == np.uint8 and all(isinstance(note, str) for note in notes)


def read_kernel(folder: Path) -> str | None:
    """Never raises: a damaged entry is as good as absent."""
    from mulgil.native.cache import Store

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entry = Store(folder / "kernels").read("k" * 40)
    return None if entry is None else repr(entry)


def read_sweep(folder: Path) -> None:
    from mulgil.train.sweep import Sweep

    sweep = Sweep.existing(folder)
    for number in range(len(sweep.trials)):
        assert sweep.folder(number).parent == folder
    sweep.results()


def read_log(folder: Path) -> None:
    from mulgil.train.folder import read_lines

    read_lines(folder / "runs" / "x" / "times.jsonl")
    read_lines(folder / "runs" / "x" / "metrics.jsonl")


# ---------------------------------------------------------------------- good ones
def make_model(folder: Path) -> None:
    from PIL import Image

    from mulgil import nn
    from mulgil.io import save

    layers = (nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.25), nn.Linear(338, 3))
    model = nn.Sequential(*layers).eval()
    model.info.update(classes=["a", "b", "c"], image_shape=[1, 28, 28], input_shape=[1, 28, 28], training={"data": "mnist"})
    model.info["preprocessing"] = [["ToTensor", {}], ["Normalize", {"mean": 0.5, "std": 0.5}]]
    model.info["input_range"] = {"low": -1.0, "high": 1.0, "least": [-1.0, 0.0], "most": [1.0, 0.0], "samples": 64}
    save(model, folder / "m", info={"note": "값"})
    Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save(folder / "x.png")


def make_run(folder: Path) -> None:
    path = folder / "runs" / "x"
    arguments = ("--recipe", "softmax", "--data", "digits", "--epochs", "2", "--eager", "--quiet", "--no-plots", "--keep", "1")
    command("train", *arguments, "--out", str(path))
    (newest,) = (path / "checkpoints").glob("step-*")
    newest.rename(folder / CHECKPOINT)


def make_metrics(folder: Path) -> None:
    from mulgil import plot

    logger = plot.LiveLogger()
    for i in range(6):
        logger.set_train_batch({"loss": i / 3, "accuracy": i / 6}, 10)
        if i % 3 == 2:
            logger.set_train_epoch()
            logger.set_test_batch({"loss": i / 4}, 10)
            logger.set_test_epoch()
    plot.save_metrics(folder / "m.npz", logger)


def make_digits(folder: Path) -> None:
    from mulgil.data.datasets import digits

    shutil.copy(Path(digits.__file__).with_name("digits.npz"), folder)


def make_idx(ending: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from mulgil.data.datasets import write_idx

        rng = np.random.default_rng(0)
        write_idx(folder / f"t10k-images-idx3-ubyte{ending}", rng.integers(256, size=(9, 28, 28), dtype=np.uint8))
        write_idx(folder / f"t10k-labels-idx1-ubyte{ending}", rng.integers(10, size=9, dtype=np.uint8))

    return make


def make_picture(form: str, mode: str, **options: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from PIL import Image

        drawn = np.zeros((60, 45), np.uint8)
        drawn[8:50, 20:26] = 230
        exif = Image.Exif()
        exif[0x0112] = 6
        more = {"exif": exif} if form in ("JPEG", "PNG", "WEBP") else {}
        wide = Image.fromarray(drawn.astype(np.uint16) * 256) if mode == "I;16" else Image.fromarray(drawn).convert(mode)
        with open(folder / "x", "wb") as file:
            wide.save(file, form, **more, **options)

    return make


def make_kernel(folder: Path) -> None:
    from mulgil.native.cache import Entry, Store

    assert Store(folder / "kernels").write("k" * 40, Entry("symbol", ("expf",), "def kernel(): pass", bytes(range(256)) * 4))
    os.chmod(folder / "kernels", 0o700)


def make_sweep(folder: Path) -> None:
    space = {"lr": {"values": [0.1, 0.01]}, "batch_size": {"low": 16, "high": 64}}
    facts = {"format": 1, "options": {"recipe": "mlp", "epochs": 2, "lr": None}, "space": space, "search": "random", "count": 2, "seed": 0}
    trials = [{"lr": 0.1, "batch_size": 20}, {"lr": 0.01, "batch_size": 64}]
    (folder / "sweep.json").write_text(json.dumps({**facts, "trials": trials}))


RUN, KERNEL = "runs/x", f"kernels/{'k' * 40}.kernel"
CHECKPOINT = f"{RUN}/checkpoints/step-00000999.safetensors"
KINDS: dict[str, Kind] = {
    "model": Kind(make_model, with_edit("m", edit_model), read_model, checked=True),
    "checkpoint": Kind(make_run, with_edit(CHECKPOINT, edit_model), read_checkpoint, checked=True),
    "config.json": Kind(make_run, json_or_bytes(f"{RUN}/config.json"), read_runs),
    "summary.json": Kind(make_run, json_or_bytes(f"{RUN}/summary.json"), read_runs),
    "metrics.jsonl": Kind(make_run, json_or_bytes(f"{RUN}/metrics.jsonl"), read_runs),
    "times.jsonl": Kind(make_run, json_or_bytes(f"{RUN}/times.jsonl", f"{RUN}/metrics.jsonl"), read_log),
    "run folder": Kind(make_run, strange_entry, read_runs),
    "metrics.npz": Kind(make_metrics, with_edit("m.npz", edit_npz), read_metrics),
    "digits.npz": Kind(make_digits, with_edit("digits.npz", edit_npz), read_digits),
    "idx": Kind(make_idx(""), some_bytes("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"), read_idx_pair("")),
    "idx.gz": Kind(make_idx(".gz"), with_edit("t10k-images-idx3-ubyte.gz", edit_gzip), read_idx_pair(".gz")),
    "png": Kind(make_picture("PNG", "L"), with_edit("x", edit_png), read_picture),
    "png rgba": Kind(make_picture("PNG", "RGBA"), with_edit("x", edit_png), read_picture),
    "png palette": Kind(make_picture("PNG", "P", transparency=0), with_edit("x", edit_png), read_picture),
    "png 16 bits": Kind(make_picture("PNG", "I;16"), with_edit("x", edit_png), read_picture),
    "jpeg": Kind(make_picture("JPEG", "RGB"), some_bytes("x"), read_picture),
    "jpeg cmyk": Kind(make_picture("JPEG", "CMYK"), some_bytes("x"), read_picture),
    "gif": Kind(make_picture("GIF", "L", save_all=True), some_bytes("x"), read_picture),
    "bmp": Kind(make_picture("BMP", "RGB"), some_bytes("x"), read_picture),
    "tiff": Kind(make_picture("TIFF", "F"), some_bytes("x"), read_picture),
    "webp": Kind(make_picture("WEBP", "RGB"), some_bytes("x"), read_picture),
    "kernel": Kind(make_kernel, some_bytes(KERNEL), read_kernel, checked=True),
    "kernel key": Kind(make_kernel, some_bytes("kernels/key"), read_kernel, checked=True),
    "sweep.json": Kind(make_sweep, json_or_bytes("sweep.json"), read_sweep),
    "a run that goes on": Kind(
        make_run,
        lambda folder, r: r.choice((strange_entry, json_or_bytes(f"{RUN}/config.json"), with_edit(CHECKPOINT, edit_model)))(folder, r),
        read_and_resume,
    ),
}
