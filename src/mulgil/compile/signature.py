"""The signature of a call: what of its arguments decides which plan serves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mulgil.autograd import Tensor, is_grad_enabled
from mulgil.compile.guards import NUMBERS, atom, owner
from mulgil.errors import TraceError


class Call:
    """The arguments of one call.

    Attributes:
        tensors: the Tensors in them, in order. objects: what is neither Tensor, number nor container, such as a Module or a function.
        key: shapes, dtypes and histories of the tensors, the structure around them, numbers, identities of objects, the grad mode.
        coarse: the same with any number for a number and any object for an object; None where there are only Tensors.
    """

    __slots__ = ("aliases", "args", "coarse", "ids", "key", "kwargs", "objects", "owners", "tensors")

    def __init__(self, args: tuple, kwargs: dict[str, Any]):
        self.args, self.kwargs = args, kwargs
        self.objects: tuple = ()
        self.ids: tuple = ()  # identities of the objects
        self.aliases: tuple = ()  # see `aliases`; filled in by who knows the state
        self.coarse: tuple | None = None
        parts: list[Any] = [is_grad_enabled()]
        self.owners: list[int] = []  # identities of the objects whose memory the tensors show
        for a in args:
            if type(a) is not Tensor:
                break
            array = a.array
            parts += array.shape, array.dtype, a._requires_grad and history(a)
            self.owners.append(id(array if array.base is None else owner(array)))
        else:
            if not kwargs:
                self.tensors: Sequence[Tensor] = args
                self.key = tuple(parts)
                return
        walk = _Walk()
        walk.visit(args)
        walk.visit(kwargs)
        self.tensors, self.objects = walk.tensors, tuple(walk.objects)
        self.owners = [id(owner(t.array)) for t in walk.tensors]
        self.ids = tuple(map(id, walk.objects))
        self.key, self.coarse = (parts[0], *walk.key), (parts[0], *walk.coarse)

    def refuse_arrays(self) -> None:
        """Raise TraceError for NumPy arrays: what Python reads of one cannot be seen, and would be frozen."""
        if np.ndarray in self.key:
            raise TraceError(
                "compile: the arrays among the arguments must be Tensors", "a NumPy array", "pass mulgil.from_numpy(array), which shares it"
            )


class _Walk:
    def __init__(self) -> None:
        self.key: list[Any] = []
        self.coarse: list[Any] = []
        self.tensors: list[Tensor] = []
        self.objects: list[Any] = []

    def visit(self, x: Any) -> None:
        if isinstance(x, Tensor):
            self.tensors.append(x)
            array = x.array
            self._both(type(x), None if array is None else (array.shape, array.dtype), x._requires_grad and history(x))
        elif isinstance(x, NUMBERS):
            self.key.append(atom(x))
            self.coarse.append(type(x))
        elif type(x) is dict:
            self._both(dict, len(x))
            for name, value in x.items():
                self.visit(name)
                self.visit(value)
        elif isinstance(x, tuple) or type(x) is list:
            self._both(type(x), len(x))
            for value in x:
                self.visit(value)
        elif isinstance(x, np.ndarray):
            self._both(np.ndarray)
        else:
            self.objects.append(x)
            self.key.append(id(x))
            self.coarse.append(type(x))

    def _both(self, *parts: Any) -> None:
        self.key += parts
        self.coarse += parts


def history(t: Tensor) -> tuple:
    """Of a tensor that requires a gradient: whether it was computed, and who waits for its gradient."""
    hooks = t._hooks if t.node is None else t.node.hooks.get(t.index)
    return t.node is None, tuple(map(id, hooks)) if hooks else ()


def aliases(call: Call, owned: frozenset[int], arrays: frozenset[int]) -> tuple:
    """Which arguments share memory, with each other or with the state.

    owned: identities of the objects that own the state's memory. arrays: of its arrays. The array of a tensor of the state is known
    by its identity: one plan serves this one array.
    """
    owners, tensors = call.owners, call.tensors
    if (len(owners) < 2 or len(set(owners)) == len(owners)) and owned.isdisjoint(owners):
        return ()
    found: list[tuple] = []
    for i, t in enumerate(tensors):
        if owners[i] in owned:
            found.append((i, "is", id(t.array)) if id(t.array) in arrays else (i, "shares", "state"))
        for k in range(i):
            if t.array is tensors[k].array:
                found.append((i, "is", k))
            elif owners[i] == owners[k] and np.may_share_memory(t.array, tensors[k].array):
                found.append((i, "shares", k))
    return tuple(found)
