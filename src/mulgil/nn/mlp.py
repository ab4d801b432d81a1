"""MLP: layers of neurons by their sizes, as in DeZero."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mulgil.autograd import Tensor
from mulgil.errors import OptionError
from mulgil.nn import functional as F
from mulgil.nn import init
from mulgil.nn.container import ModuleList
from mulgil.nn.linear import Linear
from mulgil.nn.module import Module
from mulgil.typing import ArrayLike


class MLP(Module):
    """A multi-layer perceptron: linear layers of the given sizes with an activation between them.

    Args:
        sizes: output sizes of the layers; the input size is taken from the first batch.
        activation: a function of `F`, its name ("relu"), or a Module. Default: sigmoid.
        in_features: the input size, if it is not to be left open.
    Initial weights: LeCun normal, biases 0. x [batch, features] -> y [batch, sizes[-1]].

    Example:
        >>> model = MLP((1000, 10))                            # 784-1000-10 on MNIST
        >>> model = MLP((1000, 1000, 10), activation=F.relu)
    """

    def __init__(
        self, sizes: Sequence[int], activation: str | Module | Callable[[Tensor], Tensor] = "sigmoid", in_features: int | None = None
    ):
        super().__init__()
        if isinstance(sizes, (int, str)) or not len(sizes):
            raise OptionError("MLP: sizes must be a sequence of layer sizes", repr(sizes), "MLP((1000, 10))")
        if isinstance(activation, str) and activation not in F.__all__:
            rule = "MLP: activation must be a function, its name in nn.functional, or a Module"
            raise OptionError(rule, repr(activation), 'activation="relu"')
        self.activation = getattr(F, activation) if isinstance(activation, str) else activation
        self.layers = ModuleList(Linear(before, size) for before, size in zip((in_features, *sizes[:-1]), sizes, strict=True))
        for layer in self.layers:
            init.lecun_normal_(layer.weight)
            init.zeros_(layer.bias)

    def forward(self, x: ArrayLike) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)
