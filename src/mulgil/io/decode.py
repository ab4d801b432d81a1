"""JSON -> objects, the other half of `encode`. Everything that a file says is checked, nothing that it says is run.

No constructor is called for a module: its class is looked up among those already imported, an empty object is made, and
attributes, parameters and children are put back. A file can therefore choose among your classes but not make them act.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mulgil import nn
from mulgil.autograd import Parameter, Tensor
from mulgil.backend import device
from mulgil.errors import ModelFileError
from mulgil.io.encode import MAX_DEPTH as MODULES_DEPTH
from mulgil.io.encode import tree_size

MAX_DEPTH = 200  # of values inside values
MEMBER_TYPES = {"parameter": Parameter, "buffer": Tensor, "module": nn.Module}


class Decoder:
    """Rebuilds what an `Encoder` wrote. `arrays`: name -> NumPy array; `classes`: extra classes by name."""

    def __init__(self, modules: list, arrays: dict[str, np.ndarray], classes: dict[str, type]):
        self.entries, self.arrays, self.classes = modules, arrays, classes
        self._modules: dict[int, nn.Module] = {}
        self._tensors: dict[tuple[str, str], Any] = {}
        self._sizes: dict[int, int] = {}  # of modules, by id
        self._open: set[int] = set()  # modules being built: meeting one again would be a circle
        self._depth = 0

    def decode(self, value: Any) -> Any:
        """The object that a piece of JSON stands for. Raises ValueError, TypeError or KeyError for what an Encoder does not write."""
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if self._depth >= MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels")
        self._depth += 1
        result = self._compound(value)
        self._depth -= 1
        return result

    def _compound(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(v) for v in value]
        kind = _expect(value, dict).get("$kind")
        if kind == "module":
            return self._module(_expect(value["index"], int))
        if kind == "tensor":
            return self._tensor(_expect(value["name"], str), _expect(value["type"], str))
        if kind == "dict":
            return {k: self.decode(v) for k, v in _expect(value["items"], dict).items()}
        if kind == "pairs":
            return {_plain_key(k): self.decode(v) for k, v in _expect(value["items"], list)}
        if kind == "tuple":
            return tuple(self.decode(v) for v in _expect(value["items"], list))
        if kind == "float":
            return float(_expect(value["value"], str))
        if kind == "dtype":
            return _dtype(_expect(value["name"], str))
        if kind == "device":
            return device(_expect(value["name"], str))
        if kind == "function":
            return self._function(_expect(value["name"], str))
        raise ValueError(f"unknown kind {kind!r}")

    def _tensor(self, name: str, kind: str) -> Any:
        if (name, kind) not in self._tensors:
            array = self.arrays[name]
            make: Any = {"Parameter": Parameter, "Tensor": Tensor, "ndarray": np.asarray}[kind]
            self._tensors[name, kind] = make(array)
        return self._tensors[name, kind]

    def _function(self, name: str) -> Any:
        function = None if name.startswith("_") else getattr(nn.functional, name, None)
        if getattr(function, "__module__", None) != nn.functional.__name__:
            raise ValueError(f"nn.functional has no function {name!r}")
        return function

    def _module(self, index: int) -> nn.Module:
        if index in self._open:
            raise ValueError("the modules go round in a circle")
        if index not in self._modules:
            entry = _expect(self.entries[index], dict)
            if index < 0:
                raise ValueError("a negative index")
            if len(self._open) > MODULES_DEPTH:
                raise ValueError(f"more than {MODULES_DEPTH} modules inside modules")
            self._open.add(index)
            module = self._modules[index] = self._build(entry)
            self._sizes[id(module)] = tree_size(self._sizes, module)
            self._open.discard(index)
        return self._modules[index]

    def _build(self, entry: dict) -> nn.Module:
        cls = find_class(_expect(entry["class"], str), self.classes)
        module: nn.Module = object.__new__(cls)
        nn.Module.__init__(module)
        vars(module).update(training=_expect(entry["training"], bool))
        for name, value in _expect(entry["attributes"], dict).items():
            inherited = getattr(cls, name, None)
            hides = callable(inherited) or hasattr(inherited, "__set__") or name in vars(module)
            if hides or not name.isidentifier() or name.startswith("__"):
                raise ValueError(f"{name!r} cannot be an attribute")
            vars(module)[name] = self.decode(value)
        transient = set(_expect(entry["transient"], list))
        for name, kind, value in _expect(entry["members"], list):
            member: Any = self.decode(value)
            expected: Any = MEMBER_TYPES[kind]
            if member is not None and not isinstance(member, expected):
                raise ValueError(f"{name!r} is not a {kind}")
            if kind == "parameter":
                module.register_parameter(name, member)
            elif kind == "buffer":
                module.register_buffer(name, member, persistent=name not in transient)
            else:
                module.add_module(name, member)
        if entry["class"].startswith("nn."):
            module.extra_repr()  # reads the settings: a layer without one of them must not be found out later
        return module


def _dtype(name: str) -> np.dtype:
    if len(name) > 20:
        raise ValueError("not a dtype of numbers")
    dtype = np.dtype(name)
    if dtype.kind not in "biufc" or dtype.name != name:
        raise ValueError(f"{name!r} is not a dtype of numbers")
    return dtype


def _plain_key(key: Any) -> Any:
    if not isinstance(key, (str, int, float)):
        raise ValueError(f"{key!r} cannot be a key")
    return key


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value


def find_class(name: str, classes: Mapping[str, type]) -> type:
    """The Module class that a file calls `name`: a built-in one, one of `classes`, or one that is imported already."""
    kind, _, rest = name.partition(".")
    if kind == "nn" and ":" not in name:
        cls = getattr(nn, rest, None)
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
            rule = "load: the file asks for a layer that this version of mulgil does not have"
            raise ModelFileError(rule, name, "pip install --upgrade mulgil")
        return cls
    module, _, qualname = name.partition(":")
    registry = nn.Module.registry()
    for full in (qualname, f"{module}.{qualname}"):
        if full in classes:
            return classes[full]
    if f"{module}.{qualname}" in registry:
        return registry[f"{module}.{qualname}"]
    # a class saved by a program (module "__main__") that another program imports from elsewhere
    same_name = [full for full, cls in registry.items() if cls.__qualname__ == qualname and not full.startswith("mulgil.")]
    if len(same_name) == 1:
        return registry[same_name[0]]
    raise ModelFileError(
        "load: the class of a saved model must be imported before the model is loaded",
        f"the file needs {qualname} (it came from {module})" + (f"; there are {', '.join(same_name)}" if same_name else ""),
        f"import or define it first, or pass it: load(path, classes=[{qualname}])",
    )


def by_name(classes: Iterable[type] | Mapping[str, type] | None) -> dict[str, type]:
    """`classes=` of `load`, as a dict."""
    table = dict(classes) if isinstance(classes, Mapping) else {cls.__qualname__: cls for cls in classes or ()}
    for name, cls in table.items():
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
            raise ModelFileError("load: classes= takes subclasses of nn.Module", f"{name}: {cls!r}", "load(path, classes=[MyModel])")
    return table
