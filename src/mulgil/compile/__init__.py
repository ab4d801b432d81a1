"""Define-and-run: trace a function once, replay it as fused kernels over planned memory.

The package is also the function: `mulgil.compile(step, state=[model, optimizer])` and `@mulgil.compile(state=model)`.
"""

import sys
from types import ModuleType
from typing import Any

from mulgil.compile.api import Compiled, compile

__all__ = ["Compiled", "compile"]


class _CallablePackage(ModuleType):
    """Importing a part of this package binds `mulgil.compile` to the package, so the package answers calls itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return compile(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
