"""Functions in PyTorch's form: the same class body, run by mulgil and by PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import mulgil
from mulgil import Function, gradcheck
from mulgil.errors import DTypeError, GradientError, OptionError


def bodies(base):
    """The classes, over mulgil's Function or PyTorch's."""

    class Exp(base):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, gy):
            (y,) = ctx.saved_tensors
            return gy * y

    class Power(base):
        @staticmethod
        def forward(ctx, x, n, name="unused"):
            ctx.save_for_backward(x, None)
            ctx.n = n
            assert name == "unused"
            return x**n

        @staticmethod
        def backward(ctx, gy):
            x, nothing = ctx.saved_tensors
            assert nothing is None
            return gy * ctx.n * x ** (ctx.n - 1), None, None

    class Product(base):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a @ b, a.sum()

        @staticmethod
        def backward(ctx, gy, gtotal):
            a, b = ctx.saved_tensors
            ga = gy @ b.t() + gtotal if ctx.needs_input_grad[0] else None
            return ga, a.t() @ gy if ctx.needs_input_grad[1] else None

    class Sorted(base):
        @staticmethod
        def forward(ctx, x):
            mask = x > 0
            ctx.mark_non_differentiable(mask)
            ctx.mask = mask
            return x * 2, mask

        @staticmethod
        def backward(ctx, gy, _):
            return gy * 2 * ctx.mask

    class Later(base):
        @staticmethod
        def forward(x, factor):
            return x * factor

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.factor = inputs[1]

        @staticmethod
        def backward(ctx, gy):
            return gy * ctx.factor, None

    class Same(base):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, gy):
            return gy * 3

    return locals()


CALLS = {
    "Exp": lambda F, x, w: F.apply(x),
    "Power": lambda F, x, w: F.apply(x, 3),
    "Product": lambda F, x, w: F.apply(x, w)[0],
    "Sorted": lambda F, x, w: F.apply(x)[0],
    "Later": lambda F, x, w: F.apply(x, 2.5),
    "Same": lambda F, x, w: F.apply(x),
}
X, W = np.array([[0.3, -0.7], [1.1, 0.4]]), np.array([[1.0, 0.5], [-0.2, 2.0]])


@pytest.mark.parametrize("name", CALLS)
def test_a_function_in_pytorchs_form_does_what_it_does_there(name):
    torch = pytest.importorskip("torch")
    x, w = mulgil.tensor(X, requires_grad=True), mulgil.tensor(W, requires_grad=True)
    a, b = torch.tensor(X, requires_grad=True), torch.tensor(W, requires_grad=True)
    y = CALLS[name](bodies(Function)[name], x, w)
    z = CALLS[name](bodies(torch.autograd.Function)[name], a, b)
    np.testing.assert_allclose(y.numpy(), z.detach().numpy())
    (y * y).sum().backward()
    (z * z).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), a.grad.numpy())
    assert (w.grad is None) == (b.grad is None)
    if w.grad is not None:
        np.testing.assert_allclose(w.grad.numpy(), b.grad.numpy())


@pytest.mark.parametrize("name", ["Exp", "Power", "Product", "Later"])
def test_second_derivatives(name):
    F = bodies(Function)[name]
    x, w = mulgil.tensor(X, requires_grad=True), mulgil.tensor(W, requires_grad=True)
    assert gradcheck(lambda x, w: CALLS[name](F, x, w), [x, w])
    assert gradcheck(lambda x, w: mulgil.grad((CALLS[name](F, x, w) ** 2).sum(), [x], create_graph=True)[0], [x, w])


@pytest.mark.parametrize("name", CALLS)
def test_a_compiled_step_equals_eager(name):
    F = bodies(Function)[name]

    def step(x, w):
        return (CALLS[name](F, x * 1.5, w) ** 2).sum()

    def gradients(x, w):
        return mulgil.grad(step(x, w), [x, w], allow_unused=True)[0]

    compiled = mulgil.compile(gradients)
    rng = np.random.default_rng(0)
    for _ in range(4):
        x, w = (mulgil.tensor(rng.standard_normal((2, 2)), requires_grad=True) for _ in range(2))
        np.testing.assert_allclose(compiled(x, w).numpy(), gradients(x, w).numpy(), rtol=1e-12)


def test_what_forward_computes_in_python_is_computed_anew_when_compiled():
    class Scaled(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.scale = float(np.abs(x.numpy()).max())
            return x / ctx.scale

        @staticmethod
        def backward(ctx, gy):
            return gy / ctx.scale

    def gradient(x):
        return mulgil.grad(Scaled.apply(x * 2).sum(), x)[0]

    compiled = mulgil.compile(gradient)
    for scale in (1.0, 3.0, 0.5):
        x = mulgil.tensor(X * scale, requires_grad=True)
        np.testing.assert_allclose(compiled(x).numpy(), gradient(x).numpy())


def test_outputs_that_nobody_used_and_marks():
    x = mulgil.tensor(X, requires_grad=True)
    y, total = bodies(Function)["Product"].apply(x, mulgil.tensor(W))
    total.backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.ones((2, 2)))  # gy came as zeros
    y, mask = bodies(Function)["Sorted"].apply(x)
    assert y.requires_grad and not mask.requires_grad


def test_wrong_forms_are_told():
    class Short(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x * y

        @staticmethod
        def backward(ctx, gy):
            return gy

    class Number(Function):
        @staticmethod
        def forward(ctx, x):
            return 3.0

    x = mulgil.tensor(X, requires_grad=True)
    with pytest.raises(GradientError, match="for each argument"):
        Short.apply(x, x).sum().backward()
    with pytest.raises(OptionError, match="forward returns a Tensor"):
        Number.apply(x)
    with pytest.raises(DTypeError, match="at least one argument"):
        Short.apply(1.0, 2.0)


def test_apply_serves_every_form():
    class Twice(Function):
        def forward(self, ctx, x):
            return 2 * x

        def backward(self, ctx, gy):
            return 2 * gy

    x = mulgil.tensor(X, requires_grad=True)
    Twice.apply(x).sum().backward()
    assert (x.grad.numpy() == 2).all()
    assert bodies(Function)["Exp"]()(x).requires_grad  # an instance may be called, too
