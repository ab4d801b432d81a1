"""Small data and models that the tests of training share."""

from __future__ import annotations

from typing import Any

import numpy as np

from mulgil import backend, nn, optim
from mulgil.autograd import Tensor
from mulgil.data import DataLoader, TensorDataset
from mulgil.train import Callback, Trainer


def blobs(n: int = 60, seed: int = 0) -> TensorDataset:
    """Three clusters in four dimensions."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 4)) + 3 * np.eye(3, 4)[labels]
    return TensorDataset(Tensor(x.astype(np.float32)), Tensor(labels))


def net(seed: int = 0) -> nn.Module:
    """A model with everything that a resumed run must get right: running statistics, and dropout."""
    backend.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def trainer(model: nn.Module | None = None, optimizer: Any = None, **options: Any) -> Trainer:
    model = model or nn.Linear(4, 3)
    optimizer = optimizer or optim.SGD(model.parameters(), lr=0.1)
    return Trainer(model, optimizer, nn.CrossEntropyLoss(), **options)


def loader(n: int = 60, batch_size: int = 16) -> DataLoader:
    """Shuffled, with a last batch that is shorter."""
    return DataLoader(blobs(n), batch_size, shuffle=True)


def weights(model: nn.Module) -> list[bytes]:
    return [value.array.tobytes() for value in model.state_dict().values()]


class StopAt(Callback):
    """Stops after step n."""

    def __init__(self, n: int, reason: str = "test"):
        self.n, self.reason = n, reason

    def batch(self, trainer: Any) -> None:
        if trainer.step == self.n:
            trainer.stop(self.reason)
