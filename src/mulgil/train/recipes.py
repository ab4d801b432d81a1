"""The six programs of the documents that mulgil comes from, as a table: what is trained, on what, how, how long.

Each recipe's reference is the same program in PyTorch on MNIST; `docs/results.md` holds the figures. The same six stand
as plain programs in `examples/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mulgil import nn, optim
from mulgil.errors import OptionError
from mulgil.train.preprocess import Steps

SMALL_BATCH = 25
TO_TENSOR: Steps = (("ToTensor", {}),)


@dataclass(frozen=True)
class Recipe:
    """How a classifier of 28x28 grey images is made and trained.

    model: makes the untrained model. transform: preprocessing, see `preprocess`. optimizer and its settings, lr among them.
    batch_size, epochs, drop_last: as in the program it comes from, for sets of MNIST's size. On the embedded digits, where
    such an epoch would be 14 steps, batches are of `SMALL_BATCH` and the epochs `small_epochs`: as many as it needs.
    """

    name: str
    summary: str
    model: Callable[[], nn.Module]
    optimizer: str
    settings: dict[str, Any]
    batch_size: int
    epochs: int
    small_epochs: int
    transform: Steps = TO_TENSOR
    drop_last: bool = False


OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}


def initialised(model: nn.Module, weights: Callable[..., Any], **kwargs: Any) -> nn.Module:
    """Draw every weight matrix and filter from `weights`, set the biases to zero."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            weights(parameter, **kwargs)
    return model


def sigmoid() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 1000), nn.Sigmoid(), nn.Linear(1000, 10))
    return initialised(model, nn.init.lecun_normal_)


def relu() -> nn.Module:
    hidden = [nn.Linear(784, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.ReLU()]
    return initialised(nn.Sequential(nn.Flatten(), *hidden, nn.Linear(1000, 10)), nn.init.lecun_normal_)


def softmax() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def deep_mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    """Takes [N, 1, 32, 32]: the images come padded by 2, so that the first 5x5 filters keep their size."""
    features = [nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 10, 5), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*features, nn.Flatten(), nn.Linear(250, 20), nn.ReLU(), nn.Linear(20, 10))
    return initialised(model, nn.init.xavier_uniform_, gain=math.sqrt(2))


_ALL = (
    Recipe(
        "cnn",
        "two convolutions with max-pooling, then two dense layers",
        cnn,
        "sgd",
        {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
        batch_size=100,
        epochs=2,
        small_epochs=25,
        transform=(("ToTensor", {}), ("Pad", {"padding": 2})),
        drop_last=True,
    ),
    Recipe("relu", "784-1000-1000-10, ReLU", relu, "adam", {"lr": 1e-3}, 100, 5, 20),
    Recipe("sigmoid", "784-1000-10, sigmoid", sigmoid, "sgd", {"lr": 0.01}, 100, 5, 60),
    Recipe("softmax", "784-10: softmax regression", softmax, "sgd", {"lr": 0.1}, 100, 15, 60, drop_last=True),
    Recipe(
        "mlp",
        "784-128-10, ReLU, pixels from -1 to 1",
        mlp,
        "sgd",
        {"lr": 0.01},
        batch_size=500,
        epochs=100,
        small_epochs=100,
        transform=(("ToTensor", {}), ("Normalize", {"mean": 0.5, "std": 0.5})),
    ),
    Recipe("deep-mlp", "784-128-64-10, ReLU", deep_mlp, "adam", {"lr": 1e-3}, 256, 20, 30, drop_last=True),
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises OptionError, which lists the names."""
    if name not in RECIPES:
        raise OptionError("there are six recipes", repr(name), f"one of {', '.join(RECIPES)}")
    return RECIPES[name]


def make_optimizer(recipe: Recipe, model: nn.Module, name: str | None = None, lr: float | None = None) -> optim.Optimizer:
    """The recipe's optimizer, or another one of `OPTIMIZERS` with its own defaults; `lr` replaces the learning rate of either."""
    settings = dict(recipe.settings) if name in (None, recipe.optimizer) else {}
    if lr is not None:
        settings["lr"] = lr
    elif "lr" not in settings:
        settings["lr"] = 0.01 if name == "sgd" else 1e-3
    return OPTIMIZERS[name or recipe.optimizer](model.parameters(), **settings)
