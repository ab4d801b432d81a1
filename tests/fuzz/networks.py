"""Random networks with whole training steps: what one is, its text, and how it is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.fuzz.check import play
from tests.fuzz.expressions import module
from tests.fuzz.layers import CHANGES, LAYERS, LOSSES, OPTIMIZERS, PARAMETERS, SCHEDULES, Layer, Shape, sequence

OUTSIDE = "outside"  # backward and update are done with what the step returns
ITSELF = "the model itself"
STATES = ("[w.model, w.optimizer]", "[w.model, w.optimizer]", "vars(w)", "[[w.model], {'optimizer': w.optimizer}]", "w", ITSELF)
ZEROING = ("optimizer.zero_grad()", "optimizer.zero_grad()", "model.zero_grad()", "optimizer.zero_grad(set_to_none=False)", "")
CLIPPING = ("nn.utils.clip_grad_norm_(model.parameters(), 0.5)", "nn.utils.clip_grad_value_(model.parameters(), 0.05)")
UPDATES = (
    *["optimizer.step()"] * 8,
    OUTSIDE,
    "with mulgil.no_grad(): [p.sub_(p.grad * 0.1) for p in model.parameters() if p.grad is not None]",
    "with mulgil.no_grad(): [p.add_(p.grad, alpha=-0.1) for p in model.parameters() if p.grad is not None]",
    "with mulgil.no_grad(): [p.__isub__(0.1 * p.grad) for p in model.parameters() if p.grad is not None]",
    "",
)
RESULTS = ("loss", "loss", "(loss, y)", "{'loss': loss, 'y': y}", "[loss, {'best': y.argmax(1)}]", "None")


@dataclass(frozen=True)
class Call:
    """One call: the size of its batch, the kind of its labels, and what is changed before it."""

    seed: int
    batch: int
    kind: str = ""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """A model, its loss, its optimizer and its step as data. update: "" for predictions alone. schedule: text, and where it steps."""

    layers: tuple[Layer, ...]
    shape: Shape
    dtype: str
    loss: str
    optimizer: str
    parameters: str
    calls: tuple[Call, ...]
    zero: str = ZEROING[0]
    clip: str = ""
    update: str = UPDATES[0]
    schedule: str = ""
    inside: bool = True
    frozen: tuple[int, ...] = ()
    result: str = "loss"
    state: str = STATES[0]

    def built(self) -> tuple[str, Shape] | None:
        return sequence((*self.layers, Layer("flatten"), Layer("linear", (("out", 3), ("bias", True)))), self.shape)

    # ---- text

    def source(self, counted: bool = False, noisy: bool = False) -> str:
        built = self.built()
        if built is None:
            return "raise ValueError('the layers do not fit')"
        head = ["def build():", f"    model = {built[0]}", f"    model.to(mulgil.{self.dtype})"]
        head += [f"    list(model.parameters())[{k} % len(list(model.parameters()))].requires_grad_(False)" for k in self.frozen]
        if noisy:
            head.append("    for p in model.parameters(): p.array[...] = moved(p.array)")
            head.append("    for m in model.modules(): m.register_forward_hook(lambda m, args, y: move(y, *args))")
        head += [f"    criterion = {self.loss.format(dtype=self.dtype)}"]
        head += [f"    optimizer = {self.optimizer.format(p=self.parameters)}"]
        names = ["model", "optimizer"]
        if self.schedule:
            head.append(f"    schedule = {self.schedule}")
            names.append("schedule")
        saved = ["saved=own.copied(model.state_dict())"] * any("saved" in change for c in self.calls for change in c.changes)
        head += [f"    w = SimpleNamespace({', '.join([*(f'{n}={n}' for n in names), *saved])})", "    def function(x, t=None):"]
        head += [f"        {line}" for line in ["ran()"] * counted + self._step()] + ["    return function, w", ""]
        whole = self.state == ITSELF and not self.update
        given = "w.model" if whole else f"function, state={self.state if self.state != ITSELF else STATES[0]}"
        head += ["def compiled(function, w):", f"    return mulgil.compile({given})", ""]
        for k, call in enumerate(self.calls):
            head += [f"def call{k}(w):", *(f"    {change}" for change in self._changes(k))]
            target = "" if self.state == ITSELF and not self.update else f" {self._target(call)}"
            head.append(f"    return Tensor(draw({(call.batch, *self.shape)}, {self.dtype!r}, {2 * call.seed})),{target}")
        if self.update == OUTSIDE:
            head += [
                "",
                "def after(w, result):",
                "    w.optimizer.zero_grad()",
                "    own.go_back(result)",
                f"    {self.clip.replace('model', 'w.model') or 'pass'}",
            ]
            head += ["    w.optimizer.step()"]
        changes = sum(len(c.changes) for c in self.calls) + len({c.batch for c in self.calls})
        head += ["", f"CALLS = [{', '.join(f'call{k}' for k in range(len(self.calls)))}]", f"SITUATIONS = {changes + bool(self.frozen)}"]
        if self.zero and self.update not in ("", OUTSIDE):
            head.append("CLEARS = True")
        return module(head)

    def _changes(self, k: int) -> Iterator[str]:
        if k and self.schedule and not self.inside:
            yield "w.schedule.step()"
        yield from self.calls[k].changes

    def _step(self) -> list[str]:
        if not self.update:
            return ["return model(x)"] if self.state == ITSELF else ["with mulgil.no_grad(): y = model(x)", "return y"]
        lines = ["y = model(x)", "loss = criterion(y, t)"]
        lines = lines if self.update == OUTSIDE else [self.zero, *lines, "loss.backward()", self.clip, self.update]
        if self.schedule and self.inside:
            lines.append("schedule.step()")
        return [*filter(None, lines), f"return {self.result}"]

    def _target(self, call: Call) -> str:
        kind, seed = LOSSES[self.loss], 2 * call.seed + 1
        if kind == "labels":
            return f"Tensor(draw(({call.batch},), 'int64', {seed}, kind={(call.kind or 'labels3')!r}))"
        data = f"draw(({call.batch}, 3), {self.dtype!r}, {seed}, kind={'labels2' if kind == 'binary' else 'normal'!r})"
        return f"Tensor({data}).softmax(1)" if kind == "probabilities" else f"Tensor({data})"

    # ---- smaller

    def size(self) -> int:
        steps = (self.zero, self.clip, self.update, self.schedule, self.result)
        texts = sum(map(len, (self.optimizer, self.parameters, self.loss, *steps)))
        calls = sum(10 + c.batch + len(c.kind) + sum(map(len, c.changes)) for c in self.calls)
        layers = 10 * sum(layer.size() for layer in self.layers) + sum(self.shape)
        return layers + texts + calls + 5 * len(self.frozen) + len(self.state) + (self.dtype != "float64")

    def smaller(self) -> Iterator[Network]:
        """Simpler networks to try, the boldest first."""
        n = len(self.layers)
        for start, stop in ((0, n // 2), (n // 2, n)):
            if 0 < stop - start < n:
                yield replace(self, layers=self.layers[start:stop])
        if len(self.calls) > 2:
            yield replace(self, calls=self.calls[:2])
        for k in range(n):
            yield replace(self, layers=self.layers[:k] + self.layers[k + 1 :])
        for k in range(len(self.calls) if len(self.calls) > 1 else 0):
            yield replace(self, calls=self.calls[:k] + self.calls[k + 1 :])
        for change in (
            {"schedule": ""},
            {"clip": ""},
            {"frozen": ()},
            {"optimizer": OPTIMIZERS[0]},
            {"parameters": PARAMETERS[0]},
            {"loss": "lambda y, t: ((y - t) ** 2).mean()"},
            {"loss": "nn.CrossEntropyLoss()"},
            {"result": "loss"},
            {"result": "None"},
            {"zero": ZEROING[0]},
            {"state": STATES[0]},
            {"dtype": "float64"},
            {"update": ""},
            {"update": "optimizer.step()"},
            {"shape": (2,)},
            {"shape": (1, 4, 4)},
        ):
            yield replace(self, **change)  # type: ignore[arg-type]
        for k, call in enumerate(self.calls):
            for plainer in self._plainer(call):
                yield replace(self, calls=(*self.calls[:k], plainer, *self.calls[k + 1 :]))
        yield replace(self, calls=tuple(replace(c, batch=min(c.batch, 2)) for c in self.calls))
        for k, layer in enumerate(self.layers):
            for simpler in _simpler(layer):
                yield replace(self, layers=(*self.layers[:k], *simpler, *self.layers[k + 1 :]))

    @staticmethod
    def _plainer(call: Call) -> Iterator[Call]:
        for k in range(len(call.changes)):
            yield replace(call, changes=call.changes[:k] + call.changes[k + 1 :])
        if call.kind:
            yield replace(call, kind="")


def _simpler(layer: Layer) -> Iterator[tuple[Layer, ...]]:
    if layer.inner:
        yield layer.inner
        for k in range(len(layer.inner)):
            yield (replace(layer, inner=layer.inner[:k] + layer.inner[k + 1 :]),)
    for k, (name, value) in enumerate(layer.options):
        for other in sorted(set((LAYERS[layer.kind].choices or {})[name]), key=str):
            if other != value:
                yield (replace(layer, options=(*layer.options[:k], (name, other), *layer.options[k + 1 :])),)


# ---- drawing one


def generate(seed: str) -> Network:
    """The network of a seed: one that eager mode can train."""
    rng = Random(seed)
    while True:
        made = _draw(rng)
        if made.built() is None:
            continue
        try:
            seen = play(made.source(), False)
        except Exception:  # a change that this model or optimizer does not bear
            continue
        if not any("raised" in call for call in seen.calls) or any(c.kind == "beyond" for c in made.calls) or rng.random() < 0.02:
            return made


def _layer(rng: Random, depth: int = 0) -> Layer:
    kind = rng.choice([k for k, row in LAYERS.items() if depth < 2 or not row.holds])
    row = LAYERS[kind]
    options = tuple((name, rng.choice(values)) for name, values in (row.choices or {}).items())
    inner = tuple(_layer(rng, depth + 1) for _ in range(rng.randint(1, 3))) if row.holds else ()
    return Layer(kind, options, inner)


def _layers(rng: Random, shape: Shape) -> tuple[Layer, ...]:
    """Layers that fit each other, one after the other."""
    chosen: list[Layer] = []
    wanted = rng.randint(1, 7)
    for _ in range(200):
        if len(chosen) == wanted:
            break
        layer = _layer(rng)
        if sequence((*chosen, layer), shape) is not None:
            chosen.append(layer)
    return tuple(chosen)


def _draw(rng: Random) -> Network:
    images = rng.random() < 0.5
    shape = (rng.choice((1, 2, 3)), rng.choice((4, 6, 7)), rng.choice((4, 5, 8))) if images else (rng.choice((1, 2, 4, 9)),)
    large = rng.random() < 0.12  # enough work for threads and for the kernels of large products
    if large:
        shape = (rng.choice((1, 3, 16)), 12, rng.choice((12, 13))) if images else (rng.choice((100, 257)),)
    dtype = rng.choice(("float64", "float64", "float64", "float32", "float32", "float16"))
    loss = rng.choice(list(LOSSES))
    usual, odd = rng.choice((32, 100) if large else (2, 4, 7, 16)), rng.choice((1, 3, 5))
    calls = []
    for k in range(rng.randint(3, 6)):
        changes = tuple(rng.choice(CHANGES) for _ in range(rng.choice((1, 1, 2)))) if k and rng.random() < 0.2 else ()
        kind = rng.choice(("beyond", "ignored", "zeros")) if LOSSES[loss] == "labels" and k and rng.random() < 0.03 else ""
        calls.append(Call(k, odd if rng.random() < 0.15 else usual, kind, changes))
    options: dict[str, Any] = {
        "zero": rng.choice(ZEROING),
        "clip": rng.choice(CLIPPING) if rng.random() < 0.3 else "",
        "update": rng.choice(UPDATES),
        "schedule": rng.choice(SCHEDULES) if rng.random() < 0.3 else "",
        "inside": rng.random() < 0.6,
        "frozen": (rng.randrange(6),) if rng.random() < 0.2 else (),
        "result": rng.choice(RESULTS),
        "state": rng.choice(STATES),
    }
    return Network(_layers(rng, shape), shape, dtype, loss, rng.choice(OPTIMIZERS), rng.choice(PARAMETERS), tuple(calls), **options)
