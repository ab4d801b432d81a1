"""The walk back: what arrives where, what is freed, and what is refused."""

from __future__ import annotations

import gc
import tracemalloc
import warnings
import weakref

import numpy as np
import pytest

import mulgil
from mulgil import Function, Tensor, cuda
from mulgil.errors import DTypeError, GradientError, OptionError, ShapeError


def leaf(*values: float) -> Tensor:
    return Tensor(list(values), requires_grad=True, dtype="float64")


def test_a_value_used_twice_gets_both_gradients():
    x = leaf(3.0)
    y = x * x
    (y * y + y).sum().backward()
    assert x.grad.tolist() == [4 * 27 + 6]


def test_gradients_accumulate_over_calls_until_cleared():
    x = leaf(1.0, 2.0)
    for _ in range(3):
        (x * 2).sum().backward()
    assert x.grad.tolist() == [6, 6]
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_two_leaves_never_share_one_gradient_array():
    a, b, c = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0, 6.0)
    seed = Tensor(np.ones(2))
    (a + b + c.reshape(2)).backward(seed)
    arrays = [a.grad.array, b.grad.array, c.grad.array, seed.array]
    assert not any(np.shares_memory(p, q) for i, p in enumerate(arrays) for q in arrays[:i])
    a.grad.mul_(0)
    assert b.grad.tolist() == c.grad.tolist() == seed.tolist() == [1, 1]


def test_a_chain_of_100_000_ops_does_not_recurse():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1
    y.sum().backward()
    assert x.grad.tolist() == [1]


def test_inner_gradients_are_not_kept_unless_asked_for():
    x = leaf(2.0)
    y, z = x * 3, x * 5
    z.retain_grad()
    (y * z).sum().backward()
    assert y.grad is None
    assert z.grad.tolist() == [6]


def test_hooks_see_and_replace_gradients_of_leaves_and_inner_tensors():
    x = leaf(2.0)
    y = x * 3
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    x.register_hook(lambda g: g * 10)
    (y * y).sum().backward()
    assert seen == [[12]]
    assert x.grad.tolist() == [360]
    x.grad = None
    remove = x.register_hook(lambda g: g * 0)
    remove()
    (x * 1).sum().backward()
    assert x.grad.tolist() == [10]


def test_detach_and_no_grad_cut_the_graph():
    x = leaf(2.0)
    (x * x.detach()).sum().backward()
    assert x.grad.tolist() == [2]
    with mulgil.no_grad():
        assert not (x * 2).requires_grad
        with mulgil.enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad
    with mulgil.no_autodiff, mulgil.no_autodiff:
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @mulgil.no_grad()
    def evaluated(x):
        return x * 2

    assert not evaluated(x).requires_grad
    assert evaluated.__name__ == "evaluated"


def test_no_grad_ends_with_an_exception():
    with pytest.raises(ZeroDivisionError), mulgil.no_grad():
        raise ZeroDivisionError
    assert mulgil.is_grad_enabled()


# ---- grad and higher derivatives


def test_grad_returns_gradients_of_leaves_and_inner_tensors_and_touches_nothing():
    x, w = leaf(2.0), leaf(5.0)
    y = x * w
    z = y * y
    gx, gy = mulgil.grad(z.sum(), [x, y])
    assert (gx.tolist(), gy.tolist()) == ([100], [20])
    assert x.grad is None
    assert w.grad is None


def test_grad_of_an_unrelated_input_is_an_error_or_none():
    x, other = leaf(2.0), leaf(1.0)
    with pytest.raises(GradientError, match="do not depend"):
        mulgil.grad((x * x).sum(), [other])
    assert mulgil.grad((x * x).sum(), [other], allow_unused=True) == (None,)


def test_derivatives_of_every_order():
    x = leaf(0.7)
    y = x.sin()
    for k in range(1, 6):
        (y,) = mulgil.grad(y.sum(), x, create_graph=True)
        assert float(y) == pytest.approx(np.sin(0.7 + k * np.pi / 2))


def test_backward_with_create_graph_leaves_a_differentiable_gradient():
    x = leaf(3.0)
    (x**3).sum().backward(create_graph=True)
    g = x.grad
    x.grad = None
    g.sum().backward()
    assert x.grad.tolist() == [18]


def test_gradient_penalty_through_a_network():
    rng = np.random.default_rng(0)
    x, w1, w2 = (Tensor(rng.standard_normal(s), requires_grad=True) for s in ((4, 3), (3, 5), (5, 1)))

    def penalty(x, w1, w2):
        (g,) = mulgil.grad((np.tanh(x @ w1) @ w2).sum(), x, create_graph=True)
        return (g * g).sum()

    assert mulgil.gradcheck(penalty, [x, w1, w2])


# ---- a user's own ops


def test_the_books_relu_with_a_mask_works_as_it_stands():
    class ReLU(Function):  # the text of the book, kept as it stands
        def forward(self, x):
            xp = cuda.get_array_module(x)
            y = xp.maximum(x, 0.0)
            return y  # noqa: RET504

        def backward(self, gy):
            (x,) = self.inputs
            mask = x.data > 0
            gx = gy * mask
            return gx  # noqa: RET504

    def relu(x):
        return ReLU()(x)

    x = leaf(-1.0, 0.0, 2.0)
    y = relu(x)
    assert y.tolist() == [0, 0, 2]
    y.backward(Tensor([1.0, 2.0, 3.0]))
    assert x.grad.tolist() == [0, 0, 3]
    assert mulgil.gradcheck(relu, leaf(-1.0, 0.5, 2.0))


def test_the_books_functions_find_their_outputs():
    class Tanh(Function):
        def forward(self, x):
            return np.tanh(x)

        def backward(self, gy):
            y = self.outputs[0]()
            return gy * (1 - y * y)

    x = leaf(0.3)
    assert mulgil.gradcheck(lambda x: Tanh()(x), x)
    (g,) = mulgil.grad(Tanh()(x).sum(), x, create_graph=True)
    (gg,) = mulgil.grad(g.sum(), x)
    t = np.tanh(0.3)
    assert float(gg) == pytest.approx(-2 * t * (1 - t * t))


class Square(Function):
    def forward(self, ctx, x):
        ctx.save(x)
        return x * x

    def backward(self, ctx, gy):
        (x,) = ctx.saved
        return 2 * x * gy


def test_a_function_with_a_context_works_and_differentiates_twice():
    x = leaf(3.0)
    (g,) = mulgil.grad(Square()(x).sum(), x, create_graph=True)
    (gg,) = mulgil.grad(g.sum(), x)
    assert (g.tolist(), gg.tolist()) == ([6], [2])


def test_a_second_derivative_through_a_saved_intermediate_is_a_clear_error():
    class Hidden(Function):
        def forward(self, ctx, x):
            ctx.save(x * 2)
            return x * x

        def backward(self, ctx, gy):
            return ctx.saved[0] * gy

    x = leaf(3.0)
    Hidden()(x).sum().backward()
    assert x.grad.tolist() == [6]
    with pytest.raises(GradientError, match="neither an input nor an output"):
        mulgil.grad(Hidden()(x).sum(), x, create_graph=True)


# ---- what is refused


def test_backward_of_several_numbers_needs_a_gradient():
    x = leaf(1.0, 2.0)
    with pytest.raises(GradientError, match=r"single number(.|\n)*tensor\[2\](.|\n)*mean"):
        (x * 2).backward()
    with pytest.raises(ShapeError, match="tensor's shape"):
        (x * 2).backward(Tensor([1.0, 2.0, 3.0]))


def test_backward_without_anything_to_reach():
    with pytest.raises(GradientError, match="does not depend on anything"):
        (Tensor([1.0]) * 2).backward()


def test_backward_twice_is_refused_unless_the_graph_is_retained():
    x = leaf(2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [8]
    with pytest.raises(GradientError, match=r"walked before(.|\n)*retain_graph=True"):
        y.backward()


def change_input(x, y):
    with mulgil.no_grad():
        x[0] = 9.0


def change_by_method(x, y):
    with mulgil.no_grad():
        x.add_(1.0)


def change_through_a_view(x, y):
    x.detach().reshape(-1)[0] = 9.0


@pytest.mark.parametrize("change", [change_input, change_by_method, change_through_a_view])
def test_an_in_place_change_of_a_saved_input_is_found(change):
    x = leaf(1.0, 2.0)
    y = x * x
    change(x, y)
    with pytest.raises(GradientError, match=r"changed in place(.|\n)*clone"):
        y.sum().backward()


def test_an_in_place_change_of_a_saved_output_is_found():
    x = leaf(1.0, 2.0)
    y = x.exp()
    y.detach().mul_(2)
    with pytest.raises(GradientError, match=r"changed in place(.|\n)*the output"):
        y.sum().backward()


def test_an_in_place_change_of_what_nobody_saved_is_harmless():
    x = leaf(1.0, 2.0)
    y = x + 1
    y.detach().mul_(2)
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_an_optimizer_step_before_backward_is_found():
    w = mulgil.Parameter(np.ones(3, "f"))
    first = (w * w).sum()
    second = (w * w).sum()
    optimizer = mulgil.optim.SGD([w], lr=0.1)
    first.backward()
    optimizer.step()
    with pytest.raises(GradientError, match="changed in place"):
        second.backward()


def test_writing_into_a_tensor_that_requires_grad_is_refused_while_recording():
    x = leaf(1.0, 2.0)
    for write in (lambda: x.zero_(), lambda: x.__setitem__(0, 1.0), lambda: (x * 2).fill_(0)):
        with pytest.raises(GradientError, match="in place"):
            write()
    with pytest.raises(GradientError, match="lose its gradient"):
        mulgil.zeros(2)[0] = x[0]
    assert x.tolist() == [1, 2]


def test_only_floats_require_grad():
    with pytest.raises(DTypeError, match="only floating"):
        Tensor([1, 2], requires_grad=True)


@pytest.mark.parametrize("op", ["__iadd__", "__isub__", "__imul__", "__itruediv__"])
def test_augmented_assignment_writes_in_place_under_no_grad_and_not_while_recording(op):
    p = mulgil.Parameter(np.array([2.0, 4.0], "f"))
    array, expected = p.array, getattr(np.array([2.0, 4.0], "f"), op)(np.float32(2))
    with mulgil.no_grad():
        assert getattr(p, op)(2.0) is p
    assert p.array is array and array.tolist() == expected.tolist() and p.dtype == np.float32
    q = getattr(p, op)(2.0)
    assert q is not p and q.requires_grad and array.tolist() == expected.tolist()


def test_pytorchs_hand_written_update_trains():
    layer = mulgil.nn.Linear(3, 1)
    before = layer.weight.array.copy()
    layer(mulgil.ones(2, 3)).sum().backward()
    with mulgil.no_grad():
        layer.weight -= 0.1 * layer.weight.grad
        for p in layer.parameters():
            p -= 0.1 * p.grad
    np.testing.assert_allclose(layer.weight.array, before - 0.4, rtol=1e-6)
    assert isinstance(layer.weight, mulgil.Parameter)


def test_iadd_makes_a_new_tensor_while_recording():
    x = leaf(1.0)
    y = kept = x * 2
    y += 1
    assert kept.tolist() == [2]
    y.sum().backward()
    assert x.grad.tolist() == [2]


# ---- memory


def test_the_graph_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        x = leaf(*range(100))
        y = (x * 0.1).exp()
        node = weakref.ref(y.node)
        array = weakref.ref(y.array)
        z = y.sum()
        del y
        assert node() is not None
        z.backward()
        assert array() is None
        assert x.grad is not None
    finally:
        gc.enable()


def test_arrays_that_no_op_saved_are_freed_at_once():
    x = Tensor(np.ones(10), requires_grad=True)
    y = x + 1
    array = weakref.ref(y.array)
    z = (y + 1).sum()
    del y
    assert array() is None
    z.backward()


def epoch(steps: int, backward: bool) -> tuple[Tensor, int]:
    w = Tensor(np.ones(20_000), requires_grad=True)
    total = Tensor(0.0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(steps):
        loss = ((w * w).exp() * 1e-3).mean()
        if backward:
            loss.backward()
        total += loss / steps
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return total, held


def test_a_running_total_of_losses_keeps_no_activations_alive():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        total, held = epoch(300, backward=True)
    assert held < 300 * 3000  # some small records a step, where the arrays of one step are 480 kB
    assert float(total) == pytest.approx(np.e * 1e-3)


def test_a_running_total_without_backward_does_not_go_unnoticed():
    with pytest.warns(UserWarning, match=r"keeps the graphs of 100 steps alive.*loss.item\(\)"):
        _, held = epoch(101, backward=False)
    assert held > 101 * 160_000


def test_a_long_sum_of_small_terms_is_not_warned_about():
    x = leaf(1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        total = Tensor(0.0)
        for _ in range(150):
            total += (x * x).sum()
    total.backward()
    assert x.grad.tolist() == [300]


def test_gradcheck_finds_a_wrong_gradient_and_refuses_float32():
    class Wrong(Square):
        def backward(self, ctx, gy):
            return 3 * ctx.saved[0] * gy

    assert mulgil.gradcheck(lambda x: Square()(x), leaf(1.0, 2.0))
    with pytest.raises(GradientError, match="finite differences"):
        mulgil.gradcheck(lambda x: Wrong()(x), leaf(1.0, 2.0))
    assert not mulgil.gradcheck(lambda x: Wrong()(x), leaf(1.0, 2.0), raise_exception=False)
    with pytest.raises(DTypeError, match="float64"):
        mulgil.gradcheck(lambda x: x * x, Tensor([1.0], requires_grad=True))


def test_no_grad_on_a_generator_holds_while_it_runs_and_no_longer():
    x = Tensor([1.0], requires_grad=True)
    seen = []

    @mulgil.no_grad()
    def numbers(n):
        for i in range(n):
            try:
                got = yield (x * i).requires_grad
                seen.append((got, mulgil.is_grad_enabled()))
            except ValueError:
                seen.append(("thrown", mulgil.is_grad_enabled()))
        return "end"

    generator = numbers(3)
    assert next(generator) is False
    assert mulgil.is_grad_enabled()
    assert (x * 2).requires_grad
    assert generator.send("sent") is False
    assert generator.throw(ValueError("x")) is False
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert end.value.value == "end"
    assert seen == [("sent", False), ("thrown", False), (None, False)]
    with pytest.raises(OptionError, match="async"):

        @mulgil.no_grad()
        async def later():
            return 1


def test_second_derivatives_through_batch_norm_with_a_loss_linear_in_y():
    from mulgil import nn

    rng = np.random.default_rng(0)
    weight = Tensor(rng.standard_normal((6, 3)))
    x = Tensor(rng.standard_normal((6, 3)), requires_grad=True)
    norm = nn.BatchNorm1d(3)
    for p in norm.parameters():
        p.array = p.array.astype("float64")
    norm.running_mean.array, norm.running_var.array = norm.running_mean.array.astype("float64"), norm.running_var.array.astype("float64")
    assert mulgil.gradcheck(lambda x: mulgil.grad((norm(x) * weight).sum(), x, create_graph=True)[0], x)


def test_an_output_that_nobody_used_comes_back_as_zeros():
    class Two(Function):
        def forward(self, ctx, x):
            ctx.save(x)
            return x * 2, x * 3

        def backward(self, ctx, g2, g3):
            return 2 * g2 + 3 * g3

    x = Tensor([1.0, 2.0], requires_grad=True)
    Two()(x)[1].sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
