"""Initial weights: fill a tensor in place with random numbers of the right size.

All draw from `mulgil.manual_seed`'s generator unless `generator=` is given, return the tensor, and record no gradient.
A weight is [out, in, *kernel]: fan_in = in * kernel elements, fan_out = out * kernel elements. A parameter whose shape is
still open (`nn.Linear(None, 10)`) is filled when its shape becomes known.

Sources: LeCun et al., Efficient BackProp, 1998; Glorot and Bengio, AISTATS 2010; He et al., ICCV 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from mulgil.autograd import Parameter, Tensor, no_grad
from mulgil.backend import Generator, default_dtype, default_generator, xp_of
from mulgil.errors import OptionError, ShapeError
from mulgil.ops.function import Context, run
from mulgil.ops.random import Draw

T = TypeVar("T", bound=Tensor)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """How much the weights before this nonlinearity must be scaled up: relu sqrt(2), tanh 5/3, sigmoid and linear 1.

    param: the negative slope of leaky_relu, 0.01 by default. Raises OptionError for an unknown name.
    """
    if nonlinearity in ("linear", "identity", "sigmoid", "conv1d", "conv2d", "conv3d"):
        return 1.0
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    gains = {"tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    if nonlinearity not in gains:
        known = "linear, sigmoid, tanh, relu, leaky_relu or selu"
        raise OptionError("calculate_gain: the nonlinearity must have a known gain", repr(nonlinearity), known)
    return gains[nonlinearity]


def fans(tensor: Any) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight [out, in, *kernel]. Raises ShapeError for fewer than two axes."""
    shape = tensor.shape
    if len(shape) < 2:
        hint = "give a bias zeros_, constant_ or uniform_"
        raise ShapeError("init: a weight needs at least two axes, [out, in, ...]", f"tensor{list(shape)}", hint)
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def _fill(tensor: T, values: Callable[[Tensor], Any]) -> T:
    """Write `values(tensor)` into the tensor now, or as soon as it has a shape."""
    if tensor.array is None:
        tensor.when_known += (lambda known: _fill(known, values),)  # an OpenParameter
    else:
        with no_grad():
            tensor.copy_(values(tensor))
    return tensor


def _uniform(tensor: Tensor, low: float, high: float, generator: Generator | None) -> Any:
    return _draw(tensor, "uniform", (low, high, tensor.shape), generator)


def _normal(tensor: Tensor, mean: float, std: float, generator: Generator | None) -> Any:
    return _draw(tensor, "standard_normal", (tensor.shape,), generator) * std + mean


def _draw(tensor: Tensor, method: str, arguments: tuple, generator: Generator | None) -> Tensor:
    draw = Draw(method, arguments, "<f8", generator or default_generator)
    return Tensor.of(run(draw, "forward", Context(xp_of(tensor.array)))[0])


def uniform_(tensor: T, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> T:
    """Uniform in [a, b)."""
    return _fill(tensor, lambda t: _uniform(t, a, b, generator))


def normal_(tensor: T, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> T:
    """Normal with this mean and standard deviation."""
    return _fill(tensor, lambda t: _normal(t, mean, std, generator))


def constant_(tensor: T, val: float) -> T:
    """The same value everywhere."""
    return _fill(tensor, lambda t: val)


def zeros_(tensor: T) -> T:
    """Zeros."""
    return constant_(tensor, 0.0)


def ones_(tensor: T) -> T:
    """Ones."""
    return constant_(tensor, 1.0)


def lecun_uniform_(tensor: T, generator: Generator | None = None) -> T:
    """Uniform with variance 1 / fan_in: the bound is sqrt(3 / fan_in)."""
    return _fill(tensor, lambda t: _symmetric(t, math.sqrt(1 / _positive(fans(t)[0])), generator))


def lecun_normal_(tensor: T, generator: Generator | None = None) -> T:
    """Normal with standard deviation sqrt(1 / fan_in): DeZero's default."""
    return _fill(tensor, lambda t: _normal(t, 0.0, math.sqrt(1 / _positive(fans(t)[0])), generator))


def xavier_uniform_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Uniform with variance gain^2 * 2 / (fan_in + fan_out): Glorot's initialisation."""
    return _fill(tensor, lambda t: _symmetric(t, _xavier_std(t, gain), generator))


def xavier_normal_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Normal with variance gain^2 * 2 / (fan_in + fan_out)."""
    return _fill(tensor, lambda t: _normal(t, 0.0, _xavier_std(t, gain), generator))


def kaiming_uniform_(
    tensor: T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator | None = None
) -> T:
    """Uniform with standard deviation gain / sqrt(fan): He's initialisation.

    a: negative slope of the leaky_relu that follows. mode: "fan_in" keeps the size of the values on the way forward,
    "fan_out" that of the gradients on the way back.
    """
    gain = _checked_gain(mode, nonlinearity, a)
    return _fill(tensor, lambda t: _symmetric(t, _kaiming_std(t, gain, mode), generator))


def kaiming_normal_(
    tensor: T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Generator | None = None
) -> T:
    """Normal with standard deviation gain / sqrt(fan). See `kaiming_uniform_`."""
    gain = _checked_gain(mode, nonlinearity, a)
    return _fill(tensor, lambda t: _normal(t, 0.0, _kaiming_std(t, gain, mode), generator))


def _symmetric(tensor: Tensor, std: float, generator: Generator | None) -> Any:
    """Uniform around zero with the standard deviation `std`."""
    bound = math.sqrt(3) * std
    return _uniform(tensor, -bound, bound, generator)


def _positive(fan: int) -> int:
    return max(fan, 1)  # an empty weight has nothing to draw, and must not divide by zero


def _xavier_std(tensor: Tensor, gain: float) -> float:
    return gain * math.sqrt(2 / _positive(sum(fans(tensor))))


def _checked_gain(mode: str, nonlinearity: str, a: float) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise OptionError('init: mode must be "fan_in" or "fan_out"', repr(mode))
    return calculate_gain(nonlinearity, a)


def _kaiming_std(tensor: Tensor, gain: float, mode: str) -> float:
    return gain / math.sqrt(_positive(fans(tensor)[mode == "fan_out"]))


# The authors' names for the same
glorot_uniform_, glorot_normal_ = xavier_uniform_, xavier_normal_
he_uniform_, he_normal_ = kaiming_uniform_, kaiming_normal_


def _made(fill: Callable[..., Any]) -> Callable[..., Parameter]:
    """MyGrad's form of an initialiser: it takes a shape and makes the parameter."""

    def make(*shape: int, dtype: Any = None, **options: Any) -> Parameter:
        return fill(Parameter(np.empty(shape, dtype or default_dtype())), **options)

    make.__name__ = make.__qualname__ = fill.__name__.rstrip("_")
    make.__doc__ = f"A new parameter of the given shape, filled by `{fill.__name__}`: `{make.__name__}(10, 784, ...)`, as in MyGrad."
    return make


uniform, normal = _made(uniform_), _made(normal_)
lecun_uniform, lecun_normal = _made(lecun_uniform_), _made(lecun_normal_)
glorot_uniform, glorot_normal = _made(xavier_uniform_), _made(xavier_normal_)
he_uniform, he_normal = _made(kaiming_uniform_), _made(kaiming_normal_)
