"""`plot.graph`: a picture of what made a tensor, of a model's layers, or of a compiled step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mulgil.autograd import Tensor
from mulgil.autograd.engine import Node, reachable
from mulgil.errors import GradientError, OptionError
from mulgil.plot.diagram import Diagram
from mulgil.plot.graph_layers import draw_model
from mulgil.plot.graph_program import draw_program, plan_of
from mulgil.plot.label import dtype_text, number_text, shape_text

NUMBERS = (int, float, bool)


def graph(x: Any, inputs: Any = None, verbose: int = 1, names: Mapping[str, Tensor] | Any = None) -> Diagram:
    """A diagram of a computation, from top to bottom. It shows itself in a notebook; `.svg`, `.dot` and `.save(path)` elsewhere.

    Args:
        x: one of
            a Tensor, or a list of them: the functions that made it (boxes) and the data between them (ellipses). Draw before
                `backward`, which forgets the way back (or call `backward(retain_graph=True)`). Gradients that were computed with
                `create_graph=True` are tensors too: this draws second derivatives.
            a Module: its layers with the shapes that they give and how many parameters they have; `inputs` says of what.
            a compiled function after its first call, or one of its programs, or a program's graph.
        inputs: for a Module, an example (a Tensor or array with its batch axis, or a tuple of them), or the shape of one sample,
            such as `(1, 28, 28)`, or a list of shapes.
        verbose: how much is told.
            Tensor: 0 functions and the tensors that they start from; 1 also the data between, with shapes; 2 also dtypes and settings.
            Module: 0 layers; 1 also shapes and parameters; 2 also the functions inside each layer.
            compiled: 0 the steps of the plan; 1 also what each computes; 2 every call and value, coloured by kernel.
        names: of tensors, {"x": x}; or a Module, whose parameters have names.

    Raises:
        GradientError: backward has released the graph.
        OptionError: x is none of these, or a Module came without inputs.

    Example:
        >>> x = mulgil.tensor(1.0, requires_grad=True)                            # doctest: +SKIP
        >>> mulgil.plot.graph(mulgil.sin(x) ** 2, names={"x": x})                 # doctest: +SKIP
        >>> mulgil.plot.graph(model, (1, 28, 28)).save("model.svg")               # doctest: +SKIP
    """
    if verbose not in (0, 1, 2):
        raise OptionError("graph: verbose must be 0, 1 or 2", repr(verbose))
    if hasattr(x, "named_modules"):
        return draw_model(x, inputs, verbose)
    if plan_of(x) is not None:
        return draw_program(x, verbose)
    tensors = list(x) if isinstance(x, (list, tuple)) else [x]
    if not tensors or not all(isinstance(t, Tensor) for t in tensors):
        rule = "graph: give it a Tensor, a Module, or a compiled function"
        raise OptionError(rule, type(x).__name__, "graph(loss), graph(model, (1, 28, 28)) or graph(train_step)")
    return _Backwards(tensors, _names(names), verbose).diagram


def _names(names: Any) -> dict[Any, str]:
    """What a tensor is called, by the array that it holds and by the call that made it."""
    pairs = dict(names.named_parameters()) if hasattr(names, "named_parameters") else dict(names or {})
    return {key: name for name, t in pairs.items() for key in (id(t.array), (t.node, t.index)) if t.node is not None or key == id(t.array)}


class _Backwards:
    """The graph behind tensors, as it was recorded for backward."""

    def __init__(self, tensors: list[Tensor], names: dict[Any, str], verbose: int):
        self.names, self.verbose = names, verbose
        self.diagram = Diagram("computational graph")
        self.results = {(t.node, t.index) for t in tensors if t.node is not None}
        self.kinds = {(t.node, t.index): (t.shape, t.dtype) for t in tensors}
        nodes = reachable([t.node for t in tensors if t.node is not None])[::-1]
        for node in nodes:
            if node.spent:
                rule = "graph: backward has walked this graph and released it"
                raise GradientError(rule, f"again through {node.op}", "draw it before backward, or call backward(retain_graph=True)")
            for link, kind in zip(node.links, node.kinds, strict=True):
                if type(link) is tuple:
                    self.kinds[link] = kind
        for node in nodes:
            self._call(node)
        for tensor in tensors:
            if tensor.node is None:
                self._leaf(tensor)

    def _call(self, node: Node) -> None:
        title = str(node.op)
        name = title if self.verbose == 2 else title.split("(")[0]
        box = self.diagram.add(node, name, kind="function", tip=title)
        numbers = iter([s for s in node.ctx.saved if type(s) in NUMBERS])
        arrays = {source[2]: saved for source, saved in zip(node.sources, node.ctx.saved, strict=True) if source is not None}
        for i, link in enumerate(node.links):
            source = self._source(link, arrays.get(i), numbers, node)
            if source is not None:
                self.diagram.connect(source, box)
        for key in self.kinds:
            if key[0] is node and (self.verbose or key in self.results):
                self.diagram.connect(box, self._made(key))

    def _source(self, link: Any, array: Any, numbers: Any, node: Node) -> int | None:
        """The box that an input comes from; None for what was not kept: an input that needs no gradient and whose value none needs."""
        if type(link) is tuple:
            return self._made(link) if self.verbose or link in self.results else self.diagram.add(link[0], kind="function")
        if link is not None:
            return self._leaf(link)
        if array is not None:
            return self._data(id(array), array.shape, array.dtype, "constant" if not array.ndim else "input", array)
        number = next(numbers, None)
        return None if number is None else self.diagram.add(("number", node, number), number_text(number), kind="constant", tip="a number")

    def _made(self, key: tuple) -> int:
        return self._data(key, *self.kinds[key], "output" if key in self.results else "data")

    def _leaf(self, tensor: Tensor) -> int:
        kind = "parameter" if type(tensor) is not Tensor else "input"
        return self._data(id(tensor.array), tensor.shape, tensor.dtype, kind, tensor.array)

    def _data(self, key: Any, shape: tuple, dtype: Any, kind: str, array: Any = None) -> int:
        name = self.names.get(key, "")
        facts = f"{shape_text(shape)} {dtype_text(dtype)}"
        if kind == "constant" and not name:
            return self.diagram.add(key, number_text(np.asarray(array).item()), kind=kind, tip=f"{facts}, needs no gradient")
        shown = [name] if name else []
        if self.verbose == 2:
            shown.append(facts)
        elif self.verbose or not name:
            shown.append(shape_text(shape))
        return self.diagram.add(key, *shown, kind=kind, tip=f"{name} {kind} {facts}".strip())
