"""`Classifier`: a model in scikit-learn's shape (`fit`, `predict`, `score`), which is not imported."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from mulgil.errors import OptionError, ShapeError, describe
from mulgil.nn import CrossEntropyLoss, Module
from mulgil.optim import SGD, Adam, AdamW, Optimizer
from mulgil.train.callbacks import Callback
from mulgil.train.find_lr import separate_random
from mulgil.train.trainer import Trainer
from mulgil.typing import ArrayLike, SupportsArray

OPTIMIZERS: dict[str, Any] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}


class Classifier:
    """A classifier for arrays that scikit-learn's tools take: pipelines, cross-validation, grid search.

    Args:
        model: a Module, of which each `fit` trains a copy, or a function without arguments that makes one (then from `seed`).
        optimizer: "adam", "adamw", "sgd", or a function of the parameters. lr: learning rate.
        batch_size, epochs, seed, device, compile: as usual. The same seed gives the same classifier.
        callbacks: see `Callback`; each is told of every fit.

    Attributes after `fit`: model_, trainer_, history_, classes_ (the labels in order), n_features_in_.

    Example:
        >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))          # doctest: +SKIP
        >>> Classifier(model).fit(X, y).score(X_test, y_test)                               # doctest: +SKIP
    """

    _estimator_type = "classifier"

    def __init__(
        self,
        model: Module | Callable[[], Module],
        optimizer: str | Callable[..., Optimizer] = "adam",
        lr: float = 1e-3,
        batch_size: int = 32,
        epochs: int = 20,
        seed: int = 0,
        device: str = "cpu",
        compile: bool = True,
        callbacks: Sequence[Callback] = (),
    ):
        self.model, self.optimizer, self.lr = model, optimizer, lr
        self.batch_size, self.epochs, self.seed = batch_size, epochs, seed
        self.device, self.compile, self.callbacks = device, compile, callbacks

    def fit(self, X: ArrayLike, y: SupportsArray | Sequence[Any]) -> Self:
        """Train from the model's initial weights. X: [N, ...] numbers. y: [N] labels of any kind. Returns self.

        Raises ShapeError where the lengths differ, OptionError where the model has fewer outputs than there are classes.
        """
        from mulgil.data import DataLoader, TensorDataset

        inputs, labels = as_floats(X), np.asarray(y)
        if labels.ndim != 1 or len(labels) != len(inputs) or not len(labels):
            raise ShapeError("Classifier.fit: X must be [N, ...], y [N]", describe(X=inputs, y=labels), "y.ravel() makes [N] of [N, 1]")
        self.classes_, targets = np.unique(labels, return_inverse=True)
        self.n_features_in_ = int(np.prod(inputs.shape[1:]))
        with separate_random(self.seed):
            model = copy.deepcopy(self.model) if isinstance(self.model, Module) else self.model()
            self.model_ = model.to(self.device)
            self._check_outputs(inputs[:2])
            optimizer = self._optimizer()
            self.trainer_ = Trainer(self.model_, optimizer, CrossEntropyLoss(), callbacks=self.callbacks, compile=self.compile)
            loader = DataLoader(TensorDataset(inputs, targets.astype(np.int64)), self.batch_size, shuffle=True)
            self.history_ = self.trainer_.fit(loader, epochs=self.epochs)
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """[N, classes]: the probability of each label of `classes_`. Raises OptionError before `fit`."""
        self._check_fitted()
        return self.trainer_.predict(as_floats(X), probabilities=True)[:, : len(self.classes_)]

    def predict(self, X: ArrayLike) -> np.ndarray:
        """[N]: the most probable label of each sample."""
        self._check_fitted()
        inputs = as_floats(X)
        return self.classes_[self.predict_proba(inputs).argmax(1)] if len(inputs) else self.classes_[:0]

    def score(self, X: ArrayLike, y: SupportsArray | Sequence[Any]) -> float:
        """The fraction of labels that `predict` finds."""
        return float(np.mean(self.predict(X) == np.asarray(y)))

    def _check_fitted(self) -> None:
        if not hasattr(self, "trainer_"):
            raise OptionError("Classifier: fit comes before predict", hint="Classifier(model).fit(X, y).predict(X_test)")

    def _optimizer(self) -> Optimizer:
        if callable(self.optimizer):
            return self.optimizer(self.model_.parameters(), lr=self.lr)
        if self.optimizer not in OPTIMIZERS:
            raise OptionError("Classifier: there is no such optimizer", repr(self.optimizer), f"one of {', '.join(OPTIMIZERS)}")
        return OPTIMIZERS[self.optimizer](self.model_.parameters(), lr=self.lr)

    def _check_outputs(self, few: np.ndarray) -> None:
        from mulgil.autograd import Tensor, no_grad
        from mulgil.train.state import evaluating

        with evaluating(self.model_), no_grad():
            shape = self.model_(Tensor(few).to(self.device)).shape
        if len(shape) != 2 or shape[1] < len(self.classes_):
            rule, classes = "Classifier: the model must have an output for each class", len(self.classes_)
            raise OptionError(rule, f"outputs {list(shape)}, {classes} classes", f"end it with nn.Linear(..., {classes})")

    # ------------------------------------------------------------------ what scikit-learn asks for
    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments, by name."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments; `fit` takes them up. Raises OptionError for an unknown name."""
        for name, value in params.items():
            if name not in self._names():
                raise OptionError("Classifier: there is no such parameter", repr(name), f"one of {', '.join(self._names())}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(two_d_array=True, three_d_array=True),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "trainer_")

    def __repr__(self) -> str:
        changed = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names()[1:])
        return f"Classifier({type(self.model).__name__}, {changed})"


def as_floats(X: ArrayLike) -> np.ndarray:
    """X as a NumPy array of the parameters' dtype."""
    from mulgil.backend import default_dtype

    return np.asarray(X).astype(default_dtype(), copy=False)
