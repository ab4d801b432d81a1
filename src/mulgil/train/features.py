"""What layers hold and make: filters, feature maps, and the plane in which a layer's outputs differ most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mulgil.autograd import Tensor, no_grad
from mulgil.errors import OptionError, ShapeError, describe
from mulgil.nn import Module
from mulgil.train.feed import EVAL_BATCH, Batches
from mulgil.train.layers import as_input, last_output, recording
from mulgil.train.samples import Samples, on_cpu
from mulgil.train.state import evaluating
from mulgil.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Embedding", "embedding", "feature_maps", "filters"]

MOST_BYTES = 1 << 28  # of outputs that `embedding` keeps: PCA needs all of them at once, and time


def feature_maps(model: Module, x: ArrayLike, layer: Module | str) -> np.ndarray:
    """The outputs of a layer for a batch x, in evaluation mode: [N, channels, h, w] for a convolution. `plot.features` draws them.

    layer: the module, or its dotted name. Raises OptionError for one that the model does not have (the names are listed) or run.
    """
    with evaluating(model), no_grad(), recording(model, layer) as outputs:
        model(as_input(model, x))
        return on_cpu(last_output(outputs, layer)).copy()


def filters(layer: Module, shape: Sequence[int] | None = None) -> np.ndarray:
    """A copy of the layer's weights, a filter a row: [out, in, kh, kw] of a convolution. `plot.filters` draws them.

    shape: shows each row in another shape, as (1, 28, 28) for a Linear layer that sees flat images of 28 x 28.

    Raises OptionError for a layer without a weight of two axes or more, ShapeError for a shape that does not fit.
    """
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or weight.array is None or weight.array.ndim < 2:
        got = f"a {type(layer).__name__}" if isinstance(layer, Module) else repr(layer)
        raise OptionError("filters: the layer must have weights", got, 'a Conv2d or Linear: model.get_submodule("features.0")')
    array = on_cpu(weight).copy()
    if shape is None:
        return array
    if math.prod(shape) != math.prod(array.shape[1:]):
        raise ShapeError(f"filters: shape must hold the {math.prod(array.shape[1:])} weights of a row", repr(tuple(shape)))
    return array.reshape(len(array), *shape)


@dataclass(frozen=True)
class Embedding:
    """Points in the plane (or line, or space) in which the outputs of a layer differ most.

    coordinates: [N, k]. explained_variance_ratio: [k], the share of the variance along each axis. components: [k, D], the axes among
    the layer's D outputs, and mean: [D]; `(outputs - mean) @ components.T` are the coordinates. targets: [N] classes, or None where
    the data has none. classes: names, or None.
    """

    coordinates: np.ndarray
    explained_variance_ratio: np.ndarray
    components: np.ndarray
    mean: np.ndarray
    targets: np.ndarray | None = None
    classes: tuple[str, ...] | None = None

    def plot(self) -> Figure:
        """A figure of the first two coordinates, coloured by class."""
        from mulgil import plot

        return plot.scatter(self.coordinates, self.targets, self.classes, shares=self.explained_variance_ratio)


def embedding(model: Module, data: Batches, layer: Module | str, components: int = 2, batch_size: int = EVAL_BATCH) -> Embedding:
    """Principal components of the outputs of a layer: samples that the layer takes for alike lie close together.

    Args:
        model, layer: the layer, or its dotted name; its outputs are flattened to [N, D].
        data: a data set, a loader, (X, y), X alone, or batches, as `interpret` takes them; read in evaluation mode, without gradients.
        components: how many axes, at most min(N, D).

    The axes are sorted by variance; each points to where its largest weight is positive, so the picture is the same every time.

    Raises:
        OptionError: no such layer, too many components, or outputs of more than 256 MB.
        ShapeError: outputs that are no numbers per sample.

    Source: K. Pearson, Philosophical Magazine 2(11), 1901; computed by singular value decomposition of the centred outputs.
    """
    samples = Samples(data, batch_size)
    outputs, targets = _outputs(model, samples, layer)
    n, width = outputs.shape
    if not 1 <= components <= min(n, width):
        got = f"{components}, for {n} samples of {width} outputs"
        raise OptionError("embedding: components must be at least 1, and at most the samples and the layer's outputs", got)
    mean = outputs.mean(0, dtype=np.float64)
    centred = outputs - mean.astype(outputs.dtype)
    left, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    left, axes = left[:, :components], axes[:components]
    signs = np.where(np.take_along_axis(axes, abs(axes).argmax(1)[:, None], 1) < 0, -1, 1).astype(outputs.dtype)
    variance = np.square(sizes, dtype=np.float64)
    total = variance.sum() or 1.0  # outputs that are all the same
    names = None if samples.classes is None else tuple(samples.classes)
    return Embedding(left * sizes[:components] * signs.T, variance[:components] / total, axes * signs, mean, targets, names)


def _outputs(model: Module, samples: Samples, layer: Module | str) -> tuple[np.ndarray, np.ndarray | None]:
    """The layer's outputs for all samples, [N, D], and the targets where there are any."""
    kept: list[np.ndarray] = []
    targets: list[np.ndarray | None] = []
    with evaluating(model), no_grad(), recording(model, layer) as seen:
        for inputs, target in samples.batches():
            model(as_input(model, inputs))
            output = on_cpu(last_output(seen, layer))
            seen.clear()
            if output.ndim < 1 or len(output) != len(inputs) or output.dtype.kind != "f":
                rule = "embedding: the layer must give numbers for each sample, [N, ...]"
                raise ShapeError(rule, f"{len(inputs)} samples, {describe(output=output)}")
            kept.append(output.reshape(len(output), -1).copy())
            targets.append(target)
            if sum(part.nbytes for part in kept) > MOST_BYTES:
                hint = "fewer samples: Subset(data, range(2000)), or a layer with fewer outputs"
                raise OptionError("embedding: the outputs must fit into 256 MB", f"more, at sample {sum(map(len, kept))}", hint)
    if not kept:
        raise OptionError("embedding needs at least one sample", "no samples")
    known = [target for target in targets if target is not None]
    return np.concatenate(kept), np.concatenate(known) if len(known) == len(kept) else None
