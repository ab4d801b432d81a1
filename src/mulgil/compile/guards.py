"""What a plan holds for beside its arguments: layers, modes, hooks, options, whose arrays these are, the numbers that Python closes over.

A `Survey` walks from the state and the function through everything that the function can read and leaves *facts*, a name and a value
each. Two surveys with equal facts are served by the same plans. Walking takes a millisecond, so a `World` also keeps what shows that
nothing has changed since: the count of `mulgil.changes`, in which layers and tensors report, and the identities of what lies in plain
dicts, lists and closures, which cannot report. `holds()` compares them in a microsecond.

Where it cannot look: time, files, what C code keeps, attributes found by a computed name, values of arrays that are no Tensors.
"""

from __future__ import annotations

import enum
import random
import sys
import sysconfig
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from mulgil import changes
from mulgil.autograd import Tensor
from mulgil.backend import Generator, default_dtype, device
from mulgil.nn import Module
from mulgil.ops.function import Function
from mulgil.optim import LRScheduler, Optimizer

LONG = 256  # of a longer list or dict only the length is looked at
NUMBERS = (bool, int, float, complex, str, bytes, type(None), type(...), slice, range, np.generic, np.dtype, enum.Enum, device)
SOURCES = (np.random.Generator, np.random.RandomState, random.Random)
OWN_BUSINESS = {"_watch", "info", "_kinds", "_transient"}  # attributes of a Module that change no result
HOOKS = {"_forward_hooks", "_forward_pre_hooks"}
FRAME = {"state", "param_groups", "defaults", "_numbers", "numbers"}  # attributes of an Optimizer that have rules of their own
EVERYTHING = frozenset({"*"})  # names: all attributes, but for numbers
MOVING = ("lr", "momentum", "betas")  # options whose arrays a replayed step brings up to date, where only update rules read them
LIBRARIES = tuple({str(Path(__file__).parents[1]), *(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))})


def atom(x: Any) -> tuple:
    """A plain value as a part of a key: 1, True and 1.0 differ, so do 0.0 and -0.0, and nan equals nan."""
    if isinstance(x, slice):
        return slice, *map(atom, (x.start, x.stop, x.step))
    if isinstance(x, np.generic):
        return type(x), x.tobytes()
    return type(x), x if isinstance(x, (int, str, bytes, enum.Enum)) else repr(x)


def is_foreign(code: CodeType) -> bool:
    """Whether this is code of a library, whose globals are its own affair."""
    return code.co_filename.startswith((*LIBRARIES, "<frozen"))


@cache
def named_by(kind: type) -> frozenset[str]:
    """The attributes that a class's methods name, its constructor's aside: others are notes of the user's."""
    methods = [v for c in kind.__mro__ for name, v in vars(c).items() if name != "__init__"]
    codes = [getattr(getattr(v, "fget", getattr(v, "__func__", v)), "__code__", None) for v in methods]
    return frozenset().union(*[words(code)[0] for code in codes if code is not None])


def is_library(x: Any) -> bool:
    """Whether this module or class is a library's."""
    name = x.__module__ if isinstance(x, type) else x.__name__
    file = getattr(sys.modules.get(name), "__file__", None)
    return name != "__main__" and (file is None or file.startswith(LIBRARIES))


def numpy_state() -> tuple:
    """Of NumPy's global source of random numbers."""
    kind, keys, *rest = np.random.get_state()
    return kind, np.asarray(keys).tobytes(), *rest


@cache
def words(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The names of globals and attributes that code uses, functions within it included; and its string constants."""
    names, texts = set(code.co_names), {c for c in code.co_consts if isinstance(c, str)}
    for c in code.co_consts:
        if isinstance(c, CodeType):
            inner, its_texts = words(c)
            names |= inner
            texts |= its_texts
    return frozenset(names), frozenset(texts)


class Checks:
    """Python that compares what lies in plain places with what lay there, by identity: some 15 ns each."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.scope: dict[str, Any] = {"len": len}

    def _name(self, x: Any) -> str:
        name = f"x{id(x)}"  # it stays alive in the scope
        self.scope[name] = x
        return name

    def attribute(self, owner: Any, name: str, value: Any) -> None:
        self.lines.append(f"{self._name(owner)}.{name} is {self._name(value)}")

    def entry(self, owner: Any, key: Any, value: Any) -> None:
        """Of a dict or list. A dict that makes what it lacks must not be asked for it."""
        own, key = self._name(owner), repr(key) if type(key) in (int, str) else self._name(key)
        text = f"{own}[{key}]" if type(owner) is dict or not isinstance(owner, dict) else f"{own}.get({key})"
        self.lines.append(f"{text} is {self._name(value)}")

    def settings(self, optimizer: Any, settings: tuple) -> None:
        self.lines.append(f"{self._name(optimizer)}.settings() == {self._name(settings)}")

    def length(self, owner: Any) -> None:
        self.lines.append(f"len({self._name(owner)}) == {len(owner)}")

    def function(self) -> Callable[[], bool]:
        exec(compile("def same():\n  return " + " and ".join(self.lines or ["True"]), "<mulgil guards>", "exec"), self.scope)
        return self.scope["same"]


class Survey:
    """One walk. facts: path -> value. made: paths of what an optimizer makes at a first step. drawn: the states of random sources."""

    def __init__(self, roots: Sequence[tuple[str, Any]], function: Any = None):
        self.facts: dict[str, Any] = {"default dtype": default_dtype().str}
        self.tensors: dict[int, Tensor] = {}
        self.optimizers: dict[str, Optimizer] = {}
        self.zeros: set[str] = set()
        self.drawn: dict[str, Any] = {"random": random.getstate, "np.random": numpy_state}
        self.kept: list[Any] = []  # alive, so that no identity is used twice
        self.checks = Checks()
        self._seen: dict[Any, str] = {}
        self._objects: set[int] = set()
        self._texts: set[str] = set()
        self._names: set[str] = set()
        self._numbers: list[tuple[str, type, str, Any]] = []  # of modules: which count is known when all code has been seen
        self.looks = False  # whether the user's code names `grad`
        for path, root in roots:
            self.visit(path, root, EVERYTHING)
        self.visit("the function", function)
        code = getattr(function, "__code__", None)
        for path, root in roots if code is not None else ():
            self.visit(path, root, words(code)[0])
        self._moving_options()
        for path, kind, name, value in self._numbers:
            if name in self._names or name in named_by(kind):
                self.facts[path] = atom(value)

    # ---- one thing

    def visit(self, path: str, x: Any, names: frozenset[str] = frozenset(), plain: bool = True) -> None:
        """Look at `x`. names: what the code that reads it reads of it. plain: whether its numbers count."""
        if isinstance(x, NUMBERS):
            if plain:
                self.facts[path] = atom(x)
            return
        if id(x) in self._seen:
            self.facts.setdefault(path, ("as", self._seen[id(x)]))
            if id(x) in self._objects:
                self._object(self._seen[id(x)], x, names, plain)
            elif isinstance(x, (Module, Optimizer)) or (isinstance(x, (ModuleType, type)) and not is_library(x)):
                self._named(self._seen[id(x)], x, names, plain)
            elif isinstance(x, (list, tuple, dict)) and len(x) <= LONG:
                for value in x.values() if isinstance(x, dict) else x:
                    if id(value) in self._objects:
                        self._object(self._seen[id(value)], value, names, plain)
            return
        self._seen[id(x)] = path
        self.kept.append(x)
        for kinds, method in VISITS:
            if isinstance(x, kinds):
                method(self, path, x, names, plain)
                return
        self.facts[path] = type(x), id(x)
        if type(x).__module__.startswith("mulgil.") and not isinstance(x, Function):
            self._opaque(path, x, names, plain)
        else:
            self._objects.add(id(x))
            self._object(path, x, names, plain)

    def _tensor(self, path: str, t: Tensor, names: frozenset[str], plain: bool) -> None:
        self.tensors[id(t)] = t
        hooks = tuple(map(id, t._hooks or ()))
        self.facts[path] = Tensor, id(t), None if t.array is None else id(t.array), t.requires_grad, t.node is None, hooks
        self.checks.attribute(t, "array", t.array)
        self.kept.append(t.array)
        for i, hook in enumerate(t._hooks or ()):
            self.visit(f"{path}.hook[{i}]", hook)

    def _array(self, path: str, a: Any, names: frozenset[str], plain: bool) -> None:
        self.facts[path] = np.ndarray, id(a)

    def _module(self, path: str, m: Module, names: frozenset[str], plain: bool) -> None:
        self.facts[path] = type(m), id(m)
        for name, value in vars(m).items():
            if name in HOOKS:
                for number, hook in value.items():
                    self.visit(f"{path}.{name}[{number}]", hook)
            elif isinstance(value, NUMBERS):
                self._numbers.append((f"{path}.{name}", type(m), name, value))
            elif name not in OWN_BUSINESS:
                self.visit(f"{path}.{name}", value)
        self._named(path, m, frozenset({"forward", "__call__"}), True)

    def _optimizer(self, path: str, o: Optimizer, names: frozenset[str], plain: bool) -> None:
        self.facts[path] = type(o), id(o)
        settings = o.settings()
        self.facts[f"{path} options"] = repr(settings)
        self.checks.settings(o, settings)
        self.optimizers[path] = o
        for name, value in vars(o).items():
            if name in ("state", "param_groups") or name not in FRAME:
                self.checks.entry(vars(o), name, value)
            if name not in FRAME:
                self.visit(f"{path}.{name}", value)
        self.visit(f"{path}.groups", tuple([tuple(group["params"]) for group in o.param_groups]))
        for sized in (o.param_groups, o.state, *(group["params"] for group in o.param_groups)):
            self.checks.length(sized)
        for i, group in enumerate(o.param_groups):
            self.checks.entry(o.param_groups, i, group)
            for k, p in enumerate(group["params"]):
                self.checks.entry(group["params"], k, p)
        members = [p for group in o.param_groups for p in group["params"]]
        for i, p in enumerate(members):
            if p in o.state:
                self.checks.entry(o.state, p, o.state[p])
                self.visit(f"{path}.state[{i}]", o.state[p])
        if o.starts_from_zeros:
            self.zeros.add(f"{path}.state[")
        self._named(path, o, frozenset({"update", "step"}), True)

    def _function(self, path: str, f: Any, names: frozenset[str], plain: bool) -> None:
        """A Python function: its globals, free variables and defaults, as far as its code names them."""
        self.facts[path] = FunctionType, id(f)
        if is_foreign(f.__code__):
            return
        used, texts = words(f.__code__)
        self._texts |= texts
        self._names |= used
        self.looks = self.looks or "grad" in used
        where = getattr(f, "__name__", path)
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not set yet
                continue
            self.checks.attribute(cell, "cell_contents", value)
            self.visit(f"{where}: {name}", value, used)
        for name in sorted(used & f.__globals__.keys()):
            value = f.__globals__[name]
            if not isinstance(value, (ModuleType, type, BuiltinFunctionType)):
                self.checks.entry(f.__globals__, name, value)
            self.visit(name, value, used)
        for name in ("__defaults__", "__kwdefaults__"):
            if getattr(f, name):
                self.checks.attribute(f, name, getattr(f, name))
                self.visit(f"{where}.{name}", getattr(f, name), used)

    def _method(self, path: str, m: MethodType, names: frozenset[str], plain: bool) -> None:
        self.facts[path] = MethodType, id(m.__func__), id(m.__self__)
        self.visit(path, m.__func__)
        code = getattr(m.__func__, "__code__", None)
        self.visit(f"{path}.self", m.__self__, words(code)[0] if code is not None else frozenset())

    def _partial(self, path: str, p: partial, names: frozenset[str], plain: bool) -> None:
        self.facts[path] = partial, id(p)
        for name in ("func", "args", "keywords"):
            self.visit(f"{path}.{name}", getattr(p, name), names)

    def _library(self, path: str, m: Any, names: frozenset[str], plain: bool) -> None:
        """A module or class of the user's: what is named of it, plain or not."""
        self.facts[path] = id(m)
        if not is_library(m):
            self._named(path, m, names, plain)

    def _list(self, path: str, x: Any, names: frozenset[str], plain: bool) -> None:
        self.facts[path] = type(x), len(x) if plain else 0
        if plain and isinstance(x, list):
            self.checks.length(x)
        if len(x) > LONG:
            return
        for i, value in enumerate(x):
            if isinstance(x, list) and (plain or not isinstance(value, NUMBERS)):
                self.checks.entry(x, i, value)
            self.visit(f"{path}[{i}]", value, names, plain)

    def _dict(self, path: str, x: dict, names: frozenset[str], plain: bool) -> None:
        self.checks.length(x)
        self.facts[path] = type(x), len(x)
        if len(x) > LONG:
            return
        self.facts[path] = type(x), tuple([atom(k) if isinstance(k, NUMBERS) else id(k) for k in x])
        for key, value in x.items():
            if plain or not isinstance(value, NUMBERS):
                self.checks.entry(x, key, value)
            self.visit(f"{path}[{key!r}]" if isinstance(key, NUMBERS) else f"{path}[{type(key).__name__}]", value, names, plain)

    def _set(self, path: str, x: Any, names: frozenset[str], plain: bool) -> None:
        self.checks.length(x)
        self.facts[path] = type(x), frozenset([atom(k) if isinstance(k, NUMBERS) else id(k) for k in x])
        self.kept += x

    def _source(self, path: str, x: Any, names: frozenset[str], plain: bool) -> None:
        self.facts[path] = type(x), id(x)
        self.drawn[path] = x.getstate if hasattr(x, "getstate") else lambda: repr(getattr(x, "bit_generator", x._bit_generator).state)

    def _identity(self, path: str, x: Any, names: frozenset[str], plain: bool) -> None:
        self.facts[path] = type(x), id(x)

    def _opaque(self, path: str, x: Any, names: frozenset[str], plain: bool) -> None:
        """An object of mulgil's that keeps its own counts: what it holds, but not its numbers."""
        self.facts[path] = type(x), id(x)
        for name, value in getattr(x, "__dict__", {}).items():
            if not isinstance(value, NUMBERS):
                self.checks.entry(vars(x), name, value)
                self.visit(f"{path}.{name}", value, plain=False)

    # ---- attributes

    def _object(self, path: str, x: Any, names: frozenset[str], plain: bool) -> None:
        values = getattr(x, "__dict__", {})
        if names is EVERYTHING or isinstance(x, Function):
            lent = () if getattr(x, "takes_context", True) else ("inputs", "outputs")  # set at each call of an op in the books' form
            found = [n for n, v in values.items() if n not in lent and (isinstance(x, Function) or not isinstance(v, NUMBERS))]
            self._named(path, x, frozenset(found), plain, names)
        else:
            self._named(path, x, names | {"__call__"}, plain, names)

    def _named(self, path: str, x: Any, names: frozenset[str], plain: bool, below: frozenset[str] | None = None) -> None:
        """The attributes of `x` among `names`; its methods are followed to what they name in turn. below: names for what they hold."""
        values = getattr(x, "__dict__", {})
        below = names if below is None else below
        for name in sorted(names):
            if (id(x), name) in self._seen:
                continue
            self._seen[id(x), name] = path
            if name not in values or isinstance(x, type):
                self._of_class(path, x, name, below, plain)
            elif not isinstance(x, (Module, Optimizer)):  # these have been looked at whole
                self.checks.entry(values, name, values[name])
                self.visit(f"{path}.{name}", values[name], below, plain)

    def _of_class(self, path: str, x: Any, name: str, names: frozenset[str], plain: bool) -> None:
        kind: Any = next((vars(c) for c in (x.__mro__ if isinstance(x, type) else type(x).__mro__) if name in vars(c)), {})
        value = kind.get(name)
        value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if isinstance(value, FunctionType):
            if not is_foreign(value.__code__):
                self.visit(f"{type(x).__name__}.{name}", value)
                self._named(path, x, words(value.__code__)[0], plain)
        elif isinstance(value, NUMBERS) and kind:
            self.checks.attribute(x, name, value)
            self.visit(f"{path}.{name}", value, names, plain)
        elif type(value).__name__ == "member_descriptor" and hasattr(x, name):  # __slots__
            self.checks.attribute(x, name, getattr(x, name))
            self.visit(f"{path}.{name}", getattr(x, name), names, plain)

    def _moving_options(self) -> None:
        """The options that Python itself reads, as in `group["lr"]`, where the arrays that hold them do not help."""
        for path, o in self.optimizers.items():
            for name in MOVING:
                for i, group in enumerate(o.param_groups if name in self._texts else ()):
                    if name in group:
                        self.facts[f"{path} {name}[{i}]"] = atom(group[name])
                        self.checks.entry(group, name, group[name])


VISITS: list[tuple[Any, Callable]] = [
    (Tensor, Survey._tensor),
    (np.ndarray, Survey._array),
    (Module, Survey._module),
    (Optimizer, Survey._optimizer),
    (LRScheduler, Survey._opaque),
    (Generator, Survey._identity),
    (FunctionType, Survey._function),
    (MethodType, Survey._method),
    (partial, Survey._partial),
    ((ModuleType, type), Survey._library),
    ((list, tuple), Survey._list),
    (dict, Survey._dict),
    ((set, frozenset), Survey._set),
    (SOURCES, Survey._source),
]


class World:
    """What a survey found, and a quick check that it is still so."""

    def __init__(self, roots: Sequence[tuple[str, Any]], function: Any = None):
        self.last = changes.last  # before looking: what changes meanwhile is seen at the next call
        survey = Survey(roots, function)
        self.facts, self.tensors, self.zeros, self.kept = survey.facts, survey.tensors, survey.zeros, survey.kept
        self.drawn, self.looks = survey.drawn, survey.looks
        self.key = tuple(self.facts.items())
        self.optimizers = list(survey.optimizers.values())
        self.arrays = frozenset([id(t.array) for t in self.tensors.values() if t.array is not None])
        self.owned = frozenset([id(owner(t.array)) for t in self.tensors.values() if t.array is not None])
        self._checks = survey.checks.function()
        self.plans: dict[tuple, list[Any]] = {}  # signature -> plans, of which the first that fits serves
        self.recent: tuple[Any, Any] = (None, None)
        self.serves = False  # whether a plan has been used since it was made

    def holds(self) -> bool:
        """Whether nothing has changed since, as far as can be seen quickly: a False may be wrong, a True is not."""
        try:
            return changes.last == self.last and self._checks()
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):  # something is no longer there
            return False

    def difference(self, later: World) -> dict[str, tuple[Any, Any]]:
        """What a call changed: path -> (before, after), None for what is not there; what a first step makes of zeros left out."""
        paths = dict.fromkeys([*self.facts, *later.facts])
        pairs = {path: (self.facts.get(path), later.facts.get(path)) for path in paths}
        return {path: pair for path, pair in pairs.items() if pair[0] != pair[1] and not self._is_beginning(path, *pair)}

    def _is_beginning(self, path: str, before: Any, after: Any) -> bool:
        """A tensor that was open has its array; an optimizer that starts from zeros has state."""
        if before is None or path not in self.facts:
            return path.startswith(tuple(self.zeros))
        return before[0] is Tensor and before[:2] == after[:2] and before[2] is None and before[3:] == after[3:]

    def draws(self) -> dict[str, Any]:
        """The states of all sources of random numbers that do not belong to ops."""
        return {path: state() for path, state in self.drawn.items()}


def owner(array: Any) -> Any:
    """The object whose memory an array shows: itself, or what it is a view of."""
    base = getattr(array, "base", None)
    while base is not None:
        array, base = base, getattr(base, "base", None)
    return array
