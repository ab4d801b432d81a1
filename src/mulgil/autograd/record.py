"""Applying an op to Tensors: the arrays go through `run`, and a Node remembers the call if a gradient is wanted.

`kind` is the Tensor class, handed in by it: this file makes Tensors but stands below them.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from mulgil.autograd.engine import Node, is_grad_enabled
from mulgil.autograd.static import apply_static
from mulgil.backend import NUMBERS, default_dtype, device_of, xp_of
from mulgil.errors import DeviceError, DTypeError
from mulgil.ops.elementwise import Cast
from mulgil.ops.function import Context, Function, run

NUMBER_DTYPES = {bool: np.dtype(bool), int: np.dtype(np.int64)}  # a float's is the default dtype
RANKS = {"b": 0, "u": 1, "i": 1, "f": 2}


def call(kind: Any, op: Function, inputs: Any) -> Any:
    """`op` applied to Tensors, arrays and Python numbers: a Tensor, or a tuple of Tensors for several outputs."""
    if not op.takes_context:
        if op.static:
            return apply_static(kind, type(op), tuple(inputs))
        op = BookFunction(op, kind)
    tensors = [x if isinstance(x, kind) or type(x) in NUMBERS else x.item() if isinstance(x, np.generic) else kind(x) for x in inputs]
    if op.promotes or op.floating:
        tensors = _one_dtype(kind, op, tensors)
    arrays = [x if type(x) in NUMBERS else x.array for x in tensors]
    recording = is_grad_enabled()
    needs = tuple([recording and type(x) not in NUMBERS and x.requires_grad for x in tensors])
    ctx = Context(_common_xp(op, arrays), needs)
    outputs = run(op, "forward", ctx, *arrays)
    node = _node(op, ctx, tensors, outputs) if True in needs else None
    version = tensors[0].version if op.view else None
    results = tuple([kind.of(a, node if a.dtype.kind == "f" else None, i, version) for i, a in enumerate(outputs)])
    if node is not None:
        node.sources = tuple([_source(s, arrays, tensors, outputs, results) for s in ctx.saved])
    return results if len(results) != 1 else results[0]


def _node(op: Function, ctx: Context, tensors: list, outputs: tuple) -> Node:
    links: list[Any] = []
    kinds: list[Any] = []
    for x, needed in zip(tensors, ctx.needs, strict=True):
        links.append(None if not needed else x if x.node is None else (x.node, x.index))
        kinds.append((x.array.shape, x.array.dtype) if needed else None)
    each = len(outputs) > 1 and not op.takes_none
    return Node(op, ctx, tuple(links), tuple(kinds), len(outputs), tuple([(ctx.xp, a.shape, a.dtype) for a in outputs]) if each else ())


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
    """The inputs brought to the dtype that PyTorch's rules give them together; the op's conditions, and booleans beside numbers, stay."""
    taking = tensors[op.conditions :] if op.conditions else tensors
    dtypes = {t.array.dtype for t in taking if type(t) not in NUMBERS}
    if len(dtypes) == 1:
        (dtype,) = dtypes
        numbers = () if dtype.kind == "f" else set(map(type, taking)).intersection(NUMBERS)
        if dtype.kind == "f" or not (op.floating or float in numbers or (dtype.kind == "b" and int in numbers)):
            return tensors
    target = result_type(*(t if type(t) in NUMBERS else t.array for t in taking))
    if op.floating and target.kind != "f":
        target = default_dtype()
    stay = {target, np.dtype(bool)} if target in dtypes and not op.floating else {target}
    cast = Cast(target.str)
    return tensors[: op.conditions] + [t if type(t) in NUMBERS or t.array.dtype in stay else call(kind, cast, (t,)) for t in taking]


def result_type(*operands: Any) -> np.dtype:
    """The dtype of arrays and Python numbers in one operation, by PyTorch's rules.

    Floats win over integers, and these over booleans, whatever their sizes. Within a kind arrays win over 0-d arrays, and these
    over Python numbers; among arrays the larger one decides.
    """
    arrays = [x.dtype for x in operands if getattr(x, "ndim", 0)]
    zeros = [x.dtype for x in operands if not getattr(x, "ndim", 1)]
    numbers = [NUMBER_DTYPES.get(type(x)) or default_dtype() for x in operands if type(x) in NUMBERS]
    result: Any = None
    for dtypes in (arrays, zeros, numbers):
        found = reduce(_promoted, dtypes) if dtypes else None
        if result is None or (found is not None and RANKS[found.kind] > RANKS[result.kind]):
            result = found
    return result


def _promoted(a: np.dtype, b: np.dtype) -> np.dtype:
    if (a.kind == "f") != (b.kind == "f"):
        return a if a.kind == "f" else b
    both = np.promote_types(a, b)
    if both.kind == "f" and a.kind != "f":
        raise DTypeError("no integer type holds both of these", f"{a}, {b}", "convert one: x.long()")
    return both


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
