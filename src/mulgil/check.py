"""gradcheck: does the backward pass say what the forward pass does?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mulgil.autograd.gradient import grad
from mulgil.autograd.tensor import Tensor, as_tensor
from mulgil.errors import DTypeError, GradientError, describe


def gradcheck(
    function: Callable[..., Any],
    inputs: Tensor | Sequence[Tensor],
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-4,
    seed: int = 0,
    raise_exception: bool = True,
) -> bool:
    """Compare the gradient of `function` with finite differences along one random direction.

    One direction is enough: a wrong gradient agrees with it with probability zero, and the cost does not grow with the
    number of elements. The direction is compared as u . J^T v against (f(x + eps u) - f(x - eps u)) . v / (2 eps).

    Args:
        function: takes the inputs, returns a Tensor or a tuple of them. It must be deterministic.
        inputs: float64 Tensors; those with `requires_grad` are varied.
        eps, atol, rtol: step of the difference, and how far the two may be apart: |a - b| <= atol + rtol |b|.
        raise_exception: raise `GradientError` on a mismatch instead of returning False.

    Raises:
        DTypeError: an input is not float64; finite differences drown in float32's rounding.

    Example:
        >>> gradcheck(lambda x: (x * x).sum(), Tensor([1.0, 2.0], requires_grad=True, dtype="float64"))
        True
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    varied = [x for x in inputs if x.requires_grad]
    for x in varied:
        if x.dtype != np.float64:
            raise DTypeError("gradcheck: inputs that require grad must be float64", describe(x=x), "make them with x.double()")
    rng = np.random.default_rng(seed)
    directions = [rng.standard_normal(x.shape) for x in varied]
    outputs = _outputs(function(*inputs))
    weights = [rng.standard_normal(y.shape) for y in outputs]
    gradients = grad(outputs, varied, [as_tensor(v) for v in weights], allow_unused=True)
    analytic = sum(float((g.numpy() * u).sum()) for g, u in zip(gradients, directions, strict=True) if g is not None)

    def along(step: float) -> float:
        moved = {id(x): Tensor(x.array + step * u, requires_grad=True) for x, u in zip(varied, directions, strict=True)}
        ys = _outputs(function(*(moved.get(id(x), x) for x in inputs)))
        return sum(float((y.numpy() * v).sum()) for y, v in zip(ys, weights, strict=True))

    numeric = (along(eps) - along(-eps)) / (2 * eps)
    if abs(analytic - numeric) <= atol + rtol * abs(numeric):
        return True
    if raise_exception:
        raise GradientError(
            "gradcheck: backward must agree with finite differences",
            f"backward says {analytic:.8g} along a random direction, differences say {numeric:.8g}",
            "look for a missing factor, a wrong sign, or an input that is used twice",
        )
    return False


def _outputs(result: Any) -> list[Tensor]:
    results = result if isinstance(result, (tuple, list)) else (result,)
    return [y for y in results if y.requires_grad]
