"""How many threads the BLAS library takes: one where the bits must not depend on it, in whatever thread and whoever asks meanwhile."""

import os
from threading import Event, Thread

import numpy as np
import pytest

import mulgil
from mulgil import Tensor, nn, optim
from mulgil.errors import OptionError
from mulgil.native.blas import set_num_threads, single_blas
from tests.compile.tools import training_step

if not single_blas.counts:
    pytest.skip("the number of threads of NumPy's BLAS library cannot be set", allow_module_level=True)


@pytest.fixture(autouse=True)
def two_threads():
    with mulgil.set_num_threads(2):
        yield


def now():
    return single_blas._switches[0].read()


def elsewhere(function):
    """What the function gives in a thread of its own."""
    found = []
    thread = Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def within():
    with single_blas:
        return now()


def test_one_thread_in_any_thread():
    assert [within(), elsewhere(within), now()] == [1, 1, 2]


def test_blocks_overlap():
    """The first to come sets the number, the last to go puts it back."""
    entered, leave = Event(), Event()

    def other():
        with single_blas:
            entered.set()
            leave.wait(30)

    thread = Thread(target=other)
    with single_blas, single_blas:
        thread.start()
        assert entered.wait(30)
    assert now() == 1
    leave.set()
    thread.join()
    assert now() == 2


def test_what_is_asked_within_a_block_holds_after_it():
    with single_blas:
        asked = mulgil.set_num_threads(3)
        assert (now(), single_blas.counts[0]) == (1, 3)
    assert now() == 3
    with asked:
        pass
    assert now() == 2


def test_limits_of_several_threads():
    """Blocks that do not end in the order in which they began leave what was before them."""
    first, second = mulgil.set_num_threads(3), elsewhere(lambda: mulgil.set_num_threads(1))
    first.__enter__(), second.__enter__()
    assert (now(), set_num_threads.limit) == (1, 1)
    first.__exit__()
    assert (now(), set_num_threads.limit) == (1, 1)
    second.__exit__()
    assert (now(), set_num_threads.limit) == (2, 2)


def test_limits_for_good():
    asked = len(set_num_threads._asked)
    with mulgil.set_num_threads(3):
        for count in (1, 2, 3, 1) * 5:
            mulgil.set_num_threads(count)
        assert now() == 1 and len(set_num_threads._asked) <= asked + 3
    assert now() == 2 and len(set_num_threads._asked) == asked
    with pytest.raises(OptionError, match="at least one"):
        mulgil.set_num_threads(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_is_in_no_block():
    """Another thread is within a block: in the child it does not exist, and nobody would end its block."""
    entered, leave = Event(), Event()

    def other():
        with single_blas:
            entered.set()
            leave.wait(30)

    thread = Thread(target=other)
    thread.start()
    assert entered.wait(30)
    child = os.fork()
    if not child:
        os._exit(0 if now() == 2 and within() == 1 and now() == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    leave.set()
    thread.join()


def step_in_blas(counts):
    """A step whose products, the first time and later, are the library's; it notes the number of threads."""

    class Noted(mulgil.Function):
        def forward(self, ctx, x):
            counts.append(now())
            return x * 1

        def backward(self, ctx, gy):
            counts.append(now())
            return gy * 1

    mulgil.manual_seed(0)
    model = nn.Sequential(nn.Linear(60, 40), nn.Tanh(), nn.Linear(40, 5))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    plain = training_step(model, optimizer)
    return mulgil.compile(lambda x, t: plain(Noted()(x), t), state=[model, optimizer]), model


@pytest.mark.parametrize("run", [lambda f: f(), elsewhere], ids=["main thread", "another thread"])
def test_compiled_steps_use_one_thread(run):
    """Also where the main thread was the first that asked for it."""
    within()
    counts: list[int] = []
    step, _ = step_in_blas(counts)
    rng = np.random.default_rng(0)
    x, t = Tensor(rng.normal(size=(70, 60)).astype(np.float32), requires_grad=True), Tensor(rng.integers(0, 5, 70))
    run(lambda: [step(x, t) for _ in range(3)])
    assert len(counts) >= 3 and set(counts) == {1}
    assert now() == 2
