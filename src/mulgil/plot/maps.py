"""Maps over images (saliency, Grad-CAM, occlusion), filters and feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mulgil.errors import ShapeError, describe
from mulgil.plot.images import as_images, grid
from mulgil.plot.style import new_figure
from mulgil.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 64  # pictures of one figure; more are too small to see
ROWS, COLUMNS = 16, 24  # at most, where a row is a sample or filter


def heatmaps(images: ArrayLike, maps: ArrayLike, titles: Sequence[str] | None = None, title: str = "", columns: int = 6) -> Figure:
    """A figure of each image above its map; grey images are outlined in the map, to see where in them it is high.

    images: as `gallery` takes them. maps: [N, H, W], drawn from 0 (dark) to each one's highest value (light; it prints in grey), what
    is below 0 as 0; or [N, C, H, W], as `saliency` gives them, of which the largest absolute value over the channels is drawn.
    titles: one an image. Raises ShapeError where they do not fit.
    """
    maps, images = np.asarray(maps), as_images(images)
    maps = abs(maps).max(1) if maps.ndim == 4 else as_images(abs(maps)) if maps.ndim == 2 else maps
    if maps.shape != images.shape[:3] or (titles is not None and len(titles) != len(images)):
        got = describe(images=images, maps=maps) + ("" if titles is None else f", {len(titles)} titles")
        raise ShapeError("heatmaps: there must be a map of its size, and a title, for each image", got)
    rows, columns = grid(len(images), columns)
    figure = new_figure(1.5 * columns, 3.15 * rows + (0.4 if title else 0.1))
    figure.suptitle(title, fontsize=13) if title else None
    panels = figure.subplots(2 * rows, columns, squeeze=False)
    for panel in panels.ravel():
        panel.axis("off")
    for i, (image, map_) in enumerate(zip(images, maps, strict=True)):
        above, below = panels[2 * (i // columns) : 2 * (i // columns) + 2, i % columns]
        above.imshow(image, cmap="gray", interpolation="nearest")
        above.set_title("" if titles is None else titles[i], fontsize=9)
        below.imshow(map_, cmap="inferno", vmin=0, vmax=max(float(map_.max()), 1e-30), interpolation="nearest")
        if image.ndim == 2 and image.max() > image.min():
            middle = (float(image.max()) + float(image.min())) / 2
            below.contour(image, levels=[middle], colors="white", linewidths=0.7, alpha=0.8)
    return figure


def filters(weights: ArrayLike, title: str = "") -> Figure:
    """A figure of filters, all on one scale: white adds, black takes away, middle grey is 0.

    weights: [out, in, kh, kw], as `train.filters` gives them: with one input channel a grid of filters, with more a row for each
    filter and a column for each channel. Raises ShapeError for another form.
    """
    weights = np.asarray(weights)
    if weights.ndim != 4 or not weights.size:
        hint = "for a Linear layer: filters(layer, shape=(1, 28, 28))"
        raise ShapeError("filters: weights must be [out, in, height, width]", describe(weights=weights), hint)
    count, channels = weights.shape[:2]
    if channels == 1:
        shown = weights[:MOST, 0]
        rows, columns = grid(len(shown), 10)
    else:
        rows, columns = min(count, ROWS), min(channels, COLUMNS)
        shown = weights[:rows, :columns].reshape(rows * columns, *weights.shape[2:])
    left_out = "" if len(shown) == count * channels else f", {len(shown)} shown"
    text = title or f"{count} filters of {channels} {'channel' if channels == 1 else 'channels'}{left_out}"
    limit = float(abs(weights).max()) or 1.0
    names = None if channels == 1 else ("filter", "channel")
    figure = _mosaic(shown, rows, columns, names, text, {"cmap": "gray", "vmin": -limit, "vmax": limit})
    figure.colorbar(figure.axes[0].images[0], ax=figure.axes, shrink=0.8, pad=0.02, label="weight")
    return figure


def features(maps: ArrayLike, title: str = "") -> Figure:
    """A figure of feature maps: black is a sample's lowest value, white its highest.

    maps: [channels, h, w] of one sample, in a grid; or [N, channels, h, w] as `train.feature_maps` gives them, a row a sample.
    Raises ShapeError for another form.
    """
    maps = np.asarray(maps)
    maps = maps[0] if maps.ndim == 4 and len(maps) == 1 else maps
    if maps.ndim not in (3, 4) or not maps.size:
        hint = "choose a convolution, or the activation or pooling after it"
        raise ShapeError("features: maps must be [channels, h, w] or [N, channels, h, w]", describe(maps=maps), hint)
    if maps.ndim == 3:
        shown = maps[:MOST]
        rows, columns = grid(len(shown), 10)
        names, scaled, count = None, _between_0_and_1(shown), len(maps)
    else:
        rows, columns = min(len(maps), ROWS), min(maps.shape[1], COLUMNS)
        names, count = ("sample", "channel"), maps.shape[0] * maps.shape[1]
        scaled = np.concatenate([_between_0_and_1(sample[:columns]) for sample in maps[:rows]])
    height, width = maps.shape[-2:]
    left_out = "" if len(scaled) == count else f", {len(scaled)} of {count} shown"
    text = title or f"Feature maps of {height} x {width}{left_out}"
    return _mosaic(scaled, rows, columns, names, text, {"cmap": "gray", "vmin": 0, "vmax": 1})


def _mosaic(pictures: np.ndarray, rows: int, columns: int, names: tuple[str, str] | None, title: str, scale: dict[str, Any]) -> Figure:
    """A figure with the pictures side by side in one panel: quick, however many. names: of the rows and columns; None numbers each."""
    from matplotlib.patches import Rectangle

    tall = pictures.shape[1] / pictures.shape[2]  # the unit is a picture's width
    right, down, size = 1.12, tall + (0.3 if names is None else 0.12), 0.72 if columns <= 10 else 0.5
    figure = new_figure(max(3.6, size * right * columns + 0.8), max(1.2, size * down * rows + 0.6))
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots()
    for i, picture in enumerate(pictures):
        x, y = right * (i % columns), down * (i // columns)
        axes.imshow(picture, extent=(x, x + 1, y + tall, y), interpolation="nearest", **scale)
        axes.add_patch(Rectangle((x, y), 1, tall, fill=False, linewidth=0.6))
        if names is None:
            axes.text(x + 0.5, y - 0.03, str(i), fontsize=8, ha="center", va="bottom")
    axes.set(xlim=(-0.02, right * columns - 0.1), ylim=(down * (rows - 1) + tall + 0.02, -0.25 if names is None else -0.02))
    axes.set_frame_on(False)
    axes.set_xticks([])
    axes.set_yticks([])
    if names is not None:
        axes.xaxis.tick_top()
        axes.tick_params(length=0, pad=2, labelsize=8)
        axes.set_yticks([down * i + tall / 2 for i in range(rows)], [f"{names[0]} 0", *map(str, range(1, rows))])
        axes.set_xticks([right * i + 0.5 for i in range(columns)], [f"{names[1]} 0", *map(str, range(1, columns))])
    return figure


def _between_0_and_1(maps: np.ndarray) -> np.ndarray:
    low, high = float(maps.min()), float(maps.max())
    return (maps - low) / ((high - low) or 1.0)
