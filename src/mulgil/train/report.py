"""`report.html`: what a run was, what it learned and where it fails, on one page that needs no network, no script and no other file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mulgil import nn
from mulgil.errors import MulgilError
from mulgil.files import atomic_file
from mulgil.train import html
from mulgil.train.features import filters
from mulgil.train.interpret import Interpretation

MISTAKES = 24
FILTERS = 64


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    summary: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    model: nn.Module,
    input_shape: Sequence[int],
    interpretation: Interpretation | None = None,
    images: Any = None,
    settings: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write the page; whole or not at all.

    Args:
        path: the file. title: its heading.
        summary: figures of the whole run, as `summary.json` has them.
        history: a row an epoch, as metrics.jsonl has them: epoch, train_loss, ...
        model: its layers and its first filters are shown. input_shape: of one sample as the model takes it.
        interpretation: what `interpret` said of the test set; without it there is no part on mistakes.
        images: the test images as they are shown, [N, H, W], [N, 1, H, W] or [N, 3, H, W], in the same order.
        settings, config: name -> value, and more tables of them by heading; shown at the end.
    Raises DataError where it cannot be written.
    """
    parts = [f"<h1>{html.text(title)}</h1>", html.cards(_figures(summary)), _curves(history)]
    if interpretation is not None:
        parts += [_confusion(interpretation), _classes(interpretation), _mistakes(interpretation, images)]
    parts += [_layers(model, input_shape), _filters(model, input_shape), _settings(settings or {}, config or {})]
    path = Path(path)
    with atomic_file(path) as file:
        file.write(html.page(title, "\n".join(part for part in parts if part)).encode())
    return path


def _figures(summary: Mapping[str, Any]) -> dict[str, str]:
    wanted = {
        "test accuracy": ("test_accuracy", "{:.4f}"),
        "test loss": ("test_loss", "{:.4f}"),
        "train accuracy": ("train_accuracy", "{:.4f}"),
        "epochs": ("epochs", "{}"),
        "seconds": ("seconds", "{:.1f}"),
        "parameters": ("parameters", "{:,}"),
    }
    return {name: form.format(summary[key]) for name, (key, form) in wanted.items() if summary.get(key) is not None}


def _curves(history: Sequence[Mapping[str, Any]]) -> str:
    if not history:
        return ""
    epochs, drawn = [row["epoch"] for row in history], []
    for what in ("loss", "accuracy"):
        curves = {}
        for name, colour, keys in (("train", html.TRAIN, ("train",)), ("test", html.TEST, ("test", "validation"))):
            key = next((f"{part}_{what}" for part in keys if history[0].get(f"{part}_{what}") is not None), None)
            if key:
                curves[name] = [float("nan") if row.get(key) is None else float(row[key]) for row in history], colour
        if curves:
            drawn.append(html.lines(what.capitalize(), epochs, curves))
    return html.section("Curves", '<div class="pair">' + "".join(f"<div>{svg}</div>" for svg in drawn) + "</div>")


def _confusion(seen: Interpretation) -> str:
    pairs = ", ".join(f"{pair.true} taken for {pair.predicted} ({pair.count})" for pair in seen.most_confused(5))
    about = f"{len(seen):,} test images, {len(seen.mistakes):,} mistakes. Each row is a true class, each column what the model said."
    most = f"<p>Most often: {html.text(pairs)}.</p>" if pairs else ""
    return html.section(
        "Confusion matrix", f'<p class="quiet">{about}</p>', html.heat(seen.confusion_matrix(), seen.classes, "true \\ said"), most
    )


def _classes(seen: Interpretation) -> str:
    rows = [
        (row["class"], html.bar(row["precision"]), html.bar(row["recall"]), html.bar(row["f1"]), f"{row['support']:,}")
        for row in seen.report()
    ]
    about = "Precision: the share of right ones among those taken for the class. Recall: the share of the class found. F1: harmonic mean."
    names = ("class", "precision", "recall", "F1", "images")
    return html.section("By class", f'<p class="quiet">{about}</p>', html.table(names, rows, numbers=(4,)))


def _mistakes(seen: Interpretation, images: Any) -> str:
    wrong = seen.mistakes[np.argsort(-np.nan_to_num(seen.losses[seen.mistakes], nan=np.inf), kind="stable")][:MISTAKES]
    if not len(wrong):
        return html.section("The worst mistakes", f"<p>None in {len(seen):,} images.</p>")
    tiles = []
    for i in wrong:
        said, true, chance = seen.predictions[i], seen.targets[i], seen.probabilities[i]
        shown = html.picture(_pixels(images[i]), f"image {i}") if images is not None else ""
        tiles.append(
            f'<div class="tile">{shown}<span class="wrong">said {html.text(seen.classes[said])}</span> {chance[said]:.3f}<br>'
            f"is {html.text(seen.classes[true])} {chance[true]:.3f}<br>"
            f'<span class="quiet">loss {seen.losses[i]:.2f}, image {i}</span></div>'
        )
    about = "The mistakes with the highest loss: what the model said and its probability, then the truth and the probability that it got."
    return html.section("The worst mistakes", f'<p class="quiet">{about}</p><div class="tiles">{"".join(tiles)}</div>')


def _pixels(image: Any) -> np.ndarray:
    """An image as uint8 pixels [H, W] or [H, W, 3]; floats from their lowest (black) to their highest value (white)."""
    image = np.asarray(image)
    if image.ndim == 3:
        image = image[0] if image.shape[0] == 1 else np.moveaxis(image[:3], 0, -1)
    return image if image.dtype == np.uint8 else _stretched(image, float(image.min()), float(image.max()))


def _stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((values - low) / ((high - low) or 1) * 255 + 0.5, 0, 255).astype(np.uint8)


def _layers(model: nn.Module, input_shape: Sequence[int]) -> str:
    try:
        found = nn.summary(model, tuple(input_shape))
    except MulgilError as error:
        return html.section("Layers", f"<pre>{html.text(error)}</pre>")
    rows = []
    for row in found.rows:
        name = "\u2003" * row.depth + (f"{row.name} ({row.kind})" if row.name else row.kind)
        shape = "[" + ", ".join(map(str, row.output_shape)) + "]"
        rows.append((name, shape, f"{row.parameters:,}" if row.parameters else "", f"{row.multiply_adds:,}" if row.multiply_adds else ""))
    about = f"{found.parameters:,} parameters, {found.multiply_adds:,} multiply-adds for one image; -1 stands for the batch."
    head = ("layer", "output", "parameters", "multiply-adds")
    return html.section("Layers", f'<p class="quiet">{about}</p>', html.table(head, rows, numbers=(2, 3)))


def _filters(model: nn.Module, input_shape: Sequence[int]) -> str:
    """The weights of the first layer that sees the image: filters of a convolution, or rows in the image's shape."""
    first = next((m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))), None)
    if first is None or first.weight.array is None:
        return ""
    weights = filters(first)
    if weights.ndim == 2:
        if len(input_shape) != 3 or prod(input_shape) != weights.shape[1]:
            return ""
        weights = weights.reshape(-1, *input_shape)
    if weights.shape[1] not in (1, 3) or weights.shape[-1] < 2 or not np.isfinite(weights).all():
        return ""
    tiles = []
    for k, weight in enumerate(weights[:FILTERS]):
        most = float(abs(weight).max()) or 1.0
        tiles.append(html.picture(_pixels(_stretched(weight, -most, most)), f"filter {k}"))
    more = f", the first {FILTERS} of {len(weights)}" if len(weights) > FILTERS else ""
    about = f"{type(first).__name__}, {' x '.join(map(str, weights.shape[2:]))}{more}. Middle grey is 0, white positive, black negative."
    return html.section("First-layer filters", f'<p class="quiet">{about}</p><div class="tiles small">{"".join(tiles)}</div>')


def _settings(settings: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    tables = [html.table((), [(name, _plain(value)) for name, value in settings.items()])] if settings else []
    for heading, values in config.items():
        rows = [(name, _plain(value)) for name, value in values.items() if value is not None]
        tables.append(f"<h3>{html.text(heading)}</h3>" + html.table((), rows))
    return html.section("Settings", *tables) if tables else ""


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(v)}" for name, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
