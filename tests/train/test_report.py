"""report.html: one file, readable without a network, every text escaped, every part there."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mulgil import backend, nn
from mulgil.train import html
from mulgil.train.interpret import Interpretation, interpret
from mulgil.train.report import write_report

VOID = {"meta", "img", "br", "line", "path", "circle"}


class Checker(HTMLParser):
    """Raises for tags that do not match; collects headings, pictures, and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.headings: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def checked(path: Path) -> tuple[Checker, str]:
    page, text = Checker(), path.read_text(encoding="utf-8")
    page.feed(text)
    assert not page.open and "script" not in page.tags and "link" not in page.tags
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "http" not in text and "url(" not in text and "@import" not in text
    return page, text


def judged(model: nn.Module, classes: list[str], seed: int = 0) -> tuple[Interpretation, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    labels = rng.integers(0, len(classes), 40)
    return interpret(model, (images.astype(np.float32) / 255, labels), classes=classes), images


def model(classes: int = 3, convolution: bool = True) -> nn.Module:
    backend.manual_seed(0)
    if convolution:
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


HISTORY = [
    {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "test_loss": 0.9, "test_accuracy": 0.6},
    {"epoch": 2, "train_loss": 0.5, "train_accuracy": 0.8, "test_loss": float("nan"), "test_accuracy": 0.7},
]
PARTS = ["Curves", "Confusion matrix", "By class", "The worst mistakes", "Layers", "First-layer filters", "Settings"]


@pytest.mark.parametrize("convolution", [True, False])
def test_the_page_holds_every_part(tmp_path: Path, convolution: bool) -> None:
    made = model(3, convolution)
    seen, images = judged(made, ["cat", "dog", "물고기"])
    path = write_report(
        tmp_path / "report.html",
        title="cnn on mnist",
        summary={"test_accuracy": 0.25, "epochs": 2, "parameters": 1234},
        history=HISTORY,
        model=made,
        input_shape=(1, 8, 8),
        interpretation=seen,
        images=images,
        settings={"lr": 0.1, "betas": [0.9, 0.999]},
        config={"Machine": {"cores": 2, "numba": None}},
    )
    page, text = checked(path)
    assert page.headings == PARTS
    assert page.tags.count("svg") == 2 and page.tags.count("img") == min(len(seen.mistakes), 24) + (4 if convolution else 3)
    assert "0.2500" in text and "1,234" in text and "물고기" in text and "0.9, 0.999" in text and "numba" not in text
    for row in seen.report():
        assert f"{row['f1']:.4f}" in text
    worst = max(seen.mistakes, key=lambda i: seen.losses[i])
    first = text[text.index("tile") :][: text.index("</div>", text.index('<div class="tile">'))]
    assert f"image {worst}" in first and f"{seen.probabilities[worst, seen.predictions[worst]]:.3f}" in first
    heat = text[text.index('class="heat"') : text.index("Most often")]
    counts = [int(n.replace("·", "0")) for n in re.findall(r"<td[^>]*>(\d+|·)</td>", heat)]
    assert counts == seen.confusion_matrix().ravel().tolist()


def test_a_page_without_a_test_set_or_epochs(tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.html", title="x", summary={}, history=[], model=model(), input_shape=(1, 8, 8))
    assert checked(path)[0].headings == ["Layers", "First-layer filters"]


def test_a_model_that_does_not_take_such_images_is_told(tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.html", title="x", summary={}, history=HISTORY[:1], model=model(), input_shape=(1, 9, 9))
    assert "hint:" in checked(path)[1]


def test_no_mistakes(tmp_path: Path) -> None:
    made, x = model(3), np.random.default_rng(0).random((40, 1, 8, 8), dtype=np.float32)
    seen = interpret(made, (x, interpret(made, (x, np.zeros(40, np.int64))).predictions))
    path = write_report(tmp_path / "r.html", title="x", summary={}, history=[], model=made, input_shape=(1, 8, 8), interpretation=seen)
    assert "None in 40 images" in checked(path)[1]


def test_every_text_is_escaped(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>'
    made = model()
    seen, images = judged(made, [evil, "<b>", "&"])
    path = write_report(
        tmp_path / "r.html",
        title=evil,
        summary={},
        history=HISTORY,
        model=made,
        input_shape=(1, 8, 8),
        interpretation=seen,
        images=images,
        settings={evil: evil},
        config={evil: {evil: evil}},
    )
    assert "<script" not in checked(path)[1]


def test_a_model_that_has_diverged(tmp_path: Path) -> None:
    made = model()
    made[0].weight.array[...] = np.nan
    seen, images = judged(made, ["a", "b", "c"])
    path = write_report(
        tmp_path / "r.html", title="x", summary={}, history=HISTORY, model=made, input_shape=(1, 8, 8), interpretation=seen, images=images
    )
    assert checked(path)[0].headings[-1] == "Layers"


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (1, 1)])
def test_png(shape: tuple) -> None:
    Image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(html.png(pixels)))), pixels)
    source = re.search(r'base64,([^"]+)"', html.picture(pixels, 'a "picture"'))
    assert source is not None and base64.b64decode(source[1]) == html.png(pixels)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.93, 0.98), (2, 2), (0, 0), (-3, 1e6), (1e-9, 2e-9)])
def test_ticks_are_round_and_span_the_values(low: float, high: float) -> None:
    ticks = html.nice_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high * (1 - 1e-12) and 3 <= len(ticks) <= 9
    assert all(b > a for a, b in pairwise(ticks))


@pytest.mark.parametrize(("low", "high"), [(1, 1), (1, 2), (1, 10), (1, 100), (3, 7), (1, 5000)])
def test_whole_ticks(low: int, high: int) -> None:
    ticks = html.whole_ticks(low, high)
    assert 1 <= len(ticks) <= 12 and all(low <= tick <= high for tick in ticks)


def test_curves_leave_gaps_where_there_is_no_number() -> None:
    svg = html.lines("Loss", [1, 2, 3, 4], {"train": ([1.0, 2.0, float("nan"), 3.0], html.TRAIN)})
    assert svg.count("M") == 2 and svg.count("<circle") == 3 and "nan" not in svg
    assert html.lines("Loss", [1], {"train": ([float("inf")], html.TRAIN)}) == ""
    assert "<svg" in html.lines("Loss", [1], {"train": ([0.5], html.TRAIN)})


def test_the_page_fits_a_phone() -> None:
    """360 pixels: no fixed width is larger, tables scroll within themselves, pictures shrink, and long names break."""
    page = html.page("title", html.table(["a"], [["b"]]) + html.heat(np.eye(10, dtype=int), list("0123456789"), "truth"))
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in page
    assert page.count('<div class="wide"><table') == page.count("<table") == 2 and ".wide { overflow-x: auto; }" in page
    screen = html.STYLE.partition("@media print")[0]
    assert max(map(int, re.findall(r"(?<!-)\bwidth: (\d+)px", screen))) <= 336
    assert "svg { max-width: 100%;" in screen and re.search(r"\bimg {[^}]*max-width: 100%", screen)
    assert re.search(r"h1, h2, p, code {[^}]*overflow-wrap: anywhere", screen)
    assert "width=" not in html.lines("loss", [1, 2], {"train": ([1.0, 2.0], "#000")}).partition(">")[0]
