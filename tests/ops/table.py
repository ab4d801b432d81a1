"""One row an op: what it is called with, and what PyTorch calls the same thing. Every check of `test_ops.py` reads these rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np

from mulgil.backend import Generator
from mulgil.ops import conv, elementwise, guard, linalg, loss, mathematics, norm, pool, random, reduce, shape, update
from mulgil.ops.function import Function


@dataclass
class Row:
    """An op with inputs for it.

    Attributes:
        op: makes the op (random ops need a fresh generator at each call).
        inputs: shapes of float inputs drawn from a normal distribution, or ready arrays (integers and booleans get no gradient).
        oracle: the same on PyTorch tensors; None where PyTorch has no such function.
        draw: maps normal numbers to the op's domain ("positive", "distinct" for ops with ties or kinks).
        gradient: whether the op has one.
    """

    name: str
    op: Callable[[], Function]
    inputs: tuple[Any, ...]
    oracle: Callable | None = None
    draw: str = "normal"
    gradient: bool = True
    twice: bool = True
    first_outputs: int | None = None  # compare only so many outputs with the oracle
    tags: set[str] = field(default_factory=set)

    def arrays(self, dtype: Any, seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        made = []
        for spec in self.inputs:
            if isinstance(spec, np.ndarray):
                made.append(spec if spec.dtype.kind in "iub" else spec.astype(dtype))
                continue
            values = rng.standard_normal(spec)
            if self.draw == "positive":
                values = np.abs(values) + 0.5
            elif self.draw == "distinct":  # far from ties and kinks, so that finite differences do not cross them
                values = rng.permutation(np.arange(values.size)).reshape(spec) * 0.37 - 0.18 * values.size + 0.1 + 0.03 * len(made)
            made.append(np.asarray(values, dtype))
        return made


def labels(*shape: int, classes: int = 5, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, shape)


def probabilities(*shape: int) -> np.ndarray:
    p = np.random.default_rng(5).random(shape) + 0.1
    return p / p.sum(axis=1, keepdims=True)


def torch():
    import torch

    return torch


def F():
    import torch.nn.functional

    return torch.nn.functional


def product(x, dims, keep):
    """PyTorch's product, which takes one axis, over several."""
    dims = sorted((d % x.ndim for d in (dims if isinstance(dims, tuple) else (dims,))), reverse=True)
    for d in dims:
        x = x.prod(d, keepdim=keep)
    return x


PAIRS = [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3))]
ROWS: list[Row] = []


def row(name: str, op: Function | Callable[[], Function], *inputs: Any, **options: Any) -> None:
    ROWS.append(Row(name, (lambda: op) if isinstance(op, Function) else op, inputs, **options))


for i, pair in enumerate(PAIRS):
    row(f"add{i}", elementwise.Add(), *pair, oracle=lambda a, b: a + b)
    row(f"sub{i}", elementwise.Sub(), *pair, oracle=lambda a, b: a - b)
    row(f"mul{i}", elementwise.Mul(), *pair, oracle=lambda a, b: a * b)
    row(f"div{i}", elementwise.Div(), *pair, oracle=lambda a, b: a / b, draw="positive")
    row(f"pow{i}", elementwise.Pow(), *pair, oracle=lambda a, b: a**b, draw="positive")
    row(f"maximum{i}", elementwise.Maximum(), *pair, oracle=lambda a, b: torch().maximum(a, b), draw="distinct")
    row(f"minimum{i}", elementwise.Minimum(), *pair, oracle=lambda a, b: torch().minimum(a, b), draw="distinct")
for sign in ("==", "!=", "<", "<=", ">", ">="):
    row(f"compare{sign}", elementwise.Compare(sign), (3, 4), (4,), oracle=lambda a, b, s=sign: elementwise.SIGNS[s](a, b), gradient=False)
for sign in "&|^":
    masks = (np.array([True, True, False, False]), np.array([True, False, True, False]))
    row(f"bitwise{sign}", elementwise.Compare(sign), *masks, oracle=lambda a, b, s=sign: elementwise.SIGNS[s](a, b), gradient=False)
row("invert", elementwise.Invert(), np.array([True, False]), oracle=lambda a: ~a, gradient=False)
row("floordiv", elementwise.FloorDiv(), (3, 4), (4,), oracle=lambda a, b: a // b, gradient=False, draw="positive")
row("remainder", elementwise.Remainder(), (3, 4), (4,), oracle=lambda a, b: a % b, draw="positive")
for name, made, domain in [
    ("neg", elementwise.Neg, "normal"),
    ("exp", mathematics.Exp, "normal"),
    ("log", mathematics.Log, "positive"),
    ("log1p", mathematics.Log1p, "positive"),
    ("sqrt", mathematics.Sqrt, "positive"),
    ("sin", mathematics.Sin, "normal"),
    ("cos", mathematics.Cos, "normal"),
    ("abs", mathematics.Abs, "distinct"),
    ("tanh", mathematics.Tanh, "normal"),
    ("sigmoid", mathematics.Sigmoid, "normal"),
    ("relu", mathematics.ReLU, "distinct"),
]:
    for k, size in enumerate([(3, 4), (), (2, 0, 3), (5,)]):
        row(f"{name}{k}", made(), size, oracle=lambda x, n=name: getattr(torch(), n)(x), draw=domain)
for name in ("sign", "floor", "ceil", "trunc", "round"):
    row(name, getattr(mathematics, name.title())(), (3, 4), oracle=lambda x, n=name: getattr(torch(), n)(x))
for name, made in [("isnan", mathematics.IsNan), ("isinf", mathematics.IsInf), ("isfinite", mathematics.IsFinite)]:
    row(name, made(), (3, 4), oracle=lambda x, n=name: getattr(torch(), n)(x), gradient=False)
row("leaky_relu", mathematics.LeakyReLU(0.2), (3, 4), oracle=lambda x: F().leaky_relu(x, 0.2), draw="distinct")
row("clip", elementwise.Clip(-1.0, 1.5), (3, 4), oracle=lambda x: x.clip(-1.0, 1.5), draw="distinct")
row("clip_low", elementwise.Clip(0.0, None), (3, 4), oracle=lambda x: x.clip(min=0.0), draw="distinct")
row("clamp", elementwise.Clamp(), (3, 4), (4,), (3, 1), oracle=lambda x, low, high: x.clamp(low, high), draw="distinct")
row("where", elementwise.Where(), np.array([[True, False, True]]), (2, 3), (3,), oracle=lambda c, a, b: torch().where(c, a, b))
row("copy", elementwise.Copy(), (3, 4), oracle=lambda x: x.clone())
row("fill", elementwise.Fill(2.0), (3, 4), oracle=lambda x: torch().full_like(x, 2.0), gradient=False)
row("cast", elementwise.Cast("<f8"), (3, 4), oracle=lambda x: x.double(), tags={"changes dtype"})

for axis in (None, 0, -1, (0, 2), (1, -1)):
    for keep in (False, True):
        label = f"{axis}{'k' if keep else ''}"
        dims = tuple(range(3)) if axis is None else axis
        row(f"sum{label}", reduce.Sum(axis, keep), (2, 3, 4), oracle=lambda x, d=dims, k=keep: x.sum(d, keepdim=k))
        row(f"prod{label}", reduce.Prod(axis, keep), (2, 3, 4), oracle=lambda x, d=dims, k=keep: product(x, d, k))
        row(f"mean{label}", reduce.Mean(axis, keep), (2, 3, 4), oracle=lambda x, d=dims, k=keep: x.mean(d, keepdim=k))
        row(f"max{label}", reduce.Max(axis, keep), (2, 3, 4), oracle=lambda x, d=dims, k=keep: x.amax(d, keepdim=k), draw="distinct")
        row(f"min{label}", reduce.Min(axis, keep), (2, 3, 4), oracle=lambda x, d=dims, k=keep: x.amin(d, keepdim=k), draw="distinct")
        row(f"var{label}", reduce.Var(axis, keep, 1), (2, 3, 4), oracle=lambda x, d=dims, k=keep: x.var(d, keepdim=k))
        row(f"std{label}", reduce.Std(axis, keep, 0), (2, 3, 4), oracle=lambda x, d=dims, k=keep: x.std(d, correction=0, keepdim=k))
        row(f"logsumexp{label}", reduce.LogSumExp(axis, keep), (2, 3, 4), oracle=lambda x, d=dims, k=keep: x.logsumexp(d, keepdim=k))
for axis in (None, 0, -1):
    row(f"argmax{axis}", reduce.Query(axis, False, "argmax"), (3, 4), oracle=lambda x, d=axis: x.argmax(d), gradient=False)
    row(f"argmin{axis}", reduce.Query(axis, False, "argmin"), (3, 4), oracle=lambda x, d=axis: x.argmin(d), gradient=False)
for axis, index in ((0, [[0, 2, 1], [2, 2, 0]]), (-1, [[1], [0], [2]])):
    gathered = np.array(index)
    row(f"gather{axis}", reduce.Gather(axis), (3, 3), gathered, oracle=lambda x, i, d=axis: x.gather(d, i))
    row(f"gather_gradient{axis}", reduce.GatherGradient(axis, 3), gathered.shape, gathered)
row("all", reduce.Query(0, False, "all"), np.array([[True, False], [True, True]]), oracle=lambda x: x.all(0), gradient=False)
row("any", reduce.Query(1, False, "any"), np.array([[False, False], [True, False]]), oracle=lambda x: x.any(1), gradient=False)
for axis in (0, 1, -1):
    row(f"softmax{axis}", reduce.Softmax(axis), (2, 3, 4), oracle=lambda x, d=axis: x.softmax(d))
    row(f"log_softmax{axis}", reduce.LogSoftmax(axis), (2, 3, 4), oracle=lambda x, d=axis: x.log_softmax(d))

row("reshape", shape.Reshape((4, -1)), (2, 3, 4), oracle=lambda x: x.reshape(4, -1))
row("transpose", shape.Transpose((2, 0, 1)), (2, 3, 4), oracle=lambda x: x.permute(2, 0, 1))
row("transpose_negative", shape.Transpose((-1, 0, 1)), (2, 3, 4), oracle=lambda x: x.permute(2, 0, 1))
row("expand", shape.Expand((5, 3, 4)), (3, 1), oracle=lambda x: x.expand(5, 3, 4))
row("sum_to", shape.SumTo((3, 1)), (2, 3, 4), oracle=lambda x: x.sum((0, 2)).reshape(3, 1))
row("concatenate0", shape.Concatenate(0), (2, 3), (1, 3), (4, 3), oracle=lambda *xs: torch().cat(xs, 0))
row("concatenate-1", shape.Concatenate(-1), (2, 3), (2, 1), oracle=lambda *xs: torch().cat(xs, -1))
row("pad", shape.Pad(((0, 0), (1, 2), (3, 0)), 0.5), (2, 3, 4), oracle=lambda x: F().pad(x, (3, 0, 1, 2), value=0.5))
row("move", shape.Move("cpu"), (2, 3), oracle=lambda x: x)
INDEXES: list[tuple[str, tuple, tuple[np.ndarray, ...]]] = [
    ("int", (1,), ()),
    ("slice", (slice(None, None, 2), slice(1, 3)), ()),
    ("ellipsis", (..., 0), ()),
    ("newaxis", (None, 0), ()),
    ("array", (shape.SLOT,), (np.array([2, 0, 2]),)),
    ("arrays", (shape.SLOT, shape.SLOT), (np.array([0, 2]), np.array([1, 1]))),
    ("mixed", (slice(None), shape.SLOT), (np.array([[0, 3], [3, 3]]),)),
    ("mask", (shape.SLOT,), (np.array([True, False, True]),)),
    ("negative", (shape.SLOT, -1), (np.array([-1, 0]),)),
]
for name, key, given in INDEXES:

    def look_up(x, *arrays, key=key):
        given = iter(arrays)
        return x[tuple(next(given) if part is shape.SLOT else part for part in key)]

    row(f"index_{name}", shape.Index(key), (3, 4, 2), *given, oracle=look_up)
    result = np.zeros((3, 4, 2))[shape.filled(key, given)].shape
    row(f"scatter_{name}", shape.Scatter(key, (3, 4, 2)), result, *given)

for i, (a, b) in enumerate(
    [
        ((4,), (4,)),
        ((3, 4), (4, 5)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((2, 3, 4), (4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((4,), (2, 4, 3)),
        ((2, 3, 4), (4,)),
    ]
):
    row(f"matmul{i}", linalg.MatMul(), a, b, oracle=lambda a, b: a @ b)
row("affine", linalg.Affine(), (5, 4), (3, 4), (3,), oracle=lambda *t: F().linear(*t))
row("affine_no_bias", linalg.Affine(), (5, 4), (3, 4), oracle=lambda *t: F().linear(*t))
row("affine_3d", linalg.Affine(), (2, 5, 4), (3, 4), (3,), oracle=lambda *t: F().linear(*t))
row("affine_1d", linalg.Affine(), (4,), (3, 4), (3,), oracle=lambda *t: F().linear(*t))

CONVOLUTIONS = [
    ((2, 3, 7, 8), (4, 3, 3, 3), {}),
    ((2, 3, 7, 8), (4, 3, 3, 2), {"stride": (2, 1), "padding": (1, 0)}),
    ((2, 3, 9, 8), (4, 3, 3, 3), {"dilation": (2, 2), "padding": (2, 1)}),
    ((2, 4, 7, 7), (6, 2, 3, 3), {"groups": 2, "stride": (2, 2), "padding": (1, 1)}),
    ((2, 4, 6, 6), (4, 1, 3, 3), {"groups": 4}),
    ((1, 1, 5, 5), (1, 1, 1, 1), {"stride": (3, 3)}),
    ((2, 2, 4, 4), (3, 2, 2, 2), {"padding": (3, 3)}),
    ((2, 2, 8, 8), (3, 2, 3, 3), {"stride": (3, 3)}),
]
for i, (x, w, settings) in enumerate(CONVOLUTIONS):
    made_conv = conv.Conv2d(**settings)
    row(f"conv2d{i}", made_conv, x, w, (w[0],), oracle=lambda x, w, b, s=settings: F().conv2d(x, w, b, **s))
    row(f"conv2d_no_bias{i}", made_conv, x, w, oracle=lambda x, w, s=settings: F().conv2d(x, w, **s))
    y = made_conv(np.zeros(x), np.zeros(w)).shape
    row(f"conv2d_input_gradient{i}", conv.Conv2dInputGradient(*astuple(made_conv)[:4], x[2:]), y, w)
    row(f"conv2d_weight_gradient{i}", conv.Conv2dWeightGradient(*astuple(made_conv)[:4], w[2:]), x, y)

POOLS = [((2, 2), (2, 2), (0, 0)), ((3, 2), (2, 1), (1, 0)), ((3, 3), (1, 1), (1, 1)), ((2, 2), (3, 3), (0, 0))]
for i, (kernel, stride, padding) in enumerate(POOLS):
    row(
        f"max_pool2d{i}",
        pool.MaxPool2d(kernel, stride, padding),
        (2, 3, 7, 6),
        oracle=lambda x, a=(kernel, stride, padding): F().max_pool2d(x, *a),
        draw="distinct",
    )
    row(
        f"avg_pool2d{i}",
        pool.AvgPool2d(kernel, stride, padding),
        (2, 3, 7, 6),
        oracle=lambda x, a=(kernel, stride, padding): F().avg_pool2d(x, *a),
    )
    row(
        f"avg_pool2d_inside{i}",
        pool.AvgPool2d(kernel, stride, padding, count_include_pad=False),
        (2, 3, 7, 6),
        oracle=lambda x, a=(kernel, stride, padding): F().avg_pool2d(x, *a, count_include_pad=False),
    )
    size = pool.MaxPool2d(kernel, stride, padding).out((7, 6))
    winner = np.random.default_rng(1).integers(0, kernel[0] * kernel[1], (2, 3, *size))
    if padding == (0, 0):
        row(f"max_pool2d_gradient{i}", pool.MaxPool2dGradient(kernel, stride, padding, size=(7, 6)), (2, 3, *size), winner)
        row(f"max_pool2d_pick{i}", pool.MaxPool2dPick(kernel, stride, padding), (2, 3, 7, 6), winner)
    row(f"avg_pool2d_gradient{i}", pool.AvgPool2dGradient(kernel, stride, padding, size=(7, 6)), (2, 3, *size))
row(
    "max_pool2d_dilated",
    pool.MaxPool2d((2, 2), (1, 1), dilation=(2, 2)),
    (2, 3, 7, 6),
    oracle=lambda x: F().max_pool2d(x, 2, 1, dilation=2),
    draw="distinct",
)

row(
    "batch_norm",
    norm.BatchNorm(1e-5),
    (6, 3),
    (3,),
    (3,),
    oracle=lambda x, w, b: F().batch_norm(x, None, None, w, b, training=True),
    first_outputs=1,
)
row(
    "batch_norm_images",
    norm.BatchNorm(1e-5),
    (2, 3, 4, 5),
    (3,),
    (3,),
    oracle=lambda x, w, b: F().batch_norm(x, None, None, w, b, training=True),
    first_outputs=1,
)
STATISTICS = (np.array([0.1, -0.2, 0.3]), np.array([1.5, 0.7, 2.0]))
row(
    "batch_norm_inference",
    norm.BatchNormInference(1e-5),
    (6, 3, 2),
    (3,),
    (3,),
    *STATISTICS,
    oracle=lambda x, w, b, m, v: F().batch_norm(x, m.detach(), v.detach(), w, b),
    tags={"statistics"},
)
KEEP = np.arange(20).reshape(4, 5) % 3 > 0
for p in (0.0, 0.3, 1.0):
    row(f"keep{p}", lambda p=p: random.Keep(p, Generator(1)), (4, 5), gradient=False, tags={"random"})
    row(f"dropout{p}", random.Dropout(p), (4, 5), KEEP, oracle=lambda x, keep, p=p: x * keep / (1 - p) if p < 1 else x * 0)

WEIGHT = np.array([0.5, 2.0, 1.0, 0.0, 3.0])
for mode in ("mean", "sum", "none"):
    for smoothing in (0.0, 0.1):
        options = {"reduction": mode, "label_smoothing": smoothing}
        row(
            f"cross_entropy_{mode}{smoothing}",
            loss.CrossEntropy(**options),
            (6, 5),
            labels(6),
            oracle=lambda x, t, o=options: F().cross_entropy(x, t, **o),
        )
        row(
            f"cross_entropy_images_{mode}{smoothing}",
            loss.CrossEntropy(**options),
            (2, 5, 3),
            labels(2, 3),
            oracle=lambda x, t, o=options: F().cross_entropy(x, t, **o),
        )
        row(
            f"cross_entropy_weight_{mode}{smoothing}",
            loss.CrossEntropy(**options),
            (6, 5),
            labels(6),
            WEIGHT,
            oracle=lambda x, t, w, o=options: F().cross_entropy(x, t, w.detach(), **o),
            tags={"weight"},
        )
        row(
            f"cross_entropy_ignore_{mode}{smoothing}",
            loss.CrossEntropy(**options, ignore_index=2),
            (6, 5),
            labels(6),
            oracle=lambda x, t, o=options: F().cross_entropy(x, t, ignore_index=2, **o),
        )
        row(
            f"cross_entropy_soft_{mode}{smoothing}",
            loss.CrossEntropy(**options),
            (6, 5),
            probabilities(6, 5),
            oracle=lambda x, t, o=options: F().cross_entropy(x, t, **o),
        )
    padded = np.where(np.arange(6) % 3 == 0, -100, labels(6))
    row(
        f"cross_entropy_default_ignore_{mode}",
        loss.CrossEntropy(mode, label_smoothing=0.1),
        (6, 5),
        padded,
        oracle=lambda x, t, r=mode: F().cross_entropy(x, t, reduction=r, label_smoothing=0.1),
    )
    row(f"nll_{mode}", loss.NLL(mode), (6, 5), labels(6), oracle=lambda x, t, r=mode: F().nll_loss(x, t, reduction=r))
    row(
        f"nll_weight_{mode}",
        loss.NLL(mode),
        (6, 5),
        labels(6),
        WEIGHT,
        oracle=lambda x, t, w, r=mode: F().nll_loss(x, t, w.detach(), reduction=r),
        tags={"weight"},
    )
    row(f"mse_{mode}", loss.MSE(mode), (3, 4), (3, 4), oracle=lambda x, t, r=mode: F().mse_loss(x, t, reduction=r))
    row(
        f"bce_{mode}",
        loss.BCEWithLogits(mode),
        (3, 4),
        np.random.default_rng(2).random((3, 4)),
        oracle=lambda x, t, r=mode: F().binary_cross_entropy_with_logits(x, t, reduction=r),
    )
    row(
        f"bce_weight_{mode}",
        loss.BCEWithLogits(mode),
        (3, 2),
        np.random.default_rng(2).random((3, 2)),
        np.array([2.0, 0.5]),
        oracle=lambda x, t, w, r=mode: F().binary_cross_entropy_with_logits(x, t, pos_weight=w.detach(), reduction=r),
        tags={"weight"},
    )

UPDATES: list[tuple[str, Function, list]] = [
    ("guard", guard.Guard(1), [(), (3, 4)]),
    ("sgd", update.SGD(), [(3, 4), (3, 4), ()]),
    ("sgd_momentum", update.SGD(True, weight_decay=0.1), [(3, 4), (3, 4), (3, 4), (), ()]),
    ("sgd_nesterov", update.SGD(True, nesterov=True), [(3, 4), (3, 4), (3, 4), (), ()]),
    ("bias_correction", update.BiasCorrection(), [(), (), (), (), ()]),
    ("adam", update.Adam(weight_decay=0.1), [(3, 4), (3, 4), (3, 4), (3, 4), (), (), ()]),
    ("adamw", update.AdamW(), [(3, 4), (3, 4), (3, 4), (3, 4), (), (), (), ()]),
    ("lerp", update.Lerp(0.1), [(3,), (3,)]),
    ("assign", update.Assign(), [(3, 4), (3, 4)]),
    ("assign_row", update.Assign(), [(3, 4), ()]),
    ("assign_number", update.AssignNumber(2.5), [(3, 4)]),
    ("index_put", update.IndexPut((slice(0, 1),)), [(3, 4), ()]),
    ("increment", update.Increment(), [()]),
    ("scale", update.Scale(), [(3, 4), ()]),
    ("limit", update.Limit(0.6), [(3, 4)]),
]
