"""Tensor: an array that remembers how it was computed."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Self

import numpy as np

from mulgil import changes
from mulgil.autograd.convert import Conversions
from mulgil.autograd.engine import Node, held_bytes, is_grad_enabled, no_grad, walk_back
from mulgil.autograd.methods import Methods
from mulgil.autograd.protocol import NumpyProtocol, PythonProtocol
from mulgil.autograd.record import call
from mulgil.autograd.static import apply_static
from mulgil.backend import default_dtype, device, device_of, to_device, xp_of
from mulgil.errors import DTypeError, GradientError, ShapeError, describe
from mulgil.ops.elementwise import Add, Copy
from mulgil.ops.function import Context, Function, made, run
from mulgil.typing import ArrayLike, DeviceLike, DTypeLike

RUNNING_TOTAL = 100  # additions to one scalar after which its graph is looked at


class Tensor(Methods, Conversions, NumpyProtocol, PythonProtocol):
    """An n-dimensional array with a gradient.

    Args:
        data: number, nested lists, NumPy or CuPy array (shared, not copied), or Tensor.
        requires_grad: whether `backward` should bring a gradient here. Floating dtypes only.
        dtype: convert to this; by default an array keeps its dtype and Python floats become `default_dtype()`.
        device: "cpu" or "cuda".

    Attributes:
        array: the NumPy or CuPy array itself.
        grad: the gradient, a Tensor, or None before `backward`.

    Example:
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        tensor([2., 4.])
    """

    array: np.ndarray  # or CuPy's, which has the same methods
    grad: Tensor | None
    __slots__ = ("__weakref__", "_hooks", "_requires_grad", "array", "grad", "index", "node", "version")

    def __init__(self, data: ArrayLike, requires_grad: bool = False, dtype: DTypeLike | None = None, device: DeviceLike | None = None):
        array = to_array(data, dtype)
        self.array = array if device is None else to_device(array, device)
        self.grad = None
        self.node: Node | None = None
        self.index = 0
        self.version = [0]  # a cell, shared with views: in-place writes count up
        self._hooks: list[Callable[..., Any]] | None = None
        self._requires_grad = False
        if requires_grad:
            self._require_grad()

    @staticmethod
    def of(array: Any, node: Node | None = None, index: int = 0, version: list[int] | None = None) -> Tensor:
        """A Tensor around an array that is known to be good, made by output `index` of `node`: the quick way for results."""
        t = Tensor.__new__(Tensor)
        t.array, t.node, t.index = array, node, index
        t.grad = t._hooks = None
        t.version = [0] if version is None else version
        t._requires_grad = node is not None
        return t

    # ---- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def device(self) -> device:
        return device_of(self.array)

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user rather than computed from tensors that require gradients."""
        return self.node is None

    @property
    def grad_fn(self) -> Node | None:
        """The node of the graph that made this tensor; None for a leaf."""
        return self.node

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not value and self.node is not None:
            raise GradientError("requires_grad can be turned off only at a leaf", repr(self.node), "use y = x.detach()")
        if value:
            self._require_grad()
        else:
            self._requires_grad = False
        changes.note()

    def _require_grad(self) -> None:
        if self.array is not None and self.array.dtype.kind != "f":
            raise DTypeError("requires_grad: only floating tensors have gradients", describe(tensor=self), "convert first: x.float()")
        self._requires_grad = True

    def requires_grad_(self, value: bool = True) -> Self:
        self.requires_grad = value
        return self

    @property
    def data(self) -> Tensor:
        """The same memory as a Tensor outside the graph. Assigning to it replaces the array (and writes no history)."""
        return Tensor(self.array)

    @data.setter
    def data(self, value: ArrayLike) -> None:
        self.array = to_array(value, None)
        changes.note()

    # ---- the graph

    def apply_function(self, op: Function, inputs: Sequence[Any]) -> Any:
        """What `op(*inputs)` does for Tensors: compute, and record where gradients are wanted. A Tensor, or a tuple of them."""
        return call(Tensor, op, inputs)

    def apply_static(self, function: type[Function], arguments: Sequence[Any]) -> Any:
        """What `function.apply(*arguments)` does for a Function in PyTorch's form."""
        return apply_static(Tensor, function, tuple(arguments))

    def backward(self, gradient: ArrayLike | None = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add d(self)/d(leaf) to the `.grad` of every leaf that requires one.

        Args:
            gradient: weights of this tensor's elements; may be left out for a single element.
            retain_graph: keep the graph for another backward. Otherwise its arrays are freed here.
            create_graph: record this walk, so that the gradients can be differentiated again.

        Raises:
            GradientError: not a scalar and no `gradient`; nothing requires a gradient; the graph was walked before;
                an array that backward needs was changed in place.
        """
        leaves, _ = walk_back([self], [self.seed(gradient, create_graph)], Tensor.of, create_graph, retain_graph)
        given = set() if gradient is None else {id(getattr(gradient, "array", gradient))}
        for leaf, g in leaves.values():
            leaf._accumulate(g, given)

    def seed(self, gradient: ArrayLike | None, create_graph: bool) -> Any:
        """What a walk back from this tensor starts with, checked: a Tensor if the walk is recorded, else an array; None stands for 1."""
        if not self._requires_grad:
            rule = "backward: this tensor does not depend on anything that requires grad"
            hint = "was it computed under no_grad(), or by a compiled step that calls backward itself?"
            raise GradientError(rule, describe(tensor=self), hint)
        if gradient is None:
            if self.array.size != 1:
                rule = "backward: the start must be a single number, or come with a gradient of its shape"
                raise GradientError(rule, describe(tensor=self), "reduce it first: loss.mean().backward()")
            return None
        given = as_tensor(gradient)
        if given.shape != self.shape:
            raise ShapeError(
                "backward: the gradient must have the tensor's shape", describe(tensor=self, gradient=given), "mulgil.ones_like(y)"
            )
        given = given.to(dtype=self.dtype)
        return given if create_graph else given.array

    def _accumulate(self, g: Any, taken: set[int]) -> None:
        """Add `g` (an array, or a Tensor of a recorded walk) to `.grad`. No array becomes the gradient of two leaves."""
        g = g if isinstance(g, Tensor) else Tensor.of(g)
        for hook in self._hooks or ():
            replaced = hook(g)
            g = g if replaced is None else replaced
        if self.grad is not None:
            with no_grad() if g.node is None else nullcontext():
                self.grad = self.grad + g
            return
        if g.node is None and (id(g.array) in taken or g.array.base is not None):
            g = Tensor.of(run(Copy(), "forward", Context(xp_of(g.array)), g.array)[0])
        taken.add(id(g.array))
        self.grad = g

    def retain_grad(self) -> None:
        """Keep the gradient of this computed tensor in `.grad`, as a leaf's is."""
        if self.node is not None:
            me = weakref.ref(self)
            self.register_hook(lambda g: None if (t := me()) is None else t._accumulate(g, {id(g.array)}))

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call `hook(gradient)` when this tensor's gradient has been computed; what it returns, if anything, replaces it.

        Returns a function that removes the hook.
        """
        if not self._requires_grad:
            raise GradientError("register_hook: this tensor gets no gradient", hint="set requires_grad=True first")
        if self.node is not None:
            hooks = self.node.hooks.setdefault(self.index, [])
        else:
            hooks = self._hooks = self._hooks or []
        hooks.append(hook)
        changes.note()

        def remove() -> None:
            hooks.remove(hook)
            changes.note()

        return remove

    def detach(self) -> Tensor:
        """The same memory outside the graph."""
        return Tensor.of(self.array, version=self.version)

    def __iadd__(self, other: ArrayLike) -> Tensor:
        total = self._augmented(Add(), other)
        if total.node is not None and total.ndim == 0:
            total.node.tally = (self.node.tally if self.node is not None else 0) + 1
            if total.node.tally == RUNNING_TOTAL and (held := held_bytes(total.node)) > 1 << 20:
                warnings.warn(
                    f"this running total keeps the graphs of {RUNNING_TOTAL} steps alive ({held / 1e6:.0f} MB and growing): "
                    "add loss.item() instead, or run the loop under no_grad()",
                    stacklevel=2,
                )
        return total

    def _history(self) -> str:
        return f", grad_fn={self.node}" if self.node is not None else ", requires_grad=True" if self._requires_grad else ""

    def __getstate__(self) -> dict[str, Any]:
        """What a process pool is sent: the array, the gradient, whether it requires one; no hooks, no graph."""
        if self.node is not None:
            raise GradientError("only a leaf can be pickled", repr(self.node), "detach() it first")
        grad = None if self.grad is None else self.grad.array
        return {"array": self.array, "grad": grad, "requires_grad": self._requires_grad, "more": getattr(self, "__dict__", {})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Tensor.__init__(self, np.empty(0))
        self.array, self._requires_grad = state["array"], state["requires_grad"]
        self.grad = None if state["grad"] is None else Tensor.of(state["grad"])
        if state["more"]:
            self.__dict__.update(state["more"])

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self.node is not None:
            raise GradientError("only a leaf can be deep-copied", repr(self.node), "detach() it first")
        twin = type(self).__new__(type(self))
        Tensor.__init__(twin, np.empty(0))
        memo[id(self)] = twin
        twin.array = None if self.array is None else self.array.copy()
        twin._requires_grad = self._requires_grad
        twin.grad = None if self.grad is None else Tensor.of(self.grad.array.copy())
        twin.__dict__.update(self.__dict__) if hasattr(self, "__dict__") else None
        return twin


class Parameter(Tensor):
    """A Tensor that a module trains: it requires a gradient, and `nn.Module` finds it.

    `Parameter(None)` is open: its `array` is None until somebody sets it (a layer whose input size is taken from the first batch).
    """

    def __init__(self, data: ArrayLike | None = None, requires_grad: bool = True):
        super().__init__(np.empty(0, default_dtype()) if data is None else data)
        if data is None:
            self.array = None  # type: ignore[assignment]  # open
        self.requires_grad = requires_grad

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__() if self.array is not None else "Parameter(open)"


def to_array(data: Any, dtype: Any) -> Any:
    """The array behind `data`; Python floats get the default dtype. Raises `DTypeError` for what is not numbers."""
    if isinstance(data, Tensor):
        data = data.array
    if type(data) is np.ndarray or xp_of(data) is not np:
        return data if dtype is None else data.astype(dtype, copy=False)
    if isinstance(data, (list, tuple)) and is_grad_enabled() and holds_gradient(data):
        rule = "a list of tensors that require grad does not become a tensor: their gradients would be lost"
        raise GradientError(rule, f"{type(data).__name__} of length {len(data)}", "mulgil.stack(tensors) joins them, differentiably")
    try:
        array = np.asarray(data, dtype)
    except (ValueError, TypeError) as error:
        raise DTypeError(
            "a tensor is made of numbers in a regular shape", f"{type(data).__name__}: {error}", "check the lengths of nested lists"
        ) from None
    if array.dtype.kind not in "fiub":
        raise DTypeError(
            "a tensor holds floats, integers or booleans", f"{type(data).__name__} gives dtype {array.dtype}", "convert it to numbers first"
        )
    is_python = dtype is None and array.dtype == np.float64 and not isinstance(data, (np.generic, np.ndarray))
    return made(array.astype(default_dtype()) if is_python else array, data)


def holds_gradient(data: Any) -> bool:
    """Whether a Tensor that requires grad is somewhere in nested lists and tuples."""
    if isinstance(data, (list, tuple)):
        return any(holds_gradient(part) for part in data if isinstance(part, (Tensor, list, tuple)))
    return isinstance(data, Tensor) and data.requires_grad


def as_tensor(data: ArrayLike, dtype: DTypeLike | None = None, device: DeviceLike | None = None) -> Tensor:
    """`data` as a Tensor: itself if it is one already (of that dtype), memory shared where possible."""
    if isinstance(data, Tensor):
        return data if dtype is None and device is None else data.to(device=device, dtype=dtype)
    return Tensor(data, dtype=dtype, device=device)


def apply(op: Function, *inputs: Any) -> Any:
    """Run `op` on Tensors, arrays and Python numbers, and record it if a gradient is wanted. A Tensor, or a tuple of Tensors."""
    return call(Tensor, op, inputs)
