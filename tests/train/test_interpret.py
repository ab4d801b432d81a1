"""interpret: every sample once and in order, from every kind of data; the model is as it was; tables and pictures agree."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import mulgil
from mulgil import nn
from mulgil.autograd import Tensor
from mulgil.data import DataLoader, Dataset, Subset, TensorDataset, datasets, transforms
from mulgil.errors import DTypeError, OptionError, ShapeError
from mulgil.train import interpret
from mulgil.train.samples import Samples

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(53, 16)).astype(np.float32), RNG.integers(0, 4, 53)


def classifier() -> nn.Module:
    mulgil.manual_seed(1)
    return nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))


class OneByOne(Dataset):
    """A data set of single samples, with names."""

    classes = ("east", "south", "west", "north")

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return X[i], int(Y[i])


KINDS = {
    "arrays": lambda: (X, Y),
    "tensors": lambda: (Tensor(X), Tensor(Y)),
    "arrays in float64": lambda: (X.astype(np.float64), Y),
    "data set": lambda: TensorDataset(Tensor(X), Tensor(Y)),
    "samples": OneByOne,
    "subset": lambda: Subset(OneByOne(), range(53)),
    "loader": lambda: DataLoader(OneByOne(), batch_size=7),
    "shuffled loader that drops": lambda: DataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True, drop_last=True),
    "batches": lambda: _Batches(),
    "list of samples": lambda: list(zip(X, Y, strict=True)),
}


class _Batches:
    """Batches that can be read again and again, as another library's loader gives them."""

    def __iter__(self):
        return ((X[i : i + 9], Y[i : i + 9]) for i in range(0, 53, 9))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_gives_the_same(kind: str) -> None:
    model = classifier()
    result = interpret(model, KINDS[kind](), batch_size=10)
    model.eval()
    with mulgil.no_grad():
        logits = np.asarray(model(Tensor(X))).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_array_equal(result.targets, Y)
    np.testing.assert_array_equal(result.predictions, logits.argmax(1))
    np.testing.assert_allclose(result.probabilities, shares, rtol=1e-5)
    np.testing.assert_allclose(result.losses, -np.log(shares[np.arange(53), Y]), rtol=1e-5)
    np.testing.assert_array_equal(result.mistakes, np.flatnonzero(logits.argmax(1) != Y))
    assert result.accuracy == pytest.approx(np.mean(logits.argmax(1) == Y)) and result.loss == pytest.approx(result.losses.mean())
    rows = [3, 50, 0, 17]
    np.testing.assert_array_equal(result._samples.fetch(rows), X[rows])


def test_a_loader_with_a_sampler_of_its_own_keeps_its_order() -> None:
    order = [5, 3, 50, 5]
    result = interpret(classifier(), DataLoader(TensorDataset(X, Y), batch_size=3, sampler=order))
    np.testing.assert_array_equal(result.targets, Y[order])
    np.testing.assert_array_equal(result._samples.fetch([2, 0]), X[[50, 5]])


def test_modes_statistics_random_state_and_gradients_are_left_alone() -> None:
    model = classifier()
    model.train()
    model[1].eval()  # a layer that is frozen on purpose
    modes = [module.training for module in model.modules()]
    state = {name: np.array(value) for name, value in model.state_dict().items()}
    before = mulgil.default_generator.get_state()
    interpret(model, DataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True))
    with pytest.raises(ShapeError):
        interpret(model, (X[:, :3], Y))
    with pytest.raises(OptionError):
        interpret(model, (X, Y + 1))
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert mulgil.default_generator.get_state() == before
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(np.asarray(value), state[name])


def test_only_a_batch_at_a_time_is_given_to_the_model() -> None:
    sizes = []

    class Watched(nn.Linear):
        def forward(self, x):
            sizes.append(len(x))
            assert not mulgil.is_grad_enabled()
            return super().forward(x)

    interpret(Watched(16, 4), (X, Y), batch_size=20)
    assert sizes == [20, 20, 13]


class Given(nn.Module):
    """Gives its input as the output: logits at will."""

    def forward(self, x):
        return x


def test_probabilities_and_logarithms_are_recognised() -> None:
    logits = RNG.normal(size=(20, 4)).astype(np.float32)
    first = interpret(Given(), (logits, Y[:20]))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for outputs in (shares, np.log(shares), logits + 50):
        other = interpret(Given(), (outputs, Y[:20]))
        np.testing.assert_allclose(other.losses, first.losses, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other.probabilities, first.probabilities, rtol=1e-4)


def test_extremes_give_numbers_without_warnings() -> None:
    outputs = np.array([[1000.0, 0], [0, 1000.0], [np.nan, 0], [0.5, 0.25]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = interpret(Given(), (outputs, np.array([0, 0, 0, 0])))
        result.report()
    assert result.losses[0] == 0 and not np.signbit(result.losses[0]) and result.losses[1] == 1000
    assert result.top_losses(None).tolist() == [2, 1, 3, 0]  # what is not a number is the worst


def test_tables_agree_with_each_other() -> None:
    result = interpret(classifier(), OneByOne())
    matrix = result.confusion_matrix()
    assert result.classes == ["east", "south", "west", "north"] and len(result) == 53
    assert matrix.sum() - matrix.trace() == len(result.mistakes) == sum(pair.count for pair in result.most_confused(None))
    np.testing.assert_allclose(result.confusion_matrix("true").sum(1), np.ones(4))
    np.testing.assert_array_equal(result.top_losses(5), np.argsort(-result.losses, kind="stable")[:5])
    pair = result.most_confused(1)[0]
    rows = result.where(pair.true, pair.predicted)
    assert len(rows) == pair.count and set(rows) <= set(result.mistakes)
    np.testing.assert_array_equal(result.where(predicted=2), np.flatnonzero(result.predictions == 2))
    assert result.report()["recall"][-1] == pytest.approx(result.accuracy)
    assert f"{len(result.mistakes)} mistakes" in repr(result)
    for choice in ("up", 4, -1, 1.5):
        with pytest.raises(OptionError):
            result.where(choice)  # type: ignore[arg-type]


def test_names_come_from_the_data_or_the_caller() -> None:
    digits = Subset(datasets.Digits(train=False, transform=transforms.ToTensor()), range(20))
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 12))
    assert interpret(model, DataLoader(digits, batch_size=5)).classes == [str(i) for i in range(12)]
    assert interpret(model, digits, classes=list("abcdefghijkl")).classes[11] == "l"
    with pytest.raises(OptionError, match="a name for each"):
        interpret(model, digits, classes=["one"])


@pytest.mark.parametrize(
    ("model", "data", "error"),
    [
        (Given(), (X[:, :1], Y * 0), ShapeError),
        (Given(), (X.reshape(53, 4, 4), Y), ShapeError),
        (Given(), (X, Y[:, None]), ShapeError),
        (Given(), (X, Y[:5]), ShapeError),
        (Given(), (X, Y + 0.5), DTypeError),
        (Given(), (X, Y + 13), OptionError),
        (Given(), X, OptionError),
        (Given(), (X, Y, Y), OptionError),
        (Given(), (X[:0], Y[:0]), OptionError),
        (Given(), iter([(X, Y)]), OptionError),
    ],
)
def test_what_cannot_be_interpreted_is_refused(model: nn.Module, data: object, error: type) -> None:
    with pytest.raises(error) as caught:
        interpret(model, data)
    assert caught.value.got


def test_batch_size_is_checked() -> None:
    with pytest.raises(OptionError):
        Samples((X, Y), batch_size=0)


def test_interpret_is_found_lazily() -> None:
    assert mulgil.interpret is interpret


def test_pictures_are_views_of_the_numbers() -> None:
    pytest.importorskip("matplotlib")
    result = interpret(classifier(), (X, Y))
    worst = result.top_losses(3)
    figure = result.plot_top_losses(3)
    for axes, row in zip(figure.axes, worst, strict=True):
        said, true, share = result.predictions[row], Y[row], result.probabilities[row].max()
        assert axes.get_title() == f"predicted {said}\ntruth {true}\np {share:.2f}  loss {result.losses[row]:.2f}\n#{row}"
        np.testing.assert_array_equal(axes.images[0].get_array(), X[row].reshape(4, 4))
    figure = result.plot_mistakes(4)
    assert [axes.get_title().partition("#")[2] for axes in figure.axes] == [str(i) for i in result.mistakes[:4]]
    assert f"{len(result.mistakes)} mistakes in 53 samples (4 of them)" == figure.get_suptitle()
    drawn = [int(axes.get_title().partition("#")[2]) for axes in result.plot_mistakes(4, seed=1).axes]
    assert set(drawn) <= set(result.mistakes) and drawn == sorted(drawn) and drawn != list(result.mistakes[:4])
    texts = [text.get_text() for text in result.plot_confusion_matrix().axes[0].texts]
    assert texts == [f"{v:,}" for v in result.confusion_matrix().ravel() if v]
    right = interpret(Given(), (np.eye(4, dtype=np.float32), np.arange(4)))
    assert "0 mistakes in 4 samples" in right.plot_mistakes().get_suptitle()
