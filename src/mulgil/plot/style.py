"""What the pictures share: matplotlib, asked for when it is needed, colours, a font for Korean, and how a figure becomes a file."""

from __future__ import annotations

import os
import re
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mulgil.errors import OptionError, visible
from mulgil.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRAIN, TEST, WRONG, RIGHT = "#4878a8", "#d1653e", "#c0392b", "#2f6f4f"
POWER = "$\\mathdefault{"  # matplotlib's own formulas: the numbers of a logarithmic axis
HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")
# fonts that have Hangul, the most even-looking first; any other that has it will do as well
HANGUL_FONTS = (
    "Noto Sans KR",
    "Noto Sans CJK KR",
    "NanumGothic",
    "NanumBarunGothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "Pretendard",
    "Noto Sans CJK JP",
    "Source Han Sans KR",
    "UnDotum",
    "Baekmuk Gulim",
    "Gulim",
)


def require_matplotlib() -> Any:
    """The matplotlib module. Raises OptionError with the way to install it."""
    try:
        import matplotlib
    except ImportError:
        raise OptionError("pictures need matplotlib", "it is not installed", 'pip install "mulgil[plot]"') from None
    return matplotlib


@cache
def figure_class() -> Any:
    """matplotlib's Figure, but text in Korean gets a font that has it. Nothing is changed for other figures."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    class HangulFigure(Figure):
        def draw(self, renderer: Any) -> None:
            for text in self.findobj(Text):
                if not text.get_text().startswith(POWER):  # names are no formulas, and hold nothing that is not seen
                    text.set_parse_math(False)
                    text.set_text(visible(text.get_text(), lines=True))
            with warnings.catch_warnings():
                if not use_hangul_font(self):  # the reader was told once; not again for each letter
                    warnings.filterwarnings("ignore", message="Glyph .* missing from font")
                super().draw(renderer)

    return HangulFigure


def new_figure(width: float, height: float) -> Figure:
    """A figure in inches that belongs to no window: drawing to a file needs no display and leaves nothing open."""
    require_matplotlib()
    return figure_class()(figsize=(width, height), layout="constrained")


def finish_epochs(axes: Any, title: str) -> None:
    """What a panel over epochs has besides its lines."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)


def use_hangul_font(figure: Any) -> bool:
    """Give every text in the figure that has Korean letters a font that has them too. The figures of this package do so themselves.

    Returns whether all letters can be drawn: False if there is Korean text and no such font.
    """
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if HANGUL.search(text.get_text())]
    name = hangul_font() if texts else ""
    for text in texts if name else []:
        families = text.get_fontfamily()
        if name not in families:
            text.set_fontfamily([*families, name])
    return name is not None


@cache
def hangul_font() -> str | None:
    """The name of an installed font with Korean letters. None, with one warning that tells what to do, if there is none."""
    import matplotlib
    from matplotlib import font_manager

    installed = {font.name: font for font in font_manager.fontManager.ttflist}
    for name in (*HANGUL_FONTS, *sorted(set(installed) - set(HANGUL_FONTS))):
        if name in installed and "Last Resort" not in name and _has_hangul(installed[name]):
            return name
    warnings.warn(
        "no installed font has Korean letters: they are drawn as boxes.\n"
        "  hint:  install one, such as NanumGothic or Noto Sans KR (Debian, Ubuntu: apt install fonts-nanum; "
        "others: https://fonts.google.com/noto/specimen/Noto+Sans+KR), and delete matplotlib's list of fonts, "
        f"{matplotlib.get_cachedir()}/fontlist*.json",
        stacklevel=2,
    )
    return None


def _has_hangul(font: Any) -> bool:
    """Looked up in the file: names tell nothing of the many fonts that are not in the list."""
    from matplotlib.ft2font import FT2Font

    try:
        return ord("글") in FT2Font(font.fname).get_charmap()
    except (OSError, RuntimeError):  # a file that has gone or is damaged
        return False


def save_png(figure: Any, path: str | os.PathLike, dpi: int = 120) -> Path:
    """Write a figure as PNG, whole or not at all; missing folders are made. Raises DataError if it cannot be written."""
    path = Path(path)
    with atomic_file(path) as file:
        figure.savefig(file, dpi=dpi, format="png", facecolor="white")
    return path
