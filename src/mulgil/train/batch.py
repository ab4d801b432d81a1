"""What a batch is: the inputs of a model and the targets of a loss, in the forms in which loaders hand them out.

- a tuple or list: the last part is the targets, the others are the inputs, one or several: (x, y), (x1, x2, y);
- a dict: the entry called labels, label, targets, target or y is the targets, the others are the inputs;
- inputs may themselves be a tuple or a dict: ((x1, x2), y), ({"image": x1, "text": x2}, y).

One input is given to the model by its position, several of a tuple by their positions, several of a dict by their names.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import default_dtype
from mulgil.errors import DTypeError, OptionError, describe

LABELS = ("labels", "label", "targets", "target", "y")
RULE = "a batch must be (inputs, targets), (x1, x2, ..., targets), or a dict with the targets under one of " + ", ".join(LABELS)

Inputs = Any  # a Tensor, or a tuple or dict of several


def split(batch: Any) -> tuple[Any, Any]:
    """(inputs, targets) of a batch; the inputs alone, or a tuple or dict of several. Raises OptionError for another form."""
    if isinstance(batch, Mapping):
        found = [name for name in LABELS if name in batch]
        if len(found) != 1 or len(batch) < 2:
            raise OptionError(RULE, f"a dict with {', '.join(map(str, batch)) or 'nothing'}", "give the targets one of these names")
        inputs = {name: part for name, part in batch.items() if name != found[0]}
        return inputs if len(inputs) > 1 else next(iter(inputs.values())), batch[found[0]]
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        many = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        got = describe(batch=batch) if hasattr(batch, "shape") else f"a {type(batch).__name__}{many}"
        raise OptionError(RULE, got, "a data set's sample is (input, target), for example TensorDataset(images, labels)")
    *parts, targets = batch
    return parts[0] if len(parts) == 1 else tuple(parts), targets


def inputs_of(batch: Any, model: Any) -> Any:
    """The inputs of a batch that may have no targets, as in a prediction."""
    if isinstance(batch, Mapping):
        return split({"labels": None, **{name: part for name, part in batch.items() if name not in LABELS}})[0]
    if not isinstance(batch, (tuple, list)):
        return batch
    if isinstance(batch[0], (Mapping, tuple, list)):
        return batch[0]
    inputs = batch if len(batch) == 1 or len(batch) == _inputs_taken(model) else batch[:-1]
    return inputs[0] if len(inputs) == 1 else tuple(inputs)


def _inputs_taken(model: Any) -> int:
    """How many inputs `forward` must be given; 0 if that is not known."""
    parameters = inspect.signature(model.forward).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 0
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def call(model: Any, inputs: Inputs) -> Any:
    """The model's output for one input, or for several."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def moved(part: Any, device: Any, what: str) -> Any:
    """Inputs or targets as Tensors on `device`. what: "inputs" or "targets", for the message.

    Raises DTypeError for text and other things that are no numbers.
    """
    if isinstance(part, Tensor) and part.array.dtype.kind in "fiub":
        return part.to(device)
    if isinstance(part, Mapping):
        return {name: moved(value, device, f"{what}[{name!r}]") for name, value in part.items()}
    if isinstance(part, (tuple, list)) and any(isinstance(value, (Tensor, np.ndarray, Mapping, tuple, list)) for value in part):
        return tuple(moved(value, device, f"{what}[{i}]") for i, value in enumerate(part))
    array = part.array if isinstance(part, Tensor) else np.asarray(part)
    if array.dtype.kind not in "fiub":
        hint = "prepare them in the data set, for example with transforms.ToTensor()"
        if what.startswith("targets"):
            hint = "number them: names, y = numpy.unique(labels, return_inverse=True); or use Classifier, which takes text"
        raise DTypeError(f"{what} must be numbers", f"{array.dtype.name}, such as {array.ravel()[:3].tolist()!r}", hint)
    return Tensor(as_input(array)).to(device)


def prepared(batch: Any, device: Any) -> tuple[Inputs, Tensor]:
    """(inputs, targets) of a batch, on `device`."""
    inputs, targets = split(batch)
    targets = moved(targets, device, "targets")
    if not isinstance(targets, Tensor):
        hint = "a loop of your own can use several: train.make_step"
        raise OptionError("the targets of a batch must be one Tensor", type(targets).__name__, hint)
    return moved(inputs, device, "inputs"), targets


def as_input(array: Any) -> Any:
    """Floating NumPy arrays in the dtype of parameters; Tensors and whole numbers stay as they are."""
    if isinstance(array, np.ndarray) and array.dtype.kind == "f":
        return array.astype(default_dtype(), copy=False)
    return array


def length(inputs: Inputs) -> int:
    """How many samples a batch's inputs are."""
    while isinstance(inputs, (dict, tuple, list)):
        inputs = next(iter(inputs.values())) if isinstance(inputs, dict) else inputs[0]
    return len(inputs)

