"""Pictures as they come -> pictures as MNIST has them."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mulgil.cli.images import BLANK, read_image
from mulgil.errors import DataError

Image = pytest.importorskip("PIL.Image")


def ring(size: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    distance = np.hypot(y - centre[0], x - centre[1])
    return np.where(abs(distance - radius) < radius / 5, 255, 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "centre", "radius"), [((300, 200), (80, 120), 50), ((40, 90), (20, 15), 9), ((2000, 1500), (400, 1200), 200)]
)
@pytest.mark.parametrize("paper", [True, False])
def test_what_is_drawn_comes_to_the_middle_in_the_usual_size(
    size: tuple, centre: tuple, radius: float, paper: bool, tmp_path: Path
) -> None:
    drawn = ring(size, centre, radius)
    noise = np.random.default_rng(0).integers(0, 10, size).astype(np.uint8)
    array = np.where(drawn > 0, 240, noise).astype(np.uint8)
    Image.fromarray(255 - array if paper else array).save(tmp_path / "ring.png")
    image, notes = read_image(tmp_path / "ring.png")
    assert image.shape == (28, 28) and image.dtype == np.uint8
    assert ("inverted" in " ".join(notes)) == paper
    rows, columns = np.flatnonzero((image > 60).any(1)), np.flatnonzero((image > 60).any(0))
    assert 18 <= rows[-1] - rows[0] + 1 <= 20 and 18 <= columns[-1] - columns[0] + 1 <= 20
    mass = image / image.sum()
    assert abs((mass.sum(1) * np.arange(28)).sum() - 13.5) < 1 and abs((mass.sum(0) * np.arange(28)).sum() - 13.5) < 1


def test_an_image_of_the_right_size_is_left_alone(tmp_path: Path) -> None:
    array = ring((28, 28), (10, 12), 7)
    Image.fromarray(array).save(tmp_path / "a.png")
    image, notes = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image, array)
    assert notes == []


def test_without_centring_the_whole_picture_is_shrunk(tmp_path: Path) -> None:
    Image.fromarray(ring((56, 56), (20, 20), 16)).save(tmp_path / "a.png")
    image, _ = read_image(tmp_path / "a.png", centre=False)
    rows = np.flatnonzero((image > 60).any(1))
    assert rows[0] <= 2 and rows[-1] <= 20


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_modes(mode: str, tmp_path: Path) -> None:
    suffix = "tif" if mode in ("CMYK", "F") else "png"
    array = 255 - ring((60, 60), (30, 30), 15)
    image = Image.fromarray(array.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(array).convert(mode)
    image.save(tmp_path / f"a.{suffix}")
    image, notes = read_image(tmp_path / f"a.{suffix}")
    assert image.max() > 200 and image[14, 14] < 60 and "dark on light, inverted" in notes


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    array = np.zeros((60, 60), np.uint8)
    array[5:55, 28:34] = 255  # a vertical stroke
    sideways = Image.fromarray(np.rot90(array).copy())
    exif = sideways.getexif()
    exif[0x0112] = 6  # the camera was turned
    sideways.save(tmp_path / "a.jpg", exif=exif)
    image, _ = read_image(tmp_path / "a.jpg")
    assert (image > 100).any(1).sum() > 15 and (image > 100).any(0).sum() < 6


def test_blank_and_broken_and_huge(tmp_path: Path) -> None:
    Image.new("L", (90, 70), 200).save(tmp_path / "blank.png")
    image, notes = read_image(tmp_path / "blank.png")
    assert not image.any() and BLANK in notes
    whole = (tmp_path / "blank.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
    for name in ("cut.png", "huge.png", "missing.png"):
        with pytest.raises(DataError):
            read_image(tmp_path / name)


# ------------------------------------------------------------------ made to do damage, or merely odd
def png(width: int, height: int, rows: bytes = b"", depth: int = 8, colour: int = 0, more: bytes = b"") -> bytes:
    """A PNG file by hand: its header may claim anything."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def saved(image: object, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)  # type: ignore[attr-defined]
    return out.getvalue()


def strip(width: int, height: int) -> bytes:
    return png(width, height, (b"\0" + b"\xff" * (width // 2) + bytes(width - width // 2)) * height)


REFUSED: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"a,b\n1,2\n" * 99,
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><circle r="4"/></svg>',
    "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\nshowpage\n",
    "no width": lambda: png(0, 28),
    "no height": lambda: png(28, 0),
    "no size": lambda: b"GIF89a" + bytes(6) + b"\0;",
    "a claim of 4e18 pixels": lambda: png(2**31 - 1, 2**31 - 1),
    "a claim of 50 million pixels": lambda: png(50_000_001, 1),
    "truncated": lambda: strip(300, 300)[:60],
    "not numbers": lambda: saved(Image.fromarray(np.full((40, 40), np.nan, np.float32)), "TIFF"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_image_is_refused(case: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(REFUSED[case]())
    with pytest.raises(DataError, match=r"x\.png: ."):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000), (3, 60_000), (60_000, 5), (1, 1), (2, 1), (27, 29)])
def test_strips_take_no_more_memory_than_squares(size: tuple[int, int], centre: bool, tmp_path: Path) -> None:
    (tmp_path / "strip.png").write_bytes(strip(*size))
    tracemalloc.start()
    try:
        image, _ = read_image(tmp_path / "strip.png", centre=centre)
        assert image.shape == (28, 28) and tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


IN_LITTLE_MEMORY = """
import resource, sys
from mulgil.cli.images import read_image
from PIL import Image
Image.init()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (800 << 20), resource.RLIM_INFINITY))
for path in sys.argv[1:]:
    image, notes = read_image(path)
    assert image.max() > 200, (path, notes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded by what Linux counts")
def test_the_largest_images_need_less_than_800_megabytes(tmp_path: Path) -> None:
    large = Image.new("L", (7071, 7071))
    large.paste(255, (1000, 1000, 1400, 6000))
    paths = [tmp_path / f"{mode}.png".replace(";", "") for mode in ("RGBA", "1")]
    for path in paths:
        large.convert(path.stem).save(path, compress_level=1)
    subprocess.run([sys.executable, "-c", IN_LITTLE_MEMORY, *map(str, paths)], check=True)


def test_odd_images_are_what_they_show(tmp_path: Path) -> None:
    stroke = np.zeros((90, 60), np.uint8)
    stroke[10:80, 25:35] = 255
    drawn = Image.fromarray(stroke)
    transparent = Image.merge("LA", [Image.new("L", drawn.size, 255), drawn])
    palette = drawn.convert("P")
    palette.info["transparency"] = 0
    many = [drawn, Image.new("L", drawn.size)]
    cases = {
        "sixteen bits": saved(Image.fromarray(stroke.astype(np.uint16) * 200), "PNG"),
        "thirty-two bits": saved(Image.fromarray(stroke.astype(np.int32) * 100_000), "TIFF"),
        "floats": saved(Image.fromarray(stroke.astype(np.float32) * 1e36), "TIFF"),
        "cmyk": saved(Image.fromarray(255 - stroke).convert("CMYK"), "JPEG", quality=95),
        "palette and alpha": saved(palette, "PNG", transparency=0),
        "grey and alpha": saved(transparent, "PNG"),
        "animation": saved(many[0], "GIF", save_all=True, append_images=many[1:]),
        "animated png": saved(many[0], "PNG", save_all=True, append_images=many[1:]),
        "webp": saved(drawn.convert("RGB"), "WEBP", lossless=True),
    }
    for name, content in cases.items():
        (tmp_path / "x.png").write_bytes(content)  # what a file is called says nothing
        image, notes = read_image(tmp_path / "x.png")
        rows, columns = (image > 100).any(1).sum(), (image > 100).any(0).sum()
        assert rows >= 19 and 2 <= columns <= 5, name
        assert ("the first frame of an animation" in notes) == name.startswith("anim"), name
