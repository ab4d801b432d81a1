"""Where the cells of a layer's map lie: at the middle of the pixels that reach them, which the gradient shows."""

from __future__ import annotations

import numpy as np
import pytest

from mulgil import nn
from mulgil.autograd import Tensor, grad
from mulgil.backend import manual_seed
from mulgil.data.transforms import Resize
from mulgil.train import grad_cam
from mulgil.train.geometry import cells_of

SIZE = (40, 36)
CHAINS = {
    "the recipe cnn": [nn.Conv2d(1, 2, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 5), nn.ReLU(), nn.AvgPool2d(2)],
    "padded": [nn.Conv2d(1, 2, 3, padding=1), nn.AvgPool2d(2), nn.Conv2d(2, 2, 3, padding="same"), nn.AvgPool2d(2)],
    "steps and holes": [nn.Conv2d(1, 2, (3, 5), stride=(1, 2), padding=(0, 1)), nn.Conv2d(2, 2, 3, dilation=2, padding="valid")],
    "even and same": [nn.Conv2d(1, 2, 4, padding="same"), nn.AvgPool2d(3, stride=2, padding=1)],
    "none": [nn.ReLU()],
}


def with_ones(layers: list[nn.Module]) -> nn.Sequential:
    """Weights of 1 and pools that take the mean: so that every pixel that a cell sees has a gradient there."""
    model = nn.Sequential(*(nn.AvgPool2d(layer.kernel_size) if isinstance(layer, nn.MaxPool2d) else layer for layer in layers))
    for parameter in model.parameters():
        parameter.array[...] = 1.0
    return model


@pytest.mark.parametrize("name", CHAINS)
def test_cells_lie_amid_what_they_see(name: str) -> None:
    model, x = with_ones(CHAINS[name]), Tensor(np.ones((1, 1, *SIZE), np.float32), requires_grad=True)
    with cells_of(model, model[-1], SIZE) as cells:
        y = model(x)
    assert cells.known and cells.size == y.shape[2:]
    for i, j in ((y.shape[2] // 2, y.shape[3] // 2), (y.shape[2] // 2 - 1, y.shape[3] // 2 + 1)):  # away from the padding
        (gradient,) = grad(y[0, 0, i, j], x, retain_graph=True)
        rows, columns = np.nonzero(np.asarray(gradient)[0, 0])
        seen = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
        np.testing.assert_allclose(cells.start + np.array([i, j]) * cells.step, seen)
    assert not any(module._forward_hooks for module in model.modules())


def test_what_follows_the_layer_does_not_count() -> None:
    model = with_ones(CHAINS["the recipe cnn"])
    with cells_of(model, model[1], SIZE) as cells:
        model(Tensor(np.ones((1, 1, *SIZE), np.float32)))
    assert cells.start.tolist() == [2, 2] and cells.step.tolist() == [1, 1]


def test_padded_maps_are_stretched_as_usual() -> None:
    model = with_ones(CHAINS["padded"])
    with cells_of(model, model[-1], SIZE) as cells:
        maps = np.asarray(model(Tensor(np.random.default_rng(0).random((3, 1, *SIZE)).astype(np.float32))).detach())[:, 0]
    np.testing.assert_allclose(cells.enlarge(maps), Resize(SIZE)(maps), rtol=1e-5)


def test_between_the_cells_it_is_bilinear_and_outside_it_fades() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 5, stride=4))
    with cells_of(model, model[0], (17, 17)) as cells:
        model(Tensor(np.zeros((1, 1, 17, 17), np.float32)))
    maps = np.random.default_rng(1).random((1, 4, 4))
    large = cells.enlarge(maps)[0]
    np.testing.assert_allclose(large[2:15:4, 2:15:4], maps[0])  # middles at 2, 6, 10, 14
    np.testing.assert_allclose(large[4, 2], (maps[0, 0, 0] + maps[0, 1, 0]) / 2)
    np.testing.assert_allclose(large[0, 2], maps[0, 0, 0])  # half a step outside
    far = nn.Sequential(nn.Conv2d(1, 1, 9))
    with cells_of(far, far[0], (17, 17)) as cells:
        far(Tensor(np.zeros((1, 1, 17, 17), np.float32)))
    large = cells.enlarge(np.ones((1, 9, 9)))[0, :, 8]
    np.testing.assert_allclose(large, [0, 0, 0, 0.5, *[1] * 9, 0.5, 0, 0, 0])


class Branches(nn.Module):
    """A shortcut beside a convolution, both with a stride: no chain."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.short, self.head = nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.Conv2d(1, 3, 1, stride=2), nn.Linear(300, 4)
        self.last = nn.Identity()

    def forward(self, x):
        return self.head(nn.functional.relu(self.last(self.main(x) + self.short(x))).flatten(1))


def test_where_there_is_no_chain_the_map_is_stretched() -> None:
    x = np.random.default_rng(2).random((3, 1, 20, 20)).astype(np.float32)
    manual_seed(0)
    model = Branches()
    drawn = [[grad_cam(model, x, "last", k, aligned=aligned) for k in range(4)] for aligned in (True, False)]
    np.testing.assert_array_equal(*drawn)
    assert np.max(drawn) > 0
