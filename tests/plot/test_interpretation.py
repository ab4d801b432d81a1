"""Pictures of what a model confuses and looks at: the right numbers in the right places, and labels that can be read."""

from __future__ import annotations

import numpy as np
import pytest

from mulgil import plot
from mulgil.errors import OptionError, ShapeError
from mulgil.plot.images import as_images
from mulgil.plot.scatter import _apart

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)
LONG = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def boxes_of(figure, texts) -> list:
    figure.draw_without_rendering()
    return [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]


def apart_and_inside(figure, texts) -> bool:
    """Whether all texts lie within the figure and none over another, to a pixel."""
    boxes, (width, height) = boxes_of(figure, texts), (figure.bbox.width, figure.bbox.height)
    assert boxes
    inside = all(min(box.x0, box.y0) >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1 for box in boxes)
    left, low, right, high = (np.array([getattr(box, name) for box in boxes]) for name in ("x0", "y0", "x1", "y1"))
    across = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    upright = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    over = (across > 1) & (upright > 1) & ~np.eye(len(boxes), dtype=bool)
    return inside and not over.any()


def matrix_of(n: int) -> np.ndarray:
    return RNG.integers(0, 30, (n, n)) * (RNG.random((n, n)) < 0.5) + np.eye(n, dtype=int) * 1200


# ---- confusion


def test_cells_show_their_numbers() -> None:
    matrix = np.array([[980, 2, 0], [1, 1_100, 31], [0, 0, 0]])
    (axes,) = plot.confusion(matrix, ["a", "b", "c"], "title").axes
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (0, 0): "980", (1, 0): "2", (0, 1): "1", (1, 1): "1,100", (2, 1): "31"
    }  # fmt: skip
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("predicted", "true", "title")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    (axes,) = plot.confusion(np.array([[0.9, 0.1], [0.004, 0.996]])).axes
    assert [text.get_text() for text in axes.texts] == ["0.90", "0.10", "1.00"]


def test_darkness_follows_the_share_of_the_row() -> None:
    (axes,) = plot.confusion(np.array([[90, 10], [0, 5]])).axes
    shade = np.asarray(axes.images[0].get_array())
    assert shade[1, 1] == 1 > shade[0, 0] > shade[0, 1] > shade[1, 0] == 0
    dark = {text.get_text(): text.get_color() for text in axes.texts}
    assert dark["90"] == "white" and dark["10"] == "black"


HUNDRED = [f"class {i}" for i in range(100)]


@pytest.mark.parametrize(("n", "names"), [(2, None), (10, None), (10, LONG), (25, None), (60, None), (100, HUNDRED)])
def test_every_label_can_be_read(n: int, names: list[str] | None) -> None:
    figure = plot.confusion(matrix_of(n), names)
    (axes,) = figure.axes
    labels = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    assert apart_and_inside(figure, [*labels, *axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label])
    assert bool(axes.texts) == (n <= 40) and min(label.get_fontsize() for label in labels) >= 4
    assert len(axes.get_xticklabels()) == n


def test_a_thousand_classes_are_drawn_in_bounded_space() -> None:
    figure = plot.confusion(np.eye(1000, dtype=int))
    assert max(figure.get_size_inches()) < 14 and not figure.axes[0].texts
    assert apart_and_inside(figure, figure.axes[0].get_yticklabels())


def test_confusion_refuses() -> None:
    for bad in (np.ones((2, 3)), np.ones(4), np.ones((0, 0))):
        with pytest.raises(ShapeError):
            plot.confusion(bad)
    with pytest.raises(OptionError):
        plot.confusion(np.eye(3), ["a", "b"])


# ---- images, heat maps, filters, features


def test_images_of_every_form() -> None:
    x = RNG.random((3, 1, 4, 6))
    np.testing.assert_array_equal(as_images(x), x[:, 0])
    np.testing.assert_array_equal(as_images(x[:, 0]), x[:, 0])
    np.testing.assert_array_equal(as_images(np.arange(18).reshape(2, 9)), np.arange(18).reshape(2, 3, 3))
    colour = RNG.normal(size=(2, 3, 4, 5)) * 3
    assert as_images(colour).shape == (2, 4, 5, 3) and as_images(colour).min() == 0 and as_images(colour).max() == 1
    bright = RNG.random((2, 3, 4, 5)) / 2
    np.testing.assert_allclose(as_images(bright), np.moveaxis(bright, 1, -1))
    assert as_images((colour[:1] * 0 + 255).astype(np.uint8)).max() == 1
    for bad in (np.ones((2, 10)), np.ones((2, 5, 4, 4)), np.ones(9)):
        with pytest.raises(ShapeError):
            as_images(bad)


def test_heatmaps_pair_images_with_maps() -> None:
    images, signed = RNG.random((8, 1, 9, 9)), RNG.normal(size=(8, 1, 9, 9))
    figure = plot.heatmaps(images, signed, [f"title {i}" for i in range(8)], "all", columns=6)
    panels = [axes for axes in figure.axes if axes.images]
    titled = [axes for axes in panels if axes.get_title()]
    assert [axes.get_title() for axes in titled] == [f"title {i}" for i in range(8)] and len(panels) == 16
    maps = [axes for axes in panels if not axes.get_title()]
    for i, (image, map_) in enumerate(zip(titled, maps, strict=True)):
        np.testing.assert_array_equal(image.images[0].get_array(), images[i, 0])
        np.testing.assert_array_equal(map_.images[0].get_array(), abs(signed[i, 0]))
        assert map_.images[0].get_clim() == (0, abs(signed[i]).max())
        assert abs(map_.get_position().x0 - image.get_position().x0) < 0.01  # one above the other
    plot.heatmaps(np.zeros((1, 5, 5)), np.zeros((1, 5, 5))).draw_without_rendering()  # nothing to see, and no error
    plot.heatmaps(RNG.random((2, 3, 5, 5)), RNG.random((2, 5, 5))).draw_without_rendering()
    for bad in ((images, signed[:4]), (images, signed[:, :, :4]), (images, signed, ["one"])):
        with pytest.raises(ShapeError):
            plot.heatmaps(*bad)


def test_filters_share_one_scale() -> None:
    weights = RNG.normal(size=(20, 1, 5, 5))
    figure = plot.filters(weights)
    axes, limit = figure.axes[0], abs(weights).max()
    assert len(axes.images) == 20 and {image.get_clim() for image in axes.images} == {(-limit, limit)}
    assert [text.get_text() for text in axes.texts] == [str(i) for i in range(20)] and figure.get_suptitle() == "20 filters of 1 channel"
    np.testing.assert_array_equal(axes.images[13].get_array(), weights[13, 0])
    many = plot.filters(RNG.normal(size=(64, 32, 3, 3)))
    assert "384 shown" in many.get_suptitle() and len(many.axes[0].images) == 16 * 24
    with pytest.raises(ShapeError, match="shape="):
        plot.filters(np.ones((10, 784)))


def test_features_in_a_grid_or_a_row_a_sample() -> None:
    maps = RNG.random((3, 7, 6, 6))
    (axes,) = plot.features(maps).axes
    assert len(axes.images) == 21 and [label.get_text() for label in axes.get_yticklabels()] == ["sample 0", "1", "2"]
    scaled = (maps[1, 2] - maps[1].min()) / (maps[1].max() - maps[1].min())
    np.testing.assert_allclose(axes.images[7 + 2].get_array(), scaled)
    figure = plot.features(RNG.random((1, 100, 4, 4)))
    assert len(figure.axes[0].images) == 64 and "64 of 100 shown" in figure.get_suptitle()
    plot.features(np.zeros((2, 4, 4))).draw_without_rendering()
    with pytest.raises(ShapeError):
        plot.features(np.ones((3, 20)))


@pytest.mark.parametrize("figure", ["filters", "features", "samples"])
def test_numbers_of_panels_can_be_read(figure: str) -> None:
    made = {
        "filters": lambda: plot.filters(RNG.normal(size=(10, 20, 5, 5))),
        "features": lambda: plot.features(RNG.random((20, 28, 28))),
        "samples": lambda: plot.features(RNG.random((4, 10, 8, 12))),
    }[figure]()
    axes = made.axes[0]
    assert apart_and_inside(made, [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels(), made._suptitle])


# ---- scatter


def test_scatter_names_its_classes() -> None:
    points = RNG.normal(size=(90, 3)) + 8 * np.eye(3)[np.arange(90) % 3]
    figure = plot.scatter(points, np.arange(90) % 3 + 7, [f"c{i}" for i in range(9)], shares=[0.5, 0.25, 0.1])
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["c7", "c8", "9"]  # without a name, its number
    assert axes.get_xlabel() == "component 1 (50% of the variance)" and len(axes.collections) == 3
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), points[::3, :2])
    assert apart_and_inside(figure, [*axes.texts, *axes.get_legend().get_texts()])
    (plain,) = plot.scatter(points).axes
    assert not plain.texts and plain.get_legend() is None and len(plain.collections) == 1
    plot.scatter(np.zeros((0, 2)), np.zeros(0, int)).draw_without_rendering()
    for bad in ((points[:, :1],), (points, np.arange(4)), (points[0],)):
        with pytest.raises(ShapeError):
            plot.scatter(*bad)


def test_names_on_one_spot_are_moved_apart() -> None:
    places = _apart(np.full((6, 2), 0.5))
    distances = np.hypot(*np.moveaxis(places[:, None] - places, -1, 0)) + np.eye(6)
    assert distances.min() > 0.04 and abs(places - 0.5).max() < 0.3
    far = np.array([[0.1, 0.1], [0.9, 0.9]])
    np.testing.assert_allclose(_apart(far), far, atol=1e-5)


# ---- gallery


def test_gallery_has_room_for_notes() -> None:
    images, truth = RNG.random((9, 3, 8, 8)), np.arange(9)
    notes = [f"p 0.{i}9  loss {i}.25\n#123{i}" for i in range(9)]
    for classes in (None, LONG):
        figure = plot.gallery(images, truth[::-1], truth, classes, "title", notes=notes)
        titles = [axes.title for axes in figure.axes]
        assert [title.get_text().endswith(note) for title, note in zip(titles, notes, strict=False)] == [True] * 9
        assert apart_and_inside(figure, [*titles, figure._suptitle])
    with pytest.raises(ShapeError):
        plot.gallery(images, truth, truth, notes=notes[:3])
    assert plot.message("Nothing").get_suptitle() == "Nothing"
