"""Pictures as they come -> pictures as MNIST has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mulgil.cli.images import read_image
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
    assert not image.any() and "the image is blank" in notes
    whole = (tmp_path / "blank.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
    for name in ("cut.png", "huge.png", "missing.png"):
        with pytest.raises(DataError):
            read_image(tmp_path / name)
