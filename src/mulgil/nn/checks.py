"""What goes wrong most often, and what to say then. Called only when a cheap comparison in `functional` has failed.

Each function raises the matching error, or returns if all is well after all (an unusual array class, say).
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import device_of, xp_of
from mulgil.errors import DeviceError, DTypeError, ShapeError, describe
from mulgil.ops.function import Context, observers, run
from mulgil.ops.guard import Classes

BATCH_AXIS = "add the batch axis: x[None] (or x.unsqueeze(0))"


def raw(x: Any) -> Any:
    """The array inside a Tensor; an array as it is; anything else as a NumPy array."""
    if isinstance(x, Tensor):
        return x.array
    return x if hasattr(x, "dtype") else np.asarray(x)


def floating(name: str, x: Any) -> Any:
    """x must hold floats."""
    if x.dtype.kind != "f":
        hint = "scale images to floats: x.float() / 255, or transforms.ToTensor() in the data set"
        raise DTypeError(f"{name}: x must hold floating numbers", describe(x=x), hint)
    return x


def one_device(name: str, **arrays: Any) -> None:
    """All arrays must be in the same memory."""
    devices = {key: str(device_of(array)) for key, array in arrays.items()}
    if len(set(devices.values())) > 1:
        first, *_, last = devices.values()
        got = ", ".join(f"{key} on {where}" for key, where in devices.items())
        raise DeviceError(f"{name}: all arrays must be on one device", got, f'move one: x.to("{last}"), or model.to("{first}")')


def layer_input(name: str, x: Any, weight: Any) -> None:
    """x must hold floats of the weight's dtype on the weight's device."""
    if weight is None:
        raise ShapeError(f"{name}: the weight has no shape yet", None, "send a first batch through the layer, or give it its input size")
    one_device(name, x=x, weight=weight)
    floating(name, x)
    if x.dtype != weight.dtype:
        convert = "x.double()" if weight.dtype == np.float64 else "x.float()"
        hint = f"convert the input: {convert}; a NumPy array: x.astype('{weight.dtype}')"
        raise DTypeError(f"{name}: x and weight must have one dtype", describe(x=x, weight=weight), hint)


def linear(x: Any, weight: Any) -> None:
    """x[..., in] for weight[out, in]."""
    layer_input("Linear", x, weight)
    size = weight.shape[1]
    if x.ndim and x.shape[-1] == size:
        return
    if x.ndim > 2 and prod(x.shape[1:]) == size:
        hint = "flatten images first: nn.Flatten()"
    elif x.ndim >= 2 and prod(x.shape) == size:
        hint = "this is one image without a batch axis: x.reshape(1, -1)"
    elif x.ndim > 2:
        hint = f"flatten images first (nn.Flatten()), and build the layer for them: nn.Linear({prod(x.shape[1:])}, {weight.shape[0]})"
    else:
        features, out = x.shape[-1] if x.ndim else 1, weight.shape[0]
        hint = f"build the layer for this input, nn.Linear({features}, {out}), or leave its size open: nn.Linear(None, {out})"
    raise ShapeError(f"Linear: x must be [batch, {size}] (weight is [out, in])", describe(x=x, weight=weight), hint)


def conv2d(x: Any, weight: Any, groups: int) -> None:
    """x[N, C, H, W] for weight[O, C / groups, kh, kw]."""
    layer_input("Conv2d", x, weight)
    channels = weight.shape[1] * groups
    rule = f"Conv2d: x must be [batch, {channels}, height, width] (weight is [out, in / groups, height, width])"
    if x.ndim != 4:
        raise ShapeError(rule, describe(x=x, weight=weight), _four_axes(x, channels))
    if weight.shape[0] % groups:
        raise ShapeError("Conv2d: groups must divide the output channels", f"groups={groups}, {describe(weight=weight)}")
    if x.shape[1] == channels:
        return
    if x.shape[3] == channels:
        hint = "channels come before height and width: x.permute(0, 3, 1, 2)"
    elif channels == 1:
        hint = "make the images gray, or build the layer for colour: nn.Conv2d(3, ...)"
    else:
        hint = f"build the layer for {x.shape[1]} input channels: nn.Conv2d({x.shape[1]}, {weight.shape[0]}, ...)"
    raise ShapeError(rule, describe(x=x, weight=weight), hint)


def images(name: str, x: Any) -> None:
    """x[N, C, H, W]."""
    if x.ndim != 4:
        raise ShapeError(f"{name}: x must be [batch, channels, height, width]", describe(x=x), _four_axes(x, 1))


def _four_axes(x: Any, channels: int) -> str:
    if x.ndim == 3 and (x.shape[0] == channels or channels != 1):
        return BATCH_AXIS
    if x.ndim == 3:
        return "add the channel axis: x[:, None] (or x.unsqueeze(1)); for a single image the batch axis: x[None]"
    if x.ndim == 2:
        return "this looks flattened: x.view(-1, 1, 28, 28) makes images again; a single image: x[None, None]"
    return "convolution and pooling take batches of images"


def batch_norm(name: str, x: Any, channels: int, axes: tuple[int, ...]) -> None:
    """x with as many axes as one of `axes`, and the layer's channels."""
    floating(name, x)
    c = channels
    shapes = {(4,): f"[batch, {c}, height, width]", (2, 3): f"[batch, {c}] or [batch, {c}, length]"}
    rule = f"{name}: x must be {shapes.get(axes, f'[batch, {c}, ...]')}"
    if x.ndim not in axes and axes:
        other = "nn.BatchNorm1d" if axes == (4,) else "nn.BatchNorm2d"
        raise ShapeError(rule, describe(x=x), BATCH_AXIS if x.ndim == min(axes) - 1 else f"{other} is for other shapes")
    if x.ndim < 2 or x.shape[1] != channels:
        raise ShapeError(rule, describe(x=x), f"build the layer for {x.shape[1] if x.ndim > 1 else '?'} channels")


# ---------------------------------------------------------------------- losses
def logits(name: str, x: Any, target: Any) -> None:
    """x[N, C, ...] and a target that goes with it: classes [N, ...] or probabilities of x's shape."""
    if x.dtype.kind != "f":
        swapped = "the order is loss(prediction, target)" if target.dtype.kind == "f" else "give it the model's output, not its argmax"
        raise DTypeError(f"{name}: the prediction must hold floating numbers", describe(input=x, target=target), swapped)
    one_device(name, input=x, target=target)
    if x.ndim < 2:
        raise ShapeError(f"{name}: the prediction must be [batch, classes]", describe(input=x, target=target), BATCH_AXIS)
    expected = (x.shape[0], *x.shape[2:])
    if target.shape == expected:
        if target.dtype.kind not in "iu":
            hint = "convert them: target.long() (NumPy: target.astype('int64'))"
            raise DTypeError(f"{name}: class labels must be integers", describe(target=target), hint)
        return
    if target.shape == x.shape:
        if target.dtype.kind != "f":
            raise DTypeError(
                f"{name}: a target of the prediction's shape holds probabilities, which are floats",
                describe(input=x, target=target),
                "one-hot labels: target.float(), or the classes themselves: target.argmax(1)",
            )
        return
    raise ShapeError(
        f"{name}: the target must be classes [{', '.join(map(str, expected))}] or probabilities of the prediction's shape",
        describe(input=x, target=target),
        _target_hint(x, target, expected),
    )


def _target_hint(x: Any, target: Any, expected: tuple) -> str:
    if target.shape == (*expected, 1) or target.shape == (x.shape[0], 1, *x.shape[2:]):
        return "drop the axis of length 1: target.squeeze(1)"
    if target.ndim and target.shape[0] != x.shape[0]:
        return "prediction and target must come from the same batch"
    if target.ndim == x.ndim:
        return f"one-hot labels need {x.shape[1]} columns: F.one_hot(target, {x.shape[1]}).float()"
    return "one label for each sample"


def labels_in_range(name: str, target: Any, classes: int, ignore_index: int) -> None:
    """Every label must be a class, 0 to classes - 1, or `ignore_index`. A compiled step checks its labels too."""
    if observers():
        run(Classes(name, classes, ignore_index), "forward", Context(xp_of(target)), target)
        return
    # a negative int64 read as uint64 is huge, so one reduction finds labels below 0 and above the last class
    unsigned = target.view(np.uint64) if target.dtype == np.int64 else target
    if target.size and (unsigned.max() >= classes or (unsigned is target and target.min() < 0)):
        Classes(name, classes, ignore_index).explain(target)


def same_shape(name: str, x: Any, target: Any) -> None:
    """Prediction and target of one shape, on one device, the prediction in floats."""
    if x.dtype.kind != "f":
        hint = "the order is loss(prediction, target)"
        raise DTypeError(f"{name}: the prediction must hold floating numbers", describe(input=x, target=target), hint)
    one_device(name, input=x, target=target)
    if x.shape != target.shape:
        hint = "give both the same shape: target.reshape(input.shape)"
        if x.ndim == target.ndim + 1 and x.shape[-1] == 1:
            hint = "drop the prediction's last axis, prediction.squeeze(1), or add one to the target, target.unsqueeze(1)"
        elif target.ndim == x.ndim - 1 and target.dtype.kind in "iu":
            hint = f"class labels: F.one_hot(target, {x.shape[-1]}).float(), or use F.cross_entropy"
        raise ShapeError(f"{name}: prediction and target must have one shape", describe(input=x, target=target), hint)
