"""Threads that share a kernel: every share is done once, by whoever comes first, and nobody waits for a thread that is not there."""

import os
import platform
import subprocess
import sys
import time
from threading import Thread

import numpy as np
import pytest

import mulgil
from mulgil import Tensor, nn, optim
from mulgil.errors import OptionError
from mulgil.native import threads
from mulgil.native.loader import Argument, Spec, bind_shares

COUNT = "def kernel(share, counts, given):\n    for k in range(share[0], share[1]):\n        counts[k] += given[0]\n"


def counter(shares, each=50):
    """A kernel that counts its calls for each item, and the counts."""
    counts = np.zeros(shares * each, np.int64)
    arguments = (Argument("<i8", (2,)), Argument("<i8", counts.shape), Argument("<i8", (1,), passed=True))
    cuts = [np.array([k * each, (k + 1) * each]) for k in range(shares)]
    return bind_shares(Spec(COUNT, arguments), [[cut, counts, None] for cut in cuts]), counts


@pytest.fixture
def three_threads(three_cores):
    with mulgil.set_num_threads(3):
        threads.allow()
        yield
    threads._allowed = 0


@pytest.mark.parametrize("shares", [2, 3, 7])
def test_every_share_is_done_once(shares, three_threads):
    kernel, counts = counter(shares)
    for _ in range(3000):
        kernel(np.array([1]))
    assert (counts == 3000).all()


def test_callers_in_several_threads(three_threads):
    """One has the helpers, the others work alone; each returns when its own work is done."""
    kernels = [counter(3) for _ in range(4)]

    def work(kernel, counts):
        for k in range(1, 1001):
            kernel(np.array([1]))
            assert (counts == k).all()
        done.append(kernel)

    done = []
    callers = [Thread(target=work, args=pair) for pair in kernels]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(done) == 4


def test_helpers_sleep_and_wake(three_threads):
    kernel, counts = counter(3)
    for k in range(1, 4):
        deadline = time.monotonic() + 10
        while sum(h.number < 2 for h in threads._asleep) < 2:  # those of earlier tests sleep too
            assert time.monotonic() < deadline, "the helpers look for work for ever"
            time.sleep(0.01)
        kernel(np.array([1]))
        assert (counts == k).all()


def test_one_thread_has_no_helpers(three_threads):
    kernel, counts = counter(3)
    with mulgil.set_num_threads(1):
        threads.allow()
        assert threads._common.helpers == 0
        kernel(np.array([1]))
    threads.allow()
    assert threads._common.helpers == 2
    assert (counts == 1).all()


def test_too_many_arrays():
    with pytest.raises(OptionError, match="at most 3 arrays"):
        threads.shared(0, [0, 0], threads.MOST + 1)


SCRIPT = """
import os, sys
import numpy as np
sys.path.insert(0, {here!r})
from tests.native.test_threads import counter
from mulgil.native import threads
threads.cores = lambda: 2
threads.allow()
kernel, counts = counter(2)
kernel(np.array([1]))
{then}
print(counts.min(), counts.max())
"""

FORK = """
child = os.fork()
kernel(np.array([1]))
threads.allow()
kernel(np.array([1]))
if child:
    assert os.waitpid(child, 0)[1] == 0
else:
    os._exit(0 if (counts == 3).all() and len(threads.helpers()) == 1 else 1)
"""


def run(then):
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    command = [sys.executable, "-c", SCRIPT.format(here=root, then=then)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_helpers_of_its_own():
    done = run(FORK)
    assert (done.returncode, done.stdout) == (0, "3 3\n"), done.stderr


@pytest.mark.parametrize("turn", range(3))
def test_the_interpreter_ends_while_helpers_look_for_work(turn):
    done = run("kernel(np.array([1]))")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 2\n", "")


# ---- the kernels' arithmetic

only_here = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="x86's switch")


@only_here
def test_denormals_are_zero_in_kernels_and_nowhere_else():
    compiled = mulgil.compile(lambda x: x * 1e-5 + x * 1e-5, strict=True)
    x = Tensor(np.full(100, 1e-35, np.float32))
    eager = compiled(x).array
    assert (eager > 0).all()  # 2e-40
    assert (compiled(x).array == 0).all()
    assert np.float32(1e-35) * np.float32(1e-5) > 0


@only_here
def test_moments_of_a_dead_gradient_become_zero():
    """Else each later step takes many times as long: 0.9 times the smallest denormal is rounded to the same again."""
    mulgil.manual_seed(0)
    model = nn.Linear(50, 3)
    optimizer = optim.Adam(model.parameters())

    def step(x, weight):
        optimizer.zero_grad()
        (model(x) * weight).sum().backward()
        optimizer.step()

    compiled = mulgil.compile(step, state=[model, optimizer], strict=True)
    x, rng = np.zeros((20, 50), np.float32), np.random.default_rng(0)
    x[:] = rng.normal(size=x.shape)
    for k in range(1100):
        compiled(Tensor(x), Tensor(np.float32(k < 5)))
    assert not any(state["exp_avg"].any() for state in optimizer.state_dict()["state"].values())
