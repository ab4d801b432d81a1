"""What would train nothing without a word: told where the parts come together, or after the first epoch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from mulgil.autograd import Tensor
from mulgil.errors import OptionError
from mulgil.nn import Module
from mulgil.optim import Optimizer


def check_parts(model: Any, optimizer: Any, loss: Any) -> None:
    """Raise OptionError for parts with which no training is possible; warn where a part of the model is left out by mistake."""
    check_model(model)
    check_loss(loss)
    if not isinstance(optimizer, Optimizer):
        hint = "call it: optim.Adam(model.parameters())" if isinstance(optimizer, type) else "optim.Adam(model.parameters())"
        raise OptionError("the optimizer must be an optimizer of mulgil.optim", _named(optimizer), hint)
    own = {id(p) for p in model.parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    hint = f"make it from this model: {type(optimizer).__name__}(model.parameters())"
    learned = own | {id(p) for p in (loss.parameters() if isinstance(loss, Module) else ())}
    if not learned & {id(p) for p in held}:
        rule = "the optimizer holds none of the model's parameters: the model would not learn"
        raise OptionError(rule, f"{len(held)} parameters, of something else", hint)
    strange = sum(id(p) not in learned for p in held)
    missing = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in {id(q) for q in held}]
    if strange and missing:
        _warn_once(
            model,
            "the optimizer holds parameters that are not the model's, and lacks some that are: a layer was replaced after it was made",
            f"{strange} of something else; it lacks {_few(missing)}",
            hint,
        )
    for path, what in strays(model, {id(p) for p in held}):
        _warn_once(
            model,
            f"{path} is not a part of the model: it is not trained, saved or moved with it",
            what,
            "put layers into nn.ModuleList or nn.Sequential, and parameters into attributes of their own",
        )


def check_model(model: Any) -> None:
    """Raise OptionError for what is no model."""
    if not isinstance(model, Module):
        hint = f"make one: {model.__name__}(...)" if isinstance(model, type) else "an nn.Module, such as nn.Sequential(...)"
        raise OptionError("the model must be an nn.Module", _named(model), hint)


def check_loss(loss: Any) -> None:
    """Raise OptionError for what is no loss."""
    if isinstance(loss, type) or not callable(loss):
        hint = f"call it: {loss.__name__}()" if isinstance(loss, type) else "nn.CrossEntropyLoss(), or a function of (outputs, targets)"
        raise OptionError("the loss must be a function of (outputs, targets)", _named(loss), hint)


def strays(model: Module, held: set[int]) -> Iterator[tuple[str, str]]:
    """(where, what) of layers and parameters that lie in a model's lists, tuples and dicts, where the model does not know of them.

    held: ids of the parameters that the optimizer was given by hand. What does not learn (frozen, or in evaluation mode) is meant.
    """
    inside = {id(part) for part in (*model.modules(), *model.parameters(), *model.buffers())}
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute in module._kinds or attribute.startswith("_"):
                continue
            lost = [part for part in _learning(value) if id(part) not in inside]
            lost = [part for part in lost if not {id(p) for p in _parameters(part)} <= (held | inside)]
            if lost:
                kinds = ", ".join(dict.fromkeys(type(part).__name__ for part in lost))
                what = f"{len(lost)} in a {type(value).__name__}: {kinds}" if not isinstance(value, Tensor) else "a Tensor, no nn.Parameter"
                yield ".".join(part for part in (name, attribute) if part), what


def _learning(value: Any) -> Iterator[Any]:
    """The modules and parameters in a container that are there to learn."""
    if isinstance(value, Module):
        if value.training and any(p.requires_grad for p in value.parameters()):
            yield value
    elif isinstance(value, Tensor):
        if value.requires_grad and value.node is None:
            yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _learning(part)


def _parameters(part: Any) -> Any:
    return part.parameters() if isinstance(part, Module) else (part,)


def warn_unreached(model: Module, optimizer: Optimizer, reached: set[int]) -> bool:
    """Warn of parameters that had no gradient in any step. reached: ids of those that had one. Returns whether there was one to tell of."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    left = [name for name, p in model.named_parameters() if p.requires_grad and id(p) in held and id(p) not in reached]
    if left:
        _warn(
            "some parameters had no gradient in the whole epoch: they do not learn",
            _few(left),
            "does forward use these layers? freeze what is not meant to learn: parameter.requires_grad_(False)",
        )
    return bool(left)


def no_batches(epoch: int, source: Any) -> OptionError:
    """The error for data that gave no batch."""
    if epoch > 1:
        rule, hint = f"the data gave no batch in epoch {epoch}", "a generator can be gone through once: give a list or a DataLoader"
        return OptionError(rule, type(source).__name__, hint)
    dataset = getattr(source, "dataset", source)
    size = f"{type(dataset).__name__} of {len(dataset)} samples" if hasattr(dataset, "__len__") else type(dataset).__name__
    dropped = getattr(source, "drop_last", False) and hasattr(dataset, "__len__") and len(dataset)
    hint = "batches that are too short are dropped: a smaller batch_size, or drop_last=False" if dropped else "is the filter or path right?"
    return OptionError("there must be at least one batch", size, hint)


_said: WeakKeyDictionary[Module, set[str]] = WeakKeyDictionary()  # what was told of a model


def _warn_once(model: Module, rule: str, got: str, hint: str) -> None:
    if rule not in (said := _said.setdefault(model, set())):
        said.add(rule)
        _warn(rule, got, hint)


def _warn(rule: str, got: str, hint: str) -> None:
    warnings.warn(f"{rule}\n  got:  {got}\n  hint: {hint}", UserWarning, stacklevel=5)


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _named(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


