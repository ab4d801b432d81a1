"""Programs that were wrong once, as the fuzzer left them when it had made them small. Each stays right.

A row is what `python -m tests.fuzz` prints behind `# row:`, with a name that says what was wrong.
"""

from __future__ import annotations

from tests.fuzz.expressions import Call, Expression, Input, Line
from tests.fuzz.networks import Call as Batch
from tests.fuzz.networks import Network

TWICE = (Call(0), Call(1))
SGD = "optim.SGD({p}, lr=0.1)"


def expression(text: str, *inputs: Input, how: str = "", **options: object) -> Expression:
    """The value of one line, with the gradient of its sum if `how` says so."""
    outputs, losses = ("v",), (("{0}.sum()", "v"),) if how else ()
    names = tuple(i.name for i in inputs)
    lines = (Line("v", text, names),)
    return Expression(inputs, lines, outputs, TWICE, losses, how, **options)  # type: ignore[arg-type]


def written(statement: str, *inputs: Input, **options: object) -> Expression:
    """What a statement leaves in its operands, and their sum."""
    names = tuple(i.name for i in inputs)
    lines = (Line("", statement, names), Line("v", " + ".join(f"{{{k}}}.sum()" for k in range(len(names))), names))
    return Expression(inputs, lines, ("v",), TWICE, **options)  # type: ignore[arg-type]


def network(optimizer: str = SGD, *, loss: str = "nn.CrossEntropyLoss()", shape: tuple[int, ...] = (2,), **options: object) -> Network:
    """A layer that is trained for two steps."""
    calls = (Batch(0, 2), Batch(1, 2))
    return Network((), shape, "float64", loss, optimizer, "model.parameters()", calls, **options)  # type: ignore[arg-type]


FOUND: dict[str, Expression | Network] = {
    "two settings of one class": expression("own.Scale(2)({0}) + own.Scale(0.25)({0})", Input("a", (2,))),
    "two settings of one class of the books' form": expression("own.Power(2)({0}) + own.Power(3)({0})", Input("a", (2,))),
    "a mean over an axis of length 1": expression("({0}.mean(0, keepdim=True)**2 + 0.1).sqrt()", Input("a", (1, 2))),
    "a difference of infinities": expression("({0} + {1}) - ({0} + {1})", Input("a", (3,), kind="special"), Input("b", (3,))),
    "a maximum loses nan": expression("np.maximum({0}, 0.5)", Input("a", (8,), kind="special")),
    "the smallest of nan": expression("{0}.amin(None, keepdim=True)", Input("a", (2, 2, 2), kind="special")),
    "a mask times nan": expression("({0} > 0) * {0}", Input("a", (8,), kind="special")),
    "the complement of integers": expression("~{0}", Input("a", (3,), "int32")),
    "sums of booleans": expression("{0} + {0}", Input("a", (3,), "bool")),
    "a mean of nothing": expression("{0}.mean()", Input("a", (1, 0), grad=True), how="grad"),
    "an element of an argument is written": written("with mulgil.no_grad(): {0}[0] = {0}[-1] * 2", Input("a", (3,))),
    "an argument is added to": written("with mulgil.no_grad(): {0}.add_(1)", Input("a", (3,))),
    "a view of a state is written": written("with mulgil.no_grad(): {0}[1:].fill_(2)", Input("s", (3,), role="state")),
    "a result that is an argument": expression("{0}", Input("a", (1,), grad=True)),
    "keywords": expression("{0} * 2", Input("a", (1,)), passing="keywords"),
    "one tensor for two arguments": Expression(
        (Input("a", (2,)), Input("b", (2,))),
        (Line("v", "{0} - 2 * {1}", ("a", "b")),),
        ("v",),
        (Call(0, twice=(("b", "a"),)), Call(1)),
    ),
    "another axis": expression("{0}.sum({1})", Input("a", (2, 3)), Input("n", kind="0|1", role="static")),
    "another slice": expression("{0}[{1}]", Input("a", (4,)), Input("n", kind="slice(None, None, 2)|slice(1, None)", role="static")),
    "gradients of arguments": expression("{0} * {0}", Input("a", (2,), grad=True), how="backward"),
    "gradients of gradients, inside": expression("{0} * {0}", Input("a", (2,), grad=True), how="second"),
    "a graph of which a part was walked inside": expression(
        "({0} * {0} * {0}).exp().mean()", Input("a", (3,), grad=True), how="second"
    ),
    "sums of the rows of images that are less than a vector": expression(
        "F.conv2d({0}, {1}, padding=1).var(3).square()",
        Input("a", (2, 2, 1, 5)),
        Input("b", (2, 2, 2, 2), grad=True),
        how="backward",
    ),
    "as many elements as a mask has": expression("({0}[{0} > 0] * 2 + 1).sum()", Input("a", (5,))),
    "a rule from outside": network("own.Own({p}, own.SignUpdate(), lr=0.01)"),
    "a rule with settings": network("own.Own({p}, own.Pull(2))"),
    "a rule that is not elementwise": network("own.Own({p}, own.LayerNormUpdate())"),
    "an optimizer of tensors": network("own.ByHand({p})"),
    "gradients that a step leaves": network(),
    "gradients that add up": network(zero=""),
    "momentum without a dampened start": network("optim.SGD({p}, lr=0.05, momentum=0.5, dampening=0.3)"),
    "a schedule inside": network("own.Own({p}, own.Pull(0.3))", schedule="optim.lr_scheduler.ExponentialLR(optimizer, 0.8)"),
    "values clipped": network(clip="nn.utils.clip_grad_value_(model.parameters(), 0.05)"),
    "float16": Network((), (2,), "float16", "nn.MSELoss()", "optim.Adam({p}, lr=0.01)", "model.parameters()", (Batch(0, 2), Batch(1, 2))),
}
