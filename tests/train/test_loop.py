"""The pieces of a loop of one's own: steps, exact metrics; the recipes; preprocessing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mulgil import backend, nn, optim
from mulgil.autograd import Tensor
from mulgil.data import DataLoader, TensorDataset
from mulgil.errors import ModelFileError, OptionError
from mulgil.train import RECIPES, evaluate, make_step, train_epoch
from mulgil.train.metrics import Meter, Metrics
from mulgil.train.preprocess import as_json, build_transform
from mulgil.train.progress import clock
from mulgil.train.recipes import get_recipe, make_optimizer
from mulgil.train.run import Options, prepare


def blobs(n: int = 50, seed: int = 0) -> TensorDataset:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 4)) + 3 * np.eye(3, 4)[labels]
    return TensorDataset(Tensor(x.astype(np.float32)), Tensor(labels))


def test_metrics_are_weighted_by_samples() -> None:
    data, model = blobs(50), nn.Linear(4, 3)
    whole = evaluate(model, DataLoader(data, batch_size=50), nn.CrossEntropyLoss())
    for batch_size in (1, 7, 49):  # the last batch is shorter, and must count for less
        parts = evaluate(model, DataLoader(data, batch_size=batch_size), nn.CrossEntropyLoss())
        assert parts.loss == pytest.approx(whole.loss, rel=1e-5) and parts.accuracy == whole.accuracy and parts.samples == 50
        np.testing.assert_array_equal(parts.predictions, whole.predictions)
    logits = np.asarray(model(data.tensors[0]))
    np.testing.assert_array_equal(whole.predictions, logits.argmax(1))
    assert whole.accuracy == np.mean(logits.argmax(1) == np.asarray(data.tensors[1]))


def test_train_epoch_equals_the_loop_written_out() -> None:
    data = blobs(40)
    backend.manual_seed(3)
    model, other = nn.Linear(4, 3), nn.Linear(4, 3)
    other.load_state_dict(model.state_dict())
    step = make_step(model, optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
    metrics = train_epoch(model, DataLoader(data, batch_size=16), step)
    optimizer, total = optim.SGD(other.parameters(), lr=0.1), 0.0
    for x, y in DataLoader(data, batch_size=16):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(other(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
    np.testing.assert_array_equal(model.weight.array, other.weight.array)
    assert metrics.loss == pytest.approx(total / 40, rel=1e-6)


def test_a_compiled_epoch_equals_an_eager_one() -> None:
    data = blobs(40)
    backend.manual_seed(3)
    model, other = nn.Linear(4, 3), nn.Linear(4, 3)
    other.load_state_dict(model.state_dict())
    results = []
    for m, compiled in ((model, True), (other, False)):
        step = make_step(m, optim.Adam(m.parameters(), lr=0.1), nn.CrossEntropyLoss(), compiled)
        results.append([train_epoch(m, DataLoader(data, batch_size=16), step) for _ in range(3)][-1])  # the last batch is shorter
    np.testing.assert_allclose(model.weight.array, other.weight.array, rtol=1e-5, atol=1e-6)
    assert results[0].accuracy == results[1].accuracy and results[0].loss == pytest.approx(results[1].loss, rel=1e-5)


def test_evaluate_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
    before = {name: value.tolist() for name, value in model.state_dict().items()}
    loader = DataLoader(blobs(), batch_size=10)
    first, second = (evaluate(model, loader, nn.CrossEntropyLoss()) for _ in range(2))
    assert first == Metrics(second.loss, second.samples, first.seconds, second.values)  # no dropout, nothing drawn
    assert model.training and {name: value.tolist() for name, value in model.state_dict().items()} == before
    assert all(p.grad is None for p in model.parameters())


def test_an_empty_meter_says_so() -> None:
    assert np.isnan(Meter().loss) and Meter().result().samples == 0


PARAMETERS = {
    "cnn": 20 * 26 + 10 * 501 + 20 * 251 + 10 * 21,
    "relu": 1_796_010,
    "sigmoid": 795_010,
    "softmax": 7_850,
    "mlp": 101_770,
    "deep-mlp": 109_386,
}
REFERENCE = {  # batch, epochs, drop last, optimizer, settings: the design's table
    "cnn": (100, 2, True, "SGD", {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}),
    "relu": (100, 5, False, "Adam", {"lr": 1e-3}),
    "sigmoid": (100, 5, False, "SGD", {"lr": 0.01}),
    "softmax": (100, 15, True, "SGD", {"lr": 0.1}),
    "mlp": (500, 100, False, "SGD", {"lr": 0.01}),
    "deep-mlp": (256, 20, True, "Adam", {"lr": 1e-3}),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name: str) -> None:
    recipe = get_recipe(name)
    backend.manual_seed(0)
    model = recipe.model()
    optimizer = make_optimizer(recipe, model)
    group = optimizer.param_groups[0]
    settings = {key: group[key] for key in REFERENCE[name][4]}
    assert (recipe.batch_size, recipe.epochs, recipe.drop_last, type(optimizer).__name__, settings) == REFERENCE[name]
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    images = build_transform(recipe.transform).batch(np.zeros((3, 1, 28, 28), np.uint8))
    assert model(images).shape == (3, 10)


def first_weights(name: str) -> tuple[np.ndarray, np.ndarray]:
    backend.manual_seed(1)
    layer = next(m for m in get_recipe(name).model().modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
    return layer.weight.array, layer.bias.array


@pytest.mark.parametrize("name", ["sigmoid", "relu"])
def test_lecun_normal(name: str) -> None:
    weight, bias = first_weights(name)
    assert weight.std() == pytest.approx(784**-0.5, rel=0.01) and abs(weight).max() > 4 * weight.std() and not bias.any()


def test_glorot_uniform_with_gain() -> None:
    weight, bias = first_weights("cnn")
    bound = np.sqrt(2) * np.sqrt(6 / (25 + 20 * 25))
    assert 0.9 * bound < abs(weight).max() <= bound and not bias.any()


@pytest.mark.parametrize("name", ["softmax", "mlp", "deep-mlp"])
def test_pytorchs_default(name: str) -> None:
    weight, bias = first_weights(name)
    for array in (weight, bias):
        assert abs(array).max() <= 784**-0.5
    assert abs(weight).max() > 0.99 * 784**-0.5 and bias.any()


def test_another_optimizer_does_not_inherit_settings() -> None:
    model = nn.Linear(1, 1)
    group = make_optimizer(get_recipe("cnn"), model, "adam").param_groups[0]
    assert group["lr"] == 1e-3 and group["weight_decay"] == 0
    assert make_optimizer(get_recipe("cnn"), model, None, 0.5).param_groups[0]["momentum"] == 0.9


def test_preprocessing_is_plain_data() -> None:
    steps = json.loads(json.dumps(as_json(get_recipe("mlp").transform)))
    x = build_transform(steps).batch(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1))
    assert np.asarray(x).ravel().tolist() == [-1, 1]
    for bad in ([["Lambda", {"lambd": "print"}]], [["Pad", {"nonsense": 1}]], [["Pad"]], ["ToTensor"]):
        with pytest.raises(ModelFileError):
            build_transform(bad)


def test_clock() -> None:
    assert [clock(s).strip() for s in (0.4, 99, 125, 4200, 7325)] == ["0 s", "99 s", "2:05 min", "70:00 min", "2:02 h"]


def test_unknown_names() -> None:
    for options in (Options("nonsense"), Options(data="nonsense")):
        with pytest.raises(OptionError, match="nonsense"):
            prepare(options)
