"""Tensor as a citizen: of NumPy, of Python, of devices."""

from __future__ import annotations

import subprocess
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import mulgil
from mulgil import Tensor
from mulgil.errors import DeviceError, DTypeError, GradientError, OptionError, ShapeError

# ---- NumPy's protocol

UNARY = ["negative", "exp", "log", "log1p", "sqrt", "sin", "cos", "tanh", "absolute"]
BINARY = ["add", "subtract", "multiply", "true_divide", "power", "maximum", "minimum", "matmul"]
CALLS = {
    "sum": lambda x: np.sum(x, axis=0),
    "mean": lambda x: np.mean(x),
    "mean_axis": lambda x: np.mean(x, axis=(0, 1), keepdims=True),
    "var": lambda x: np.var(x, axis=1),
    "std": lambda x: np.std(x, ddof=1),
    "max": lambda x: np.max(x, axis=1),
    "min": lambda x: np.amin(x),
    "where": lambda x: np.where(np.asarray(x) > 1, x, 0.0),
    "clip": lambda x: np.clip(x, 0.8, 1.4),
    "reshape": lambda x: np.reshape(x, (4, 3)),
    "ravel": lambda x: np.ravel(x),
    "transpose": lambda x: np.transpose(x),
    "transpose_axes": lambda x: np.transpose(x, (1, 0)),
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "expand_dims": lambda x: np.expand_dims(x, 1),
    "squeeze": lambda x: np.squeeze(np.expand_dims(x, 0)),
    "broadcast_to": lambda x: np.broadcast_to(x, (2, 3, 4)),
    "concatenate": lambda x: np.concatenate([x, x], axis=1),
    "stack": lambda x: np.stack([x, x]),
    "dot": lambda x: np.dot(x, np.transpose(x)),
    "pad": lambda x: np.pad(x, ((1, 0), (0, 2))),
    "copy": lambda x: np.copy(x),
    "numpy on the left": lambda x: np.ones((3, 4)) * x + np.float64(2.0),
}


def positive(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).random(shape) + 0.5


@pytest.mark.parametrize("name", UNARY)
def test_unary_ufuncs_stay_differentiable(name):
    x = Tensor(positive(3, 4), requires_grad=True)
    y = getattr(np, name)(x)
    assert isinstance(y, Tensor)
    np.testing.assert_allclose(y.array, getattr(np, name)(x.array))
    assert mulgil.gradcheck(getattr(np, name), x)


@pytest.mark.parametrize("name", BINARY)
def test_binary_ufuncs_stay_differentiable(name):
    a, b = Tensor(positive(3, 3), requires_grad=True), Tensor(positive(3, 3)[::-1] + 0.03, requires_grad=True)
    np.testing.assert_allclose(getattr(np, name)(a, b).array, getattr(np, name)(a.array, b.array))
    assert mulgil.gradcheck(getattr(np, name), [a, b])


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_numpy_functions_stay_differentiable(call):
    x = Tensor(positive(3, 4), requires_grad=True)
    y = call(x)
    assert isinstance(y, Tensor)
    np.testing.assert_allclose(y.array, call(x.array))
    assert mulgil.gradcheck(call, x)


def test_counting_functions_and_comparisons_give_numpy_s_answers():
    x = positive(3, 4)
    t = Tensor(x, requires_grad=True)
    np.testing.assert_array_equal(np.argmax(t, axis=1), x.argmax(1))
    np.testing.assert_array_equal(np.greater(t, 1.0), x > 1)
    assert np.mean(np.argmax(t, axis=1) == x.argmax(1)) == 1.0
    (bad,) = np.where(np.argmax(t, axis=1) != np.array([0, 0, 0]))
    assert np.arange(3)[bad].tolist() == np.flatnonzero(x.argmax(1) != 0).tolist()
    assert np.shape(t) == (3, 4) and np.ndim(t) == 2 and np.size(t) == 12
    np.testing.assert_array_equal(np.zeros_like(t), np.zeros((3, 4)))


def test_asarray_copies_nothing():
    x = np.arange(3.0)
    t = Tensor(x)
    assert np.asarray(t) is x
    assert np.shares_memory(t.numpy(), x)
    assert np.asarray(Tensor(x, requires_grad=True)) is x
    assert not np.shares_memory(np.array(t), x)


def test_a_numpy_function_without_an_op_never_drops_a_gradient_in_silence():
    t = Tensor(positive(3, 3))
    np.testing.assert_allclose(np.linalg.inv(t), np.linalg.inv(t.array))
    np.testing.assert_allclose(np.arctan(t), np.arctan(t.array))
    t.requires_grad = True
    for call in (np.linalg.inv, np.arctan, np.cumsum):
        with pytest.raises(GradientError, match="has no gradient in mulgil"):
            call(t)
    with mulgil.no_grad():
        np.linalg.inv(t)
    total = np.zeros((3, 3))
    with pytest.raises(GradientError):
        total += t
    total += t.detach()
    np.testing.assert_array_equal(total, t.array)


# ---- Python's protocols


def test_scalars_behave_as_numbers():
    t = Tensor(2.5, requires_grad=True) * 1
    assert float(t) == t.item() == 2.5
    assert int(t) == 2
    assert f"{t:.4f}" == "2.5000"
    assert f"{Tensor([0.25]):.9f}" == "0.250000000"
    assert bool(t) and not Tensor(0.0)
    assert [10, 20, 30][Tensor(1)] == 20
    assert list(range(Tensor(3))) == [0, 1, 2]


def test_sequences_behave_as_sequences():
    t = Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert len(t) == 2
    assert [row.tolist() for row in t] == [[1, 2], [3, 4]]
    assert 3.0 in t and 5.0 not in t
    assert t.tolist() == [[1, 2], [3, 4]]
    assert (t == t).all() and (t != None) and not (t == None)  # noqa: E711, SIM201
    assert len({t, t}) == 1


@pytest.mark.parametrize("call", [bool, float, lambda t: t.item(), lambda t: f"{t:.3f}"])
def test_several_elements_are_no_scalar(call):
    with pytest.raises((ShapeError, TypeError)):
        call(Tensor([1.0, 2.0]))


@pytest.mark.parametrize("call", [len, iter, list])
def test_a_scalar_is_no_sequence(call):
    with pytest.raises(TypeError, match="0-d"):
        call(Tensor(1.0))
    with pytest.raises(TypeError, match="index"):
        [1, 2][Tensor(1.0)]


def test_repr_names_what_matters():
    assert repr(Tensor([32.0])) == "tensor([32.])"
    assert repr(Tensor([1, 2])) == "tensor([1, 2])"
    assert "requires_grad=True" in repr(Tensor([1.0], requires_grad=True))
    assert "grad_fn=<Mul()>" in repr(Tensor([1.0], requires_grad=True) * 2)
    assert "dtype=float64" in repr(Tensor([1.0], dtype="float64"))


def test_from_the_book_of_definitions():
    import mulgil as torch

    x = torch.randn(1, requires_grad=True)
    y = x
    for _ in range(5):
        y = y * 2
    y.backward()
    assert repr(x.grad) == "tensor([32.])"


# ---- dtypes


def test_python_numbers_are_weak_and_integers_meet_floats_as_in_pytorch():
    f, d, i, u, b = (Tensor(np.ones(2, k)) for k in ("float32", "float64", "int64", "uint8", "bool"))
    assert [(f * 2.5).dtype, (2 / f).dtype, (f + np.float64(1)).dtype, (f * i).dtype, (f * u).dtype, (f * b).dtype] == [np.float32] * 6
    assert (f * d).dtype == np.float64
    assert [(i * 2).dtype, (u + 1).dtype] == [np.int64, np.uint8]
    assert [(i * 2.5).dtype, (i / 2).dtype, (u / 255).dtype, i.mean().dtype, i.exp().dtype, (b * 0.5).dtype] == [np.float32] * 6
    assert (i.float() @ f.reshape(2, 1)).dtype == np.float32
    assert Tensor([1.0]).dtype == np.float32 and Tensor(np.ones(1)).dtype == np.float64 and Tensor([1]).dtype == np.int64


def test_the_default_dtype_can_be_chosen():
    try:
        mulgil.set_default_dtype(mulgil.float64)
        assert Tensor([1.0]).dtype == mulgil.zeros(2).dtype == (Tensor([1]) / 2).dtype == np.float64
    finally:
        mulgil.set_default_dtype(mulgil.float32)
    with pytest.raises(DTypeError):
        mulgil.set_default_dtype(mulgil.int64)


@pytest.mark.parametrize("data", [["a"], [[1, 2], [3]], object(), None, {"a": 1}, np.array(["x"]).tolist()])
def test_what_is_not_numbers_is_refused(data):
    with pytest.raises(DTypeError):
        Tensor(data)


def test_conversions():
    t = Tensor([1.5, 0.0])
    assert t.double().dtype == np.float64 and t.to(mulgil.int64).dtype == np.int64 and t.bool().tolist() == [True, False]
    assert t.to("cpu") is t and t.to(device="cpu", dtype=np.float32) is t and t.to(Tensor([1])).dtype == np.int64
    assert t.numel() == 2 and t.size() == (2,) and t.size(0) == 2 and t.dim() == 1
    x = Tensor([1.5], requires_grad=True)
    (x.double() * 2).sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.tolist() == [2]


# ---- shapes and indexing


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_indexing_agrees_with_numpy_and_sends_gradients_back(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    array = np.random.default_rng(0).standard_normal(shape)
    key = data.draw(st.one_of(hnp.basic_indices(shape, allow_newaxis=True), hnp.integer_array_indices(shape), hnp.arrays(bool, shape)))
    expected = array[key]
    x = Tensor(array, requires_grad=True)
    y = x[key]
    np.testing.assert_array_equal(y.array, expected)
    if y.array.size:
        weights = np.random.default_rng(1).standard_normal(y.shape)
        (y * Tensor(weights)).sum().backward()
        wanted = np.zeros(shape)
        np.add.at(wanted, key, weights)
        np.testing.assert_allclose(x.grad.array, wanted)


@settings(max_examples=60, deadline=None)
@given(
    hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3),
    st.sampled_from(["__add__", "__sub__", "__mul__", "__truediv__"]),
)
def test_broadcast_arithmetic_has_the_right_gradient(shapes, name):
    rng = np.random.default_rng(0)
    a, b = (Tensor(rng.random(s) + 0.5, requires_grad=True) for s in shapes.input_shapes)
    y = getattr(a, name)(b)
    assert y.shape == shapes.result_shape
    assert mulgil.gradcheck(lambda a, b: getattr(a, name)(b), [a, b])


def test_shapes():
    t = mulgil.arange(24).reshape(2, 3, 4)
    assert t.view(-1, 4).shape == (6, 4) and t.view((4, 6)).shape == (4, 6)
    assert t.flatten(start_dim=1).shape == mulgil.flatten(t, start_dim=1).shape == (2, 12)
    assert t.permute(2, 0, 1).shape == t.transpose((2, 0, 1)).shape == (4, 2, 3)
    assert t.transpose(0, 2).shape == t.T.shape == t.transpose().shape == (4, 3, 2)
    assert t.unsqueeze(1).shape == (2, 1, 3, 4) and t.unsqueeze(-1).squeeze().shape == (2, 3, 4) and t.squeeze(0).shape == (2, 3, 4)
    assert t[:1].expand(5, -1, 4).shape == (5, 3, 4) and t[..., 0].shape == (2, 3)
    assert mulgil.cat([t, t], dim=1).shape == (2, 6, 4) and mulgil.stack([t, t]).shape == (2, 2, 3, 4)
    values, indices = t.max(1)
    assert values.shape == indices.shape == (2, 4)
    assert mulgil.max(t, 1)[1].tolist() == indices.tolist() and t.max(axis=1).shape == (2, 4)
    assert t.sum(dim=(0, 1)).shape == t.sum(axis=(0, 1)).shape == (4,)
    assert t.var(0, unbiased=False).shape == (3, 4)
    with pytest.raises(OptionError, match="dim= or axis="):
        t.sum(dim=0, axis=1)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.reshape(5, 5),
        lambda t: t.view(-1, -1),
        lambda t: t.view(-1, 7),
        lambda t: t.expand(3, 3),
        lambda t: t.permute(0, 0),
        lambda t: t @ t,
    ],
)
def test_impossible_shapes_are_explained(call):
    with pytest.raises(ShapeError, match=r"got:"):
        call(mulgil.zeros(2, 3))


def test_views_share_memory_and_copies_do_not():
    t = mulgil.zeros(4)
    t.reshape(2, 2)[0, 0] = 7.0
    assert t.tolist() == [7, 0, 0, 0]
    t.clone()[0] = 1.0
    mulgil.tensor(t)[0] = 1.0
    assert t[0].item() == 7.0


def test_data_is_the_same_memory_outside_the_graph_and_can_be_replaced():
    t = Tensor([1.0, 2.0], requires_grad=True)
    assert not t.data.requires_grad and np.shares_memory(t.data.numpy(), t.array)
    t.data = t.data - 0.5
    assert t.tolist() == [0.5, 1.5] and t.requires_grad
    t.data -= 0.5
    assert t.tolist() == [0.0, 1.0]


def test_in_place_methods():
    t = mulgil.ones(3)
    assert t.add_(1).mul_(3).sub_(1).div_(5).tolist() == [1, 1, 1]
    assert t.fill_(4).clamp_(0, 3).tolist() == [3, 3, 3]
    assert t.copy_(Tensor([1.0, 2.0, 3.0])) is t and t.tolist() == [1, 2, 3]
    assert t.zero_().tolist() == [0, 0, 0]
    t.uniform_(2, 3)
    assert float(t.min()) >= 2 and float(t.max()) < 3 and t.dtype == np.float32


def test_making_tensors():
    assert (
        mulgil.eye(2).tolist() == [[1, 0], [0, 1]]
        and mulgil.arange(1, 4).dtype == np.int64
        and mulgil.arange(0.0, 1.0, 0.5).tolist() == [0, 0.5]
    )
    assert mulgil.full((2,), 7).dtype == np.int64 and mulgil.full((2,), 0.5).dtype == np.float32
    assert mulgil.linspace(0, 1, 3).tolist() == [0, 0.5, 1] and mulgil.zeros((2, 3)).shape == mulgil.ones(2, 3).shape
    source = np.ones(2)
    assert np.shares_memory(mulgil.from_numpy(source).array, source) and not np.shares_memory(mulgil.tensor(source).array, source)
    assert sorted(mulgil.randperm(5).tolist()) == [0, 1, 2, 3, 4] and mulgil.randint(3, (50,)).array.max() == 2
    assert mulgil.rand(2, requires_grad=True).requires_grad and mulgil.randn_like(mulgil.zeros(3)).shape == (3,)
    assert mulgil.equal(mulgil.ones(2), mulgil.ones(2)) and mulgil.allclose(mulgil.ones(2), [1, 1]) and mulgil.is_tensor(mulgil.ones(1))


# ---- devices and seeds


def test_a_missing_gpu_is_explained():
    if mulgil.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match=r"no CUDA device(.|\n)*cpu"):
        mulgil.zeros(2).to("cuda")
    with pytest.raises(DeviceError, match="must be"):
        mulgil.device("gpu")
    assert mulgil.device("cuda:1").index == 1 and mulgil.device("cpu") == "cpu" and str(mulgil.device("cuda", 0)) == "cuda:0"


def test_arrays_on_two_devices_are_refused(monkeypatch):
    cupy = types.ModuleType("cupy")
    cupy.ndarray = type(
        "ndarray", (), {"__module__": "cupy", "dtype": np.dtype("f"), "shape": (2,), "ndim": 1, "device": types.SimpleNamespace(id=0)}
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    elsewhere = Tensor.of(cupy.ndarray())
    assert elsewhere.device == "cuda:0"
    with pytest.raises(DeviceError, match=r"one device(.|\n)*cpu, cuda:0(.|\n)*to\(device\)"):
        mulgil.zeros(2) + elsewhere


def test_the_number_of_threads_can_be_chosen_for_a_while():
    from threadpoolctl import threadpool_info

    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas" and "numpy" in pool["filepath"]}

    before = threads()
    with mulgil.set_num_threads(1):
        assert threads() <= {1}
    assert threads() == before
    with pytest.raises(OptionError):
        mulgil.set_num_threads(0)


SEEDED = (
    "import mulgil; mulgil.manual_seed(7); print(mulgil.rand(3).tolist(), mulgil.randn(2).tolist(), mulgil.nn.Linear(3, 2).weight.tolist())"
)


def test_a_seed_gives_the_same_bits_in_every_process():
    runs = {subprocess.run([sys.executable, "-c", SEEDED], capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1
    other = subprocess.run([sys.executable, "-c", SEEDED.replace("(7)", "(8)")], capture_output=True, text=True, check=True).stdout
    assert other not in runs


def test_a_generator_s_state_can_be_kept():
    generator = mulgil.Generator(3)
    mulgil.rand(5, generator=generator)
    state = generator.get_state()
    first = mulgil.rand(5, generator=generator)
    generator.set_state(state)
    assert mulgil.equal(first, mulgil.rand(5, generator=generator))
