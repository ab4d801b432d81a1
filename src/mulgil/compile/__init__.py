"""Define-and-run: trace a function once, replay it as fused kernels over planned memory."""

from mulgil.compile.api import Compiled, compile

__all__ = ["Compiled", "compile"]
