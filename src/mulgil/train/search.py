"""What a sweep tries: a space of settings, written as text, and the ways through it (grid, random, Optuna)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from mulgil.errors import OptionError
from mulgil.train.recipes import OPTIMIZERS, RECIPES

SEARCHES = ("grid", "random", "optuna")
KINDS: dict[str, type] = {"lr": float, "batch_size": int, "epochs": int, "seed": int, "optimizer": str, "recipe": str}
CHOICES = {"optimizer": tuple(OPTIMIZERS), "recipe": tuple(RECIPES)}

WHAT = {float: "positive numbers", int: "whole numbers", str: "names"}

Trial = dict[str, Any]
Space = dict[str, dict[str, Any]]  # setting -> {"values": [...]} or {"low": ..., "high": ...}


def parse_space(settings: Sequence[str]) -> Space:
    """`["lr=1e-3,1e-2", "batch_size=16..512"]`: values to try, or a range to draw from, evenly on a logarithmic scale.

    Raises OptionError for a setting that cannot be swept, or values that it cannot have.
    """
    space: Space = {}
    for text in settings:
        name, _, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in KINDS:
            raise OptionError("there is no such setting to sweep over", repr(text), f"one of {', '.join(KINDS)}, as lr=1e-3,1e-2")
        if name in space:
            raise OptionError("each setting is swept once", repr(text), f"all values together: {name}=...,...")
        if ".." in values:
            low, high = (_value(name, part) for part in values.split("..", 1))
            if KINDS[name] is str or not 0 < low < high:
                raise OptionError("a range is of positive numbers, the lower one first", repr(text), "lr=1e-4..1e-1")
            space[name] = {"low": low, "high": high}
        else:
            space[name] = {"values": list(dict.fromkeys(_value(name, part) for part in values.split(",")))}
    if not space:
        raise OptionError("a sweep needs something to vary", "nothing", "--set lr=1e-3,1e-2")
    return space


def read_space(found: Mapping[str, Any]) -> Space:
    """A space as a file holds it, each value looked at as if a person had written it. Raises OptionError for what no space is."""
    space: Space = {}
    for name, how in found.items():
        if name not in KINDS or not isinstance(how, dict):
            raise OptionError("there is no such setting to sweep over", repr(name), f"one of {', '.join(KINDS)}")
        if isinstance(values := how.get("values"), list) and values:
            space[name] = {"values": [_value(name, str(value)) for value in values]}
        else:
            space[name] = {end: _value(name, str(how.get(end))) for end in ("low", "high")}
    return space


def read_trial(found: Any, space: Space) -> Trial:
    """A trial of a space, as a file holds it. Raises OptionError for another one."""
    if not isinstance(found, dict) or found.keys() != space.keys():
        raise OptionError(f"a trial has a value for each of {', '.join(space)}", repr(found)[:100])
    return {name: _value(name, str(found[name])) for name in space}


def _value(name: str, text: str) -> Any:
    kind, text = KINDS[name], text.strip()
    try:
        value = kind(text)
    except ValueError:
        value = None
    least = 0 if name == "seed" else 1
    fits = {float: lambda v: math.isfinite(v) and v > 0, int: lambda v: v >= least, str: lambda v: v in CHOICES[name]}[kind]
    if value is None or not fits(value):
        rule = f"{name} takes {WHAT[kind]}"
        example = f"one of {', '.join(CHOICES[name])}" if kind is str else f"{name}={'1e-3,1e-2' if kind is float else '32,128'}"
        raise OptionError(rule, repr(text), example)
    return value


def plan(space: Space, search: str, count: int | None, seed: int) -> list[Trial]:
    """The trials of a grid, all combinations in order, or of a random search, `count` different ones; of Optuna none yet.

    Raises OptionError for a grid with a range or a count, another search without a count, or an unknown one.
    """
    if search not in SEARCHES:
        raise OptionError("there is no such search", repr(search), f"one of {', '.join(SEARCHES)}")
    if search == "grid":
        if count is not None:
            raise OptionError("a grid tries all combinations", f"trials={count}", "--search random --trials N tries some of them")
        if ranges := [name for name, how in space.items() if "low" in how]:
            raise OptionError("a grid needs values, not ranges", ", ".join(ranges), "list them, or --search random --trials N")
        return [dict(zip(space, values, strict=True)) for values in product(*(how["values"] for how in space.values()))]
    if count is None or count < 1:
        raise OptionError(f"a {search} search needs to know how many trials", f"trials={count}", "--trials 20")
    return _drawn(space, count, seed) if search == "random" else []


def _drawn(space: Space, count: int, seed: int) -> list[Trial]:
    random = np.random.default_rng(seed)
    found: dict[tuple, Trial] = {}
    for _ in range(100 * count):  # a small space may hold fewer
        trial = {name: _draw(random, name, how) for name, how in space.items()}
        found.setdefault(tuple(trial.values()), trial)
        if len(found) == count:
            break
    return list(found.values())


def _draw(random: np.random.Generator, name: str, how: Mapping[str, Any]) -> Any:
    if "values" in how:
        return how["values"][int(random.integers(len(how["values"])))]
    value = math.exp(random.uniform(math.log(how["low"]), math.log(how["high"])))
    return round(value) if KINDS[name] is int else float(f"{value:.3g}")


class OptunaSearch:
    """Asks Optuna what to try next, and tells it what came out: the test accuracy, the higher the better.

    done: the trials of an earlier part of the sweep with their accuracies. Raises OptionError where Optuna is not installed.
    Source: Akiba et al., KDD 2019.
    """

    def __init__(self, space: Space, seed: int, done: Sequence[tuple[Trial, float]] = ()):
        try:
            import optuna
        except ImportError:
            hint = 'pip install "mulgil[sweep]", or --search random'
            raise OptionError("this search needs Optuna", "it is not installed", hint) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna = optuna
        self._study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed + len(done)))
        self._space = {name: self._distribution(name, how) for name, how in space.items()}
        self._asked: dict[int, Any] = {}
        for trial, accuracy in done:
            self._study.add_trial(optuna.trial.create_trial(params=trial, distributions=self._space, value=accuracy))

    def _distribution(self, name: str, how: Mapping[str, Any]) -> Any:
        kinds = self._optuna.distributions
        if "values" in how:
            return kinds.CategoricalDistribution(how["values"])
        kind = kinds.IntDistribution if KINDS[name] is int else kinds.FloatDistribution
        return kind(how["low"], how["high"], log=True)

    def ask(self) -> Trial:
        """The next trial."""
        asked = self._study.ask(self._space)
        trial = dict(asked.params)
        self._asked[id(trial)] = asked, trial  # the trial is kept, so that its id stays its own
        return trial

    def tell(self, trial: Trial, accuracy: float | None) -> None:
        """What came out; None for a trial that failed. Trials of an earlier part were told at the beginning."""
        asked, _ = self._asked.pop(id(trial), (None, None))
        if asked is not None:
            failed = self._optuna.trial.TrialState.FAIL
            self._study.tell(asked, accuracy, state=None if accuracy is not None else failed)
