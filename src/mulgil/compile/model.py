"""`mulgil.compile(model)`: the model itself, but that calling it replays plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mulgil.nn import Module


def twin(model: Module, call: Callable[..., Any], programs: Callable[[], Any]) -> Module:
    """A second object with the attributes of `model`, its very own ones, that answers calls with `call`.

    Parameters, buffers, modes, hooks and everything else that is read or set here is read or set there. Copies and pickles of it are
    plain models of the same class. programs: what the attribute of that name gives.
    """
    kind = type(model)

    def answer(self: Any, *args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    def reduced(self: Any, protocol: Any) -> Any:
        return model.__reduce_ex__(protocol)

    names = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__call__": answer,
        "__reduce_ex__": reduced,
        "programs": property(lambda self: programs()),
        "stands_for": kind,
    }
    second: Module = object.__new__(type(kind.__name__, (kind,), names))
    object.__setattr__(second, "__dict__", model.__dict__)
    return second
