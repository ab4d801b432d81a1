"""What can happen to bytes and to JSON, by chance and by somebody's hand. Each takes a random generator and gives the changed content."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable
from copy import deepcopy
from typing import Any

Bytes = Callable[[bytes, random.Random], bytes]

HUGE = (0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
NONSENSE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**18, 10**400, -(10**400), 0.5, 1e308, -1e308, float("nan"), float("inf"), "", "x", "nan",
    "\x1b[31m", "[red]", "[link=http://x]x[/link]", "a\nb", "\u202e", "\ud800", "../../x", "/dev/zero", "9" * 5000, "x" * 100_000, [], {},
    [[]], [None], {"a": 1}, {"$kind": "module", "index": 0}, {"$kind": "tensor", "name": "x", "type": "Tensor"}, {"$kind": "x"}, [1, 2, 3],
    [10**9, 10**9], [-1], list(range(1000)), {str(i): i for i in range(1000)},
)  # fmt: skip


def flip(data: bytes, r: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(r.choice((1, 1, 1, 2, 8, 64))):
        made[r.randrange(len(made))] ^= 1 << r.randrange(8)
    return bytes(made)


def flip_early(data: bytes, r: random.Random) -> bytes:
    made = bytearray(data)
    made[r.randrange(min(64, len(made)))] ^= 1 << r.randrange(8)
    return bytes(made)


def cut(data: bytes, r: random.Random) -> bytes:
    return data[: r.randrange(len(data))]


def drop(data: bytes, r: random.Random) -> bytes:
    at = r.randrange(len(data))
    return data[:at] + data[at + r.choice((1, 4, 8, 300)) :]


def insert(data: bytes, r: random.Random) -> bytes:
    at = r.choice((0, len(data), r.randrange(len(data))))
    return data[:at] + r.randbytes(r.choice((1, 4, 8, 300))) + data[at:]


def repeat(data: bytes, r: random.Random) -> bytes:
    a, b = sorted((r.randrange(len(data)), r.randrange(len(data))))
    return data[:b] + data[a:b] * r.choice((1, 2, 30)) + data[b:]


def splice(data: bytes, r: random.Random) -> bytes:
    """A block of it in another place of it."""
    a, b, size = r.randrange(len(data)), r.randrange(len(data)), r.choice((4, 16, 64, 512))
    return data[:a] + data[b : b + size] + data[a + size :]


def blank(data: bytes, r: random.Random) -> bytes:
    at, size = r.randrange(len(data)), r.choice((1, 16, 512, 4096))
    return data[:at] + bytes(len(data[at : at + size])) + data[at + size :]


def number(data: bytes, r: random.Random) -> bytes:
    """A field of 1, 2, 4 or 8 bytes gets an extreme value, in either order of bytes; more often near the beginning, where lengths stand."""
    size = r.choice((1, 2, 4, 8))
    at = r.randrange(min(len(data), r.choice((16, 64, 10**9))))
    value = (r.choice(HUGE) & ((1 << 8 * size) - 1)).to_bytes(size, r.choice(("little", "big")))  # type: ignore[arg-type]
    return data[:at] + value + data[at + size :]


def nothing(data: bytes, r: random.Random) -> bytes:
    return r.choice((b"", b"\0", data[:1], r.randbytes(100), b"\0" * 100, b"{" * 100_000, b"[" * 100_000, b"\xff\xfe" * 50))


BYTES: tuple[Bytes, ...] = (flip, flip, flip_early, cut, drop, insert, repeat, splice, blank, number, number, nothing)


# ---------------------------------------------------------------------- JSON
def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value in it."""
    found, todo = [], [value]
    while todo:
        whole = todo.pop()
        keys = list(whole) if isinstance(whole, dict) else range(len(whole)) if isinstance(whole, list) else ()
        found += [(whole, key) for key in keys]
        todo += [whole[key] for key in keys]
    return found


def swap(tree: Any, r: random.Random) -> None:
    (a, i), (b, j) = r.choice(places(tree)), r.choice(places(tree))
    a[i], b[j] = json.loads(json.dumps(b[j])), json.loads(json.dumps(a[i]))


def replace(tree: Any, r: random.Random) -> None:
    for _ in range(r.choice((1, 1, 1, 2, 5))):
        if found := places(tree):
            whole, key = r.choice(found)
            whole[key] = deepcopy(r.choice(NONSENSE))


def negate(tree: Any, r: random.Random) -> None:
    """A number that is near, or far, or of another type."""
    found = [(whole, key) for whole, key in places(tree) if isinstance(whole[key], (int, float))]
    if found:
        whole, key = r.choice(found)
        old = whole[key]
        whole[key] = r.choice((-old, old + 1, old * 1000, str(old), [old], float(old), old * 10**12, not old))


def remove(tree: Any, r: random.Random) -> None:
    whole, key = r.choice(places(tree))
    del whole[key]


def rename(tree: Any, r: random.Random) -> None:
    found = [(whole, key) for whole, key in places(tree) if isinstance(whole, dict)]
    if found:
        whole, key = r.choice(found)
        whole[r.choice((f"{key}x", "", "\x1b[2J", "[red]", "$kind", "__class__", "forward", "items", "x" * 10_000))] = whole.pop(key)


def more(tree: Any, r: random.Random) -> None:
    found = [(whole, key) for whole, key in places(tree) if isinstance(whole[key], (dict, list))]
    if found:
        whole, key = r.choice(found)
        part = whole[key]
        if isinstance(part, list):
            part.extend(json.loads(json.dumps(part)) * r.choice((1, 50)) or [deepcopy(r.choice(NONSENSE))])
        else:
            part[r.choice(("info", "extra", "\u202e", "0"))] = deepcopy(r.choice(NONSENSE))


def deep(tree: Any, r: random.Random) -> None:
    whole, key = r.choice(places(tree))
    for _ in range(r.choice((10, 90, 150, 700))):
        whole[key] = [whole[key]] if r.random() < 0.5 else {"a": whole[key]}


JSON: tuple[Callable[[Any, random.Random], None], ...] = (replace, replace, replace, negate, swap, remove, rename, more, deep)


def edit_json(text: str, r: random.Random) -> tuple[str, str]:
    """(the name of what was done, the new text) of a JSON text."""
    tree, change = json.loads(text), r.choice(JSON)
    change(tree, r)
    return change.__name__, dumped(tree)


def dumped(tree: Any) -> str:
    """As JSON, with NaN and infinities, which Python's reader takes; a number of 400 digits stays whole."""
    return json.dumps(tree)


# ---------------------------------------------------------------------- formats with checksums, by somebody who knows them
def edit_model(data: bytes, r: random.Random) -> tuple[str, bytes]:
    """The object in a model's header, or the header itself, with the length and the checksum mended."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    if r.random() < 0.75:
        metadata = header["__metadata__"]
        name, metadata["object"] = edit_json(metadata["object"], r)
        metadata["object"] = metadata["object"].encode("utf-8", "replace").decode()
        metadata["crc32"] = str(zlib.crc32(metadata["object"].encode()))
        text = dumped(header)
    else:
        name, text = edit_json(json.dumps(header), r)
    start = text.encode("utf-8", "replace")
    return f"model {name}", struct.pack("<Q", len(start)) + start + data[end:]


def edit_png(data: bytes, r: random.Random) -> tuple[str, bytes]:
    """A chunk of a PNG, with its checksum mended."""
    at, chunks = 8, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    i = r.randrange(len(chunks))
    kind, content = chunks[i]
    change = r.choice(BYTES)
    if kind == b"IDAT" and r.random() < 0.5:
        content = zlib.compress(change(zlib.decompress(content), r))
    elif content:
        content = change(content, r)
    chunks[i : i + 1] = [(kind, content)] * r.choice((1, 1, 1, 2, 0))
    packed = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return f"png {change.__name__}", data[:8] + b"".join(packed)
