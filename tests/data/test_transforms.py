"""Transforms: the same bits for a sample and for a batch, torchvision's results, errors that teach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mulgil.autograd import Tensor
from mulgil.data import default_collate
from mulgil.data.transforms import Compose, Flatten, Lambda, Normalize, Pad, Resize, ToTensor, Transform, apply_batch
from mulgil.errors import DTypeError, MulgilError, OptionError, ShapeError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(256, size=(6, 1, 28, 28), dtype=np.uint8)
COLORED = RANDOM.integers(256, size=(6, 3, 20, 30), dtype=np.uint8)


class Doubled(Transform):
    """A user's own, sample by sample."""

    def __call__(self, x: Any) -> Any:
        return x + x


class NewNormalize(Normalize):
    """A user's own meaning for a sample, over an inherited `batch`."""

    def __call__(self, x: Any) -> Any:
        return super().__call__(x) * 2


def prepare(x: np.ndarray) -> np.ndarray:
    """What the program of seed 000 does to an image."""
    x = x.flatten()
    x = x.astype(np.float32)
    x /= 255.0
    return x


PIPELINES: dict[str, tuple[np.ndarray, Callable | None]] = {
    "none": (IMAGES, None),
    "a function": (IMAGES, prepare),
    "to tensor": (IMAGES, ToTensor()),
    "seed 002": (IMAGES, Compose([ToTensor(), Normalize(0.5, 0.5), Lambda(lambda x: x.view(-1))])),
    "flat": (IMAGES, Compose([ToTensor(), Normalize(0.1307, 0.3081), Flatten()])),
    "flat array": (IMAGES, Flatten()),
    "in place": (IMAGES, Compose([ToTensor(), Normalize(0.1307, 0.3081, inplace=True)])),
    "channels": (COLORED, Compose([ToTensor(), Normalize((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))])),
    "channels, one std": (COLORED, Compose([ToTensor(), Normalize((0.1, 0.2, 0.3), 0.5)])),
    "pad before": (IMAGES, Compose([Pad(2), ToTensor()])),
    "pad after": (COLORED, Compose([ToTensor(), Pad((1, 2, 3, 4), fill=0.5)])),
    "pad reflect": (COLORED, Compose([Pad((3, 1), padding_mode="reflect"), ToTensor()])),
    "larger uint8": (IMAGES, Compose([Resize(33), ToTensor()])),
    "smaller float": (COLORED, Compose([ToTensor(), Resize((7, 13)), Normalize(0.5, 0.25)])),
    "lambda first": (IMAGES, Compose([Lambda(lambda x: x[:, ::-1]), ToTensor(), Normalize(0.5, 0.5)])),
    "compose inside": (IMAGES, Compose([Compose([ToTensor(), Lambda(lambda x: x * 2)]), Normalize(0.5, 0.5)])),
    "data dependent": (IMAGES, Compose([ToTensor(), Lambda(lambda x: x / x.max())])),
    "a pair": (IMAGES, Compose([ToTensor(), Lambda(lambda x: (x, float(x.array.mean())))])),
    "own": (IMAGES, Compose([ToTensor(), Doubled(), Normalize(0.5, 0.5)])),
    "overridden": (IMAGES, Compose([ToTensor(), NewNormalize(0.5, 0.5)])),
    "narrow": (IMAGES[..., :3], ToTensor()),
    "two axes": (IMAGES[:, 0], ToTensor()),
    "two axes, narrow": (IMAGES[:, 0, :, :4], ToTensor()),
    "float64": (IMAGES / 255.0, ToTensor()),
}


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, list):
        assert isinstance(b, list) and len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
        return
    assert isinstance(a, Tensor) and isinstance(b, Tensor)
    assert a.dtype == b.dtype and a.shape == b.shape
    np.testing.assert_array_equal(a.array, b.array)


@pytest.mark.parametrize("name", PIPELINES)
def test_batch_equals_samples_bit_for_bit(name: str) -> None:
    images, transform = PIPELINES[name]
    before = images.copy()
    batch = apply_batch(transform, images.copy())
    assert_same(batch, default_collate([x.copy() if transform is None else transform(x.copy()) for x in images]))
    apply_batch(transform, images)
    np.testing.assert_array_equal(images, before)  # a batch is never written into


def test_compose_takes_a_batch_as_it_takes_a_sample() -> None:
    transform = Compose([Pad(2), ToTensor(), Normalize(0.5, 0.5), Resize(20)])
    np.testing.assert_array_equal(transform(IMAGES).array, np.stack([transform(x).array for x in IMAGES]))
    np.testing.assert_array_equal(transform(IMAGES).array, transform.batch(IMAGES).array)


def test_to_tensor_is_torchvisions() -> None:
    x = ToTensor()(IMAGES[0])
    assert x.shape == (1, 28, 28) and x.dtype == np.float32
    np.testing.assert_array_equal(x.array, IMAGES[0].astype(np.float32) / np.float32(255))
    colored = COLORED[0].transpose(1, 2, 0)  # [H, W, C], as pictures are read
    np.testing.assert_array_equal(ToTensor()(colored).array, COLORED[0].astype(np.float32) / np.float32(255))
    assert ToTensor()(IMAGES[0, 0]).shape == (1, 28, 28)
    assert ToTensor()(np.zeros((5, 5), np.int64)).dtype == np.int64


def test_pil_images() -> None:
    image = pytest.importorskip("PIL.Image")
    grey, colored = image.fromarray(IMAGES[0, 0]), image.fromarray(COLORED[0].transpose(1, 2, 0))
    np.testing.assert_array_equal(ToTensor()(grey).array, ToTensor()(IMAGES[0]).array)
    np.testing.assert_array_equal(ToTensor()(colored).array, ToTensor()(COLORED[0]).array)
    np.testing.assert_array_equal(Compose([Pad(2), ToTensor()])(colored).array, Compose([Pad(2), ToTensor()])(COLORED[0]).array)
    expected = np.asarray(colored.resize((13, 7), image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert abs(Resize((7, 13))(colored).astype(int) - expected).max() <= 1  # Pillow rounds twice


@pytest.mark.parametrize("size", [(7, 13), (40, 61), (20, 30), (33, 11), 10])
def test_resize_is_bilinear_with_antialias(size: Any) -> None:
    torch = pytest.importorskip("torch")
    x = COLORED.astype(np.float32)
    ours = Resize(size)(x)
    theirs = torch.nn.functional.interpolate(torch.from_numpy(x), ours.shape[-2:], mode="bilinear", antialias=True)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-5, atol=5e-4)


def test_resize_properties() -> None:
    assert Resize((28, 28))(IMAGES) is IMAGES
    assert Resize(10)(COLORED).shape == (6, 3, 10, 15) and Resize(10)(COLORED.swapaxes(2, 3)).shape == (6, 3, 15, 10)
    flat = np.full((1, 9, 9), 200, np.uint8)
    np.testing.assert_array_equal(Resize(23)(flat), 200)
    np.testing.assert_array_equal(Resize(4)(flat), 200)
    ramp = np.arange(8, dtype=np.float64)[None].repeat(8, 0)
    np.testing.assert_allclose(Resize((8, 4))(ramp)[:, 1:-1], [[2.5, 4.5]] * 8)


def test_pad_places_the_image() -> None:
    x = Pad((1, 2, 3, 4), fill=9)(IMAGES)
    assert x.shape == (6, 1, 34, 32) and x.dtype == np.uint8
    np.testing.assert_array_equal(x, np.pad(IMAGES, ((0, 0), (0, 0), (2, 4), (1, 3)), constant_values=9))
    np.testing.assert_array_equal(Pad((1, 2))(IMAGES), np.pad(IMAGES, ((0, 0), (0, 0), (2, 2), (1, 1))))
    assert isinstance(Pad(2)(ToTensor()(IMAGES[0])), Tensor)


def test_normalize_in_place_and_not() -> None:
    x = RANDOM.random((1, 4, 4), np.float32)
    kept = x.copy()
    y = Normalize(0.5, 0.25)(x)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(y, (kept - np.float32(0.5)) / np.float32(0.25))
    assert Normalize(0.5, 0.25, inplace=True)(x) is x
    np.testing.assert_array_equal(x, y)
    assert Normalize(0.5, 0.25)(kept.astype(np.float64)).dtype == np.float64


def test_repr_is_torchvisions() -> None:
    pipeline = Compose([ToTensor(), Normalize(0.5, 0.5), Compose([Pad(2)]), Lambda(abs)])
    assert repr(pipeline) == (
        "Compose(\n    ToTensor()\n    Normalize(mean=0.5, std=0.5)\n    Compose(\n"
        "        Pad(padding=2, fill=0, padding_mode=constant)\n    )\n    Lambda()\n)"
    )


MISTAKES: list[tuple[Callable[[], Any], type[MulgilError], str]] = [
    (lambda: Normalize(0.5, 0), OptionError, "std not 0"),
    (lambda: Normalize(0.5, float("nan")), OptionError, "finite"),
    (lambda: Normalize((0.1, 0.2, 0.3), (0.5, 0.5)), OptionError, "one number a channel"),
    (lambda: Normalize(0.5, 0.5)(IMAGES[0]), DTypeError, "must be floating"),
    (lambda: Normalize(0.5, 0.5)([[1.0]]), DTypeError, "must be floating"),
    (lambda: Normalize((0.1, 0.2), (0.5, 0.5))(np.zeros((3, 4, 4), np.float32)), ShapeError, r"\[..., 2, H, W\]"),
    (lambda: Normalize((0.1, 0.2), 0.5)(np.zeros((3, 4, 4), np.float32)), ShapeError, r"\[..., 2, H, W\]"),
    (lambda: ToTensor()("a path"), DTypeError, "PIL image, an array or a Tensor"),
    (lambda: ToTensor()(np.zeros(784)), ShapeError, "two axes"),
    (lambda: ToTensor().batch(np.zeros((5, 784))), ShapeError, "two axes"),
    (lambda: Resize(0), OptionError, "positive"),
    (lambda: Resize((2, 3, 4)), OptionError, "one or two"),
    (lambda: Resize(2.5), OptionError, "one or two"),
    (lambda: Resize(4)(np.zeros(784)), ShapeError, "two axes"),
    (lambda: Pad(-1), OptionError, "none negative"),
    (lambda: Pad((1, 2, 3)), OptionError, "1, 2 or 4"),
    (lambda: Pad(1, padding_mode="wrap"), OptionError, "must be one of"),
    (lambda: Lambda(3), OptionError, "function of a sample"),
    (lambda: Compose([ToTensor]), OptionError, "must be an object"),
    (lambda: Compose([3]), OptionError, "must be a function"),
]


@pytest.mark.parametrize("case", range(len(MISTAKES)))
def test_mistakes_are_explained(case: int) -> None:
    mistake, kind, rule = MISTAKES[case]
    with pytest.raises(kind, match=rule) as caught:
        mistake()
    assert caught.value.got and caught.value.hint
