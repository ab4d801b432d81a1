"""The benchmarks measure what they say: the sides agree on the models, the statistics and the page are right. Nothing is timed."""

from __future__ import annotations

import argparse
import itertools
import math

import numpy as np
import pytest
from benchmarks import page, step, tables
from benchmarks.arena import Figure, Worker, values
from benchmarks.sides import SIDES, mulgil_side
from benchmarks.worker import measure
from benchmarks.workloads import WORKLOADS, through

from mulgil.train.recipes import RECIPES

VERSIONS = {"python": "3.11", "numpy": "2.0", "mulgil": "0.1", "system": "Linux"}
MACHINE = {"processor": "an abacus", "cores": 2, "gflops": 100.0, "gbytes": 10.0, **VERSIONS}
TRAINING = [name for name, workload in WORKLOADS.items() if workload.optimizer]


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_workloads_are_the_recipes(name):
    recipe, workload = RECIPES[name], WORKLOADS[name]
    assert [p.shape for p in recipe.model().parameters()] == workload.shapes()
    assert [type(m) for m in recipe.model()] == [type(m) for m in mulgil_side.model_of(workload)]
    assert (recipe.optimizer, recipe.settings, recipe.batch_size) == (workload.optimizer, workload.settings, workload.batch)


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_description_knows_the_shapes(name):
    workload = WORKLOADS[name]
    model = mulgil_side.model_of(workload)
    assert [p.shape for p in model.parameters()] == workload.shapes() == [p.shape for p in workload.parameters()]
    assert model(np.zeros((2, *workload.image), np.float32)).shape == (2, *through(workload.layers, workload.image)) == (2, 10)


@pytest.mark.parametrize("name", WORKLOADS)
def test_pytorch_gets_the_same_model(name):
    pytest.importorskip("torch")
    from benchmarks.sides import torch_side

    mine, theirs = (side.model_of(WORKLOADS[name]) for side in (mulgil_side, torch_side))
    assert sum(p.numel() for p in theirs.parameters()) == sum(math.prod(p.shape) for p in mine.parameters())
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.detach().numpy())


@pytest.mark.parametrize("name", ["softmax", "deep-mlp", "lenet-5", "cnn"])
def test_three_steps_of_pytorch_give_our_losses(name):
    pytest.importorskip("torch")
    from benchmarks.sides import torch_side

    mine, theirs = mulgil_side.make(WORKLOADS[name], "eager"), torch_side.make(WORKLOADS[name], "")
    for i in range(3):
        assert float(mulgil_side.numpy(mine(i))) == pytest.approx(float(torch_side.numpy(theirs(i))), rel=1e-4)


def test_operations_are_those_of_the_matrix_products():
    # softmax: no gradient of the images, so the first layer's product is done twice, not three times
    assert WORKLOADS["softmax"].operations() == 2 * (2 * 784 * 10) * 100
    forward = 2 * (784 * 128 + 128 * 64 + 64 * 10)
    assert WORKLOADS["deep-mlp, 1 image"].operations() == forward
    assert WORKLOADS["cnn"].operations() == pytest.approx(456e6, rel=0.01)
    assert WORKLOADS["softmax"].bytes() == 4 * (100 * 784 + 3 * 7850)


def test_a_figure_is_the_smallest_median():
    figure = Figure.of([[5.0, 1.0, 4.0], [2.0, 2.0, 99.0], [3.0]])
    assert (figure.ms, figure.turns) == (2.0, 3) and figure.spread == pytest.approx(1.0)


def test_a_turn_does_at_least_one_step_and_counts_on():
    done: list[int] = []
    count = itertools.count(7)
    assert len(measure(done.append, count, 1e-9, 100)) == len(done) >= 1
    assert done[0] == 7 and next(count) == 7 + len(done)


def test_the_best_variant_counts_and_the_missing_do_not():
    result = {
        "mulgil": {"ms": 1.0, "spread": 0.1},
        "torch": {"ms": 4.0, "spread": 0.0},
        "torch-channels-last": {"ms": 3.0, "spread": 0.2},
        "jax": {"missing": "ModuleNotFoundError: No module named 'jax'"},
    }
    assert tables.by_label(result)["PyTorch"]["side"] == "torch-channels-last"
    assert tables.ratio(result) == (pytest.approx(1 / 3), "PyTorch")
    assert tables.ratio({"mulgil": result["mulgil"], "jax": result["jax"]}) is None
    assert "not available: ModuleNotFoundError" in tables.step_lines("cnn", result, MACHINE)


def test_the_page_holds_every_section():
    run = {"training": 2.0, "evaluation": 0.3, "preparation": 1.0, "accuracy": 0.9912, "epoch": 3, "reached": True}
    data = {
        "machine": MACHINE,
        "steps": {"cnn": {"mulgil": {"ms": 2.0, "spread": 0.05}, "torch": {"ms": 8.0, "spread": 0.5}, "jax": {"missing": "no"}}},
        "programs": {"cnn (004)": {"mulgil": {"seconds": [3.0, 2.0], "accuracy": 0.98}, "torch": {"seconds": [20.0], "accuracy": 0.98}}},
        "race": {"mulgil": {"runs": [run], "recipe": "batch 100"}, "torch": {"runs": [{**run, "reached": False}], "recipe": "batch 64"}},
        "loader": {"mulgil": {"median": 0.05, "best": 0.04}},
    }
    text = page.render(data)
    for part in ("an abacus, 2 cores", "2.00 (+5%)", "**0.25** (PyTorch)", "- jax: no (`cnn`)", "| 2.0 (3.0) | 0.9800 | 0.10 |"):
        assert part in text, part
    assert "2.0 to 2.0 | 1 of 1" in text and "not reached | 0 of 1" in text and "| 0.050 | 0.040 |" in text
    for table in text.split("\n\n"):
        if table.lstrip().startswith("|"):
            assert len({line.count("|") for line in table.strip().splitlines()}) == 1, table


def test_saving_replaces_only_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "DATA", tmp_path / "a.json")
    monkeypatch.setattr(page, "PAGE", tmp_path / "a.md")
    options = argparse.Namespace(json=None, write=True)
    for name, ms in (("cnn", 2.0), ("mlp", 3.0), ("cnn", 1.0)):
        page.save(options, machine=MACHINE, steps={name: {"mulgil": {"ms": ms, "spread": 0.0}}})
    text = (tmp_path / "a.md").read_text()
    assert "`cnn` | 1.00" in text and "`mlp` | 3.00" in text


def test_an_interpreter_is_named_by_its_package():
    assert step.interpreter("jax=/usr/bin/python3") == ("jax", "/usr/bin/python3")
    for wrong in ("jax", "jax=", "caffe=/usr/bin/python3"):
        with pytest.raises(argparse.ArgumentTypeError):
            step.interpreter(wrong)


@pytest.mark.slow
def test_a_worker_answers_or_says_why_not():
    assert len(values(["mulgil-eager"], WORKLOADS["softmax"], {})["mulgil-eager"]) == 3
    worker = Worker(SIDES["dezero"], WORKLOADS["softmax"])
    assert bool(worker.missing) != bool(worker.version)
    worker.close()


def test_all_training_needs_labels_that_contradict_each_other():
    _, labels = WORKLOADS[TRAINING[0]].batch_of_data()
    assert len({tuple(t) for t in labels}) == len(labels) > 1
