"""All of NumPy on Tensors that require gradients: a differentiable result, an error of ours, or nothing to lose; never silence."""

from __future__ import annotations

import warnings
from copy import deepcopy

import numpy as np
import pytest

from mulgil import gradcheck
from mulgil.autograd import Tensor
from mulgil.autograd.conversion import CONVERSIONS
from mulgil.autograd.numpy_functions import FUNCTIONS, UFUNCS, WITHOUT_GRADIENT
from mulgil.errors import MulgilError

V, U, W = np.array([0.3, 0.7, 1.9]), np.array([1.4, 0.2, 0.6]), np.array([0.6, 2.4, 1.1])
M = np.array([[1.6, 0.2, 0.3], [0.1, 1.2, 0.4], [0.35, 0.6, 1.7]])  # no ties, no integers' halves: finite differences cross none
MASK, PLACES = np.array([True, False, True]), np.array([0, 2, 1])
CALLS = {
    "x": lambda w: (w(V),),
    "x, y": lambda w: (w(V), w(U)),
    "x, y, z": lambda w: (w(V), w(U), w(W)),
    "[x, y]": lambda w: ([w(V), w(U)],),
    "[a, b]": lambda w: ([w(np.array(0.43)), w(np.array(1.3))],),
    "(a, [b])": lambda w: (w(np.array(0.43)), [w(np.array(1.3))]),
    "x, 1": lambda w: (w(V), 1),
    "x, 0.5": lambda w: (w(V), 0.5),
    "2, x": lambda w: (2, w(V)),
    "m": lambda w: (w(M),),
    "m, n": lambda w: (w(M), w(M.T + 0.07)),
    "m, x": lambda w: (w(M), w(V)),
    "m, 0, 1": lambda w: (w(M), 0, 1),
    "array, x": lambda w: (U.copy(), w(V)),
    "x, array": lambda w: (w(V), U.copy()),
    "mask, x": lambda w: (MASK.copy(), w(V)),
    "mask, x, y": lambda w: (MASK.copy(), w(V), w(U)),
    "x, mask": lambda w: (w(V), MASK.copy()),
    "x, mask, y": lambda w: (w(V), MASK.copy(), w(U)),
    "x, places": lambda w: (w(V), PLACES.copy()),
    "x, places, 0": lambda w: (w(V), PLACES.copy(), 0),
    "x, places, y": lambda w: (w(V), PLACES.copy(), w(U)),
    "matrix, x": lambda w: (M.copy(), w(np.array(0.43))),
    "text, x": lambda w: ("i->i", w(V)),
    "shape, a": lambda w: ((2,), w(np.array(0.43))),
    "[array], [x, y]": lambda w: ([V > 0.5], [w(V)]),
}
# not computations: files, printing, settings, or what takes no array
LEFT_OUT = {
    "save", "savez", "savez_compressed", "savetxt", "load", "loadtxt", "genfromtxt", "fromfile", "fromregex", "test", "info",
    "show_config", "show_runtime", "setbufsize", "getbufsize", "seterr", "geterr", "seterrcall", "geterrcall", "set_printoptions",
    "get_printoptions", "printoptions", "get_include", "frompyfunc", "vectorize", "asarray_chkfinite", "require", "iterable",
    "isscalar", "typename", "mintypecode", "ix_", "nested_iters", "errstate", "datetime_data", "busday_count", "busday_offset",
    "is_busday", "datetime_as_string", "apply_along_axis", "apply_over_axes", "piecewise", "fromfunction", "fromiter", "frombuffer",
    "fromstring", "issubdtype", "broadcast_shapes", "bmat", "isfortran", "format_float_positional", "format_float_scientific",
    "binary_repr", "base_repr", "byte_bounds", "from_dlpack", "put_along_axis",
}  # fmt: skip
# whose later arguments are flags and counts
SETTINGS = {"angle", "nan_to_num", "rot90", "tril", "triu", "unique", "unwrap", "linalg.svd"}
OF_SHAPE = {"full_like", "ones_like", "zeros_like"}  # the first argument lends its shape
PUBLIC = [name for name in sorted(set(np.__all__)) if callable(getattr(np, name)) and not isinstance(getattr(np, name), type)]
NAMES = [name for name in PUBLIC if name not in LEFT_OUT]
LINALG = [f"linalg.{name}" for name in np.linalg.__all__ if callable(getattr(np.linalg, name)) and not name.endswith("Error")]


def public(name: str):
    return getattr(np.linalg, name.partition(".")[2]) if name.startswith("linalg.") else getattr(np, name)


def tracked(array: np.ndarray) -> Tensor:
    return Tensor(array.copy(), requires_grad=array.dtype.kind == "f")


def parts(result) -> list:
    return [p for r in result for p in parts(r)] if isinstance(result, (list, tuple)) else [result]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES + LINALG)
def test_no_public_function_of_numpy_loses_a_gradient(name):
    function, silent = public(name), []
    for label, make in CALLS.items():
        try:
            expected = function(*make(np.copy))
        except Exception:
            continue  # NumPy itself has no such call
        if (name in SETTINGS and label not in ("x", "m")) or (name in OF_SHAPE and not label.startswith("array")):
            continue
        given = make(tracked)
        try:
            result = function(*given)
        except MulgilError:
            continue
        if result is given[0] or function in CONVERSIONS or function in WITHOUT_GRADIENT:
            continue
        for found, wanted in zip(parts(result), parts(expected), strict=True):
            if isinstance(found, Tensor):
                np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)
            kept = isinstance(found, Tensor) and (found.requires_grad or found.dtype.kind != "f")
            if not kept and np.asarray(wanted).dtype.kind == "f":
                silent.append(label)
    assert not silent, f"np.{name} of {silent} lost the gradient without a word"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", [*UFUNCS, *FUNCTIONS], ids=lambda f: f.__name__)
def test_what_has_a_gradient_has_the_right_one(function):
    for make in CALLS.values():
        arrays: list[np.ndarray] = []
        make(lambda a, arrays=arrays: arrays.append(a.copy()))
        leaves = [tracked(a) for a in arrays]

        def call(*xs, make=make):
            given = iter(xs)
            return function(*make(lambda _: next(given)))

        try:
            values, result = call(*map(np.copy, arrays)), call(*leaves)
        except Exception:
            continue
        if isinstance(result, Tensor) and result.requires_grad and np.isfinite(values).all():
            assert gradcheck(call, leaves)


OPTIONS = {
    "order": ["F", "A", "K", "C"],
    "dtype": ["float64", "float32", "int64"],
    "shape": [(2, 2), 5],
    "where": [MASK, np.array([[True, False, True]] * 3), True],
    "initial": [0.5, 100.0, -3.0],
    "keepdims": [True],
    "axis": [0, -1, (0, 1), None, 5],
    "out": [np.zeros(3), np.zeros((3, 3)), np.zeros(())],
    "ddof": [1, 2],
    "correction": [1],
    "mean": [np.array(0.5)],
    "casting": ["unsafe"],
    "subok": [True],
    "decimals": [2],
    "mode": ["edge", "reflect", "constant"],
    "constant_values": [2.0, (1.0, 2.0)],
    "copy": [True],
    "device": ["cpu"],
}


MM = np.stack([M, M])
STARTS: list[tuple] = [(V,), (M,), (M[:, :1],), (M.T,), ([M, M],), (V, U), (M, V), (MM, MM), (PLACES,), (PLACES, PLACES[::-1])]
MORE: dict = {
    np.reshape: [((3, 3),), ((9,),)],
    np.pad: [(1,)],
    np.broadcast_to: [((2, 3, 3),)],
    np.full_like: [(7.0,)],
    np.clip: [(0.3, 0.9)],
    np.swapaxes: [(0, 1)],
    np.expand_dims: [(0,), ((0, 1),)],
    np.where: [(V, U)],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", [*UFUNCS, *FUNCTIONS], ids=lambda f: f.__name__)
def test_an_argument_is_honoured_or_refused(function):
    tried = 0
    for start in STARTS:
        for more in MORE.get(function, [()]):
            for option, values in [("", [None]), *OPTIONS.items()]:
                if option == "where" and (isinstance(function, np.ufunc) or function is np.clip):
                    continue  # the other elements are whatever was in memory
                for value in values:
                    kwargs = {option: value.copy() if isinstance(value, np.ndarray) else value} if option else {}
                    try:
                        expected = function(*deepcopy(start), *more, **deepcopy(kwargs))
                    except Exception:
                        continue
                    for wrap in (Tensor, tracked):
                        args = [[wrap(p) for p in x] if isinstance(x, list) else wrap(x) for x in deepcopy(start)]
                        try:
                            found = function(*args, *more, **kwargs)
                        except MulgilError:
                            continue
                        tried += 1
                        for a, b in zip(parts(found), parts(expected), strict=True):
                            a = a.numpy() if isinstance(a, Tensor) else a
                            text = f"{start} {more} {kwargs}"
                            np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), rtol=1e-6, err_msg=text)
                            assert np.shape(a) == np.shape(b), text
    assert tried


def test_functions_without_a_gradient_take_tensors_that_require_one():
    x = Tensor([1.0, np.nan, 3.0], requires_grad=True)
    assert np.isfinite(x).tolist() == [True, False, True]
    assert np.isnan(x).tolist() == [False, True, False]
    assert not np.allclose(x, x)
    assert np.argsort(x).tolist() == [0, 2, 1]
    assert np.count_nonzero(np.isnan([x[1]])) == 1
    y = np.floor(Tensor([1.5], requires_grad=True))
    y.backward()  # 0 wherever it exists, and no error
    assert y.tolist() == [1.0]


def test_numpy_writes_into_a_tensor_are_counted_or_refused():
    x, y = Tensor(M.copy(), requires_grad=True), Tensor(M.copy())
    with pytest.raises(MulgilError):
        np.fill_diagonal(x, 0.0)
    with pytest.raises(MulgilError):
        np.fill_diagonal(y, Tensor(1.0, requires_grad=True))
    z = (x * y).sum()
    np.fill_diagonal(y, 0.0)
    assert y.numpy().trace() == 0
    with pytest.raises(MulgilError, match="changed in place"):
        z.backward()
    z = (x * y).sum()
    np.add(y, 1, out=y)
    with pytest.raises(MulgilError, match="changed in place"):
        z.backward()


def test_lists_of_tensors_keep_or_refuse():
    a, b = Tensor(1.0, requires_grad=True), Tensor(2.0, requires_grad=True)
    for call in (
        lambda: np.sum([a, b]),
        lambda: np.exp([a, b]),
        lambda: np.linalg.norm([a, b]),
        lambda: Tensor([1.0, 2.0]) * [a, b],
        lambda: Tensor([[a], [b]]),
        lambda: np.zeros(2) * [a, b],
    ):
        with pytest.raises(MulgilError):
            call()
    assert np.stack([a, b]).requires_grad
    assert np.array([a, b]).tolist() == [1.0, 2.0]  # asks for the numbers
    assert np.asarray(a) == 1.0
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        import mulgil

        assert mulgil.tensor([a, b]).tolist() == [1.0, 2.0]
    assert len(seen) == 1
