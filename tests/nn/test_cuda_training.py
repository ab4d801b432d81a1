"""A few training steps on the GPU give what they give on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

import mulgil
from mulgil import nn, optim
from mulgil.errors import DeviceError

pytestmark = pytest.mark.skipif(not mulgil.cuda.is_available(), reason="no CUDA device that CuPy can use")


def trained(where, make_optimizer):
    mulgil.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)).to(where)
    optimizer, criterion = make_optimizer(model.parameters()), nn.CrossEntropyLoss(label_smoothing=0.1)
    rng = np.random.default_rng(0)
    for _ in range(5):
        x, y = rng.random((16, 1, 8, 8), dtype=np.float32), rng.integers(0, 5, 16)
        optimizer.zero_grad()
        criterion(model(mulgil.tensor(x).to(where)), mulgil.tensor(y).to(where)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return {name: value.cpu().numpy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "make_optimizer",
    [lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3), lambda p: optim.Adam(p, lr=0.01), lambda p: optim.AdamW(p, lr=0.01)],
)
def test_training_matches_the_cpu(make_optimizer):
    want, got = trained("cpu", make_optimizer), trained("cuda", make_optimizer)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


def test_state_open_layers_and_summary_on_the_gpu():
    model = nn.Sequential(nn.Flatten(), nn.Linear(None, 3))
    model(mulgil.zeros(2, 1, 4, 4).to("cuda"))
    assert model[1].weight.device.type == "cuda"
    model.load_state_dict(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).state_dict())
    assert model[1].weight.device.type == "cuda"
    assert mulgil.summary(model, (1, 4, 4)).parameters == 51
    with pytest.raises(DeviceError, match="one device"):
        model(mulgil.zeros(2, 1, 4, 4))
    with pytest.raises(DeviceError, match="one device"):
        nn.CrossEntropyLoss()(mulgil.zeros(2, 3).to("cuda"), np.zeros(2, int))
