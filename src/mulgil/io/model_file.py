"""`save` and `load`: a whole model in one safetensors file.

The tensors stand in the file under their state_dict names, so any safetensors reader can use them. The metadata holds
three strings: "mulgil" (the format's number), "object" (JSON: the module tree with settings and what the model knows, see
`encode`, your `info`, and a checksum of each tensor) and "crc32" (of that JSON). The same object gives the same bytes.
Format: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np

from mulgil import nn
from mulgil.autograd import Tensor
from mulgil.errors import ModelFileError
from mulgil.files import MAX_JSON, atomic_file, open_regular, parse_json
from mulgil.io.decode import Decoder, by_name
from mulgil.io.encode import MAX_DEPTH, Encoder
from mulgil.typing import DeviceLike

FORMAT = 1
MAX_HEADER = MAX_JSON  # bytes
MAX_NESTING = 4 * MAX_DEPTH  # values inside values of the header's JSON, which has two or three for each of the object's
DTYPES = {"BOOL", "U8", "I8", "U16", "I16", "F16", "U32", "I32", "F32", "U64", "I64", "F64"}
OURS = {"mulgil", "object", "crc32"}  # the strings of the metadata
PathLike = str | os.PathLike[str]
T = TypeVar("T")


def save(obj: Any, path: PathLike, info: Mapping[str, Any] | None = None) -> None:
    """Write a model to `path`: module tree, settings, weights, and `model.info`. Any name will do, also `model.pth`.

    Args:
        obj: a Module of any class, a state_dict, or a tree of dicts, lists, numbers, text and tensors (a checkpoint).
        path: the file; missing folders are made. It is written whole or not at all.
        info: more of what belongs to the model besides its weights, as plain JSON. It joins `model.info` when the file is
            loaded; see `read_info`.

    Of a class of your own the file holds the name, the layers and the plain attributes, not the code: `load` finds the
    class in the program that loads. Hooks stay behind. GPU arrays are written as they are and loaded to the CPU.

    Raises:
        ModelFileError: something in the object cannot be written, such as a function of your own.
        DataError: the folder cannot be written, or the disk is full.
    """
    from safetensors.numpy import save as to_bytes

    encoder = Encoder()
    header = {"root": encoder.encode(obj), "modules": encoder.modules, "info": dict(info or {})}
    header["checksums"] = {name: _checksum(array) for name, array in encoder.arrays.items()}
    try:
        text = json.dumps(header, ensure_ascii=False, allow_nan=False)
        metadata = {"mulgil": str(FORMAT), "object": text, "crc32": str(zlib.crc32(text.encode()))}
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFileError("save: info must be plain JSON", str(error), "use numbers, text, lists and dicts") from None
    start, tensors = _in_order(to_bytes(encoder.arrays, metadata))
    if len(start) > MAX_HEADER:
        got = f"{len(start):,} bytes of settings and names"
        raise ModelFileError("save: all but the tensors may take 16 MB", got, "make arrays of long lists of numbers")
    with atomic_file(path) as file:
        file.write(start)
        file.write(tensors)


def _in_order(content: bytes) -> tuple[bytes, memoryview]:
    """A safetensors file with its metadata in order of their names, where the library has another order in each run: (header, tensors)."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text, memoryview(content)[end:]


Classes: TypeAlias = Iterable[type] | Mapping[str, type]


@overload
def load(
    path: PathLike,
    map_location: DeviceLike | None = None,
    *,
    kind: type[T],
    classes: Classes | None = None,
    weights_only: bool | None = None,
) -> T: ...
@overload
def load(
    path: PathLike,
    map_location: DeviceLike | None = None,
    *,
    kind: None = None,
    classes: Classes | None = None,
    weights_only: bool | None = None,
) -> Any: ...
def load(
    path: PathLike,
    map_location: DeviceLike | None = None,
    *,
    kind: type | None = None,
    classes: Classes | None = None,
    weights_only: bool | None = None,
) -> Any:
    """Read what `save` wrote: the model (or dict) itself, on the CPU unless `map_location` names another device.

    Args:
        path: the file. One from elsewhere (safetensors without a model) gives a dict of tensors for `load_state_dict`.
        map_location: a device, as `torch.load` takes it.
        kind: the class that is expected, such as `nn.Sequential`, `Net` or `dict`: another is an error, and checkers know the result.
        classes: classes that the file may ask for by name, besides the built-in layers and the Modules already imported.
        weights_only: accepted for PyTorch's sake; a file never holds anything but weights and plain settings.

    Nothing in a file is run, and no constructor is called.

    Raises:
        ModelFileError: not a model file, damaged, of another version, of another kind, or a class is missing.

    Example:
        >>> net = mulgil.load("net.safetensors", kind=nn.Sequential)     # doctest: +SKIP
    """
    header, arrays = _read(Path(path))
    if header is None:
        obj: Any = {name: Tensor(array) for name, array in arrays.items()}
    else:
        obj = _decoded(path, header, header["root"], arrays, by_name(classes))
        if header["info"] and isinstance(obj, nn.Module) and isinstance(obj.info, dict):
            obj.info.update(header["info"])
    if kind is not None and not isinstance(obj, kind):
        got, hint = f"{path} holds a {type(obj).__name__}", "without kind=, load returns what there is"
        raise ModelFileError(f"load: the file must hold what was asked for, a {kind.__name__}", got, hint)
    return obj if map_location is None else _moved(obj, map_location)


def read_info(path: PathLike) -> dict[str, Any]:
    """`model.info` of a file, with the `info` that `save` was given, without loading the model; its class need not be there.

    Empty for a file that has none. Raises as `load` does.
    """
    header, _ = _read(Path(path), tensors=False)
    if header is None:
        return {}
    root = header["root"]
    try:
        own = header["modules"][root["index"]]["attributes"].get("info") if root["$kind"] == "module" else None
    except (TypeError, KeyError, IndexError, AttributeError):  # a plain value, or a damaged header
        own = None
    known = _decoded(path, header, own, {}, {})
    return {**(known if isinstance(known, dict) else {}), **header["info"]}


def _decoded(path: PathLike, header: dict, value: Any, arrays: dict[str, np.ndarray], classes: dict[str, type]) -> Any:
    try:
        return Decoder(header["modules"], arrays, classes).decode(value)
    except ModelFileError:
        raise
    except Exception as error:  # whatever a damaged header provokes has one meaning
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def _read(path: Path, tensors: bool = True) -> tuple[dict | None, dict[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    _refuse_foreign(path)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            header = _header(path, metadata) if OURS & metadata.keys() else None
            names = list(file.keys()) if tensors else []
            _refuse_dtypes(path, {name: file.get_slice(name).get_dtype() for name in names})
            arrays = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, OSError, MemoryError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None  # its text may hold the whole header
    if header is not None and tensors:
        found = {name: _checksum(array) for name, array in arrays.items()}
        if found != header.get("checksums"):
            wrong = sorted(name for name in found.keys() | header["checksums"].keys() if found.get(name) != header["checksums"].get(name))
            raise _damaged(path, f"the checksum of {', '.join(wrong[:3])} does not match")
    return header, arrays


def _header(path: Path, metadata: Mapping[str, str]) -> dict:
    version = metadata.get("mulgil", "")
    if version != str(FORMAT):
        newer = version.isdecimal() and len(version) < 9 and int(version) > FORMAT
        raise ModelFileError(
            f"load: this version of mulgil reads model files of format {FORMAT}",
            f"{path}: format {version[:20]!r}, {'from a newer mulgil' if newer else 'which it does not know (any more)'}",
            "pip install --upgrade mulgil" if newer else "load it with the mulgil that wrote it, and save(model.state_dict(), path)",
        )
    text = metadata.get("object", "")
    if metadata.get("crc32") != str(zlib.crc32(text.encode())):
        raise _damaged(path, "the checksum of the header does not match")
    try:
        header = parse_json(text, MAX_NESTING)
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    parts = {"root": object, "modules": list, "checksums": dict, "info": dict}
    if not (isinstance(header, dict) and all(name in header and isinstance(header[name], kind) for name, kind in parts.items())):
        raise _damaged(path, "the header is not a model's")
    return header


def _refuse_foreign(path: Path) -> None:
    """Name the usual strangers before the safetensors reader gives up on them with a riddle, or takes all of the memory for one."""
    try:
        with open_regular(path, follow=True) as file:
            start, size = file.read(16), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ModelFileError("load: the model file must be there and readable", f"{path}: {error.strerror}", "look at the path") from None
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{":  # so begins a safetensors file, whatever the length before it looks like
        if header > MAX_HEADER:
            raise _damaged(path, f"its header claims {header:,} bytes, of {MAX_HEADER:,} that it may have")
        if size - header > _memory():
            raise _damaged(path, f"its {size:,} bytes are more than this machine's memory")
    elif start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise ModelFileError(
            "load: model files are safetensors, and pickles are not opened because they can run code",
            f"{path} is a pickle or a zip, as torch.save writes it",
            "in PyTorch: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')",
        )
    else:
        raise _damaged(path, f"it begins with {start[:8].hex(' ')}, and then with no header" if start else "it is empty")


def _memory() -> float:
    """Bytes of this machine's memory, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def _refuse_dtypes(path: Path, dtypes: Mapping[str, str]) -> None:
    for name, dtype in dtypes.items():
        if dtype not in DTYPES:
            hint = "convert it before saving, in PyTorch: model.float()"
            raise ModelFileError("load: tensors must have a dtype that NumPy has, with real numbers", f"{path}: {name} is {dtype}", hint)


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of dtype, shape and bytes: a file that was cut, patched or badly copied is noticed."""
    start = zlib.crc32(f"{array.dtype.name} {array.shape}".encode())
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, start)


def _damaged(path: PathLike, what: str) -> ModelFileError:
    what = what if len(what) < 300 else f"{what[:200]} ... {what[-80:]}"
    rule = "load: the file must be a whole safetensors file, as mulgil.save writes it"
    return ModelFileError(rule, f"{path}: {what}", "save the model again, or copy the file again")


def _moved(obj: Any, where: Any) -> Any:
    if isinstance(obj, (nn.Module, Tensor)):
        return obj.to(where)
    if isinstance(obj, dict):
        return {key: _moved(value, where) for key, value in obj.items()}
    return type(obj)(_moved(value, where) for value in obj) if isinstance(obj, (list, tuple)) else obj
