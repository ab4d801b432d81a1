"""IDX files: what was written is read; what is damaged is refused with a DataError, in bounded memory."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mulgil.data.datasets import read_idx, write_idx
from mulgil.data.datasets.idx import read_header
from mulgil.errors import DataError

IMAGES = np.random.default_rng(0).integers(256, size=(7, 5, 6), dtype=np.uint8)


def idx_bytes(array: np.ndarray = IMAGES) -> bytes:
    return struct.pack(f">2x2B{array.ndim}I", 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_what_was_written_is_read(tmp_path: Path, dtype: str, ending: str) -> None:
    array = (np.arange(24).reshape(2, 3, 4) - 5).astype(dtype)
    write_idx(tmp_path / f"a{ending}", array)
    back = read_idx(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype and back.dtype.isnative and back.flags.writeable
    assert read_header(tmp_path / f"a{ending}").shape == (2, 3, 4)


def test_the_content_tells_gzip_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "images.gz").write_bytes(idx_bytes())
    (tmp_path / "images").write_bytes(gzip.compress(idx_bytes()))
    for name in ("images.gz", "images"):
        np.testing.assert_array_equal(read_idx(tmp_path / name, ndim=3), IMAGES)


GOOD, PACKED = idx_bytes(), gzip.compress(idx_bytes())
BAD = {
    "empty": (b"", "starts with 00 00"),
    "truncated": (GOOD[:-1], "cut short"),
    "only a header": (GOOD[:16], "cut short"),
    "header cut": (GOOD[:10], "inside its header"),
    "oversized": (GOOD + b"\0", "longer than its header"),
    "wrong magic": (b"\x01" + GOOD[1:], "starts with 00 00"),
    "unknown type": (GOOD[:2] + b"\x07" + GOOD[3:], "starts with 00 00"),
    "no axes": (b"\0\0\x08\0" + GOOD[4:], "starts with 00 00"),
    "a page instead": (b"<html>Not found</html>", "starts with 00 00"),
    "labels instead": (idx_bytes(np.zeros(9, np.uint8)), "images must have 3 axes"),
    "a huge claim": (struct.pack(">2x2B3I", 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "at most"),
    "a huge claim behind a zero": (struct.pack(">2x2B3I", 8, 3, 0, 2**32 - 1, 2**32 - 1), "at most"),
    "a claim of 900 MB": (struct.pack(">2x2B3I", 8, 3, 900, 1000, 1000) + bytes(100), "cut short"),
    "gzip truncated": (PACKED[:-9], "damaged or cut short"),
    "gzip checksum": (PACKED[:-5] + bytes([PACKED[-5] ^ 1]) + PACKED[-4:], "damaged or cut short"),
    "gzip oversized": (gzip.compress(GOOD + b"\0"), "longer than its header"),
    "gzip chained": (PACKED + PACKED, "longer than its header"),
    "gzip garbage behind": (PACKED + b"garbage", "damaged or cut short"),
    "gzip claim of 900 MB": (gzip.compress(struct.pack(">2x2B3I", 8, 3, 900, 1000, 1000)), "cut short"),
    "gzip bomb": (gzip.compress(GOOD + bytes(50_000_000)), "longer than its header"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_named_and_memory_stays_small(tmp_path: Path, case: str) -> None:
    content, complaint = BAD[case]
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=complaint) as caught:
            read_idx(path, ndim=3)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value) and caught.value.hint


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_idx(tmp_path / "absent")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_idx(tmp_path / "images")
    assert "Permission denied" in str(caught.value)


def corrupted(data: st.DataObject, content: bytes) -> bytes:
    """`content` after a few cuts, flips, insertions and additions."""
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        kind = data.draw(st.sampled_from(["cut", "flip", "append", "insert", "header"]))
        if kind == "cut":
            content = content[:at]
        elif kind == "flip" and content:
            content = content[:at] + bytes([content[at] ^ data.draw(st.integers(1, 255))]) + content[at + 1 :]
        elif kind == "header":
            content = data.draw(st.binary(min_size=4, max_size=16)) + content[16:]
        else:
            end = len(content) if kind == "append" else at
            content = content[:end] + data.draw(st.binary(min_size=1, max_size=20)) + content[end:]
    return content


@pytest.mark.parametrize("packed", ["no", "outside", "inside"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_a_data_error_or_harmless(tmp_path: Path, packed: str, data: st.DataObject) -> None:
    """packed: not at all, damaged after packing, or packed after the damage (so that gzip finds nothing wrong)."""
    content = corrupted(data, PACKED if packed == "outside" else GOOD)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(content) if packed == "inside" else content)
    try:
        array = read_idx(path)
    except DataError as error:
        assert str(path) in str(error) and error.hint
    else:
        assert array.nbytes <= 10_000 and array.dtype.isnative


def test_write_refuses_what_idx_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="uint8"):
        write_idx(tmp_path / "a", np.zeros(3, np.int64))
    assert not list(tmp_path.iterdir())
