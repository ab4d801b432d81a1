"""Which pixels decide: maps of the inputs that speak for a class. The model is afterwards as it was: modes, gradients, hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mulgil.autograd import Tensor, enable_grad, grad, no_grad
from mulgil.data.transforms import Resize
from mulgil.errors import OptionError, ShapeError, describe
from mulgil.nn import Module
from mulgil.train.feed import EVAL_BATCH
from mulgil.train.geometry import cells_of
from mulgil.train.layers import as_input, class_scores, find_layer, last_output, recording
from mulgil.train.samples import on_cpu
from mulgil.train.state import evaluating
from mulgil.typing import ArrayLike, Pair

__all__ = ["grad_cam", "occlusion", "saliency"]


def saliency(
    model: Module, x: ArrayLike, target: ArrayLike | None = None, *, samples: int = 1, noise: float = 0.1, seed: int = 0
) -> np.ndarray:
    """The gradient of a class score by the input, in evaluation mode: where a small change of the input would change the score.

    Args:
        model: gives scores [N, classes].
        x: a batch [N, ...], float. Raw uint8 images are prepared as in the model's training, where it knows how; maps are of those.
        target: the class whose score it is, one number or one a sample [N]; default the class that the model chooses for each.
        samples: more than 1 averages the gradients at so many noisy copies (SmoothGrad; 50 is usual), for the class chosen at `x`.
        noise: the noise's standard deviation, as a share of the range of x.
        seed: of the noise, which is drawn apart from mulgil's generator.

    Returns the gradient, of x's shape, with its sign. For pictures take its size: `plot.heatmaps(x, saliency(model, x))` does.

    Raises:
        OptionError: no such class. ShapeError: scores of another form. DTypeError: an x of whole numbers.

    Source: Simonyan et al., "Deep Inside Convolutional Networks", arXiv:1312.6034; Smilkov et al., "SmoothGrad", arXiv:1706.03825.
    """
    if samples < 1 or not noise >= 0:
        raise OptionError("saliency: samples must be at least 1, noise at least 0", f"{samples=}, {noise=}")
    with evaluating(model):
        start = as_input(model, x)
        gradient, chosen = _input_gradient(model, start, target)
        if samples == 1:
            return gradient
        values, rng = on_cpu(start), np.random.default_rng(seed)
        scale = noise * (values.max() - values.min()) if values.size else 0.0
        total = np.zeros(values.shape)
        for _ in range(samples):
            noisy = values + (scale * rng.standard_normal(values.shape)).astype(values.dtype)
            total += _input_gradient(model, Tensor(noisy, device=start.device), chosen)[0]
    return (total / samples).astype(values.dtype)


def grad_cam(model: Module, x: ArrayLike, layer: Module | str, target: ArrayLike | None = None, *, aligned: bool = True) -> np.ndarray:
    """Grad-CAM: the channels of a layer, weighted by the mean gradient of a class score by each; only what speaks for the class.

    Args:
        model: gives scores [N, classes].
        x: a batch of images [N, C, H, W].
        layer: a convolution, or what follows it, with outputs [N, channels, h, w]: the module, or its dotted name ("features.3").
            The last one before the image is flattened sees the most.
        target: as `saliency` has it.
        aligned: each cell of the layer's map is drawn at the middle of the pixels that it sees. False stretches the map over the image,
            as others do; without padding in the convolutions that moves all things outwards. The same where the layers between are
            no plain chain of Conv2d, MaxPool2d and AvgPool2d (and what works pixel by pixel).

    Returns float [N, H, W], at least 0: the map [h, w] of each image enlarged to its size by bilinear interpolation.

    Raises:
        OptionError: no such layer (the names are listed), one that the model does not run, or no such class.
        ShapeError: an x or outputs of another form.

    Source: Selvaraju et al., "Grad-CAM", ICCV 2017, arXiv:1610.02391.
    """
    start, module = as_input(model, x), find_layer(model, layer)
    if start.ndim != 4:
        raise ShapeError("grad_cam: x must be a batch of images [N, C, H, W]", describe(x=start))
    start.requires_grad = True
    with evaluating(model), enable_grad(), recording(model, module) as outputs, cells_of(model, module, start.shape[2:]) as cells:
        score, _ = class_scores(model(start), target, "grad_cam")
        maps = last_output(outputs, layer)
        if maps.ndim != 4:
            rule = "grad_cam: the layer must give maps [N, channels, h, w]"
            raise ShapeError(rule, describe(output=maps), "choose a convolution, or what follows it")
        (gradient,) = grad(score.sum(), maps)
    weights, channels = on_cpu(gradient).mean((2, 3), keepdims=True), on_cpu(maps)
    small = np.maximum((weights * channels).sum(1), 0)
    enlarged = cells.enlarge(small) if aligned else Resize(start.shape[2:])(small)
    return enlarged.astype(small.dtype, copy=False)


def occlusion(
    model: Module,
    x: ArrayLike,
    size: Pair = 5,
    stride: Pair = 1,
    target: ArrayLike | None = None,
    fill: float = 0.0,
    batch_size: int = EVAL_BATCH,
) -> np.ndarray:
    """How far a class score falls when a window of the image is covered; for each pixel the mean over the windows that cover it.

    Args:
        model: gives scores [N, classes].
        x: a batch of images [N, C, H, W].
        size, stride: of the window and its steps, a number or (height, width). The last steps are shortened where they would leave
            the image, so that every pixel is covered, as long as the stride is no larger than the size.
        target: as `saliency` has it; the default is chosen on the uncovered images.
        fill: what the window shows, in the units of x (0 is the mean after `Normalize`).
        batch_size: covered images at a time.

    Returns float64 [N, H, W]: above 0 where covering takes from the score, below 0 where it adds to it.

    Raises:
        OptionError: a window that does not fit into the image, a stride that would leave gaps, or no such class.
        ShapeError: an x or scores of another form.

    Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, arXiv:1311.2901.
    """
    with evaluating(model), no_grad():
        images = as_input(model, x)
        if images.ndim != 4:
            raise ShapeError("occlusion: x must be a batch of images [N, C, H, W]", describe(x=images))
        score, chosen = class_scores(model(images), target, "occlusion")
        windows = _windows(images.shape[2:], _pair(size, "size"), _pair(stride, "stride"))
        pixels, scores = on_cpu(images), on_cpu(score).astype(np.float64)
        fallen, times = np.zeros((len(pixels), *pixels.shape[2:])), np.zeros(pixels.shape[2:])
        for window in windows:
            times[window] += 1
        jobs = [(i, window) for i in range(len(pixels)) for window in windows]
        for first in range(0, len(jobs), batch_size):
            part = jobs[first : first + batch_size]
            rows = [i for i, _ in part]
            covered = pixels[rows]
            for image, (_, window) in zip(covered, part, strict=True):
                image[(slice(None), *window)] = fill
            left, _ = class_scores(model(Tensor(covered, device=images.device)), chosen[rows], "occlusion")
            for (i, window), value in zip(part, on_cpu(left), strict=True):
                fallen[(i, *window)] += scores[i] - value
    return fallen / times


def _input_gradient(model: Module, x: Tensor, target: Any) -> tuple[np.ndarray, np.ndarray]:
    """d(score)/dx for each sample, and the classes whose scores they are. The parameters' `.grad` is left alone."""
    with enable_grad():
        x.requires_grad = True
        score, chosen = class_scores(model(x), target, "saliency")
        (gradient,) = grad(score.sum(), x)
    return on_cpu(gradient), chosen


def _windows(image: Sequence[int], size: tuple[int, int], stride: tuple[int, int]) -> list[tuple[slice, slice]]:
    """The places of the window, row by row."""
    if any(s > length for s, length in zip(size, image, strict=True)) or any(t > s for s, t in zip(size, stride, strict=True)):
        got = f"size={size}, stride={stride}, images of {image}"
        raise OptionError("occlusion: the window must fit into the image, and its steps must leave no gap", got, "stride at most size")
    rows, columns = (sorted({*range(0, length - s + 1, t), length - s}) for length, s, t in zip(image, size, stride, strict=True))
    return [(slice(r, r + size[0]), slice(c, c + size[1])) for r in rows for c in columns]


def _pair(value: Any, name: str) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or any(isinstance(v, bool) or not isinstance(v, (int, np.integer)) or v < 1 for v in pair):
        raise OptionError(f"occlusion: {name} must be a positive whole number or a pair of them", repr(value))
    return int(pair[0]), int(pair[1])
