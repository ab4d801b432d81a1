"""Pictures: the right panels with the right text."""

from __future__ import annotations

import numpy as np
import pytest

from mulgil import plot
from mulgil.errors import ShapeError

pytest.importorskip("matplotlib")


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


images = np.random.default_rng(0).integers(0, 255, (50, 28, 28)).astype(np.uint8)
truth = np.arange(50) % 10


def test_mistakes_are_the_wrong_ones() -> None:
    predictions = truth.copy()
    predictions[[3, 17]] = 9, 0
    figure = plot.mistakes(images, predictions, truth)
    assert titles(figure) == ["predicted 9\ntruth 3", "predicted 0\ntruth 7"]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), images[3])
    assert figure.get_suptitle() == "2 mistakes in 50 test images"
    assert "No mistakes" in plot.mistakes(images, truth, truth).get_suptitle()


def test_samples_are_drawn_by_seed_and_named() -> None:
    names = ["T-shirt/top", *(f"thing {i}" for i in range(1, 10))]
    first, again, other = (titles(plot.samples(images[:, None], truth, truth, names, count=12, seed=seed)) for seed in (0, 0, 1))
    assert first == again != other and len(first) == 12
    assert set(first) <= {f"{name}\ntruth {name}" for name in names}


def test_every_label_lies_inside_the_figure_and_none_overlap() -> None:
    names = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
    for classes in (None, names):
        figure = plot.samples(images, truth, (truth + 1) % 10, classes)
        figure.canvas.draw()
        boxes = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
        assert len(boxes) == 24
        width, height = figure.bbox.width, figure.bbox.height
        assert all(min(box.x0, box.y0) >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_gallery_refuses_what_does_not_fit() -> None:
    for bad in ((images[0], truth, truth), (images, truth[:3], truth), (images, truth, truth[:, None])):
        with pytest.raises(ShapeError):
            plot.gallery(*bad)


def test_curves() -> None:
    records = [{"epoch": e, "train_loss": 1 / e, "test_loss": 1.1 / e, "train_accuracy": 0.9, "test_accuracy": None} for e in (1, 2, 3)]
    loss, accuracy = plot.curves(records, "title").axes
    assert [line.get_label() for line in loss.lines] == ["train", "test"] and [line.get_label() for line in accuracy.lines] == ["train"]
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [1, 1 / 2, 1 / 3])
    assert plot.curves([]).axes


def test_png(tmp_path) -> None:
    path = plot.save_png(plot.curves([{"epoch": 1, "train_loss": 1.0}]), tmp_path / "new" / "c.png")
    assert path.read_bytes().startswith(b"\x89PNG")
