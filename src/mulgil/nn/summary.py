"""summary(model, input_size): the layers of a model, their output shapes, parameters and multiply-adds."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from mulgil.autograd import Tensor, no_grad
from mulgil.backend import default_dtype, default_generator, to_device
from mulgil.errors import MulgilError, OptionError, visible
from mulgil.nn.conv import Conv2d
from mulgil.nn.linear import Linear
from mulgil.nn.module import Module
from mulgil.typing import DTypeLike

BATCH = 2  # samples in the trial batch; shown as -1


@dataclass(frozen=True)
class LayerRow:
    """One call of a layer. parameters: those not counted in an earlier row."""

    name: str
    kind: str
    depth: int
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Summary:
    """What `summary` returns; `print` it. Sizes are for one sample.

    Attributes: rows (one `LayerRow` for each call of a layer), parameters, trainable, multiply_adds (of one sample).
    """

    rows: tuple[LayerRow, ...]
    parameters: int
    trainable: int
    multiply_adds: int

    def __str__(self) -> str:
        table = [("Layer (type)", "Output shape", "Parameters", "Multiply-adds")]
        for row in self.rows:
            label = "  " * row.depth + (f"{visible(row.name)} ({row.kind})" if row.name else row.kind)
            table.append((label, _shape_text(row.output_shape), _count(row.parameters), _count(row.multiply_adds)))
        widths = [max(len(line[i]) for line in table) for i in range(4)]
        rule = "-" * (sum(widths) + 6)
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in table]
        frozen = self.parameters - self.trainable
        totals = [
            f"Parameters: {self.parameters:,} ({self.trainable:,} trainable, {frozen:,} frozen)",
            f"Multiply-adds for one sample: {self.multiply_adds:,}",
        ]
        return "\n".join([rule, lines[0], rule, *lines[1:], rule, *totals, rule])

    __repr__ = __str__


def summary(model: Module, input_size: Sequence[int] | Sequence[Sequence[int]], dtype: DTypeLike | None = None) -> Summary:
    """Run a small batch of zeros through a copy of the model and list what happens.

    Args:
        model: any Module. It is left as it is: mode, statistics, hooks, open sizes and the random generator's state.
        input_size: the shape of one sample, without the batch axis: (784,) or (1, 28, 28); for several inputs a list of shapes.
        dtype: of the inputs; the first parameter's by default.
    Multiply-adds are those of Linear and Conv2d (products of weights and inputs), for one sample.
    Raises the model's own error, with a hint, if the input does not fit.

    Example:
        >>> result = summary(Linear(784, 10), (784,))       # print(result) shows a table
        >>> result.parameters, result.multiply_adds
        (7850, 7840)
    """
    twin = copy.deepcopy(model).eval()
    first = next((p for p in twin.parameters() if p.array is not None), None)
    dtype = np.dtype(dtype) if dtype is not None else default_dtype() if first is None else first.dtype
    device = "cpu" if first is None else first.device
    inputs = [Tensor(to_device(np.zeros((BATCH, *shape), dtype), device)) for shape in _shapes(input_size)]
    calls: list[tuple[str, Module, Any]] = []
    for name, module in twin.named_modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
        module.register_forward_pre_hook(_opening(calls, name))
        module.register_forward_hook(_closing(calls))
    state = default_generator.get_state()
    try:
        with no_grad():
            twin(*inputs)
    except MulgilError as error:
        error.hint = f"{error.hint or 'check input_size'}; input_size is the shape of one sample, without the batch axis"
        raise
    finally:
        default_generator.set_state(state)
    return _collected(twin, calls)


def _opening(calls: list, name: str) -> Any:
    def note(module: Module, args: tuple) -> None:
        calls.append([name, module, None])

    return note


def _closing(calls: list) -> Any:
    def note(module: Module, args: tuple, output: Any) -> None:
        # the innermost call of this module that is still open: a module may call itself, or be called twice
        next(call for call in reversed(calls) if call[1] is module and call[2] is None)[2] = _shape_of(output)

    return note


def _shapes(input_size: Any) -> list[tuple[int, ...]]:
    sizes = (input_size,) if isinstance(input_size, (int, np.integer)) else tuple(input_size)
    several = bool(sizes) and all(isinstance(size, (tuple, list)) for size in sizes)
    shapes = [tuple(size) for size in sizes] if several else [sizes]
    if not all(isinstance(n, (int, np.integer)) and n > 0 for shape in shapes for n in shape):
        rule = "summary: input_size must be the shape of one sample, or a list of such shapes"
        raise OptionError(rule, repr(input_size), "summary(model, (1, 28, 28))")
    return shapes


def _count(number: int) -> str:
    return f"{number:,}" if number else "-"


def _shape_of(output: Any) -> Any:
    if hasattr(output, "shape"):
        return (-1, *output.shape[1:])
    if isinstance(output, dict):
        return tuple(_shape_of(part) for part in output.values())
    return tuple(_shape_of(part) for part in output) if isinstance(output, (tuple, list)) else ()


def _shape_text(shape: Any) -> str:
    return "[" + ", ".join(_shape_text(part) if isinstance(part, tuple) else str(part) for part in shape) + "]"


def _collected(model: Module, calls: list) -> Summary:
    counted: set[int] = set()
    rows = []
    for name, module, shape in calls:
        own = [p for p in module.parameters(recurse=False) if id(p) not in counted]
        counted.update(id(p) for p in own)
        depth = name.count(".") + 1 if name else 0
        rows.append(LayerRow(name, type(module).__name__, depth, shape, sum(p.numel() for p in own), _multiply_adds(module, shape)))
    everything = [p for p in model.parameters() if p.array is not None]
    trainable = sum(p.numel() for p in everything if p.requires_grad)
    return Summary(tuple(rows), sum(p.numel() for p in everything), trainable, sum(row.multiply_adds for row in rows))


def _multiply_adds(module: Module, shape: Any) -> int:
    """Products for one sample: each output element needs one for each weight of its filter."""
    if isinstance(module, (Linear, Conv2d)) and shape:
        return prod(shape[1:]) * prod(module.weight.shape[1:])
    return 0
