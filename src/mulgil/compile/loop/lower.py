"""Lowering: a call becomes expressions by running its op's text on symbols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from mulgil.compile.graph import Node, Value
from mulgil.compile.loop.ir import Access
from mulgil.compile.loop.symbol import DTYPES, Symbol, Writer
from mulgil.native.hardware import has_half
from mulgil.ops.function import Context

_known: WeakKeyDictionary[Node, bool] = WeakKeyDictionary()


def loopable(value: Value) -> bool:
    """Whether there are loops over elements of this dtype on this machine."""
    return value.dtype.isnative and value.dtype.name in DTYPES and (value.dtype.name != "float16" or has_half())


def lowers(node: Node) -> bool:
    """Whether the text of an elementwise call runs on symbols: one that asks for shapes or decides by an element does not."""
    if node not in _known:
        _known[node] = not node.op.raises and all(map(loopable, (*node.reads(), *node.writes()))) and _runs(node)
    return _known[node]


def _runs(node: Node) -> bool:
    """Tried twice where it may not be pure: a text that draws or counts makes other expressions, or leaves other attributes."""
    writer = Writer()

    def symbol(operand: Any) -> Any:
        return Symbol(writer, writer.body.load(Access(id(operand), ()), operand.dtype)) if isinstance(operand, Value) else operand

    own: dict[str, Any] = getattr(node.op, "__dict__", {})
    before = dict(own)
    try:
        made = called(writer, node, symbol)
        if node.op.pure:
            return True
        again = called(writer, node, symbol)  # equal expressions of one writer are one object
        unmoved = own.keys() == before.keys() and all(own[name] is before[name] for name in own)
        return unmoved and all(s.expr is made[key].expr for key, s in again.items())
    except Exception:  # a text may do anything, and then it runs as it is
        return False
    finally:
        own.clear()
        own.update(before)


def called(writer: Writer, node: Node, symbol: Callable[[Any], Any]) -> dict[int, Symbol]:
    """What a call makes, by id of the value: its text run on symbols. symbol: gives that of an operand."""
    ctx = Context(writer, node.needs, static=node.static)  # type: ignore[arg-type]
    if node.phase == "backward":
        ctx.saved = tuple(map(symbol, node.saved))
    inputs = [symbol(v) for v in node.inputs]
    if node.op.inplace and node.inputs[0].shape:
        scalars = [isinstance(v, Value) and not v.shape for v in node.inputs]
        inputs = [s.astype(inputs[0].dtype) if scalar else s for s, scalar in zip(inputs, scalars, strict=True)]
    results = getattr(node.op, node.phase)(ctx, *inputs)
    results = results if isinstance(results, tuple) else (results,)
    made: dict[int, Symbol] = {}
    pairs = [*zip(node.outputs, results, strict=True)]
    if node.phase == "forward":
        known = {id(v) for v in (*node.inputs, *node.outputs)}
        kept = zip(node.saved, ctx.saved, strict=False)  # a pass may have left out what backward no longer reads
        pairs += [(v, s) for v, s in kept if isinstance(v, Value) and id(v) not in known]
    for value, result in pairs:
        if value is not None:
            made[id(value)] = writer.cast(result if isinstance(result, Symbol) else writer.constant(result, value.dtype), value.dtype)
    return made
