"""`verify=n`: a replay beside an eager run from the same state, compared."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.backend import default_generator
from mulgil.compile.plan import Plan
from mulgil.compile.signature import Call
from mulgil.compile.trace import arrays_of, tensors_of
from mulgil.errors import MulgilError


def verified(compiled: Any, plan: Plan, call: Call) -> Any:
    """Replay, then run eagerly from the same state, and compare results, state, arguments and gradients. Returns the eager results."""
    plan.verify -= 1
    world = compiled._current[call.ids]
    leaves = [t for t in (*world.tensors.values(), *call.tensors) if t.node is None and t.array is not None]
    arrays = [*arrays_of([compiled.state, *call.objects]), *(t.array for t in call.tensors)]
    before = [a.copy() for a in arrays]
    gradients, random = [t.grad for t in leaves], default_generator.get_state()
    schedules = [(o, copy.copy(vars(o))) for o in map(_owner_of, plan.actions) if o is not None]
    groups = [[dict(group) for group in o.param_groups] for o in world.optimizers]
    results = plan.replay(call.tensors)
    mine = [a.copy() for a in (*(t.array for t in tensors_of(results)), *arrays)]
    made = [None if t.grad is None else t.grad.array.copy() for t in leaves]
    for a, b in zip(arrays, before, strict=True):
        a[...] = b
    for t, g in zip(leaves, gradients, strict=True):
        t.grad = g
    default_generator.set_state(random)
    for o, values in schedules:
        vars(o).update(values)
    for optimizer, saved in zip(world.optimizers, groups, strict=True):
        for group, values in zip(optimizer.param_groups, saved, strict=True):
            group.update(values)
    expected = compiled.function(*call.args, **call.kwargs)
    pairs = list(zip(mine, [*(t.array for t in tensors_of(expected)), *arrays], strict=True))
    kept = {id(leaf) for leaf in plan.gradients.made if isinstance(leaf, Tensor)}
    pairs += [(g, t.grad.array) for t, g in zip(leaves, made, strict=True) if id(t) in kept and g is not None and t.grad is not None]
    for array, eager in pairs:
        if not close(array, eager):
            raise MulgilError(
                "compile: the compiled step must do what the eager one does",
                f"an array of shape {list(eager.shape)} differs by {float(np.abs(array - eager).max()):.3g}",
                "please report this program; without compile it runs correctly",
            )
    return expected


def _owner_of(action: Any) -> Any:
    return getattr(action, "__self__", None)


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to the rounding that another order of summation brings."""
    tolerance = 1e-4 if a.dtype == np.float32 else 1e-9
    return (a.dtype.kind not in "f" and bool((a == b).all())) or np.allclose(
        a, b, rtol=tolerance, atol=tolerance * max(1e-3, float(np.abs(b).max(initial=0))), equal_nan=True
    )
