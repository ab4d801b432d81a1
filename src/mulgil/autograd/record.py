"""Applying an op to Tensors: the arrays go through `run`, and a Node remembers the call if a gradient is wanted.

`kind` is the Tensor class, handed in by it: this file makes Tensors but stands below them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mulgil.autograd.engine import Node, is_grad_enabled
from mulgil.backend import default_dtype, device_of, xp_of
from mulgil.errors import DeviceError
from mulgil.ops.elementwise import Cast
from mulgil.ops.function import Context, Function, run

NUMBERS = (float, int, bool)  # weak: they take the dtype of the array beside them


def call(kind: Any, op: Function, inputs: Any) -> Any:
    """`op` applied to Tensors, arrays and Python numbers: a Tensor, or a tuple of Tensors for several outputs."""
    if not op.takes_context:
        op = BookFunction(op, kind)
    tensors = [x if isinstance(x, kind) or type(x) in NUMBERS else x.item() if isinstance(x, np.generic) else kind(x) for x in inputs]
    if op.promotes or op.floating:
        tensors = _one_dtype(kind, op, tensors)
    arrays = [x if type(x) in NUMBERS else x.array for x in tensors]
    recording = is_grad_enabled()
    needs = tuple([recording and type(x) not in NUMBERS and x.requires_grad for x in tensors])
    ctx = Context(_common_xp(op, arrays), needs)
    outputs = run(op, "forward", ctx, *arrays)
    node = _node(op, ctx, tensors, len(outputs)) if True in needs else None
    version = tensors[0].version if op.view else None
    results = tuple([kind.of(a, node if a.dtype.kind == "f" else None, i, version) for i, a in enumerate(outputs)])
    if node is not None:
        node.sources = tuple([_source(s, arrays, tensors, outputs, results) for s in ctx.saved])
    return results if len(results) > 1 else results[0]


def _node(op: Function, ctx: Context, tensors: list, outputs: int) -> Node:
    links: list[Any] = []
    kinds: list[Any] = []
    for x, needed in zip(tensors, ctx.needs, strict=True):
        links.append(None if not needed else x if x.node is None else (x.node, x.index))
        kinds.append((x.array.shape, x.array.dtype) if needed else None)
    return Node(op, ctx, tuple(links), tuple(kinds), outputs)


def _source(saved: Any, arrays: list, tensors: list, outputs: tuple, results: tuple) -> tuple | None:
    """Whose array was saved: (version, its count now, input number or ~output number)."""
    for i, a in enumerate(arrays):
        if a is saved and type(a) not in NUMBERS:
            return tensors[i].version, tensors[i].version[0], i
    for o, a in enumerate(outputs):
        if a is saved:
            return results[o].version, results[o].version[0], ~o
    return None


def _common_xp(op: Function, arrays: list) -> Any:
    xp = None
    for a in arrays:
        if type(a) not in NUMBERS:
            found = np if type(a) is np.ndarray else xp_of(a)
            if xp is not None and found is not xp:
                places = ", ".join(str(device_of(b)) for b in arrays if type(b) not in NUMBERS)
                raise DeviceError(f"{op}: all tensors must be on one device", places, "move them: x.to(device)")
            xp = found
    return xp or np


def _one_dtype(kind: Any, op: Function, tensors: list) -> list:
    """Integers beside floats become those floats; integers alone, where the op has real values, the default dtype (PyTorch's rules)."""
    kinds = {t.array.dtype for t in tensors if type(t) not in NUMBERS}
    if all(k.kind == "f" for k in kinds):
        return tensors
    floats = [k for k in kinds if k.kind == "f"]
    if not floats and not op.floating and float not in map(type, tensors):
        return tensors
    target = max(floats, key=lambda k: k.itemsize) if floats else default_dtype()
    casts = "iub" if op.floating or not floats else "iu"
    return [call(kind, Cast(target.str), (t,)) if type(t) not in NUMBERS and t.array.dtype.kind in casts else t for t in tensors]


class BookFunction(Function):
    """Runs a Function in the books' form: `forward(self, x)` on arrays, `backward(self, gy)` on Tensors, with `self.inputs`."""

    pure = False

    def __init__(self, function: Any, kind: Any):
        self.function, self.tensor = function, kind

    def _tensor(self, x: Any) -> Any:
        return x if x is None or isinstance(x, self.tensor) else self.tensor.of(x)

    def __repr__(self) -> str:
        return f"{type(self.function).__name__}()"

    def forward(self, ctx, *arrays):
        outputs = self.function.forward(*arrays)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        ctx.static = len(arrays)
        ctx.save(*arrays, *outputs)
        return outputs

    def backward(self, ctx, *gradients):
        saved = [self._tensor(s) for s in ctx.saved]
        self.function.inputs = tuple(saved[: ctx.static])
        self.function.outputs = [lambda y=y: y for y in saved[ctx.static :]]  # the books hold outputs by weak reference, and call it
        gxs = self.function.backward(*map(self._tensor, gradients))
        recorded = any(isinstance(g, self.tensor) for g in gradients)
        return tuple(g if g is None or recorded else self.tensor(g).array for g in (gxs if isinstance(gxs, tuple) else (gxs,)))
