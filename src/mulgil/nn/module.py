"""Module: the base of every layer and model. Names, parameters, buffers, modes, hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TypeVar

import numpy as np

from mulgil import changes
from mulgil.autograd import Tensor
from mulgil.autograd.gradient import clear_gradients
from mulgil.backend import as_dtype, to_device
from mulgil.backend import device as Device
from mulgil.errors import DTypeError, MulgilError, visible
from mulgil.nn.inputs import Calls, look
from mulgil.nn.state import LoadResult, load_state_dict, state_dict
from mulgil.nn.tree import ModuleTree
from mulgil.typing import ArrayLike, DeviceLike, DTypeLike

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
_hook_numbers = count()
_calls = Calls()


class HookHandle:
    """What `register_forward_hook` returns; `remove()` takes the hook away again. Also a context manager that does so."""

    def __init__(self, hooks: dict[int, Callable[..., Any]], hook: Callable[..., Any]):
        self._hooks, self._number = hooks, next(_hook_numbers)
        hooks[self._number] = hook
        changes.note()

    def remove(self) -> None:
        self._hooks.pop(self._number, None)
        changes.note()

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class HasForward(Protocol[P, R_co]):
    """A class with a `forward`."""

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class Module(ModuleTree):
    """Base class of layers and models, with PyTorch's names and behaviour.

    Assign parameters, buffers and other modules as attributes in `__init__` (after `super().__init__()`) and write
    `forward`; calling the module calls `forward`. Everything assigned gets a dotted name: `features.0.weight`.

    Example:
        >>> class Net(Module):
        ...     def __init__(self, hidden=128):
        ...         super().__init__()
        ...         self.l1, self.l2 = Linear(784, hidden), Linear(hidden, 10)
        ...     def forward(self, x):
        ...         return self.l2(F.relu(self.l1(x)))
    """

    training: bool
    _forward_hooks: dict[int, Callable[..., Any]]
    _forward_pre_hooks: dict[int, Callable[..., Any]]

    def __init__(self) -> None:
        super().__init__()
        self.__dict__.update(training=True, _forward_hooks={}, _forward_pre_hooks={})

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward(self, x): write one")

    if TYPE_CHECKING:  # a call takes what this class's `forward` takes, and returns what it returns

        def __call__(self: HasForward[P, R_co], *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    else:

        def __call__(self, *args, **kwargs):
            if not _calls.inside:
                return self._outermost_call(args, kwargs)
            try:
                if self._forward_hooks or self._forward_pre_hooks:
                    return self._call_with_hooks(args, kwargs)
                return self.forward(*args, **kwargs)
            except MulgilError as error:
                self._name_layer(error)
                raise

    def _outermost_call(self, args: tuple, kwargs: dict) -> Any:
        look(self, args)
        _calls.inside = True
        try:
            return self(*args, **kwargs)
        finally:
            _calls.inside = False

    def _call_with_hooks(self, args: tuple, kwargs: dict) -> Any:
        for hook in tuple(self._forward_pre_hooks.values()):
            changed = hook(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        output = self.forward(*args, **kwargs)
        for hook in tuple(self._forward_hooks.values()):
            changed = hook(self, args, output)
            output = output if changed is None else changed
        return output

    def _name_layer(self, error: MulgilError) -> None:
        """Add to `error` the dotted name of the layer it came from, one level at a time as it passes outwards."""
        inner, path, kind = error.__dict__.get("_came_from", (None, "", type(self).__name__))
        if inner is not None and inner is not self:
            name = next((name for name, module in self.named_modules() if module is inner), "")
            path = ".".join(part for part in (name, path) if part)
        error.__dict__["_came_from"] = self, path, kind
        error.layer = f"{path} ({kind})" if path else kind

    @cached_property
    def info(self) -> dict[str, Any]:
        """What belongs to a model besides its weights; `mulgil.save` keeps it in the file and `mulgil.load` brings it back.

        Yours to fill, with numbers, text, lists and dicts. mulgil itself writes

        - input_shape, input_range: those of a sample in the first batches of training, see `nn.inputs`. A model that meets inputs in
          another range warns (`InputRangeWarning`). Without input_range it does not; training learns it anew.
        - preprocessing, image_shape, classes: what the training set says of itself, see `train.remember`.
        """
        return {}

    # ------------------------------------------------------------------ state and modes
    def state_dict(self, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """Dotted name -> tensor of every parameter and persistent buffer; the tensors share the module's memory.

        keep_vars: the parameters themselves instead of detached tensors.
        """
        return state_dict(self, prefix, keep_vars)

    def load_state_dict(self, state: Mapping[str, ArrayLike], strict: bool = True) -> LoadResult:
        """Copy values into the parameters and buffers. A load that fails changes nothing.

        state: dotted name -> Tensor or array. strict: every name must match; otherwise missing and unexpected names are
        returned. A shape that differs is an error either way. Raises ModelFileError (a RuntimeError) that lists what differs.
        """
        return load_state_dict(self, state, strict)

    def train(self, mode: bool = True) -> Self:
        """Training mode for this module and all below it: dropout drops, batch norm uses the batch. Returns self."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Evaluation mode: `train(False)`."""
        return self.train(False)

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every module, children first: how weights are initialised by hand. Returns self."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let the parameters be trained, or freeze them. Returns self."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients (or, with `set_to_none=False`, fill them with zeros)."""
        clear_gradients(self.parameters(), set_to_none)

    cleargrads = zero_grad  # DeZero's name

    def to(
        self,
        *args: DeviceLike | DTypeLike | Tensor | None,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
        non_blocking: bool = False,
    ) -> Self:
        """Move parameters and buffers to a device, a floating dtype, or both; in place, and returns self.

        Takes what PyTorch takes: `to("cuda")`, `to(mulgil.float64)`, `to(device, dtype)`, `to(tensor)`. `non_blocking` is accepted
        and means nothing here. Integer buffers keep their dtype. Raises DTypeError for a dtype that is not floating.
        """
        argument: Any
        for argument in args:
            if isinstance(argument, Tensor):
                device, dtype = argument.device, argument.dtype
            elif isinstance(argument, (Device, str)) and str(argument).partition(":")[0] in ("cpu", "cuda"):
                device = argument
            elif argument is not None and not isinstance(argument, bool):
                dtype = argument
        if dtype is not None and as_dtype(dtype).kind != "f":
            hint = "use mulgil.float32 or mulgil.float64"
            raise DTypeError("Module.to: parameters can only have a floating dtype", str(np.dtype(dtype)), hint)
        for tensor in (*self.parameters(), *self.buffers()):
            _move(tensor, device, dtype)
            if tensor.grad is not None:
                _move(tensor.grad, device, dtype)
        return self

    def cpu(self) -> Self:
        """`to("cpu")`."""
        return self.to("cpu")

    def cuda(self, device: int | None = None) -> Self:
        """`to("cuda")`, or the GPU numbered `device`. Raises DeviceError where there is none."""
        return self.to(Device("cuda", device))

    def float(self) -> Self:
        """`to(float32)`."""
        return self.to(dtype=np.float32)

    def double(self) -> Self:
        """`to(float64)`."""
        return self.to(dtype=np.float64)

    # ------------------------------------------------------------------ hooks, printing, classes by name
    def register_forward_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, args, output)` after each forward; what it returns, if anything, replaces the output."""
        return HookHandle(self._forward_hooks, hook)

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, args)` before each forward; what it returns, if anything, replaces the arguments."""
        return HookHandle(self._forward_pre_hooks, hook)

    def extra_repr(self) -> str:
        """What `repr` shows between the brackets, such as `in_features=784, out_features=10, bias=True`."""
        return ""

    def _child_lines(self) -> list[str]:
        return [f"({visible(name)}): " + repr(module).replace("\n", "\n  ") for name, module in self._members("module").items()]

    def __repr__(self) -> str:
        extra, children = visible(self.extra_repr(), lines=True), self._child_lines()
        if not children and "\n" not in extra:
            return f"{type(self).__name__}({extra})"
        lines = [*extra.split("\n"), *children] if extra else children
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"

    def __dir__(self) -> list[str]:
        return sorted({name for name in super().__dir__() if not name[0].isdigit()})

    @classmethod
    def registry(cls) -> dict[str, type[Module]]:
        """Every Module class that is imported now, under its full name (`module.QualName`); of two, the one defined last.

        How a saved model's class is found: by looking among what is there, never by importing or running anything.
        """
        found: dict[str, type[Module]] = {}
        todo: list[type[Module]] = [cls]
        while todo:
            parent = todo.pop(0)
            if "stands_for" not in vars(parent):  # a compiled model's class
                found[f"{parent.__module__}.{parent.__qualname__}"] = parent
            todo += parent.__subclasses__()
        return found


def _move(tensor: Tensor, device: Any, dtype: Any) -> None:
    """Give `tensor` an array elsewhere or of another dtype; the Tensor itself stays, for optimizers hold it."""
    array = tensor.array
    if array is None:  # still open: made on the first batch's device, with its dtype
        return
    if dtype is not None and array.dtype.kind == "f":
        array = array.astype(dtype, copy=False)
    if device is not None:
        array = to_device(array, device)
    if array is not tensor.array:
        tensor.array = array
