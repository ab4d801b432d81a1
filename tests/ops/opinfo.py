"""PyTorch's own sample inputs, tried on all of mulgil of the same names: `python -m tests.ops.opinfo [-v] [name ...]`.

For each operation PyTorch's tests keep an OpInfo: a list of samples for each dtype, and inputs that must be refused. Each sample
is run by PyTorch and by mulgil; shapes, dtypes, values, first and second derivatives must agree. A sample may be refused with an
error of ours (or Python's own for an argument that is not there); never answered differently. Deliberate differences are listed in
`DIFFERENCES`, each with its reason.
"""

from __future__ import annotations

import operator
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import mulgil
import mulgil.nn.functional as F
from mulgil import Tensor
from mulgil.errors import MulgilError

OPERATORS: dict[str, Callable] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "true_divide": operator.truediv, "div": operator.truediv,
    "floor_divide": operator.floordiv, "remainder": operator.mod, "pow": operator.pow, "matmul": operator.matmul, "neg": operator.neg,
    "abs": operator.abs, "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "bitwise_and": operator.and_, "bitwise_or": operator.or_, "bitwise_xor": operator.xor, "bitwise_not": operator.invert,
}  # fmt: skip
DTYPES = ("float32", "float64", "float16", "int64", "int32", "uint8", "bool")
TOLERANCE = {"float16": 2e-3, "float32": 3e-5, "float64": 1e-9}
RANDOM = {"dropout", "rand", "randn", "randint", "rand_like", "randn_like", "empty", "bernoulli", "uniform_", "normal_"}
DIFFERENCES: dict[tuple[str, str], str] = {  # (operation, dtype) -> why mulgil differs on purpose
    ("all", "uint8"): "a truth is a bool; PyTorch keeps uint8 for old programs",
    ("any", "uint8"): "as all",
}


@dataclass
class Report:
    """What came of the samples of one operation."""

    name: str
    counts: Counter = field(default_factory=Counter)
    refusals: Counter = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def line(self) -> str:
        c = self.counts
        return f"{self.name:44s} {c['tried']:5d} samples, {c['equal']:5d} equal, {c['refused']:4d} refused, {len(self.wrong):4d} wrong"


def torch() -> Any:
    import torch

    return torch


def infos() -> list[Any]:
    from torch.testing._internal.common_methods_invocations import op_db

    return op_db


def callables(info: Any) -> Iterator[tuple[str, Callable]]:
    """What mulgil has under the names of an OpInfo."""
    for name in dict.fromkeys([info.name, *(alias.name for alias in info.aliases)]):
        bare = name.removeprefix("nn.functional.")
        if bare in RANDOM:
            continue
        if name != bare or bare in ("softmax", "log_softmax", "relu", "sigmoid", "tanh"):
            if hasattr(F, bare):
                yield f"F.{bare}", getattr(F, bare)
            if name != bare:
                continue
        if bare == "where":
            yield "mulgil.where", lambda x, condition, y: mulgil.where(condition, x, y)
        elif bare in mulgil.__dict__ and callable(found := getattr(mulgil, bare)) and not isinstance(found, type):
            yield f"mulgil.{bare}", found
        if isinstance(Tensor.__dict__.get(bare, getattr(Tensor, bare, None)), property):
            yield f"Tensor.{bare}", lambda x, bare=bare: getattr(x, bare)
        elif hasattr(Tensor, bare):
            yield f"Tensor.{bare}", lambda x, *args, bare=bare, **kwargs: _method(x, bare)(*args, **kwargs)
        if bare in OPERATORS:
            yield f"operator.{bare}", OPERATORS[bare]


def _method(x: Any, name: str) -> Callable:
    if not isinstance(x, Tensor):
        raise TypeError(f"missing tensor for the method {name}")
    return getattr(x, name)


def ours(x: Any) -> Any:
    """PyTorch's argument as mulgil's: the same memory, dtypes by NumPy's names."""
    t = torch()
    if isinstance(x, t.Tensor):
        return Tensor(x.detach().numpy(), requires_grad=x.requires_grad)
    if isinstance(x, t.dtype):
        return np.dtype(str(x).removeprefix("torch.")) if x not in (t.bfloat16, t.complex64, t.complex128, t.complex32) else x
    if isinstance(x, t.device):
        return str(x)
    if isinstance(x, dict):
        return {k: ours(v) for k, v in x.items()}
    return type(x)(map(ours, x)) if type(x) in (list, tuple) else tuple(x) if isinstance(x, t.Size) else x


def tensors(tree: Any) -> list[Any]:
    """The tensors in nested arguments or results, ours or PyTorch's."""
    if isinstance(tree, (Tensor, torch().Tensor)):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [t for part in tree for t in tensors(part)] if isinstance(tree, (list, tuple)) else []


class Mismatch(Exception):
    """mulgil and PyTorch disagree."""


def compare(what: str, mine: Any, other: Any, tolerance: float | None = None) -> None:
    """Shape, dtype and values of one tensor each; None stands for a gradient of zeros."""
    if mine is None and other is None:
        return
    a = None if mine is None else np.asarray(mine.detach().array)
    b = None if other is None else other.detach().numpy(force=True)
    a = np.zeros_like(b) if a is None else a
    b = np.zeros_like(a) if b is None else b
    if a.shape != b.shape:
        raise Mismatch(f"{what}: shape {a.shape}, PyTorch {b.shape}")
    if a.dtype != b.dtype:
        raise Mismatch(f"{what}: dtype {a.dtype}, PyTorch {b.dtype}")
    limit = tolerance or TOLERANCE.get(a.dtype.name, 0)
    with np.errstate(all="ignore"):
        scale = np.abs(b[np.isfinite(b)]).max(initial=0) if a.dtype.kind == "f" else 0
        if not np.allclose(a, b, rtol=limit * 10, atol=limit * max(1, min(scale, 1e6)), equal_nan=True):
            far = ~np.isclose(a, b, rtol=limit * 10, atol=limit, equal_nan=True)
            at = np.unravel_index(int(np.argmax(far)), a.shape) if a.shape else ()
            raise Mismatch(f"{what}: {a[at]!s} at {[int(i) for i in at]}, PyTorch {b[at]!s}")


def derivatives(result: Any, leaves: list[Any], grad: Callable, make: Callable, order: int) -> list[list[Any]]:
    """First to `order`-th derivatives along fixed random weights. grad, make: `autograd.grad` and the constructor of either side."""
    found = []
    outputs = tensors(result)
    for level in range(order):
        outputs = [y for y in outputs if y is not None and y.requires_grad]
        if not outputs:
            break
        rng = np.random.default_rng(level)
        weights = [make(rng.uniform(0.5, 1.5, tuple(y.shape)), y) for y in outputs]
        last = level == order - 1
        found.append(list(grad(outputs, leaves, weights, create_graph=not last, retain_graph=True, allow_unused=True)))
        outputs = found[-1]
    return found


def check_sample(call: Callable, info: Any, sample: Any, order: int) -> None:
    """Raise Mismatch where mulgil answers differently from PyTorch; what mulgil raises goes through."""
    t = torch()
    args = (sample.input, *sample.args)
    mine_args, mine_kwargs = ours(args), ours(sample.kwargs)
    mine = call(*mine_args, **mine_kwargs)
    other = info.op(*args, **sample.kwargs)
    if isinstance(mine, (bool, int, float, np.generic)) and not isinstance(other, t.Tensor):
        if mine != other and mine == mine:
            raise Mismatch(f"value: {mine}, PyTorch {other}")
        return
    results, expected = tensors(mine), tensors(other)
    if len(results) != len(expected):
        raise Mismatch(f"{len(results)} results, PyTorch {len(expected)}")
    for i, (a, b) in enumerate(zip(results, expected, strict=True)):
        compare(f"value {i}", a, b)
        if a.requires_grad != b.requires_grad:
            raise Mismatch(f"value {i}: requires_grad {a.requires_grad}, PyTorch {b.requires_grad}")
    their_leaves = [x for x in tensors([args, sample.kwargs]) if x.requires_grad]
    my_leaves = [x for x in tensors([mine_args, mine_kwargs]) if x.requires_grad]
    if not any(b.requires_grad for b in expected):
        return
    tolerance = TOLERANCE[expected[0].dtype.__str__().removeprefix("torch.")] * 10 if expected[0].is_floating_point() else None
    theirs = derivatives(other, their_leaves, t.autograd.grad, lambda w, y: t.tensor(w, dtype=y.dtype), order)
    gradients = derivatives(mine, my_leaves, mulgil.grad, lambda w, y: Tensor(w.astype(y.dtype)), order)
    for level, (a_level, b_level) in enumerate(zip(gradients, theirs, strict=False), 1):
        for i, (a, b) in enumerate(zip(a_level, b_level, strict=True)):
            compare(f"derivative {level} of input {i}", a, b, tolerance)


def refused(error: BaseException) -> bool:
    """Whether an error tells the user what mulgil does not do: ours, or Python's for arguments that a function does not have."""
    if isinstance(error, MulgilError):
        return True
    return isinstance(error, TypeError) and any(part in str(error) for part in ("argument", "unsupported operand", "missing"))


def check(info: Any, dtypes: tuple[str, ...] = DTYPES, most: int = 1000) -> Iterator[Report]:
    """A report for each of mulgil's names of one OpInfo. most: samples for each dtype."""
    t = torch()
    for name, call in callables(info):
        report = Report(f"{name} {info.variant_test_name}".strip())
        for dtype in dtypes:
            kind = getattr(t, dtype)
            if not info.supports_dtype(kind, "cpu") or (info.name, dtype) in DIFFERENCES:
                continue
            graded = info.supports_autograd and kind.is_floating_point and kind in info.supported_backward_dtypes("cpu")
            samples = info.sample_inputs("cpu", kind, requires_grad=graded)
            for sample, _ in zip(samples, range(most), strict=False):
                _try(report, call, info, sample, dtype, (2 if info.supports_gradgrad and dtype == "float64" else 1))
        yield report


def _try(report: Report, call: Callable, info: Any, sample: Any, dtype: str, order: int) -> None:
    report.counts["tried"] += 1
    shown = f"{report.name} {dtype} {_shown(sample)}"
    if any(part.is_complex() or part.dtype == torch().bfloat16 for part in tensors([sample.input, sample.args, sample.kwargs])):
        report.counts["skipped"] += 1
        return
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            check_sample(call, info, sample, order)
    except Mismatch as found:
        report.wrong.append(f"{shown}: {found}")
    except Exception as error:
        if refused(error):
            report.counts["refused"] += 1
            report.refusals[str(error).splitlines()[0]] += 1
        else:
            report.wrong.append(f"{shown}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    else:
        report.counts["equal"] += 1


def _shown(sample: Any) -> str:
    t = torch()

    def short(x: Any) -> Any:
        if isinstance(x, t.Tensor):
            return f"[{'x'.join(map(str, x.shape))} {str(x.dtype).removeprefix('torch.')}]"
        if isinstance(x, (list, tuple)):
            return "(" + ", ".join(str(short(p)) for p in x) + ")"
        return repr(x)

    options = ", ".join(f"{k}={short(v)}" for k, v in sample.kwargs.items())
    return f"{short(sample.input)}, {', '.join(str(short(a)) for a in sample.args)} {options}"


def importable() -> str:
    """Why PyTorch's samples cannot be had here; "" if they can."""
    try:
        infos()
    except ImportError as error:
        return f"PyTorch's sample inputs need {error.name}: make oracle, and pip install expecttest"
    return ""


def main(names: list[str]) -> int:
    """Print a line for each operation, and what is wrong. Returns the number of wrong answers."""
    if missing := importable():
        sys.exit(missing)
    wrong = tried = refusals = 0
    verbose = "-v" in names
    names = [n for n in names if n != "-v"]
    for info in infos():
        if names and info.name.removeprefix("nn.functional.") not in names:
            continue
        for report in check(info):
            print(report.line(), flush=True)
            for text in report.wrong if verbose else report.wrong[:6]:
                print("   wrong:", text)
            for text, count in report.refusals.most_common(None if verbose else 4):
                print(f"   refused {count}:", text)
            wrong, tried, refusals = wrong + len(report.wrong), tried + report.counts["tried"], refusals + report.counts["refused"]
    print(f"{tried} samples, {refusals} refused, {wrong} wrong")
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
