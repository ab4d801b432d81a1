"""Korean labels get a font that has them, or the reader is told once; no figure but our own is touched."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from mulgil import plot
from mulgil.plot import style

matplotlib = pytest.importorskip("matplotlib")
font_manager = pytest.importorskip("matplotlib.font_manager")


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch):
    """What is installed, by name; those called Hangul... have Korean letters."""

    def install(*names: str) -> None:
        own = [font for font in font_manager.fontManager.ttflist if font.name.startswith("DejaVu")]  # matplotlib may ask for these
        others = [replace(own[0], name=name) for name in names if not name.startswith("DejaVu")]
        monkeypatch.setattr(font_manager.fontManager, "ttflist", [*own, *others])
        monkeypatch.setattr(style, "_has_hangul", lambda font: "DejaVu" not in font.name)
        style.hangul_font.cache_clear()

    yield install
    style.hangul_font.cache_clear()


def test_the_best_font_is_chosen(fonts) -> None:
    fonts("DejaVu Sans", "Malgun Gothic", "Aardvark", "NanumGothic")
    assert style.hangul_font() == "NanumGothic"
    fonts("DejaVu Sans", "Zebra Hangul", "Last Resort High-Efficiency")
    assert style.hangul_font() == "Zebra Hangul"  # any that has it


def test_korean_text_alone_gets_it(fonts, monkeypatch: pytest.MonkeyPatch) -> None:
    fonts("NanumGothic")
    settings = dict(matplotlib.rcParams)
    figure = plot.gallery(np.zeros((2, 8, 8)), [0, 1], [0, 0], ["고양이", "dog"], "동물")
    assert style.use_hangul_font(figure) and style.use_hangul_font(figure)
    families = {axes.get_title(): axes.title.get_fontfamily() for axes in figure.axes}
    assert families["predicted 고양이\ntruth 고양이"] == ["sans-serif", "NanumGothic"]
    assert figure._suptitle.get_fontfamily() == ["sans-serif", "NanumGothic"]
    assert plot.curves([{"epoch": 1, "train_loss": 1.0}]).axes[0].title.get_fontfamily() == ["sans-serif"]
    assert dict(matplotlib.rcParams) == settings


def test_without_such_a_font_the_reader_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(style, "_has_hangul", lambda font: False)
    style.hangul_font.cache_clear()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for i in range(2):
                plot.save_png(plot.curves([{"epoch": 1, "train_loss": 1.0}], "학습 곡선"), tmp_path / f"{i}.png")
        assert len([w for w in caught if "Korean" in str(w.message) and "hint" in str(w.message)]) == 1
        assert not [w for w in caught if "Glyph" in str(w.message)]
    finally:
        style.hangul_font.cache_clear()
