"""The same seed gives the same bits: however kernels are shared, however many threads there are, and in whatever thread a step runs.

Random networks of every kind of kernel; `python -m tests.compile.test_bits 0 200` tries those of the seeds 0 to 199.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Lock, Thread

import numpy as np
import pytest

import mulgil
from mulgil import Tensor, nn, optim
from mulgil.native import threads
from tests.compile.tools import squared, training_step

SHARES = (1, 2, 3, 5)
SEEDS = ((0, "float32"), (1, "float64"), (2, "float32"))
_drawing = Lock()  # the generator of the weights is one for all threads


def random_layers(rng):
    """([C, H, W], layers): convolutions and pools of any geometry, norms, activations, dense layers at the end."""
    shape = channels, height, width = [int(n) for n in (rng.choice([1, 2, 3]), rng.integers(8, 24), rng.integers(8, 24))]
    layers: list[nn.Module] = []
    for _ in range(rng.integers(1, 3)):
        kernel, stride, dilation = ([int(n) for n in rng.choice(sizes, 2)] for sizes in ([1, 2, 3, 5], [1, 1, 2], [1, 1, 2]))
        padding = [int(rng.integers(0, k)) for k in kernel]
        out = channels * int(rng.integers(1, 5))
        groups = channels if rng.random() < 0.2 else 1
        conv = nn.Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias=bool(rng.random() < 0.7))
        geometry = zip((height, width), kernel, stride, padding, dilation, strict=True)
        sizes = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in geometry]
        if min(sizes) < 4:
            continue
        (height, width), channels = sizes, out
        layers += [conv, *([nn.BatchNorm2d(out)] if rng.random() < 0.4 else [])]
        layers += [[nn.ReLU(), nn.Tanh(), nn.Sigmoid()][rng.choice(3, p=[0.6, 0.2, 0.2])]] if rng.random() < 0.8 else []
        if rng.random() < 0.7:
            overlap = rng.random() < 0.4
            pool = (nn.MaxPool2d, nn.AvgPool2d)[rng.integers(2)](3 if overlap else 2, stride=2)
            layers.append(pool)
            height, width = ((n - (3 if overlap else 2)) // 2 + 1 for n in (height, width))
    features = channels * height * width
    dense = [nn.Flatten(), nn.Linear(features, int(rng.integers(8, 70))), nn.ReLU()]
    return shape, [*layers, *dense, nn.Linear(dense[1].weight.shape[0], int(rng.integers(1, 20)))]


def outcome(seed, dtype, tiny=False, steps=4):
    """The bits of a few steps' losses, of the parameters after them, and of predictions for one, some and many samples."""
    rng = np.random.default_rng(seed)
    with _drawing:
        mulgil.manual_seed(seed)
        shape, layers = random_layers(rng)
        model = nn.Sequential(*layers)
    if dtype == "float64":
        model.double()
    optimizer = (optim.SGD, optim.Adam)[seed % 2](model.parameters(), lr=0.01)
    step = mulgil.compile(training_step(model, optimizer, squared), state=[model, optimizer], strict=True)
    batch = int(rng.integers(17, 70))
    x = rng.normal(size=(batch, *shape)).astype(dtype)
    if tiny:  # gradients and moments on both sides of the smallest normal number
        x *= np.asarray(10.0 ** rng.integers(-30 if dtype == "float32" else -300, 1, x.shape), dtype)
    t = rng.normal(size=(batch, model[-1].weight.shape[0])).astype(dtype)
    if tiny:
        t *= np.asarray(np.finfo(dtype).tiny * 4, dtype)
    made = [step(Tensor(x), Tensor(t)).array for _ in range(steps)]
    model.eval()
    predict = mulgil.compile(mulgil.no_grad()(lambda x: model(x)), state=[model], strict=True)
    made += [predict(Tensor(x[:n].copy())).array for n in (1, 3, batch) for _ in range(2)]
    return [a.tobytes() for a in (*made, *(p.array for p in model.parameters()), *(b.array for b in model.buffers()))]


def in_shares(count, seed, dtype):
    """The outcome where kernels are cut into so many shares, each of them for another thread if there is one."""
    before = threads.cores, threads.WORTH, threads._allowed
    threads.cores, threads.WORTH, threads._allowed = (lambda: count), 0, 0
    threads.helpers.cache_clear()
    try:
        with mulgil.set_num_threads(count):
            return outcome(seed, dtype)
    finally:
        threads.cores, threads.WORTH, threads._allowed = before
        threads.helpers.cache_clear()


@pytest.mark.parametrize("seed, dtype", SEEDS)
def test_shares_change_no_bit(seed, dtype):
    """Shares say who computes a sum, never in which order or with which instructions."""
    first = in_shares(SHARES[0], seed, dtype)
    for count in SHARES[1:]:
        assert in_shares(count, seed, dtype) == first, f"{count} shares"


@pytest.mark.parametrize("tiny", [False, True], ids=["", "denormals"])
@pytest.mark.parametrize("seed, dtype", SEEDS)
def test_threads_give_the_same_bits(seed, dtype, tiny, three_cores):
    """The main thread, threads of threading and of concurrent.futures, one after the other and at once."""

    def run():
        return outcome(seed, dtype, tiny)

    first, others = run(), []
    thread = Thread(target=lambda: others.append(run()))
    thread.start()
    thread.join()
    with ThreadPoolExecutor(1) as pool:
        others.append(pool.submit(run).result())
    with ThreadPoolExecutor(3) as pool:
        others += [future.result() for future in [pool.submit(run) for _ in range(3)]]
    assert len(others) == 5
    assert all(other == first for other in others)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_limit_changes_no_bit(limit, three_cores):
    first = outcome(0, "float32")
    with mulgil.set_num_threads(limit):
        assert outcome(0, "float32") == first


def main(start: int, stop: int) -> None:
    wrong = 0
    for seed in range(start, stop):
        for dtype in ("float32", "float64"):
            found = [in_shares(count, seed, dtype) for count in SHARES]
            bad = [count for count, bits in zip(SHARES, found, strict=True) if bits != found[0]]
            wrong += bool(bad)
            print(seed, dtype, f"differs with {bad} shares" if bad else "the same", flush=True)
    print(f"{wrong} of {2 * (stop - start)} differ")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
