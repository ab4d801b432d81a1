"""The layers of a model as a diagram: a small batch runs through a copy of it, watched."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from mulgil.autograd import Tensor, no_grad
from mulgil.backend import default_dtype, default_generator, to_device
from mulgil.errors import MulgilError, OptionError
from mulgil.ops.function import observed
from mulgil.plot.diagram import Diagram
from mulgil.plot.label import dtype_text, shape_text

BATCH = 2  # samples in the trial batch when only a shape is given; shown as N


def draw_model(model: Any, inputs: Any, verbose: int) -> Diagram:
    """See `plot.graph`. The model is left as it is: mode, statistics, hooks, open sizes and the random generator's state."""
    twin = copy.deepcopy(model).eval()
    tensors, symbolic = _example(twin, inputs)
    watcher = _Watcher(twin, tensors, verbose, symbolic)
    state = default_generator.get_state()
    try:
        with no_grad(), watcher.watching():
            output = twin(*tensors)
    except MulgilError as error:
        if symbolic:
            error.hint = f"{error.hint or 'check inputs'}; inputs is the shape of one sample, without the batch axis"
        raise
    finally:
        default_generator.set_state(state)
    watcher.finish(output)
    return watcher.diagram


def _example(model: Any, inputs: Any) -> tuple[list[Tensor], bool]:
    """The tensors to run the model on, and whether their batch axis is only ours."""
    if inputs is None:
        rule = "graph: a model is drawn as it works on an input"
        raise OptionError(rule, "inputs=None", "graph(model, (1, 28, 28)): the shape of one sample")
    first = next((p for p in model.parameters() if p.array is not None), None)
    device = "cpu" if first is None else first.device
    parts = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    if parts and all(hasattr(part, "shape") and len(part.shape) for part in parts):
        return [part if isinstance(part, Tensor) else Tensor(part) for part in parts], False
    several = bool(parts) and all(isinstance(part, (tuple, list)) for part in parts)
    shapes = [tuple(part) for part in parts] if several else [tuple(parts)]
    if not all(isinstance(n, (int, np.integer)) and n > 0 for shape in shapes for n in shape):
        rule = "graph: inputs is a Tensor, an array, the shape of one sample, or a list of these"
        raise OptionError(rule, repr(inputs)[:80], "graph(model, (1, 28, 28))")
    dtype = default_dtype() if first is None else first.dtype
    return [Tensor(to_device(np.zeros((BATCH, *shape), dtype), device)) for shape in shapes], True


class _Watcher:
    """Sees layers through hooks and the functions between them through `run`. Who made an array is known by the array."""

    def __init__(self, model: Any, inputs: Sequence[Tensor], verbose: int, symbolic: bool):
        self.verbose, self.symbolic = verbose, symbolic
        self.diagram = Diagram(f"{type(model).__name__}: layers")
        self.model = model
        self.open: list[tuple[Any, str]] = []  # the modules that are being called, the innermost last
        self.maker: dict[int, int] = {}  # id of an array -> its box
        self.kept: list[Any] = []  # so that no identity is used twice
        self.calls = 0
        self.counted: set[int] = set()
        self.parameters = {id(p.array): (name, p) for name, p in model.named_parameters() if p.array is not None}
        for i, tensor in enumerate(inputs):
            label = "input" if len(inputs) == 1 else f"input {i + 1}"
            box = self.diagram.add(("input", i), label, *self._facts(tensor.array), kind="input")
            self._remember(tensor.array, box)

    @contextmanager
    def watching(self) -> Iterator[None]:
        for name, module in self.model.named_modules():
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
            module.register_forward_pre_hook(lambda m, args, name=name: self.open.append((m, name)))
            module.register_forward_hook(self._leave)
        with observed(self):
            yield

    def _remember(self, array: Any, box: int) -> None:
        self.maker[id(array)] = box
        self.kept.append(array)

    def _facts(self, array: Any) -> list[str]:
        if not self.verbose:
            return []
        first = ("N",) if self.symbolic and array.ndim and array.shape[0] == BATCH else array.shape[:1]
        return [shape_text((*first, *array.shape[1:])) + (f" {dtype_text(array.dtype)}" if self.verbose == 2 else "")]

    def _is_layer(self) -> bool:
        """Whether the innermost module that is being called has none below it: what it computes is its own affair."""
        return bool(self.open) and not any(True for _ in self.open[-1][0].children())

    def _leave(self, module: Any, args: tuple, output: Any) -> None:
        layer, (_, name) = self._is_layer(), self.open[-1]
        if layer and self.verbose < 2:
            self.calls += 1
            results = _arrays(output)
            lines = [f"{name}: {type(module).__name__}" if name else type(module).__name__]
            lines += self._facts(results[0]) if results else []
            own = [p for p in module.parameters() if id(p) not in self.counted]
            self.counted.update(id(p) for p in own)
            if own and self.verbose:
                lines.append(f"{sum(p.numel() for p in own):,} parameters")
            box = self.diagram.add(("call", self.calls), *lines, kind="layer", tip=f"{name} {module!r}".strip())
            self._arrive(box, _arrays(args))
            for array in results:
                self._remember(array, box)
        self.open.pop()

    def __call__(self, op: Any, phase: str, ctx: Any, arrays: tuple, outputs: tuple) -> None:
        """What `run` tells its observers."""
        if phase != "forward" or (self._is_layer() and self.verbose < 2):
            return
        self.calls += 1
        title = str(op)
        module, name = self.open[-1]
        group = f"{name}: {type(module).__name__}".lstrip(": ") if self.verbose == 2 and self._is_layer() else ""
        facts = self._facts(outputs[0])
        box = self.diagram.add(("call", self.calls), title.split("(")[0], *facts, kind="function", tip=title, group=group)
        self._arrive(box, arrays)
        for array in outputs:
            self._remember(array, box)

    def _arrive(self, box: int, arrays: Sequence[Any]) -> None:
        """Arrows from the boxes that made these arrays; a parameter gets its ellipse where it is used outside its layer."""
        for array in arrays:
            if id(array) in self.maker:
                self.diagram.connect(self.maker[id(array)], box)
            elif id(array) in self.parameters:
                name, parameter = self.parameters[id(array)]
                self.counted.add(id(parameter))
                shape = [shape_text(array.shape)] if self.verbose else []
                self.diagram.connect(self.diagram.add(("parameter", name), name, *shape, kind="parameter"), box)

    def finish(self, output: Any) -> None:
        for i, array in enumerate(_arrays(output)):
            if id(array) in self.maker:
                self.diagram.connect(self.maker[id(array)], self.diagram.add(("output", i), "output", *self._facts(array), kind="output"))


def _arrays(tree: Any) -> list[Any]:
    """The arrays of the Tensors in nested tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        return [tree.array]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return [array for part in parts for array in _arrays(part)]
