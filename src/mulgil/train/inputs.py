"""What a model knows about its inputs: told by its training data, kept in `model.info`, used when it predicts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.data.transforms import apply_batch
from mulgil.errors import DTypeError, ModelFileError, describe
from mulgil.nn import Module
from mulgil.nn.inputs import InputRange, check
from mulgil.train.preprocess import build_transform, describe_transform
from mulgil.typing import SupportsArray

MAX_SIDE = 4096  # of what a file may call a sample


def remember(model: Module, data: Any) -> dict[str, Any]:
    """Note in `model.info` what `data` says of itself, so that the model can be saved with it and used on raw images.

    Args:
        data: a data set, a `Subset` of one, or a `DataLoader`; others say nothing of themselves.

    Returns `model.info`, where it wrote what it found of

    - preprocessing: the data set's `transform` as [[name, arguments], ...]; None where it has steps that only Python knows, such as a
      Lambda; [] where there is no transform.
    - image_shape: of a sample before the transform, for the image sets of `mulgil.data.datasets`.
    - classes: the names of the classes; "7 - seven" is called "7".

    No sample is drawn. The range of the inputs the model learns by itself in its first batches (see `Module.info`).

    Example:
        >>> remember(model, train_loader)["classes"]                # doctest: +SKIP
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']
    """
    known = model.info
    if not isinstance(known, dict):  # a class that uses the name for something of its own
        return {}
    layers = _layers(data)
    owner = next((layer for layer in layers if hasattr(layer, "transform")), None)
    if owner is not None:
        known["preprocessing"] = describe_transform(owner.transform)
        images = getattr(owner, "data", None)
        if isinstance(images, Tensor) and images.ndim == 3:  # [N, H, W]
            known["image_shape"] = [1, *images.shape[1:]]
    classes = next((layer.classes for layer in layers if getattr(layer, "classes", None)), None)
    if classes is not None:
        known["classes"] = class_names(classes)
    return known


def prepare(model: Module, inputs: SupportsArray) -> Tensor:
    """A batch as `model` takes it: raw uint8 images go through the preprocessing of its training, all else is left as it is.

    Args:
        inputs: [N, ...], a Tensor or array.

    Images come out in the shape of the training's inputs, flat where those were flat. Floating inputs are taken for prepared ones; where
    they lie in another range than those of training, there is an `InputRangeWarning`, once while it stays so.

    Raises:
        DTypeError: raw images, and the model does not know how they were prepared in training.
    """
    batch = inputs if isinstance(inputs, Tensor) else Tensor(np.asarray(inputs))
    if batch.array.dtype == np.uint8:
        steps = _steps(model, batch)
        batch = apply_batch(build_transform(steps), batch.array) if steps else batch
        shape = known_shape(model, "input_shape") or batch.shape[1:]
        if math.prod(shape) == math.prod(batch.shape[1:]):
            batch = batch.reshape(len(batch), *shape)
    check(model, batch)
    return batch


def _steps(model: Module, batch: Tensor) -> Any:
    """The preprocessing that was noted; without a note, 0..1 for the 0..255 of images where that is the range of training."""
    info = known(model)
    if (steps := info.get("preprocessing")) is not None:
        return steps
    seen = InputRange.read(info.get("input_range"))
    if seen is not None and abs(seen.low) < 0.01 and abs(seen.high - 1) < 0.05:
        return [["ToTensor", {}]]
    raise DTypeError(
        f"{type(model).__name__}: raw images must be prepared as in training, and this model was not told how that was",
        describe(inputs=batch),
        "prepare them yourself (ToTensor makes 0..1 of 0..255), or call train.remember(model, training_set) before it is saved",
    )


def training_set(model: Module) -> str | None:
    """The name, such as "mnist", of the data set that `mulgil train` trained the model on; None where that was not noted."""
    training = known(model).get("training")
    name = training.get("data") if isinstance(training, dict) else None
    return name if isinstance(name, str) else None


def known(model: Module) -> dict[str, Any]:
    """`model.info`; empty for a class that uses the name for something of its own."""
    return model.info if isinstance(model.info, dict) else {}


def known_shape(model: Module, name: str) -> tuple[int, ...] | None:
    """A shape in `model.info`, `image_shape` or `input_shape`; None where it is not noted.

    Raises ModelFileError for something else than a shape that a sample can have: the file may be a stranger's.
    """
    shape = known(model).get(name)
    if not shape:
        return None
    sizes = tuple(shape) if isinstance(shape, (list, tuple)) else ()
    if not 0 < len(sizes) <= 8 or not all(type(n) is int and 0 < n <= MAX_SIDE for n in sizes) or math.prod(sizes) > MAX_SIDE**2:
        raise ModelFileError(f"model.info: {name} must be the shape of a sample", f"{shape!r:.100}", "for example [1, 28, 28]")
    return sizes


def known_classes(model: Module, count: int) -> list[str]:
    """The names of the classes in `model.info`; the numbers where they are not noted. Raises ModelFileError for another number of them."""
    names = known(model).get("classes")
    if not names:
        return [str(i) for i in range(count)]
    if not isinstance(names, (list, tuple)) or len(names) != count:
        got = f"{len(names)} names" if isinstance(names, (list, tuple)) else f"{names!r:.100}"
        raise ModelFileError(f"model.info: classes must name the {count} classes", got, 'for example ["cat", "dog"]')
    return [str(name) for name in names]


def class_names(classes: Any) -> list[str]:
    """Names of classes as people call them: "7 - seven" is 7."""
    return [str(name).split(" - ")[0] for name in classes]


def _layers(data: Any) -> list[Any]:
    """A loader's data set, and what it is a subset of."""
    layers = [data]
    while hasattr(layers[-1], "dataset") and len(layers) < 100:
        layers.append(layers[-1].dataset)
    return layers
