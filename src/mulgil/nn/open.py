"""Layers with a weight whose input size may be left open until the first batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mulgil.autograd import Parameter
from mulgil.backend import as_dtype, default_dtype, device_of, to_device
from mulgil.errors import OptionError
from mulgil.nn import init
from mulgil.nn.module import Module
from mulgil.typing import DeviceLike, DTypeLike, MaybeNone


class OpenParameter(Parameter):
    """A parameter whose shape waits for an input size: `array` is None until then. The object stays, for optimizers hold it.

    open_shape: the shape, with None for what is not known. when_known: initialisers to run as soon as it is.
    """

    def __init__(self, open_shape: tuple[int | None, ...]):
        super().__init__(None)
        self.open_shape = open_shape
        self.when_known: tuple[Callable[..., Any], ...] = ()

    def __repr__(self) -> str:
        if self.array is not None:
            return super().__repr__()
        return f"Parameter open: {shape_text(self.open_shape)}, known after the first batch"


def shape_text(shape: tuple[int | None, ...]) -> str:
    """[128, ?] for (128, None)."""
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


class WeightedLayer(Module):
    """What Linear and Conv2d share: weight [out, in, *kernel] and bias [out], PyTorch's initial values, an input size that may be open.

    With an open input size the parameters take their shape, dtype and device from the first batch (or from a loaded state).
    """

    weight: Parameter
    bias: Parameter | MaybeNone

    def _make_parameters(self, shape: tuple[int | None, ...], bias: bool, device: DeviceLike | None, dtype: DTypeLike | None) -> None:
        if None in shape:
            self.weight = OpenParameter(shape)
            self.register_parameter("bias", OpenParameter(shape[:1]) if bias else None)
            return
        dtype = default_dtype() if dtype is None else as_dtype(dtype)
        self.weight = Parameter(to_device(np.empty(shape, dtype), device or "cpu"))
        self.register_parameter("bias", Parameter(to_device(np.empty(shape[:1], dtype), device or "cpu")) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's initial values: weight and bias uniform within 1 / sqrt(fan_in)."""
        if self.weight.array is None:
            return
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(max(init.fans(self.weight)[0], 1))
            init.uniform_(self.bias, -bound, bound)

    def _settle(self, shape: tuple[int, ...], dtype: Any, device: Any) -> None:
        """Give the open parameters their arrays and run the initialisers that were waiting."""
        waiting = [parameter for parameter in (self.weight, self.bias) if isinstance(parameter, OpenParameter)]
        for parameter, its_shape in zip(waiting, (shape, shape[:1]), strict=False):
            parameter.array = to_device(np.empty(its_shape, dtype), device)
        self._set_input_size(shape[1])
        self.reset_parameters()
        for parameter in waiting:
            fills, parameter.when_known = parameter.when_known, ()
            for fill in fills:
                fill(parameter)

    def _settle_on(self, x: Any, size: int) -> None:
        """Settle for a first batch `x` whose input size is `size`."""
        shape = self.weight.open_shape  # type: ignore[attr-defined]
        self._settle((shape[0], self._input_per_group(size), *shape[2:]), x.dtype, device_of(x))

    def _settle_from(self, weight: Any) -> None:
        """Settle for a weight that is about to be loaded."""
        self._settle(weight.shape, default_dtype(), "cpu")

    def _input_per_group(self, size: int) -> int:
        return size

    def _set_input_size(self, per_group: int) -> None:
        raise NotImplementedError


def positive(layer: str, **sizes: Any) -> None:
    """Every size must be a whole number of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise OptionError(f"{layer}: {name} must be a whole number of at least 1", repr(size))
