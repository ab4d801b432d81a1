"""ModuleTree: how modules keep parameters, buffers and other modules under dotted names. `Module` stands on it."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mulgil import changes
from mulgil.autograd import Parameter, Tensor
from mulgil.errors import DTypeError, MulgilError
from mulgil.names import guide

if TYPE_CHECKING:
    from mulgil.nn.module import Module


class ModuleError(MulgilError, AttributeError):
    """An attribute of a module that is missing, taken or set too early."""


_missing = guide("Module")
_SET_BY_INIT = ("training", "_kinds", "_transient", "_forward_hooks", "_forward_pre_hooks")


class ModuleTree:
    """Named members and the walks over them.

    The values live in `__dict__`, where Python finds them fastest; `_kinds` says which names are parameters, buffers and modules.
    """

    _kinds: dict[str, str]
    _transient: set[str]

    def __init__(self) -> None:
        self.__dict__.update(_kinds={}, _transient=set())

    # ------------------------------------------------------------------ attributes
    def __setattr__(self, name: str, value: Any) -> None:
        kinds = self.__dict__.get("_kinds")
        new = "parameter" if isinstance(value, Parameter) else "module" if isinstance(value, ModuleTree) else None
        if kinds is None:
            if new:
                raise ModuleError(
                    f"{type(self).__name__}: Module.__init__() must run before a {new} is assigned",
                    f"self.{name} = {type(value).__name__}(...)",
                    "let __init__ begin with super().__init__()",
                )
            object.__setattr__(self, name, value)
            return
        old = kinds.get(name)
        if new and new != old:
            kinds.pop(name, None)  # a name that changes its kind moves to the end, as in PyTorch
            kinds[name] = new
        elif new is None and old and value is not None and not (old == "buffer" and isinstance(value, Tensor)):
            expected = {"parameter": "an nn.Parameter", "module": "an nn.Module", "buffer": "a Tensor"}[old]
            raise DTypeError(
                f"{type(self).__name__}: the {old} '{name}' can only be set to {expected} or None",
                type(value).__name__,
                f"write through it (module.{name}.data = ...), or remove it first: del module.{name}",
            )
        if self.__dict__.get(name, kinds) is value:
            return
        if new or old:
            self.__dict__[name] = value
        else:
            object.__setattr__(self, name, value)
        changes.note()

    def __delattr__(self, name: str) -> None:
        self.__dict__.get("_kinds", {}).pop(name, None)
        self.__dict__.get("_transient", set()).discard(name)
        object.__delattr__(self, name)
        changes.note()

    def __getattr__(self, name: str) -> Any:  # Any: register_buffer and Sequential's dicts give names that no checker sees
        # only reached when the usual lookup found nothing
        if "_kinds" not in self.__dict__ and name in _SET_BY_INIT:
            raise ModuleError(
                f"{type(self).__name__}: Module.__init__() has not run",
                f"{type(self).__name__}.{name} is missing",
                "let __init__ begin with super().__init__()",
            )
        return _missing(self, name)

    def _register(self, kind: str, name: str, value: Any, allowed: type) -> None:
        owner = type(self).__name__
        if "_kinds" not in self.__dict__:
            raise ModuleError(f"{owner}: Module.__init__() has not run", f"{kind} '{name}'", "let __init__ begin with super().__init__()")
        if not isinstance(name, str):
            raise TypeError(f"{owner}: the name of a {kind} must be a string, not {type(name).__name__}")
        if not name or "." in name:
            raise KeyError(f"{owner}: the name of a {kind} must not be empty or contain a dot: {name!r}")
        if self._kinds.get(name, kind) != kind or (name not in self._kinds and hasattr(self, name)):
            raise KeyError(f"{owner}: attribute '{name}' already exists")
        if value is not None and not isinstance(value, allowed):
            raise TypeError(f"{owner}: the {kind} '{name}' must be a {allowed.__name__} or None, not {type(value).__name__}")
        self._kinds[name] = kind
        self.__dict__[name] = value
        changes.note()

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter by name; None keeps the name for one that this module does without."""
        self._register("parameter", name, param, Parameter)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that belongs to the module's state but is not trained, such as running statistics.

        persistent: whether it is part of `state_dict()`.
        """
        self._register("buffer", name, tensor, Tensor)
        (self._transient.discard if persistent else self._transient.add)(name)

    def add_module(self, name: str, module: ModuleTree | None) -> None:
        """Add a child by name: what assigning an attribute does."""
        self._register("module", name, module, ModuleTree)

    register_module = add_module

    def _members(self, kind: str) -> dict[str, Any]:
        values = self.__dict__
        return {name: values[name] for name, its_kind in self._kinds.items() if its_kind == kind}

    # PyTorch's names for the three dictionaries, to look at: writing goes through attributes and register_*
    @property
    def _parameters(self) -> MappingProxyType[str, Parameter | None]:
        return MappingProxyType(self._members("parameter"))

    @property
    def _buffers(self) -> MappingProxyType[str, Tensor | None]:
        return MappingProxyType(self._members("buffer"))

    @property
    def _modules(self) -> MappingProxyType[str, Module | None]:
        return MappingProxyType(self._members("module"))

    # ------------------------------------------------------------------ walking
    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the direct children, each module once."""
        seen: set[int] = set()
        for name, module in self._members("module").items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct children."""
        return (module for _, module in self.named_children())

    def named_modules(self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of this module (its name is "") and all below it, in order."""
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        if remove_duplicate:
            memo.add(id(self))
        yield prefix, self  # type: ignore[misc]  # a Module: nothing else stands on this class
        for name, module in self._members("module").items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def _named_members(self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        owners = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else ((prefix, self),)
        for path, module in owners:
            for name, value in module._members(kind).items():
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{path}.{name}" if path else name), value

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter) of all parameters, a shared one once."""
        return self._named_members("parameter", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters: what an optimizer takes."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, tensor) of all buffers."""
        return self._named_members("buffer", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module with the dotted name `target`; "" is this module."""
        module: Any = self
        for name in target.split(".") if target else ():
            if module._kinds.get(name) != "module":
                names = ", ".join(name for name, _ in self.named_modules() if name)
                raise ModuleError(f"{type(self).__name__}: no module is called '{target}'", f"it has {names or 'no modules'}")
            module = getattr(module, name)
        return module
