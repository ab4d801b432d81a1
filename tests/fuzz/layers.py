"""The words of random networks: layers, losses, optimizers, schedules, what a user changes between calls. A row covers one more.

A layer's builder gets its options and the shape that comes in (without the batch: (features,) or (channels, height, width)), and returns
its text and the shape that goes out; None where it does not fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]
Built = tuple[str, Shape] | None


@dataclass(frozen=True)
class Layer:
    """kind: a row of LAYERS. options: name -> value, as pairs. inner: of a layer that holds layers."""

    kind: str
    options: tuple[tuple[str, Any], ...] = ()
    inner: tuple[Layer, ...] = ()

    def build(self, shape: Shape) -> Built:
        options = dict(self.options)
        builder = LAYERS[self.kind].build
        return builder(self, options, shape)

    def size(self) -> int:
        return 4 + sum(_weight(v) for _, v in self.options) + sum(layer.size() for layer in self.inner)


def _weight(value: Any) -> int:
    return int(value) if isinstance(value, (int, float)) else 2


@dataclass(frozen=True)
class Kind:
    """choices: option -> its values. build: see above. holds: whether it holds other layers."""

    build: Callable[[Layer, dict[str, Any], Shape], Built]
    choices: dict[str, tuple] | None = None
    holds: bool = False


def sequence(layers: tuple[Layer, ...], shape: Shape) -> Built:
    """nn.Sequential of layers that fit each other; None where one does not."""
    texts = []
    for layer in layers:
        built = layer.build(shape)
        if built is None or min(built[1], default=0) < 1:
            return None
        texts.append(built[0])
        shape = built[1]
    return f"nn.Sequential({', '.join(texts)})", shape


def _same(text: str, dims: tuple[int, ...] = (1, 3)) -> Callable[[Layer, dict, Shape], Built]:
    return lambda layer, o, s: (text.format(**o, n=s[0]), s) if len(s) in dims else None


def _linear(layer: Layer, o: dict, s: Shape) -> Built:
    return (f"nn.Linear({s[0]}, {o['out']}, bias={o['bias']})", (o["out"],)) if len(s) == 1 else None


def _window(s: Shape, kernel: int, stride: int, pad: int, dilation: int = 1) -> Shape | None:
    sizes = [(n + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1 for n in s[1:]]
    return (s[0], *sizes) if min(sizes) > 0 else None


def _conv(layer: Layer, o: dict, s: Shape) -> Built:
    if len(s) != 3:
        return None
    groups = {"one": 1, "two": 2, "each": s[0]}[o["groups"]]
    if s[0] % groups:
        groups = 1
    out = -(-o["out"] // groups) * groups
    to = _window(s, o["kernel"], o["stride"], o["padding"], o["dilation"])
    text = f"nn.Conv2d({s[0]}, {out}, {o['kernel']}, stride={o['stride']}, padding={o['padding']}, dilation={o['dilation']}, "
    return None if to is None else (f"{text}groups={groups}, bias={o['bias']})", (out, *to[1:]))


def _pool(name: str) -> Callable[[Layer, dict, Shape], Built]:
    def build(layer: Layer, o: dict, s: Shape) -> Built:
        to = _window(s, o["kernel"], o["stride"], o["padding"]) if len(s) == 3 and 2 * o["padding"] <= o["kernel"] else None
        return None if to is None else (f"nn.{name}({o['kernel']}, stride={o['stride']}, padding={o['padding']})", to)

    return build


def _batch_norm(layer: Layer, o: dict, s: Shape) -> Built:
    return f"nn.BatchNorm{'1d' if len(s) == 1 else '2d'}({s[0]}, affine={o['affine']}, momentum={o['momentum']})", s


def _flatten(layer: Layer, o: dict, s: Shape) -> Built:
    size = 1
    for n in s:
        size *= n
    return "nn.Flatten()", (size,)


def _nest(layer: Layer, o: dict, s: Shape) -> Built:
    return sequence(layer.inner, s)


def _residual(layer: Layer, o: dict, s: Shape) -> Built:
    built = sequence(layer.inner, s)
    return (f"own.Residual({built[0]})", s) if built and built[1] == s else None


def _twice(layer: Layer, o: dict, s: Shape) -> Built:
    return (f"own.Twice(nn.Linear({s[0]}, {s[0]}))", s) if len(s) == 1 else None


def _around(text: str) -> Callable[[Layer, dict, Shape], Built]:
    return lambda layer, o, s: (text.format(**o), s)


YES_NO = (True, False)
LAYERS: dict[str, Kind] = {
    "linear": Kind(_linear, {"out": (1, 2, 3, 5, 8, 17, 64), "bias": (True, True, False)}),
    "conv": Kind(
        _conv,
        {
            "out": (1, 2, 3, 4, 8, 16, 20),
            "kernel": (1, 2, 3, 3, 5),
            "stride": (1, 1, 2),
            "padding": (0, 1),
            "dilation": (1, 1, 1, 2),
            "groups": ("one", "one", "one", "two", "each"),
            "bias": (True, True, False),
        },
    ),
    "max pool": Kind(_pool("MaxPool2d"), {"kernel": (2, 2, 3), "stride": (1, 2, 2), "padding": (0, 0, 1)}),
    "average pool": Kind(_pool("AvgPool2d"), {"kernel": (2, 2, 3), "stride": (1, 2, 2), "padding": (0, 0, 1)}),
    "batch norm": Kind(_batch_norm, {"affine": (True, True, False), "momentum": (0.1, 0.5)}),
    "dropout": Kind(_same("nn.Dropout({p})"), {"p": (0.5, 0.2, 0.0, 1.0)}),
    "activation": Kind(_around("nn.{name}()"), {"name": ("ReLU", "ReLU", "Tanh", "Sigmoid", "LeakyReLU")}),
    "softmax": Kind(_around("nn.{name}(dim=1)"), {"name": ("Softmax", "LogSoftmax")}),
    "flatten": Kind(_flatten),
    "identity": Kind(_around("nn.Identity()")),
    "nest": Kind(_nest, holds=True),
    "residual": Kind(_residual, holds=True),
    "twice": Kind(_twice),
    "own op": Kind(_around("own.Applied({op})"), {"op": ("own.Swish()", "own.Swish(2)", "own.Scale(2)", "own.Scale(0.5)", "own.Power(2)")}),
    "counting": Kind(_around("own.Counting()")),
}


# Losses: text -> what the target is: "labels", "like" (numbers of the output's shape), "binary" or "probabilities".
LOSSES: dict[str, str] = {
    "nn.CrossEntropyLoss()": "labels",
    "nn.CrossEntropyLoss(weight=np.array([0.5, 2.0, 1.0], {dtype!r}))": "labels",
    "nn.CrossEntropyLoss(ignore_index=1)": "labels",
    "nn.CrossEntropyLoss(label_smoothing=0.1)": "labels",
    'nn.CrossEntropyLoss(reduction="sum", label_smoothing=0.2)': "labels",
    "nn.CrossEntropyLoss( )": "probabilities",
    "lambda y, t: nn.NLLLoss()(y.log_softmax(1), t)": "labels",
    "lambda y, t: nn.NLLLoss(weight=np.array([1.0, 0.0, 2.0], {dtype!r}), ignore_index=2)(F.log_softmax(y, dim=1), t)": "labels",
    'lambda y, t: F.cross_entropy(y, t, reduction="none").mean()': "labels",
    "nn.MSELoss()": "like",
    'nn.MSELoss(reduction="sum")': "like",
    "nn.L1Loss()": "like",
    "lambda y, t: ((y - t) ** 2).mean()": "like",
    "lambda y, t: (y - t).abs().amax() + (y * y).mean()": "like",
    "nn.BCEWithLogitsLoss()": "binary",
    "nn.BCEWithLogitsLoss(pos_weight=np.array([1.0, 2.0, 0.5], {dtype!r}))": "binary",
}

# Optimizers of parameters {p}.
OPTIMIZERS: tuple[str, ...] = (
    "optim.SGD({p}, lr=0.1)",
    "optim.SGD({p}, lr=0.1, momentum=0.9)",
    "optim.SGD({p}, lr=0.05, momentum=0.9, weight_decay=0.01)",
    "optim.SGD({p}, lr=0.05, momentum=0.5, nesterov=True)",
    "optim.SGD({p}, lr=0.05, momentum=0.5, dampening=0.3)",
    "optim.SGD({p}, lr=0.1, weight_decay=0.1)",
    "optim.Adam({p}, lr=0.01)",
    "optim.Adam({p}, lr=0.01, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1)",
    "optim.AdamW({p}, lr=0.01)",
    "optim.AdamW({p}, lr=0.02, weight_decay=0.3)",
    "own.Own({p}, own.SignUpdate(), lr=0.01)",
    "own.Own({p}, own.Pull(0.3))",
    "own.Own({p}, own.Pull(2))",
    "own.Own({p}, own.LayerNormUpdate())",
    "own.ByHand({p})",
)
PARAMETERS: tuple[str, ...] = (
    "model.parameters()",
    "model.parameters()",
    "list(model.parameters())",
    "[{'params': list(model.parameters())[::2], 'lr': 0.03}, {'params': list(model.parameters())[1::2] or [Parameter(np.ones(1))]}]",
    "model.named_parameters()",
    "list(model.parameters())[1:] or model.parameters()",
)
SCHEDULES: tuple[str, ...] = (
    "optim.lr_scheduler.StepLR(optimizer, 2, 0.5)",
    "optim.lr_scheduler.ExponentialLR(optimizer, 0.8)",
    "optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)",
    "optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (1 + t))",
)

# What a user does between two calls, with the namespace w of the model and the optimizer.
CHANGES: tuple[str, ...] = (
    "w.model.eval()",
    "w.model.train()",
    "w.optimizer.param_groups[0]['lr'] *= 0.5",
    "w.optimizer.param_groups[-1]['weight_decay'] = 0.2",
    "own.first(w.model).requires_grad_(False)",
    "own.first(w.model).requires_grad_(True)",
    "w.model.requires_grad_(False); own.last(w.model).requires_grad_(True)",
    "w.model.load_state_dict(w.saved)",
    "w.kept = own.copied(w.optimizer.state_dict())",
    "w.optimizer.load_state_dict(own.copied(w.optimizer.state_dict()))",
    "w.optimizer.state.clear()",
    "own.first(w.model).data = own.first(w.model).array * 0.5",
    "own.first(w.model).array[...] *= 0.5",
    "own.last(w.model).grad = None",
    "w.model.zero_grad()",
    "w.optimizer.param_groups[0]['params'].pop()",
    "w.model.append(nn.Tanh())",
    "own.every(w.model, nn.Dropout, p=0.3)",
    "own.every(w.model, (nn.BatchNorm1d, nn.BatchNorm2d), momentum=0.3)",
    "own.every(w.model, nn.Module, training=False)",
)
