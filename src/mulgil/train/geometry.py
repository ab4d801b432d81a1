"""Where the cells of a layer's map lie in the image: each at the middle of the pixels that it sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from mulgil.data.transforms import Resize
from mulgil.nn import AvgPool2d, Conv2d, MaxPool2d, Module
from mulgil.nn import functional as F

SLIDING = (Conv2d, MaxPool2d, AvgPool2d)


class Cells:
    """The cells of the map that the windows passed so far make of an image of `size`.

    Cell i along an axis has its middle at pixel `start + i * step`. `known` turns false where the layers are no chain of windows:
    then an input is not of the size that the last output had.
    """

    def __init__(self, size: Sequence[int]):
        self.image = self.size = tuple(size)
        self.start, self.step, self.known, self.ended = np.zeros(2), np.ones(2), True, False

    def pass_window(self, layer: Any, inputs: tuple, output: Any) -> None:
        """A forward hook of the layers that slide a window: what they did to the cells."""
        if self.ended:
            return
        self.known = self.known and tuple(inputs[0].shape[2:]) == self.size
        kernel, stride, dilation = (np.array(F.pair(getattr(layer, name, 1))) for name in ("kernel_size", "stride", "dilation"))
        reach = dilation * (kernel - 1)
        padding = {"same": reach // 2, "valid": 0}[layer.padding] if isinstance(layer.padding, str) else np.array(F.pair(layer.padding))
        self.start = self.start + self.step * (reach / 2 - padding)
        self.step, self.size = self.step * stride, tuple(output.shape[2:])

    def end(self, *_: Any) -> None:
        """A forward hook of the layer whose map is wanted: what follows is of no interest."""
        self.ended = True

    def enlarge(self, maps: np.ndarray) -> np.ndarray:
        """Maps [N, h, w] as [N, H, W]: each cell at its place, between them bilinear; outside what the cells see, it fades to 0.

        Where the places are not known, the maps are stretched over the image.
        """
        if not self.known or maps.shape[1:] != self.size:
            return Resize(self.image)(maps)
        for axis in (1, 2):
            count = maps.shape[axis]
            place = (np.arange(self.image[axis - 1]) - self.start[axis - 1]) / self.step[axis - 1]
            inside = place.clip(0, count - 1)
            low = np.minimum(inside.astype(int), max(count - 2, 0))
            shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
            share = (inside - low).reshape(shape)
            fade = (1.5 - abs(place - inside)).clip(0, 1).reshape(shape)  # a cell reaches half a step; then it takes one to fade
            upper = np.minimum(low + 1, count - 1)
            maps = fade * ((1 - share) * maps.take(low, axis) + share * maps.take(upper, axis))
        return maps


@contextmanager
def cells_of(model: Module, layer: Module, size: Sequence[int]) -> Iterator[Cells]:
    """Follow the windows from an image of `size` to `layer` while the model runs; the hooks are gone afterwards, also after an error."""
    cells = Cells(size)
    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, SLIDING):
                hooks.enter_context(module.register_forward_hook(cells.pass_window))
        hooks.enter_context(layer.register_forward_hook(cells.end))
        yield cells
