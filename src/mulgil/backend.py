"""Where arrays live and where random numbers come from: array modules, devices, the default dtype, generators."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from mulgil import changes
from mulgil.errors import DeviceError, DTypeError

NUMBERS = (float, int, bool)  # Python's: weak, they take the dtype of the array beside them

_default_dtype = np.dtype(np.float32)


def xp_of(array: Any) -> ModuleType:
    """The module that computes with `array`: numpy, or cupy for an array on the GPU."""
    if type(array) is np.ndarray or not type(array).__module__.startswith("cupy"):
        return np
    import cupy

    return cupy


def default_dtype() -> np.dtype:
    """The dtype that Python floats and new parameters get; float32 unless `set_default_dtype` changed it."""
    return _default_dtype


def as_dtype(dtype: Any) -> np.dtype:
    """What a user gives as a dtype. Raises DTypeError for what NumPy does not know as one."""
    try:
        return np.dtype(dtype)
    except TypeError:
        raise DTypeError("a dtype must be one of NumPy's", repr(dtype)[:80], "such as mulgil.float32, np.int64 or 'float64'") from None


def set_default_dtype(dtype: Any) -> None:
    """Choose float32 or float64 for what is created from now on."""
    global _default_dtype
    if as_dtype(dtype).kind != "f":
        raise DTypeError(
            "set_default_dtype: the default dtype must be a floating one", str(np.dtype(dtype)), "use mulgil.float32 or mulgil.float64"
        )
    _default_dtype = np.dtype(dtype)
    changes.note()


class device:
    """`device("cpu")`, `device("cuda")`, `device("cuda:1")`, `device("cuda", 1)`: a name for where arrays live.

    Equal to the string that names it, as in `if device == "cuda"`. Naming a device does not require it; using it does.
    """

    __slots__ = ("index", "type")

    def __init__(self, type: str | device, index: int | None = None):
        name, _, number = str(type).partition(":")
        if name not in ("cpu", "cuda") or (number and not number.isdigit()):
            raise DeviceError('device: the name must be "cpu", "cuda" or "cuda:N"', repr(type), 'use mulgil.device("cpu")')
        self.type: str = name
        self.index: int | None = int(number) if number else index

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"device(type={self.type!r})" if self.index is None else f"device(type={self.type!r}, index={self.index})"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, (device, str)) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))


CPU = device("cpu")


def device_of(array: Any) -> device:
    """The device that holds `array`."""
    return CPU if xp_of(array) is np else device("cuda", array.device.id)


def to_device(array: Any, where: device | str) -> Any:
    """`array` on the device `where`: itself if it is there already, else a copy. Raises `DeviceError` where there is no such device."""
    where = device(where)
    if where.type == "cpu":
        return array if xp_of(array) is np else array.get()
    from mulgil import cuda

    if not cuda.is_available():
        raise DeviceError(
            "to: this machine has no CUDA device that CuPy can use",
            repr(where),
            'stay on "cpu", or pip install "mulgil[cuda]" where a GPU is',
        )
    import cupy

    with cupy.cuda.Device(where.index or 0):
        return cupy.asarray(array)


class Generator:
    """A source of random numbers with a seed and a state that can be saved.

    Example:
        >>> a, b = Generator(7), Generator(7)
        >>> a.numpy.random() == b.numpy.random()
        True
    """

    def __init__(self, seed: int | None = None):
        self._on: dict[str, Any] = {}
        self.initial_seed = 0
        self._start(np.random.SeedSequence(seed))

    def _start(self, entropy: np.random.SeedSequence) -> None:
        self.initial_seed = int(entropy.entropy)  # type: ignore[arg-type]
        self._on.clear()  # a GPU's generator starts again from the same seed when it is next asked for
        self.numpy = np.random.Generator(np.random.PCG64(entropy))

    def manual_seed(self, seed: int) -> Generator:
        """Start again from `seed`; the numbers that follow are the same on every run."""
        self._start(np.random.SeedSequence(int(seed) % 2**64))
        return self

    def on(self, xp: ModuleType) -> Any:
        """The generator object of an array module: NumPy's own, or CuPy's, seeded with the same number."""
        if xp is np:
            return self.numpy
        if xp.__name__ not in self._on:
            self._on[xp.__name__] = xp.random.default_rng(self.initial_seed)
        return self._on[xp.__name__]

    def get_state(self) -> dict[str, Any]:
        """The state of the NumPy generator, made of plain numbers and strings (fit for JSON)."""
        return {"initial_seed": self.initial_seed, **self.numpy.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that `get_state` returned."""
        self.initial_seed = state["initial_seed"]
        self.numpy.bit_generator.state = {key: value for key, value in state.items() if key != "initial_seed"}


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the generator that everything in mulgil draws from (initial weights, shuffling, dropout) and return it.

    The same seed gives the same bits on the same machine, also in another process.
    """
    return default_generator.manual_seed(seed)
