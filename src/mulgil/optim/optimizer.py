"""Optimizer: parameter groups, state, and the frame of a step. The arithmetic is in `mulgil.ops.update`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypedDict, TypeVar, overload

import numpy as np

from mulgil.autograd import Parameter, Tensor, enable_grad
from mulgil.autograd.gradient import clear_gradients
from mulgil.backend import to_device, xp_of
from mulgil.errors import DTypeError, OptionError, ShapeError, describe
from mulgil.names import guide
from mulgil.ops.function import Function, run_inplace, tell
from mulgil.options import NOT_NEGATIVE, Range, check_number

R = TypeVar("R")
Params: TypeAlias = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]
INFINITE = float("inf")
BESIDE = {"params", "lr", "initial_lr"}  # entries of a group that no update rule is made with

cached_op = lru_cache(maxsize=1024)(lambda kind, *settings: kind(*settings))  # ops are immutable: one object per setting


class Optimizer:
    """Base class of optimizers, with PyTorch's interface.

    Args:
        params: parameters (`model.parameters()`), (name, parameter) pairs, or a list of groups: dicts with "params" and own options.
        defaults: the options of groups that do not set them.

    Attributes:
        param_groups: list of dicts; change `group["lr"]` at any time.
        state: parameter -> dict of its tensors, such as `momentum_buffer`.
    Raises: OptionError for no parameters, what is not a parameter, a parameter given twice, an unknown option.

    To write one: subclass, and implement `update(group, lr)` with update ops through `run_inplace`. It updates each parameter of
    the group that has a gradient, and calls its `bump()`; lr is a 0-d array that always holds group["lr"] (see also `moving`).

    Class attribute: starts_from_zeros: what `update` makes for a parameter at its first step is zeros, and the same rules as at
    every later step are then applied; so a plan compiled from a first step serves the later ones. False in a subclass that has an
    `update` of its own and does not say so.
    """

    # of options that are numbers
    ranges: ClassVar[dict[str, Range]] = {"lr": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE, "eps": NOT_NEGATIVE}
    starts_from_zeros: ClassVar[bool] = False

    if not TYPE_CHECKING:  # a checker would take any name for known
        __getattr__ = guide("Optimizer")

    def __init_subclass__(cls) -> None:
        if "update" in vars(cls) and "starts_from_zeros" not in vars(cls):
            cls.starts_from_zeros = False

    def __init__(self, params: Params, defaults: dict[str, Any]):
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.param_groups: list[dict[str, Any]] = []
        self._numbers: list[dict[Any, dict[str, Any]]] = []  # for each group what moves as 0-d arrays, by array module
        self.numbers: dict[str, Any] = {}
        for group in _groups(params):
            self.add_param_group(group)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add parameters with options of their own: `{"params": [...], "lr": 0.1}`."""
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else [p[1] if isinstance(p, tuple) else p for p in params]
        known = {id(p) for other in self.param_groups for p in other["params"]}
        for i, parameter in enumerate(params):
            _check_parameter(parameter, i)
            if id(parameter) in known:
                raise OptionError(
                    "optimizer: a parameter may be given only once", f"parameter {i} of the group, {_text(parameter)}, is there already"
                )
            known.add(id(parameter))
        unknown = set(group) - set(self.defaults) - {"params", "initial_lr"}
        if unknown:
            raise OptionError(
                f"{type(self).__name__}: unknown option in a parameter group",
                ", ".join(sorted(unknown)),
                f"known: {', '.join(self.defaults)}",
            )
        full = {"params": params, **{name: group.get(name, value) for name, value in self.defaults.items()}}
        if "initial_lr" in group:
            full["initial_lr"] = group["initial_lr"]
        self.check(full)
        self.param_groups.append(full)
        self._numbers.append({})

    def check(self, group: dict[str, Any]) -> None:
        """Raise OptionError for options outside their range."""
        for name, within in self.ranges.items():
            if name in group:
                check_number(f"{type(self).__name__}: {name}", group[name], within)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients before the next backward (or, with `set_to_none=False`, fill them with zeros)."""
        clear_gradients([p for group in self.param_groups for p in group["params"]], set_to_none)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], R]) -> R: ...
    def step(self, closure: Callable[[], R] | None = None) -> R | None:
        """Update every parameter that has a gradient.

        closure: clears the gradients, computes the loss, calls backward and returns the loss, which `step` then returns.
        """
        tell("looked")
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group, numbers in zip(self.param_groups, self._numbers, strict=True):
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                xp = xp_of(params[0].array)
                if xp not in numbers:
                    numbers[xp] = {name: xp.empty((), np.float64) for name in self.moving(group)}
                self.numbers = numbers[xp]
                run_inplace(MovingOptions(self, group), *self.numbers.values())
                self.update(params, group, self.numbers["lr"])
        return loss

    def moving(self, group: dict[str, Any]) -> dict[str, float]:
        """The options that may change from step to step, as update rules want them. `update` finds them in `self.numbers`, 0-d arrays."""
        return {"lr": group["lr"]}

    def fixed(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """The other options, with which update rules are made."""
        return tuple([value for name, value in group.items() if name not in BESIDE])

    def settings(self) -> tuple[Any, ...]:
        """The fixed options of all groups: what a replayed step holds for."""
        return tuple([self.fixed(group) for group in self.param_groups])

    def update(self, params: list[Tensor], group: dict[str, Any], lr: Any) -> None:
        """Update `params`, the members of `group` that have a gradient. lr: a 0-d array that holds group["lr"]."""
        raise NotImplementedError(f"{type(self).__name__} has no update(self, params, group, lr): write one")

    # ------------------------------------------------------------------ copying and saving
    def __getstate__(self) -> dict[str, Any]:
        """For `copy.deepcopy` and process pools: all but the arrays that each step fills anew."""
        return {**self.__dict__, "_numbers": [{} for _ in self._numbers], "numbers": {}}

    def state_dict(self) -> dict[str, Any]:
        """{"state": parameter number -> its tensors, "param_groups": options and parameter numbers}, as in PyTorch."""
        numbers: dict[int, int] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                numbers[id(parameter)] = len(numbers)
        groups = [{**group, "params": [numbers[id(p)] for p in group["params"]]} for group in self.param_groups]
        state = {numbers[id(p)]: self.exported(values) for p, values in self.state.items() if id(p) in numbers}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict()`. Raises OptionError if the groups, their sizes or shapes differ; then nothing is changed."""
        groups = state_dict["param_groups"]
        sizes, own = [len(g["params"]) for g in groups], [len(g["params"]) for g in self.param_groups]
        if sizes != own:
            raise OptionError(
                "load_state_dict: the parameter groups must have the sizes of the optimizer's", f"{sizes}, the optimizer has {own}"
            )
        pairs = zip(groups, self.param_groups, strict=True)
        members = {number: p for saved, group in pairs for number, p in zip(saved["params"], group["params"], strict=True)}
        state = {members[int(number)]: self._imported(members[int(number)], values) for number, values in state_dict["state"].items()}
        options = [{name: value for name, value in saved.items() if name in self.defaults or name == "initial_lr"} for saved in groups]
        for group, loaded in zip(self.param_groups, options, strict=True):
            self.check({**group, **loaded})
        for group, loaded in zip(self.param_groups, options, strict=True):
            group.update(loaded)
        self.state = state
        self.after_load()

    def exported(self, values: dict[str, Any]) -> dict[str, Any]:
        """One parameter's state as `state_dict` shows it."""
        return dict(values)

    def after_load(self) -> None:
        """Bring what was loaded into the optimizer's own form."""

    def _imported(self, parameter: Tensor, values: dict[str, Any]) -> dict[str, Any]:
        imported = {}
        for name, value in values.items():
            array = value.array if isinstance(value, Tensor) else np.asarray(value)
            if array.ndim and array.shape != parameter.shape:
                raise ShapeError(f"load_state_dict: '{name}' must have its parameter's shape", describe(value=array, parameter=parameter))
            dtype = parameter.dtype if array.ndim or name != "step" else np.dtype(np.float64)
            imported[name] = Tensor(to_device(array.astype(dtype), parameter.device))  # a copy: the state stays the caller's
        return imported

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines += [f"Parameter Group {i}", *(f"    {name}: {group[name]}" for name in sorted(group) if name != "params")]
        return "\n".join([*lines, ")"])


class Options(TypedDict, total=False):
    """PyTorch's options that mulgil does without."""

    amsgrad: bool | None
    maximize: bool | None
    foreach: bool | None
    fused: bool | None
    capturable: bool | None
    differentiable: bool | None


@dataclass(frozen=True, eq=False)
class MovingOptions(Function):
    """What moves among the options of a group, brought into the 0-d arrays that update rules read. It is asked for anew at each replay."""

    optimizer: Optimizer
    group: dict[str, Any]
    pure = False
    early = True

    @property
    def inplace(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(range(len(self.optimizer.moving(self.group))))

    def __repr__(self) -> str:
        return f"MovingOptions({', '.join(self.optimizer.moving(self.group))})"

    def overwrite(self, ctx: Any, *arrays: Any) -> tuple[Any, ...]:
        try:
            for array, value in zip(arrays, self.optimizer.moving(self.group).values(), strict=True):
                if not 0 <= value < INFINITE:  # it may have been set since `check`
                    self.optimizer.check(self.group)
                array[...] = value
        except TypeError:
            self.optimizer.check(self.group)
            raise
        return arrays


def reject(name: str, options: Options) -> None:
    """PyTorch's options that mulgil does without may be given as False or None."""
    for option, value in options.items():
        if option not in Options.__annotations__:
            raise TypeError(f"{name}: unknown option {option!r}")
        if value and option not in ("foreach", "fused"):  # those two choose an implementation, not a result
            raise OptionError(f"{name}: {option} is not supported", f"{option}={value!r}", "leave it out")


def _groups(params: Any) -> list[dict[str, Any]]:
    if isinstance(params, Tensor) or callable(params) or not isinstance(params, Iterable):
        hint = "call it: model.parameters()" if callable(params) else "pass a list: [parameter]"
        raise OptionError("optimizer: params must be parameters, or a list of groups", _text(params), hint)
    params = list(params)
    if not params:
        hint = "was model.parameters() used up by an earlier loop, or do the layers lie in a plain list instead of nn.ModuleList?"
        raise OptionError("optimizer: there must be at least one parameter", "an empty list", hint)
    return params if isinstance(params[0], dict) else [{"params": params}]


def _check_parameter(parameter: Any, i: int) -> None:
    if not isinstance(parameter, Tensor):
        raise OptionError("optimizer: only Parameters can be optimized", f"item {i} is {_text(parameter)}", "pass model.parameters()")
    if parameter.node is not None:
        raise OptionError(
            "optimizer: only leaves can be optimized",
            f"item {i} was computed by {parameter.node}",
            "detach() it, or optimize what it came from",
        )
    if not isinstance(parameter, Parameter) and not parameter.requires_grad:
        raise DTypeError(
            "optimizer: a tensor must require a gradient to be optimized", f"item {i}, {_text(parameter)}", "x.requires_grad_()"
        )


def _text(value: Any) -> str:
    if isinstance(value, Tensor):
        return "an open parameter" if value.array is None else describe(parameter=value)
    return f"{type(value).__name__} {value!r}"[:120]
