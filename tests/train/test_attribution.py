"""Saliency, Grad-CAM, occlusion, feature maps, filters, embedding: the right numbers, and a model that is as it was."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import mulgil
from mulgil import nn
from mulgil.autograd import Tensor
from mulgil.data import DataLoader, TensorDataset
from mulgil.errors import DTypeError, MulgilError, OptionError, ShapeError
from mulgil.train import embedding, feature_maps, filters, grad_cam, occlusion, saliency
from mulgil.train.recipes import cnn

RNG = np.random.default_rng(0)
IMAGES = RNG.random((3, 1, 32, 32)).astype(np.float32)


def small() -> nn.Module:
    """Everything that has a mode or a random draw, on images of 10 x 12 with two channels."""
    mulgil.manual_seed(2)
    features = [nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(100, 4)]
    model = nn.Sequential(*features)
    model[1].running_var.array[...] = RNG.random(5) + 0.5
    return model


SMALL = RNG.normal(size=(4, 2, 10, 12)).astype(np.float32)


# ---- against PyTorch


def torch_cnn(model: nn.Module):
    torch = pytest.importorskip("torch")
    t = torch.nn
    features = [t.Conv2d(1, 20, 5), t.ReLU(), t.MaxPool2d(2), t.Conv2d(20, 10, 5), t.ReLU(), t.MaxPool2d(2)]
    other = t.Sequential(*features, t.Flatten(), t.Linear(250, 20), t.ReLU(), t.Linear(20, 10))
    other.load_state_dict({name: torch.tensor(np.array(value)) for name, value in model.state_dict().items()})
    return torch, other.eval()


@pytest.mark.parametrize("target", [None, 3, [1, 0, 9]])
def test_saliency_is_pytorchs_gradient(target: object) -> None:
    model = cnn()
    torch, other = torch_cnn(model)
    x = torch.tensor(IMAGES, requires_grad=True)
    scores = other(x)
    chosen = scores.argmax(1) if target is None else torch.tensor(target).expand(3)
    scores[torch.arange(3), chosen].sum().backward()
    np.testing.assert_allclose(saliency(model, IMAGES, target), x.grad.numpy(), rtol=1e-3, atol=1e-5)


@pytest.fixture(autouse=True)
def _the_same_weights_in_any_order_of_tests() -> None:
    mulgil.manual_seed(0)


@pytest.mark.parametrize(("layer", "target"), [("0", None), ("3", 7), ("4", None), ("5", [1, 0, 9])])
def test_grad_cam_is_pytorchs(layer: str, target: object) -> None:
    model = cnn()
    torch, other = torch_cnn(model)
    kept = []
    handle = other.get_submodule(layer).register_forward_hook(lambda module, inputs, output: kept.append(output))
    scores = other(torch.tensor(IMAGES))
    handle.remove()
    chosen = scores.argmax(1) if target is None else torch.tensor(target).expand(3)
    (gradient,) = torch.autograd.grad(scores[torch.arange(3), chosen].sum(), kept[0])
    small_map = torch.relu((gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True))
    wanted = torch.nn.functional.interpolate(small_map, (32, 32), mode="bilinear", align_corners=False)[:, 0].detach().numpy()
    found = grad_cam(model, IMAGES, layer, target, aligned=False)
    assert found.shape == (3, 32, 32) and found.min() >= 0 and wanted.max() > 0
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5 * wanted.max())
    np.testing.assert_array_equal(found, grad_cam(model, IMAGES, model.get_submodule(layer), target, aligned=False))
    aligned = grad_cam(model, IMAGES, layer, target)
    assert aligned.shape == found.shape and aligned.dtype == found.dtype
    assert aligned.max() > 0 and not aligned[:, 0].any() and not aligned[:, :, -1].any()  # the unpadded layers do not see the rim


# ---- against the definition


def test_occlusion_is_the_loop_written_out() -> None:
    model = small().eval()

    def score(x: np.ndarray, k: int) -> float:
        with mulgil.no_grad():
            return float(np.asarray(model(Tensor(x[None])))[0, k])

    with mulgil.no_grad():
        chosen = np.asarray(model(Tensor(SMALL))).argmax(1)
    wanted = np.zeros((4, 10, 12))
    tops, lefts = [0, 3, 6], [0, 3, 6, 8]  # windows of 4 x 4 in steps of 3; the last step across is shortened
    for n in range(4):
        sums, times = np.zeros((10, 12)), np.zeros((10, 12))
        for top in tops:
            for left in lefts:
                covered = SMALL[n].copy()
                covered[:, top : top + 4, left : left + 4] = 0.25
                sums[top : top + 4, left : left + 4] += score(SMALL[n], chosen[n]) - score(covered, chosen[n])
                times[top : top + 4, left : left + 4] += 1
        wanted[n] = sums / times
    for batch_size in (1, 7, 500):
        found = occlusion(model, SMALL, size=4, stride=3, fill=0.25, batch_size=batch_size)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    other = occlusion(model, SMALL, size=(4, 4), stride=(3, 3), target=chosen, fill=0.25)
    np.testing.assert_allclose(other, wanted, rtol=1e-4, atol=1e-5)


def test_smoothgrad_is_the_mean_over_noise_and_repeats() -> None:
    model = small()
    once = saliency(model, SMALL)
    np.testing.assert_allclose(saliency(model, SMALL, samples=5, noise=0.0), once, rtol=1e-5, atol=1e-7)
    first, again, other = (saliency(model, SMALL, samples=5, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.float32 and not np.allclose(first, other) and not np.allclose(first, once)
    linear = nn.Linear(6, 3)  # whose gradient is the same everywhere: its weights
    x = RNG.normal(size=(5, 6)).astype(np.float32)
    np.testing.assert_allclose(saliency(linear, x, 2, samples=3), np.tile(np.asarray(linear.weight.detach())[2], (5, 1)), rtol=1e-6)


def test_feature_maps_are_the_layers_outputs() -> None:
    model = small()
    maps = feature_maps(model, SMALL, "2")
    model.eval()
    with mulgil.no_grad():
        np.testing.assert_array_equal(maps, np.asarray(model[2](model[1](model[0](Tensor(SMALL))))))
    assert maps.shape == (4, 5, 8, 10)


def test_filters_are_a_copy_of_the_weights() -> None:
    model = small()
    taken = filters(model[0])
    np.testing.assert_array_equal(taken, model[0].weight.array)
    taken[:] = 0
    assert model[0].weight.array.any()
    assert filters(model[6], (1, 10, 10)).shape == (4, 1, 10, 10)
    with pytest.raises(ShapeError):
        filters(model[6], (1, 10, 9))
    for layer in (model[2], model[1], nn.Linear(None, 3), "0"):
        with pytest.raises(OptionError, match="weights"):
            filters(layer)  # type: ignore[arg-type]


# ---- the embedding


class Given(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x):
        return self.layer(x)


def test_embedding_is_pca() -> None:
    spread = np.array([9.0, 4.0, 1.0, 0.25, 0.1])
    turn = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    x = (RNG.normal(size=(500, 5)) * spread) @ turn.T + 3
    labels = np.arange(500) % 7
    found = embedding(Given().double(), DataLoader(TensorDataset(Tensor(x), labels), batch_size=64), "layer", components=3)
    centred = x - x.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    np.testing.assert_allclose(found.explained_variance_ratio, values[::-1][:3] / values.sum(), rtol=1e-9)
    np.testing.assert_allclose(abs((found.components * vectors[:, ::-1][:, :3].T).sum(1)), np.ones(3), rtol=1e-9)
    np.testing.assert_allclose((x - found.mean) @ found.components.T, found.coordinates, rtol=1e-9, atol=1e-9)
    assert (np.take_along_axis(found.components, abs(found.components).argmax(1)[:, None], 1) > 0).all()
    np.testing.assert_array_equal(found.targets, labels)
    assert found.classes is None


def test_embedding_finds_known_axes_with_their_signs() -> None:
    x = np.zeros((4, 2, 2), np.float32)
    x[:, 0, 1], x[:, 1, 0] = [-6, 6, -6, 6], [2, 2, -2, -2]
    found = embedding(Given(), x, "layer")
    np.testing.assert_allclose(found.coordinates, [[-6, 2], [6, 2], [-6, -2], [6, -2]], atol=1e-5)
    np.testing.assert_allclose(found.explained_variance_ratio, [0.9, 0.1], rtol=1e-5)
    assert found.targets is None and found.components.shape == (2, 4)
    same = embedding(Given(), np.ones((4, 3), np.float32), "layer")
    np.testing.assert_allclose([*same.coordinates.ravel(), *same.explained_variance_ratio], np.zeros(10), atol=1e-6)


def test_embedding_in_batches_is_that_of_the_whole() -> None:
    model = small()
    whole, parts = (embedding(model, SMALL, "3", batch_size=n) for n in (100, 3))
    np.testing.assert_allclose(whole.coordinates, parts.coordinates, rtol=1e-4, atol=1e-5)


def test_embedding_refuses() -> None:
    for components in (0, 5):
        with pytest.raises(OptionError, match="components"):
            embedding(Given(), np.ones((4, 9), np.float32), "layer", components=components)
    with pytest.raises(OptionError, match="at least one sample"):
        embedding(Given(), np.ones((0, 9), np.float32), "layer")


# ---- the model is as it was

LOOKS: dict[str, Callable] = {
    "saliency": lambda model, x: saliency(model, x),
    "smoothgrad": lambda model, x: saliency(model, x, samples=2),
    "grad_cam": lambda model, x: grad_cam(model, x, "2"),
    "occlusion": lambda model, x: occlusion(model, x, size=5, stride=5),
    "feature_maps": lambda model, x: feature_maps(model, x, "2"),
    "embedding": lambda model, x: embedding(model, x, "2"),
}


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("recording", [True, False])
def test_a_look_leaves_no_trace(look: str, fails: bool, recording: bool) -> None:
    model = small()
    model[1].eval()
    if fails:
        model.append(Fails())
    for parameter in model.parameters():
        parameter.grad = Tensor(np.ones_like(parameter.array))
    modes = [module.training for module in model.modules()]
    state = {name: np.array(value) for name, value in model.state_dict().items()}
    random, x = mulgil.default_generator.get_state(), Tensor(SMALL.copy(), requires_grad=True)

    def run() -> None:
        if fails:
            with pytest.raises(RuntimeError, match="on purpose"):
                LOOKS[look](model, x)
        else:
            LOOKS[look](model, x)
        assert mulgil.is_grad_enabled() == recording

    if recording:
        run()
    else:
        with mulgil.no_grad():
            run()
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all((np.asarray(p.grad) == 1).all() and p.requires_grad for p in model.parameters())
    assert mulgil.default_generator.get_state() == random
    assert x.grad is None and x.requires_grad
    np.testing.assert_array_equal(x.array, SMALL)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(np.asarray(value), state[name])


def test_a_frozen_model_can_be_looked_at() -> None:
    model = small()
    wanted = saliency(model, SMALL), grad_cam(model, SMALL, "2")
    model.requires_grad_(False)
    np.testing.assert_array_equal(saliency(model, SMALL), wanted[0])
    np.testing.assert_array_equal(grad_cam(model, SMALL, "2"), wanted[1])


# ---- errors


@pytest.mark.parametrize(
    ("look", "error", "words"),
    [
        (lambda m: grad_cam(m, SMALL, "conv9"), OptionError, "0 (Conv2d), 1 (BatchNorm2d)"),
        (lambda m: grad_cam(m, SMALL, nn.ReLU()), OptionError, "not part of it"),
        (lambda m: feature_maps(m, SMALL, "7.0"), OptionError, "0 (Conv2d)"),
        (lambda m: grad_cam(m, SMALL, "6"), ShapeError, "convolution"),
        (lambda m: saliency(m, SMALL, 4), OptionError, "0..3"),
        (lambda m: saliency(m, SMALL, [0, 1]), OptionError, "one for each of the 4 samples"),
        (lambda m: saliency(m, SMALL, 0.5), OptionError, "target"),
        (lambda m: saliency(m, SMALL, samples=0), OptionError, "samples"),
        (lambda m: saliency(m, SMALL[0, 0, 0]), ShapeError, "batch"),
        (lambda m: saliency(m, (SMALL * 9).astype(np.uint8)), DTypeError, "raw images"),
        (lambda m: saliency(m[:4], SMALL), ShapeError, "scores [N, classes]"),
        (lambda m: occlusion(m, SMALL, size=11), OptionError, "fit into the image"),
        (lambda m: occlusion(m, SMALL, size=2, stride=3), OptionError, "no gap"),
        (lambda m: occlusion(m, SMALL, size=0), OptionError, "size"),
        (lambda m: occlusion(m, SMALL[:, 0], size=2), MulgilError, "[N, C, H, W]"),
    ],
)
def test_errors_say_what_to_do(look: Callable, error: type, words: str) -> None:
    model = small()
    with pytest.raises(error) as caught:
        look(model)
    assert words in str(caught.value)
    assert not any(module._forward_hooks for module in model.modules()) and all(m.training for m in model.modules())


def test_a_layer_that_is_not_run_is_named() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(OptionError, match="'idle' was not called"):
        feature_maps(Skips(), np.ones((2, 4), np.float32), "idle")
