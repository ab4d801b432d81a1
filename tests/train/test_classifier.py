"""scikit-learn's shape: fit, predict, score, parameters; with scikit-learn itself where it is installed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mulgil import backend, nn, optim
from mulgil.errors import OptionError, ShapeError
from mulgil.train import Classifier
from tests.train.tools import blobs


def arrays(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x, y = blobs(n, seed).tensors
    return np.asarray(x).astype(np.float64), np.array(["ant", "bee", "cat"])[np.asarray(y)]


def small(**options: object) -> Classifier:
    backend.manual_seed(0)
    return Classifier(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)), lr=0.01, epochs=8, **options)


def test_fit_predict_score() -> None:
    x, y = arrays()
    classifier = small()
    assert classifier.fit(x, y) is classifier and classifier.classes_.tolist() == ["ant", "bee", "cat"]
    test_x, test_y = arrays(100, seed=1)
    assert classifier.score(test_x, test_y) > 0.9
    chances = classifier.predict_proba(test_x)
    assert chances.shape == (100, 3) and np.allclose(chances.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(classifier.predict(test_x), classifier.classes_[chances.argmax(1)])
    assert len(classifier.history_) == 8 and classifier.n_features_in_ == 4 and classifier.predict(test_x[:0]).shape == (0,)


def test_the_same_seed_gives_the_same_classifier_and_leaves_the_generator_alone() -> None:
    x, y = arrays()
    classifier = small(seed=3)
    initial = classifier.model[0].weight.array.copy()
    state = backend.default_generator.get_state()
    first, second = (classifier.fit(x, y).predict_proba(x) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert backend.default_generator.get_state() == state
    np.testing.assert_array_equal(classifier.model[0].weight.array, initial)  # a copy was trained
    assert not np.array_equal(first, classifier.set_params(seed=4).fit(x, y).predict_proba(x))
    made = Classifier(lambda: nn.Linear(4, 3), lambda p, lr: optim.SGD(p, lr=lr), lr=0.1, epochs=2)
    np.testing.assert_array_equal(made.fit(x, y).predict_proba(x), made.fit(x, y).predict_proba(x))


def test_parameters() -> None:
    classifier = small()
    assert classifier.get_params()["epochs"] == 8 and classifier.set_params(epochs=2, lr=0.5).epochs == 2
    with pytest.raises(OptionError, match="parameter"):
        classifier.set_params(nonsense=1)
    assert "lr=0.5" in repr(classifier)


def test_errors_that_teach() -> None:
    x, y = arrays(20)
    with pytest.raises(OptionError, match="fit comes before"):
        small().predict(x)
    with pytest.raises(ShapeError):
        small().fit(x, y[:-1])
    with pytest.raises(OptionError, match="output for each class"):
        Classifier(nn.Linear(4, 2)).fit(x, y)
    with pytest.raises(OptionError, match="optimizer"):
        small(optimizer="nonsense").fit(x, y)


def test_scikit_learn_is_not_imported() -> None:
    code = "import sys, mulgil; mulgil.Classifier; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scikit_learn_takes_it() -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    from sklearn.base import clone, is_classifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = arrays(150)
    classifier = small()
    assert is_classifier(classifier) and clone(classifier).get_params()["lr"] == 0.01
    assert selection.cross_val_score(classifier, x, y, cv=3).min() > 0.8
    pipeline = make_pipeline(StandardScaler(), small())
    assert selection.cross_val_score(pipeline, 1000 * x, y, cv=3).min() > 0.8
    search = selection.GridSearchCV(small(), {"lr": [1e-6, 0.01]}, cv=2).fit(x, y)
    assert search.best_params_ == {"lr": 0.01} and search.predict(x).shape == (150,)
