"""What every transform is, and how a pipeline of them runs on a sample and on a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mulgil.autograd import Tensor
from mulgil.data.collate import default_collate
from mulgil.errors import OptionError


class Transform:
    """Base of the transforms that know batches; subclass it to write one.

    Define `__call__(x)` for a sample and, where it pays, `batch(x)` for samples stacked along a leading axis. `batch` must return
    what stacking the results of `__call__` gives, and must not write into `x`. Leave `batch = None` to be called sample by sample.
    """

    batch: Callable[[Any], Any] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls) and "batch" not in vars(cls):
            cls.batch = None  # a new meaning for a sample must not keep the old one for a batch

    def __call__(self, x: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, x)")

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Compose(Transform):
    """Steps one after another: `Compose([ToTensor(), Normalize(0.5, 0.5)])`. Any callable may be a step."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]):
        for step in transforms:
            if not callable(step):
                raise OptionError("Compose: every step must be a function", repr(step), "an object, not its class: transforms.ToTensor()")
            if isinstance(step, type):
                raise OptionError(
                    "Compose: every step must be an object", f"the class {step.__name__}", f"write {step.__name__}() with its brackets"
                )
        self.transforms = list(transforms)

    def __call__(self, x: Any) -> Any:
        return _run(self.transforms, x)

    def batch(self, x: Any) -> Any:
        return apply_batch(self, x)

    def __repr__(self) -> str:
        return "\n".join(["Compose(", *("    " + repr(step).replace("\n", "\n    ") for step in self.transforms), ")"])


class Lambda(Transform):
    """Any function of one sample: `Lambda(lambda x: x.view(-1))`. In a batch it is called for each sample."""

    def __init__(self, lambd: Callable[[Any], Any]):
        if not callable(lambd):
            raise OptionError("Lambda: the argument must be a function of a sample", repr(lambd), "Lambda(lambda x: x.view(-1))")
        self.lambd = lambd

    def __call__(self, x: Any) -> Any:
        return self.lambd(x)


def apply_batch(transform: Callable[[Any], Any] | None, samples: Any) -> Any:
    """`transform` of each of `samples` (stacked along axis 0), collated into a batch: Tensor, or what the transform makes of it.

    The result equals `default_collate([transform(x) for x in samples])` bit for bit, only quicker.
    """
    steps = opened(transform)
    for done, step in enumerate(steps):
        if not (isinstance(step, Transform) and step.batch is not None):
            rest = steps[done:]
            return default_collate([_run(rest, x) for x in _unstacked(samples)])
        samples = step.batch(samples)
    return samples if isinstance(samples, Tensor) else Tensor(samples)


def opened(transform: Callable[[Any], Any] | None) -> list[Callable[[Any], Any]]:
    """The steps of a pipeline, with the Composes inside it opened."""
    if transform is None:
        return []
    if type(transform) is Compose:
        return [step for inner in transform.transforms for step in opened(inner)]
    return [transform]


def _run(steps: Sequence[Callable[[Any], Any]], x: Any) -> Any:
    for step in steps:
        x = step(x)
    return x


def _unstacked(samples: Any) -> list:
    return [Tensor(x) for x in samples.array] if isinstance(samples, Tensor) else list(samples)
