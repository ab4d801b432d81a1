"""Modules that hold modules: Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, Self, TypeVar, overload

from mulgil.autograd import Tensor
from mulgil.nn.module import Module
from mulgil.typing import ArrayLike

S = TypeVar("S")  # the class that a slice gives


class _Container(Module):
    """What modules that hold modules share."""

    def __len__(self) -> int:
        return len(self._members("module"))

    def _children(self) -> list[Module]:
        return list(self._members("module").values())

    def _replace(self, named: Iterable[tuple[str, Module]]) -> None:
        """Take these children instead of the present ones."""
        named = list(named)
        for name in tuple(self._members("module")):
            delattr(self, name)
        for name, module in named:
            self.add_module(name, module)

    def _names(self, index: int | slice) -> list[str]:
        names = list(self._members("module"))
        if isinstance(index, slice):
            return names[index]
        index = operator.index(index)
        if not -len(names) <= index < len(names):
            raise IndexError(f"{type(self).__name__}: index {index} is out of range for {len(names)} modules")
        return [names[index]]


class _List(_Container, Generic[S]):
    """What Sequential and ModuleList share: a list of children named 0, 1, 2, ..."""

    def __iter__(self) -> Iterator[Module]:
        return iter(self._children())

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> S: ...
    def __getitem__(self, index: int | slice) -> Module | S:
        names = self._names(index)
        return self._part(names) if isinstance(index, slice) else getattr(self, names[0])

    def _part(self, names: list[str]) -> S:
        raise NotImplementedError

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._names(index)[0], module)

    def __delitem__(self, index: int | slice) -> None:
        gone = set(self._names(index))
        kept = [(name, module) for name, module in self._members("module").items() if name not in gone]
        numbered = all(name.isdigit() for name, _ in kept)
        self._replace((str(i) if numbered else name, module) for i, (name, module) in enumerate(kept))

    def append(self, module: Module) -> Self:
        """Add a module at the end. Returns self."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add several modules at the end. Returns self."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Put a module before position `index`. Returns self."""
        modules = self._children()
        modules.insert(index, module)
        self._replace((str(i), module) for i, module in enumerate(modules))
        return self


class Sequential(_List["Sequential"]):
    """Modules applied one after the other.

    Example:
        >>> model = Sequential(Flatten(), Linear(784, 10))
        >>> model = Sequential(OrderedDict(flatten=Flatten(), out=Linear(784, 10)))     # with names
        >>> model[1], model.out is model[1], len(model)
        (Linear(in_features=784, out_features=10, bias=True), True, 2)
    """

    def __init__(self, *modules: Module | Mapping[str, Module]):
        super().__init__()
        first = modules[0] if len(modules) == 1 else None
        named = first.items() if isinstance(first, Mapping) else ((str(i), module) for i, module in enumerate(modules))
        for name, module in named:
            self.add_module(name, module)  # type: ignore[arg-type]

    def _part(self, names: list[str]) -> Sequential:
        return Sequential({name: getattr(self, name) for name in names})

    def forward(self, x: ArrayLike) -> Tensor:
        values = self.__dict__
        for name, kind in self._kinds.items():
            if kind == "module":
                x = values[name](x)
        return x  # type: ignore[return-value]  # an array that no module touched


class ModuleList(_List["ModuleList"]):
    """A list of modules whose parameters are found; it has no forward of its own."""

    def __init__(self, modules: Iterable[Module] | None = None):
        super().__init__()
        self.extend(modules or ())

    def _part(self, names: list[str]) -> ModuleList:
        return ModuleList(getattr(self, name) for name in names)

    def _child_lines(self) -> list[str]:
        """Equal neighbours on one line, as PyTorch prints them: `(0-2): 3 x ReLU()`."""
        groups: list[list] = []  # [first index, last index, repr]
        for i, module in enumerate(self._children()):
            text = repr(module)
            if groups and groups[-1][2] == text:
                groups[-1][1] = i
            else:
                groups.append([i, i, text])
        lines = []
        for first, last, text in groups:
            label = f"({first}): {text}" if first == last else f"({first}-{last}): {last - first + 1} x {text}"
            lines.append(label.replace("\n", "\n  "))
        return lines


class ModuleDict(_Container):
    """A dictionary of modules whose parameters are found; it has no forward of its own."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None):
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules."""
        for name, module in modules.items() if isinstance(modules, Mapping) else modules:
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        return self._members("module")[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        delattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members("module"))

    def __contains__(self, name: object) -> bool:
        return self._kinds.get(name) == "module"  # type: ignore[call-overload]

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._members("module").keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._members("module").values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """(name, module) pairs."""
        return self._members("module").items()
