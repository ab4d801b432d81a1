"""mulgil (물길): a deep-learning framework that one mind can hold. Importing it loads NumPy and nothing heavier.

Names and conventions are PyTorch's where it has them: `import mulgil as torch` runs most small programs.
"""

from difflib import get_close_matches as _get_close_matches
from importlib import import_module as _import_module
from typing import TYPE_CHECKING

import numpy as _np

from mulgil import cuda as cuda
from mulgil import errors as errors
from mulgil import typing as typing
from mulgil.autograd import *  # noqa: F403
from mulgil.backend import Generator as Generator
from mulgil.backend import default_generator as default_generator
from mulgil.backend import device as device
from mulgil.backend import manual_seed as manual_seed
from mulgil.backend import set_default_dtype as set_default_dtype
from mulgil.check import gradcheck as gradcheck
from mulgil.create import *  # noqa: F403
from mulgil.functions import *  # noqa: F403
from mulgil.names import instead as _instead
from mulgil.native.blas import set_num_threads as set_num_threads
from mulgil.ops.function import Context as Context
from mulgil.ops.function import Function as Function

if TYPE_CHECKING:  # what `__getattr__` below finds at first use, for checkers and editors
    from mulgil import data as data
    from mulgil import io as io
    from mulgil import nn as nn
    from mulgil import optim as optim
    from mulgil import plot as plot
    from mulgil import train as train
    from mulgil.compile import compile as compile
    from mulgil.io import load as load
    from mulgil.io import save as save
    from mulgil.nn.summary import summary as summary
    from mulgil.train import Classifier as Classifier
    from mulgil.train import Trainer as Trainer
    from mulgil.train.interpret import interpret as interpret

    float, int, bool = _np.float32, _np.int32, _np.bool_

__version__ = "0.1.0"

float32 = _np.float32
float64 = double = _np.float64
float16 = half = _np.float16
uint8 = _np.uint8
int8 = _np.int8
int16 = _np.int16
int32 = _np.int32
int64 = long = _np.int64

# `mulgil.float`, `mulgil.int` and `mulgil.bool` are PyTorch's names for dtypes; they are looked up below so that this file
# and `from mulgil import *` keep Python's own.
_DTYPES = {"float": _np.float32, "int": _np.int32, "bool": _np.bool_}
_LAZY = {
    "nn": "mulgil.nn",
    "optim": "mulgil.optim",
    "data": "mulgil.data",
    "compile": "mulgil.compile",
    "io": "mulgil.io",
    "train": "mulgil.train",
    "plot": "mulgil.plot",
    "summary": "mulgil.nn:summary",
    "interpret": "mulgil.train:interpret",
    "Trainer": "mulgil.train:Trainer",
    "Classifier": "mulgil.train:Classifier",
    "save": "mulgil.io:save",
    "load": "mulgil.io:load",
}


if not TYPE_CHECKING:  # where a checker sees it, it takes any name for known

    def __getattr__(name):
        if name in _DTYPES:
            return _DTYPES[name]
        if name not in _LAZY:
            if told := _instead("mulgil", name):
                raise AttributeError(f"module 'mulgil' has no attribute {name!r}{told}", name="")
            close = [] if name.startswith("__") else _get_close_matches(name, __dir__(), 1)
            hint = f"; did you mean mulgil.{close[0]}?" if close else ""
            raise AttributeError(f"module 'mulgil' has no attribute {name!r}{hint}", name="")  # a name: Python would add its own guess
        path, _, attribute = _LAZY[name].partition(":")
        found = _import_module(path)
        globals()[name] = getattr(found, attribute) if attribute else found
        return globals()[name]


def __dir__() -> list[str]:
    """What an editor offers behind `mulgil.`: also what is not loaded yet."""
    names = {*globals(), *_LAZY, *_DTYPES} - {"TYPE_CHECKING"}
    return sorted(name for name in names if name.startswith("__") or not name.startswith("_"))
