"""Where a live plot is seen: a window, a notebook's cell, a terminal, a PNG file."""

from __future__ import annotations

import os
import shutil
import sys
from io import BytesIO
from typing import Any

from mulgil.plot.style import save_png

SILENT = {"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"}  # matplotlib's backends that only write files


class Window:
    """A window or a live canvas in a notebook (`%matplotlib widget`): matplotlib's own way."""

    def __init__(self, figure: Any):
        self.figure = figure

    def show(self, plotter: Any, last: bool) -> None:
        self.figure.canvas.draw_idle()
        self.figure.canvas.flush_events()


class Notebook:
    """One output in the cell where the plot was made, replaced in place: it neither flickers nor piles up."""

    def __init__(self, figure: Any):
        from IPython.display import display

        self.figure = figure
        self.handle = display(self._picture(), display_id=True)

    def _picture(self) -> Any:
        from IPython.display import Image

        buffer = BytesIO()
        self.figure.savefig(buffer, format="png", dpi=90, facecolor="white")
        return Image(buffer.getvalue(), format="png")

    def show(self, plotter: Any, last: bool) -> None:
        if self.handle is not None:
            self.handle.update(self._picture())


class Terminal:
    """A text chart that is kept up to date at the bottom of a terminal; elsewhere it is written by `plot()` alone."""

    def __init__(self, figure: Any):
        self.live: Any = None
        self.is_terminal, self.braille = sys.stdout.isatty(), can_write("⣿")

    def show(self, plotter: Any, last: bool) -> None:
        size = shutil.get_terminal_size()
        text = plotter.text(width=min(size.columns, 100) - 1, lines=size.lines, braille=self.braille)
        if not self.is_terminal:
            if last:
                print(text)
            return
        if self.live is None:
            self._start()
        if self.live is not None:
            from rich.text import Text

            self.live.update(Text(text), refresh=True)
        if last:
            self.close()

    def _start(self) -> None:
        import atexit

        from rich.errors import LiveError
        from rich.live import Live

        try:  # what the program prints meanwhile appears above the chart
            self.live = Live(auto_refresh=False, vertical_overflow="crop")
            self.live.start()
            atexit.register(self.close)  # gives the cursor back, whatever ends the program
        except LiveError:  # something else is being kept up to date there
            self.live = None

    def close(self) -> None:
        if self.live is not None:
            import atexit

            atexit.unregister(self.close)
            self.live.stop()
            self.live = None


class PngFile:
    """A file that is rewritten whole, for looking at a run on another machine."""

    def __init__(self, figure: Any, path: str | os.PathLike):
        self.figure, self.path = figure, path

    def show(self, plotter: Any, last: bool) -> None:
        save_png(self.figure, self.path)


def can_write(text: str) -> bool:
    """Whether the standard output has these letters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


def screens_for(figure: Any, terminal: bool | None, png: str | os.PathLike | None) -> list[Any]:
    """Everything that shows this figure while a program runs; none where nobody could see it."""
    import matplotlib
    from matplotlib import pyplot as plt

    backend = matplotlib.get_backend().lower()
    shown: list[Any] = []
    if "inline" in backend or (backend in SILENT and in_notebook()):
        plt.close(figure)  # the inline backend would show it once more, as it is when the cell ends
        shown.append(Notebook(figure))
    elif backend not in SILENT:
        if not plt.isinteractive():
            figure.show()
        shown.append(Window(figure))
    if terminal or (terminal is None and not shown and sys.stdout is not None and sys.stdout.isatty()):
        shown.append(Terminal(figure))
    return [*shown, *([PngFile(figure, png)] if png is not None else [])]
