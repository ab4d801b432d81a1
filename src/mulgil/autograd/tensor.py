"""Tensor: an array that remembers how it was computed."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from mulgil.autograd.convert import Conversions
from mulgil.autograd.engine import Node, held_bytes, is_grad_enabled, no_grad, walk_back
from mulgil.autograd.methods import Methods
from mulgil.autograd.protocol import NumpyProtocol
from mulgil.backend import default_dtype, device, device_of, to_device, xp_of
from mulgil.errors import DeviceError, DTypeError, GradientError, ShapeError, describe
from mulgil.ops.elementwise import Cast
from mulgil.ops.function import Context, Function, run

Data = Any  # a Tensor, an array, a number, or nested sequences of numbers
RUNNING_TOTAL = 100  # additions to one scalar after which its graph is looked at


class Tensor(Methods, Conversions, NumpyProtocol):
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

    __slots__ = ("__weakref__", "_hooks", "_requires_grad", "array", "grad", "index", "name", "node", "version")

    def __init__(self, data: Data, requires_grad: bool = False, dtype: Any = None, device: Any = None):
        array = to_array(data, dtype)
        self.array = array if device is None else to_device(array, device)
        self.grad: Tensor | None = None
        self.node: Node | None = None
        self.index = 0
        self.name: str | None = None
        self.version = [0]  # a cell, shared with views: in-place writes count up
        self._hooks: list[Callable] | None = None
        self._requires_grad = False
        if requires_grad:
            self.requires_grad = True

    # ---- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
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
        if value and self.array is not None and self.array.dtype.kind != "f":
            raise DTypeError("requires_grad: only floating tensors have gradients", describe(tensor=self), "convert first: x.float()")
        if not value and self.node is not None:
            raise GradientError("requires_grad can be turned off only at a leaf", repr(self.node), "use y = x.detach()")
        self._requires_grad = bool(value)

    def requires_grad_(self, value: bool = True) -> Tensor:
        self.requires_grad = value
        return self

    @property
    def data(self) -> Tensor:
        """The same memory as a Tensor outside the graph. Assigning to it replaces the array (and writes no history)."""
        return Tensor(self.array)

    @data.setter
    def data(self, value: Data) -> None:
        self.array = to_array(value, None)

    # ---- the graph

    def apply_function(self, op: Function, inputs: Sequence[Any]) -> Any:
        """What `op(*inputs)` does for Tensors: compute, and record where gradients are wanted. A Tensor, or a tuple of them."""
        return apply(op, *inputs)

    def backward(self, gradient: Data = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add d(self)/d(leaf) to the `.grad` of every leaf that requires one.

        Args:
            gradient: weights of this tensor's elements; may be left out for a single element.
            retain_graph: keep the graph for another backward. Otherwise its arrays are freed here.
            create_graph: record this walk, so that the gradients can be differentiated again.

        Raises:
            GradientError: not a scalar and no `gradient`; nothing requires a gradient; the graph was walked before;
                an array that backward needs was changed in place.
        """
        leaves, _ = gradients([self], [gradient], retain_graph, create_graph)
        given = set() if gradient is None else {id(getattr(gradient, "array", gradient))}
        for leaf, g in leaves.values():
            leaf._accumulate(g, given)

    def _accumulate(self, g: Any, taken: set[int]) -> None:
        """Add `g` (an array, or a Tensor of a recorded walk) to `.grad`. No array becomes the gradient of two leaves."""
        g = g if isinstance(g, Tensor) else make(g)
        for hook in self._hooks or ():
            replaced = hook(g)
            g = g if replaced is None else replaced
        if self.grad is not None:
            with no_grad() if g.node is None else _same():
                self.grad = self.grad + g
            return
        if g.node is None and (id(g.array) in taken or g.array.base is not None):
            g = make(g.array.copy())
        taken.add(id(g.array))
        self.grad = g

    def retain_grad(self) -> None:
        """Keep the gradient of this computed tensor in `.grad`, as a leaf's is."""
        if self.node is not None:
            me = weakref.ref(self)
            self.register_hook(lambda g: me() and me()._accumulate(g, {id(g.array)}))  # type: ignore[union-attr]

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
        return lambda: hooks.remove(hook)

    def detach(self) -> Tensor:
        """The same memory outside the graph."""
        return make(self.array, version=self.version)

    def __iadd__(self, other: Any) -> Tensor:
        # `a += b` makes a new tensor, as `a = a + b` does: what others hold of `a` is never changed behind their backs
        total = self + other
        if total.node is not None and total.ndim == 0:
            total.node.tally = (self.node.tally if self.node is not None else 0) + 1
            if total.node.tally == RUNNING_TOTAL and (held := held_bytes(total.node)) > 1 << 20:
                warnings.warn(
                    f"this running total keeps the graphs of {RUNNING_TOTAL} steps alive ({held / 1e6:.0f} MB and growing): "
                    "add loss.item() instead, or run the loop under no_grad()",
                    ResourceWarning if held < 1 << 20 else UserWarning,
                    stacklevel=2,
                )
        return total

    # ---- in place

    def bump(self) -> None:
        """Tell the graph that the memory of `array` was written to: backward through an op that saved it becomes an error."""
        self.version[0] += 1

    def _write(self, key: Any, value: Data) -> Tensor:
        if self._requires_grad and is_grad_enabled():
            raise GradientError(
                "a tensor that requires grad cannot be changed in place while operations are recorded",
                describe(tensor=self),
                "write under no_grad(), or build a new tensor: where(mask, new, x)",
            )
        if isinstance(value, Tensor):
            if value._requires_grad and is_grad_enabled():
                raise GradientError(
                    "assigning a tensor that requires grad into another would lose its gradient",
                    describe(value=value),
                    "use value.detach(), or stack/cat/where",
                )
            value = value.array
        self.array[key] = value
        self.bump()
        return self

    def __setitem__(self, key: Any, value: Data) -> None:
        parts = key if isinstance(key, tuple) else (key,)
        self._write(tuple(p.array if isinstance(p, Tensor) else p for p in parts), value)

    # ---- Python's protocols

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self) -> Iterable[Tensor]:  # type: ignore[override]
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return (self[i] for i in range(len(self)))

    def item(self) -> Any:
        """The single element as a Python number."""
        if self.array.size != 1:
            raise ShapeError(
                "item: only a tensor of one element is a Python number", describe(tensor=self), "reduce first: x.mean(), or take x.tolist()"
            )
        return self.array.item()

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise ShapeError(
                "the truth of a tensor with several elements is ambiguous", describe(tensor=self), "use (a == b).all() or .any()"
            )
        return bool(self.array.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iub" or self.ndim:
            raise TypeError(f"only a 0-d integer tensor can be an index, got {describe(tensor=self)}")
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.array.size == 1 and (spec or self.ndim == 0) else format(str(self), spec)

    def __repr__(self) -> str:
        body = np.array2string(to_device(self.array, "cpu"), separator=", ", prefix="tensor(", precision=4)
        notes = "" if self.dtype in (default_dtype(), np.int64, np.bool_) else f", dtype={self.dtype}"
        notes += "" if self.device.type == "cpu" else f", device='{self.device}'"
        notes += f", grad_fn={self.node}" if self.node is not None else ", requires_grad=True" if self._requires_grad else ""
        return f"tensor({body}{notes})"

    def __deepcopy__(self, memo: dict) -> Tensor:
        if self.node is not None:
            raise GradientError("only a leaf can be deep-copied", repr(self.node), "detach() it first")
        twin = type(self).__new__(type(self))
        Tensor.__init__(twin, np.empty(0))
        memo[id(self)] = twin
        twin.array = None if self.array is None else self.array.copy()
        twin._requires_grad, twin.name = self._requires_grad, self.name
        twin.grad = None if self.grad is None else make(self.grad.array.copy())
        twin.__dict__.update(self.__dict__) if hasattr(self, "__dict__") else None
        return twin


class Parameter(Tensor):
    """A Tensor that a module trains: it requires a gradient, and `nn.Module` finds it.

    `Parameter(None)` is open: its `array` is None until somebody sets it (a layer whose input size is taken from the first batch).
    """

    def __init__(self, data: Data = None, requires_grad: bool = True):
        super().__init__(np.empty(0, default_dtype()) if data is None else data)
        if data is None:
            self.array = None
        self.requires_grad = requires_grad

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__() if self.array is not None else "Parameter(open)"


class _same:
    """A context that changes nothing."""

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def make(array: Any, node: Node | None = None, index: int = 0, version: list | None = None) -> Tensor:
    """A Tensor around an array that is known to be good; the quick way for results."""
    t = Tensor.__new__(Tensor)
    t.array, t.node, t.index = array, node, index
    t.grad = t.name = t._hooks = None
    t.version = [0] if version is None else version
    t._requires_grad = node is not None
    return t


def to_array(data: Data, dtype: Any) -> Any:
    """The array behind `data`; Python floats get the default dtype. Raises `DTypeError` for what is not numbers."""
    if isinstance(data, Tensor):
        data = data.array
    if type(data) is np.ndarray or xp_of(data) is not np:
        return data if dtype is None else data.astype(dtype, copy=False)
    if isinstance(data, (list, tuple)) and any(isinstance(part, Tensor) for part in data):
        data = [part.array if isinstance(part, Tensor) else part for part in data]
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
    return array.astype(default_dtype()) if is_python else array


def as_tensor(data: Data, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a Tensor: itself if it is one already (of that dtype), memory shared where possible."""
    if isinstance(data, Tensor):
        return data if dtype is None and device is None else data.to(device=device, dtype=dtype)
    return Tensor(data, dtype=dtype, device=device)


def apply(op: Function, *inputs: Any) -> Any:
    """Run `op` on Tensors, arrays and Python numbers, and record it if a gradient is wanted. A Tensor, or a tuple of Tensors."""
    if not op.takes_context:
        op = BookFunction(op)
    tensors: list[Any] = []
    needs: list[bool] = []
    recording = is_grad_enabled()
    for x in inputs:
        if not isinstance(x, Tensor):
            x = x if type(x) in (float, int, bool) else x.item() if isinstance(x, np.generic) else Tensor(x)
        tensors.append(x)
        needs.append(recording and isinstance(x, Tensor) and x._requires_grad)
    if op.promotes or op.floating:
        tensors = _one_dtype(op, tensors)
    arrays = [x.array if isinstance(x, Tensor) else x for x in tensors]
    ctx = Context(_common_xp(op, arrays), tuple(needs))
    outputs = run(op, "forward", ctx, *arrays)
    if True not in needs:
        results = tuple([make(a, version=tensors[0].version if op.view else None) for a in outputs])
    else:
        results = _record(op, ctx, tensors, arrays, outputs)
    return results if len(results) > 1 else results[0]


def _record(op: Function, ctx: Context, tensors: list, arrays: list, outputs: tuple) -> tuple[Tensor, ...]:
    links, kinds = [], []
    for x, needed in zip(tensors, ctx.needs, strict=True):
        links.append(None if not needed else x if x.node is None else (x.node, x.index))
        kinds.append((x.array.shape, x.array.dtype) if needed else None)
    node = Node(op, ctx, tuple(links), tuple(kinds), len(outputs))
    results = tuple(
        [make(a, node if a.dtype.kind == "f" else None, i, tensors[0].version if op.view else None) for i, a in enumerate(outputs)]
    )
    sources = []
    for s in ctx.saved:
        i = next((i for i, a in enumerate(arrays) if a is s and isinstance(tensors[i], Tensor)), None)
        o = next((o for o, a in enumerate(outputs) if a is s), None) if i is None else None
        owner = tensors[i] if i is not None else results[o] if o is not None else None
        sources.append(None if owner is None else (owner.version, owner.version[0], i if i is not None else ~o))  # type: ignore[operator]
    node.sources = tuple(sources)
    return results


def _common_xp(op: Function, arrays: list) -> Any:
    xp = None
    for a in arrays:
        if not isinstance(a, (float, int)):
            found = np if type(a) is np.ndarray else xp_of(a)
            if xp is not None and found is not xp:
                raise DeviceError(
                    f"{op}: all tensors must be on one device", ", ".join(str(device_of(a)) for a in arrays), "move them: x.to(device)"
                )
            xp = found
    return xp or np


def _one_dtype(op: Function, tensors: list) -> list:
    """Integers beside floats become those floats; integers alone, where the op has real values, the default dtype (PyTorch's rules)."""
    kinds = {t.array.dtype for t in tensors if isinstance(t, Tensor) and t.array.dtype.kind != "b"}
    integers = {k for k in kinds if k.kind in "iu"}
    if not integers and not (op.floating and not kinds):
        return tensors
    floats = kinds - integers
    if not floats and not op.floating and not any(type(t) is float for t in tensors):
        return tensors
    target = max(floats, key=lambda k: k.itemsize) if floats else default_dtype()
    return [
        apply(Cast(target.str), t) if isinstance(t, Tensor) and (t.dtype in integers or op.floating) and t.dtype.kind in "iub" else t
        for t in tensors
    ]


def gradients(
    outputs: Sequence[Tensor], seeds: Sequence[Any], retain_graph: bool, create_graph: bool, wanted: tuple = ()
) -> tuple[dict, dict]:
    """`walk_back` with its arguments checked."""
    ready: list[Any] = []
    for y, seed in zip(outputs, seeds, strict=True):
        if not y._requires_grad:
            raise GradientError(
                "backward: this tensor does not depend on anything that requires grad",
                describe(tensor=y),
                "was it computed under no_grad(), or from detach()ed tensors?",
            )
        if seed is None and y.array.size != 1:
            raise GradientError(
                "backward: the start must be a single number, or come with a gradient of its shape",
                describe(tensor=y),
                "reduce it first: loss.mean().backward()",
            )
        if seed is not None:
            seed = as_tensor(seed)
            if seed.shape != y.shape:
                raise ShapeError("backward: the gradient must have the tensor's shape", describe(tensor=y, gradient=seed))
            seed = seed.to(dtype=y.dtype)
            seed = seed if create_graph else seed.array
        ready.append(seed)
    if create_graph:
        return walk_back(list(outputs), ready, make, True, True, wanted)
    with no_grad():
        return walk_back(list(outputs), ready, make, False, retain_graph, wanted)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` with respect to `inputs`, as a tuple; no `.grad` is touched.

    Args:
        outputs, inputs: a Tensor or a sequence of Tensors; inputs may be leaves or computed.
        grad_outputs: weights of the outputs' elements; None for scalars.
        create_graph: record, so that the result can be differentiated again.
        allow_unused: give None for an input that the outputs do not depend on, instead of raising `GradientError`.

    Example:
        >>> x = Tensor(3.0, requires_grad=True)
        >>> (dy,) = grad(x * x * x, x, create_graph=True)
        >>> grad(dy, x)
        (tensor(18.),)
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    seeds = [None] * len(outputs) if grad_outputs is None else [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs)
    wanted = tuple((x.node, x.index) for x in inputs if x.node is not None)
    leaves, inner = gradients(outputs, seeds, create_graph if retain_graph is None else retain_graph, create_graph, wanted)
    found = [leaves.get(id(x), (x, None))[1] if x.node is None else inner.get((x.node, x.index)) for x in inputs]
    for i, g in enumerate(found):
        if g is None and not allow_unused:
            raise GradientError(
                "grad: the outputs do not depend on this input",
                f"input {i}: {describe(tensor=inputs[i])}",
                "pass allow_unused=True to get None for it",
            )
    return tuple(g if g is None or isinstance(g, Tensor) else make(g) for g in found)


class BookFunction(Function):
    """Runs a Function in the books' form: `forward(self, x)` on arrays, `backward(self, gy)` on Tensors, with `self.inputs` and `self.outputs`."""

    def __init__(self, function: Any):
        self.function = function

    def __repr__(self) -> str:
        return f"{type(self.function).__name__}()"

    def forward(self, ctx, *arrays):
        outputs = self.function.forward(*arrays)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        ctx.static = len(arrays)
        ctx.save(*arrays, *outputs)
        return outputs

    def backward(self, ctx, *gradients):
        saved = [as_tensor(s) for s in ctx.saved]
        self.function.inputs = tuple(saved[: ctx.static])
        self.function.outputs = [lambda y=y: y for y in saved[ctx.static :]]  # the books hold outputs by weak reference, and call it
        gxs = self.function.backward(*(g if g is None else as_tensor(g) for g in gradients))
        recorded = any(isinstance(g, Tensor) for g in gradients)
        return tuple(g if g is None or recorded else as_tensor(g).array for g in (gxs if isinstance(gxs, tuple) else (gxs,)))
