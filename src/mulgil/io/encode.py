"""Objects <-> JSON with the tensors apart.

A value becomes JSON: None, bool, int, float, str and lists as they are, everything else as an object with a "$kind":

    {"$kind": "dict", "items": {...}}       {"$kind": "tensor", "name": "lr1.weight", "type": "Tensor"}
    {"$kind": "pairs", "items": [[0, ...]]} (a dict whose keys are not all text)
    {"$kind": "tuple", "items": [...]}      {"$kind": "module", "index": 0}
    {"$kind": "dtype", "name": "float32"}   {"$kind": "function", "name": "relu"}     {"$kind": "float", "value": "inf"}

Modules stand in a list of their own and point to each other by index, so a layer or a weight that is used twice is
stored once and is one object again after loading.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

import numpy as np

from mulgil import nn
from mulgil.autograd import Parameter, Tensor
from mulgil.backend import device
from mulgil.errors import ModelFileError

MAX_DEPTH = 100  # of values inside values
MAX_MODULES = 20_000  # a layer counts as often as it is called: shared ones can make a tree of 2**60 from 60
# What a Module keeps for itself: the tree is written apart, hooks are code and stay behind.
BOOKKEEPING = frozenset({"training", "_kinds", "_transient", "_forward_hooks", "_forward_pre_hooks", "_watch"})


class Encoder:
    """Collects `modules` (JSON) and `arrays` (name -> NumPy array) while `encode` walks over an object."""

    def __init__(self) -> None:
        self.modules: list[dict] = []
        self.arrays: dict[str, np.ndarray] = {}
        self._seen: dict[int, Any] = {}  # id -> what it was written as; the objects stay alive in _kept
        self._kept: list[Any] = []
        self._sizes: dict[int, int] = {}  # of modules: themselves and all below, each as often as it stands there

    def encode(self, value: Any, path: str = "") -> Any:
        """JSON for `value`, which stands at `path` (a dotted name) in the object that is saved."""
        if isinstance(value, Enum) or (isinstance(value, tuple) and hasattr(value, "_fields")):  # would come back as less than it is
            raise _unknown(value, path)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return _text(value, path)
        if isinstance(value, (int, np.integer)):
            return int(value)
        if isinstance(value, (float, np.floating)):
            return float(value) if math.isfinite(value) else {"$kind": "float", "value": str(float(value))}
        if isinstance(value, (Tensor, np.ndarray)):
            return self._tensor(value, path)
        if path.count(".") > MAX_DEPTH:
            raise ModelFileError("save: an object may be 100 levels deep", f"{path[:60]}...", "does it contain itself?")
        if isinstance(value, nn.Module):
            return {"$kind": "module", "index": self._module(value, path)}
        if isinstance(value, dict):
            if all(isinstance(k, str) for k in value):
                return {"$kind": "dict", "items": {k: self.encode(v, _join(path, k)) for k, v in value.items()}}
            return {"$kind": "pairs", "items": [[_key(k, path), self.encode(v, _join(path, k))] for k, v in value.items()]}
        if isinstance(value, (list, tuple)):
            items = [self.encode(v, _join(path, i)) for i, v in enumerate(value)]
            return items if isinstance(value, list) else {"$kind": "tuple", "items": items}
        if isinstance(value, (np.dtype, type)) and _is_dtype(value):
            return {"$kind": "dtype", "name": np.dtype(value).name}
        if isinstance(value, device):
            return {"$kind": "device", "name": str(value)}
        name = getattr(value, "__name__", "")
        if callable(value) and getattr(nn.functional, name, None) is value:
            return {"$kind": "function", "name": name}
        raise _unknown(value, path)

    def _tensor(self, value: Tensor | np.ndarray, path: str) -> dict:
        if id(value) not in self._seen:
            name = path or "tensor"
            while name in self.arrays:
                name += "_"
            self.arrays[name] = _plain_array(value, path)
            kind = "ndarray" if isinstance(value, np.ndarray) else "Parameter" if isinstance(value, Parameter) else "Tensor"
            self._seen[id(value)] = {"$kind": "tensor", "name": name, "type": kind}
            self._kept.append(value)
        return self._seen[id(value)]

    def _module(self, module: nn.Module, path: str) -> int:
        if id(module) in self._seen:
            return self._seen[id(module)]
        index = self._seen[id(module)] = len(self.modules)
        self._kept.append(module)
        entry: dict[str, Any] = {}
        self.modules.append(entry)
        values, kinds = vars(module), module._kinds
        settings = {k: v for k, v in values.items() if k not in BOOKKEEPING and k not in kinds and not (k == "info" and v == {})}
        entry["class"] = class_name(type(module))
        entry["training"] = bool(module.training)
        entry["attributes"] = {k: self.encode(v, _join(path, k)) for k, v in settings.items()}
        entry["members"] = [[k, kind, self.encode(values[k], _join(path, k))] for k, kind in kinds.items()]
        entry["transient"] = sorted(module._transient)
        self._sizes[id(module)] = tree_size(self._sizes, module)
        return index


def tree_size(sizes: dict[int, int], module: nn.Module) -> int:
    """How many modules a walk meets, given the sizes of the children, by id. Raises ModelFileError for too many, or for a circle."""
    children = [child for child in module._members("module").values() if child is not None]
    if any(id(child) not in sizes for child in children):
        raise ModelFileError("a model must be a tree of modules", f"a {type(module).__name__} stands inside itself", "leave it out there")
    if (size := 1 + sum(sizes[id(child)] for child in children)) > MAX_MODULES:
        got = f"a {type(module).__name__} of {size:,}" if size < 10**9 else f"a {type(module).__name__} of more than {10**9:,}"
        rule = f"a model may have {MAX_MODULES:,} modules, where one that stands in several places counts in each"
        raise ModelFileError(rule, got, "call a shared layer in a loop instead")
    return size


def _unknown(value: Any, path: str) -> ModelFileError:
    return ModelFileError(
        "save: a file holds modules, tensors, numbers, text, lists and dicts, no code and no other objects",
        f"{path or 'the object'} is a {type(value).__qualname__}",
        "make it a layer (nn.ReLU() in place of a function of your own), or save the weights alone: save(model.state_dict(), path)",
    )


def _plain_array(value: Tensor | np.ndarray, path: str) -> np.ndarray:
    array = value if isinstance(value, np.ndarray) else value.array
    if array is None:
        raise ModelFileError(
            "save: every weight must have its values",
            f"{path} is still open: its size comes from the first batch",
            "run one batch through the model before saving it",
        )
    array = np.asarray(array.get() if hasattr(array, "get") else array)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        got = f"{path} has dtype {array.dtype}"
        raise ModelFileError("save: arrays must hold numbers or booleans", got, "convert it, for example to float32")
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")  # a copy: what is written cannot change meanwhile


def _is_dtype(value: Any) -> bool:
    return (isinstance(value, np.dtype) or issubclass(value, np.generic)) and np.dtype(value).kind in "biufc"


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        got = f"{path or 'the object'} is {value!r}"
        raise ModelFileError("save: text must be Unicode", got, "half a surrogate pair stands in it: leave it out") from None
    return value


def _key(key: Any, path: str) -> Any:
    if not isinstance(key, (str, int, float)):
        raise ModelFileError(
            "save: the keys of a dict must be text or numbers", f"{path or 'the dict'} has the key {key!r}", "use str(key)"
        )
    return key


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def class_name(cls: type) -> str:
    """How a class is named in a file: "nn.Linear" for the built-in ones (wherever their source stands), else "module:Class"."""
    if getattr(nn, cls.__name__, None) is cls:
        return f"nn.{cls.__name__}"
    return f"{cls.__module__}:{cls.__qualname__}"
