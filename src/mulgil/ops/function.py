"""Function, Context and run(): what an op is, and the only doorway for the arithmetic of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from mulgil.backend import xp_of
from mulgil.errors import DTypeError
from mulgil.ops.explain import explain

Array = Any  # numpy.ndarray, cupy.ndarray or a weak Python number

BLOCK = 32768  # elements; the arrays of an update rule and its temporaries then stay in a core's own cache

_observers: dict[int, list[Any]] = {}  # thread -> who watches its calls


def observers() -> Sequence[Any]:
    """Who watches the calls of this thread, see `observed`."""
    return _observers.get(get_ident(), ()) if _observers else ()


@contextmanager
def observed(observer: Any) -> Iterator[None]:
    """Let `observer` see every call that this thread makes within the block.

    It is called as observer(op, phase, ctx, arrays, outputs). Where it has these methods, to_python(array) tells it of a value that
    becomes Python's, made(array) of an array made of Python's numbers alone, and beside(action) of what was done besides arithmetic.
    """
    watching = _observers.setdefault(get_ident(), [])
    watching.append(observer)
    try:
        yield
    finally:
        watching.remove(observer)
        if not watching:
            del _observers[get_ident()]


@contextmanager
def unobserved() -> Iterator[None]:
    """Let nobody see the calls of this thread within the block: they are one call's own business."""
    watching = _observers.pop(get_ident(), None)
    try:
        yield
    finally:
        if watching is not None:
            _observers[get_ident()] = watching


def tell(event: str, *facts: Any) -> None:
    """Call the method named `event` of the observers that have it."""
    for observer in observers():
        if hasattr(observer, event):
            getattr(observer, event)(*facts)


class Context:
    """What an op's forward leaves for its backward.

    Attributes:
        xp: the array module to compute with (numpy or cupy; numpy also serves Tensors, through NumPy's protocols).
        needs: for each input, whether anybody wants its gradient. A gradient that nobody wants may be returned as None.
        saved: the arrays that `save` kept.
        static: plain facts that backward needs, such as a shape (not arrays: the compiler would not see them).
    """

    __slots__ = ("needs", "saved", "static", "xp")

    def __init__(self, xp: ModuleType = np, needs: tuple[bool, ...] = (), saved: tuple[Any, ...] = (), static: Any = None):
        self.xp, self.needs, self.saved, self.static = xp, needs, saved, static

    def save(self, *arrays: Array) -> None:
        """Keep arrays for backward. Call it once in forward, with inputs, outputs, or arrays of your own."""
        self.saved = arrays


class Function:
    """An operation on arrays with its gradient. Subclass it to add your own.

    `forward(ctx, *arrays)` returns an array or a tuple of arrays; `backward(ctx, *output_gradients)` returns one gradient
    (or None) for each input. Both are written over `ctx.xp` and never change their arguments. Broadcasting is undone by
    the engine. The shorter form of the books, `forward(self, x)` with `self.inputs` in `backward(self, gy)`, works too, and so
    does PyTorch's: static methods `forward(ctx, x, *settings)` and `backward(ctx, gy)` on Tensors, called by `MyFunction.apply(x)`.

    Example:
        >>> class ReLU(Function):
        ...     def forward(self, ctx, x):
        ...         ctx.save(x)
        ...         return ctx.xp.maximum(x, 0)
        ...     def backward(self, ctx, gy):
        ...         (x,) = ctx.saved
        ...         return gy * (x > 0)
        >>> ReLU()(mulgil.tensor([-1.0, 2.0]))
        tensor([0., 2.])

    Class attributes (facts about the op that interpreters need):
        elementwise: each output element depends on one element of each (broadcast) input: it can be fused, and run in blocks.
        floating: integer inputs are first cast to the default dtype, as for exp or a true division.
        promotes: inputs of several dtypes are first brought to one.
        conditions: the first so many inputs are masks, which keep their dtype then.
        inplace: positions of the inputs that the outputs overwrite (update rules).
        view: the output shares the memory of the first input.
        combine: of a reduction over `axes(shape)`: "add", "maximum" or "minimum". averages: the sum is divided by `count(shape)`.
        twice: the text of backward also runs on Tensors, which gives second derivatives.
        composed: phases whose text is made of other ops: on Tensors it runs too, and a compiler may look through it.
        takes_none: backward takes None as the gradient of an output that nobody used; else it is given zeros.
        pure: the outputs depend on inputs and settings alone, and nothing else is changed. So a compiler may share a call with an
            equal one, do it once for all, or leave it out. False for ops from outside mulgil, unless they say so.
        raises: the text may refuse the inputs' elements with an error, so that nothing which is written after it may be written before.
        shape_only: the text looks at shapes and dtypes of the inputs, never at their elements.
        early: an impure call that may be done before pure ones that stand before it, such as the draw of a dropout.
        kind: the class whose text this is: itself, or the one that it inherits everything from. Rewrites for one op ask for it.

    A subclass that changes anything of a text (a method, an attribute) loses what was said about the old one (elementwise, view,
    combine, averages, twice, composed, shape_only, early, pure, kind), unless it says so again.
    """

    inputs: tuple[Any, ...]  # in the books' form: Tensors, for `backward(self, gy)`
    outputs: Any  # functions that return them
    elementwise: ClassVar[bool] = False
    floating: ClassVar[bool] = False
    promotes: ClassVar[bool] = False
    conditions: ClassVar[int] = 0
    inplace: ClassVar[tuple[int, ...]] = ()
    view: ClassVar[bool] = False
    combine: ClassVar[str] = ""
    averages: ClassVar[bool] = False
    twice: ClassVar[bool] = True
    composed: ClassVar[tuple[str, ...]] = ()
    takes_none: ClassVar[bool] = False
    pure: ClassVar[bool] = False
    raises: ClassVar[bool] = False
    shape_only: ClassVar[bool] = False
    early: ClassVar[bool] = False
    kind: ClassVar[type]
    takes_context: ClassVar[bool] = True
    static: ClassVar[bool] = False  # in PyTorch's form

    def __init_subclass__(cls) -> None:
        own = {name for name in vars(cls) if not name.startswith("__")}
        if "forward" in own:
            forward = vars(cls)["forward"]
            cls.static = isinstance(forward, staticmethod)
            code = getattr(forward, "__func__", forward).__code__
            cls.takes_context = not cls.static and code.co_varnames[1 : code.co_argcount][:1] == ("ctx",)
        ours, families = _is_ours(cls), [base for base in cls.__mro__[1:] if base not in (Function, object)]
        changed = any(name in vars(base) for base in families for name in own - FACTS) or (len(cls.__bases__) > 1 and not ours)
        for fact, usual in ABOUT_TEXT.items():
            if changed and fact not in own:
                setattr(cls, fact, usual)
        if ours or changed or not families or {"forward", "backward"} & own:
            cls.kind = cls
        if "pure" not in own and (ours or changed or any(map(_is_ours, families))):
            cls.pure = ours

    def sized_by_values(self, *inputs: Array) -> bool:
        """Whether the shape of the result depends on the values of these inputs, as a mask's choice does: no plan can hold then."""
        return False

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    # So open that an op may name its inputs: forward(self, ctx, *arrays), backward(self, ctx, *gradients), or the books' form.
    def forward(self, *inputs: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def backward(self, *gradients: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}.backward")

    def overwrite(self, ctx: Context, *arrays: Array) -> tuple[Array, ...]:
        """What an op with `inplace` does: store the results of `forward` in those arrays, which are returned.

        A text that writes by itself may stand in its place.
        """
        return _overwrite(self, ctx, arrays)

    @classmethod
    def apply(cls, *inputs: Any) -> Any:
        """Call a Function in PyTorch's form (static forward and backward). Of another form: the same as `cls()(*inputs)`."""
        if not cls.static:
            return cls()(*inputs)
        for x in inputs:
            if hasattr(x, "apply_static"):
                return x.apply_static(cls, inputs)
        raise DTypeError(f"{cls.__name__}.apply: at least one argument must be a Tensor", ", ".join(type(x).__name__ for x in inputs))

    def __call__(self, *inputs: Any) -> Any:
        """Apply to Tensors (recorded, gives Tensors), or compute at once on plain arrays, as inside another op's text."""
        for x in inputs:
            if hasattr(x, "apply_function"):
                return x.apply_function(self, inputs)
        if self.static:
            return self.apply(*inputs)
        return self.forward(Context(xp_of(inputs[0])), *inputs) if self.takes_context else self.forward(*inputs)


TEXT = ("elementwise", "view", "combine", "averages", "twice", "composed", "raises", "shape_only", "early")
ABOUT_TEXT = {name: vars(Function)[name] for name in TEXT}
FACTS = {*ABOUT_TEXT, "floating", "promotes", "takes_none", "inplace", "pure", "takes_context", "static"}


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def run(op: Function, phase: str, ctx: Context, *arrays: Array) -> tuple[Array, ...]:
    """Call `op.forward` or `op.backward` and let the observers see it. Returns a tuple, whatever the number of outputs."""
    watching = _observers.pop(get_ident(), None) if _observers else None  # a call is one event: what its text calls in turn is not seen
    try:
        if op.inplace:
            outputs: tuple = op.overwrite(ctx, *arrays)
        else:
            result = getattr(op, phase)(ctx, *arrays)
            outputs = result if type(result) is tuple else (result,)
            if any(type(o) is not np.ndarray and o is not None for o in outputs):
                outputs = _as_arrays(ctx, outputs)
            if phase == "forward" and any(isinstance(s, np.generic) for s in ctx.saved):  # such as x.max(): a value, no setting
                ctx.saved = tuple([np.asarray(s) if isinstance(s, np.generic) else s for s in ctx.saved])
    except (ValueError, IndexError, TypeError) as error:
        if phase == "forward":
            explain(op, arrays, error)
        raise
    finally:
        if watching is not None:
            _observers[get_ident()] = watching
    for observer in watching or ():
        observer(op, phase, ctx, arrays, outputs)
    return outputs


def _as_arrays(ctx: Context, outputs: tuple) -> tuple:
    """NumPy's reductions and 0-d arithmetic return scalars: make them arrays, in what was saved as well."""
    xp = ctx.xp
    arrays = tuple(o if o is None or isinstance(o, xp.ndarray) else xp.asarray(o) for o in outputs)
    ctx.saved = tuple(next((a for o, a in zip(outputs, arrays, strict=True) if o is s), s) for s in ctx.saved)
    return arrays


def beside(action: Callable[[], Any]) -> None:
    """Tell who watches that something besides arithmetic was done, such as a schedule's step: who replays the arithmetic does it again."""
    tell("beside", action)


def made(array: Array, *of: Any) -> Array:
    """Tell who watches that an array was made `of` Python's numbers, if it was of nothing else; returns it."""
    if observers() and all(map(_is_python, of)):
        tell("made", array)
    return array


def _is_python(data: Any) -> bool:
    return type(data) in (int, float, bool) or data is None or (isinstance(data, (list, tuple, range)) and all(map(_is_python, data)))


def run_inplace(op: Function, *arrays: Array) -> tuple[Array, ...]:
    """Run an update rule: its results overwrite `arrays[i] for i in op.inplace`, which are returned."""
    return run(op, "forward", Context(xp_of(arrays[0])), *arrays)


def _overwrite(op: Function, ctx: Context, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    first = arrays[0]
    targets = tuple(arrays[i] for i in op.inplace)
    arrays = tuple(a.astype(first.dtype) if a.ndim == 0 and first.ndim and a.dtype != first.dtype else a for a in arrays)
    in_blocks = (
        op.elementwise
        and ctx.xp is np
        and first.size > BLOCK
        and all(a.ndim == 0 or (a.shape == first.shape and a.flags.c_contiguous) for a in arrays)
        and all(t.ndim for t in targets)
    )
    if not in_blocks:
        _store(targets, op.forward(ctx, *arrays))
        return targets
    flat = [a if a.ndim == 0 else a.reshape(-1) for a in arrays]
    for start in range(0, first.size, BLOCK):
        part = [a if a.ndim == 0 else a[start : start + BLOCK] for a in flat]
        _store([part[i] for i in op.inplace], op.forward(ctx, *part))
    return targets


def _store(targets: Any, results: Any) -> None:
    for target, result in zip(targets, results if type(results) is tuple else (results,), strict=True):
        target[...] = result
