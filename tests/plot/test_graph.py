"""Graph pictures: what is in them, that the layout holds its promises, and that the texts are well-formed."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mulgil
from mulgil import nn, plot
from mulgil.errors import GradientError, OptionError, ShapeError
from mulgil.nn import functional as F
from mulgil.plot.diagram import LOOKS, Diagram
from mulgil.plot.layout import arrange, ranks

SVG = "{http://www.w3.org/2000/svg}"


def texts(diagram: Diagram) -> set[str]:
    return {" ".join(box.lines) for box in diagram.boxes}


def arrows(diagram: Diagram) -> set[tuple[str, str]]:
    return {(diagram.boxes[u].lines[0], diagram.boxes[v].lines[0]) for u, v in diagram.edges}


# ---- layout


@st.composite
def dags(draw):
    n = draw(st.integers(1, 25))
    pairs = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda p: p[0] != p[1])
    edges = [(min(p), max(p)) for p in draw(st.lists(pairs, max_size=50))]
    sizes = [(draw(st.floats(5, 200)), draw(st.floats(5, 60))) for _ in range(n)]
    order = draw(st.permutations(range(n)))
    return sizes, [(order[u], order[v]) for u, v in edges]


@settings(max_examples=60, deadline=None)
@given(dags())
def test_boxes_do_not_touch_and_edges_run_down_through_free_places(dag) -> None:
    sizes, edges = dag
    placed = arrange(sizes, edges)
    boxes = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (x, y), (w, h) in zip(placed.centres, sizes, strict=True)]
    for i, a in enumerate(boxes):
        assert min(a) >= -1e-6 and a[2] <= placed.width + 1e-6 and a[3] <= placed.height + 1e-6
        for b in boxes[:i]:
            assert a[2] <= b[0] - 1 or b[2] <= a[0] - 1 or a[3] <= b[1] - 1 or b[3] <= a[1] - 1
    for (u, v), path in zip(edges, placed.paths, strict=True):
        assert path[0] == (placed.centres[u][0], pytest.approx(boxes[u][3])) and path[-1][1] == pytest.approx(boxes[v][1])
        assert all(later[1] >= earlier[1] - 1e-6 for earlier, later in pairwise(path))
        for x, y in path[2:-2]:
            assert not any(b[0] < x < b[2] and b[1] < y < b[3] for b in boxes)


@given(dags())
def test_layers_go_down(dag) -> None:
    sizes, edges = dag
    rank = ranks(len(sizes), edges)
    assert all(rank[u] < rank[v] for u, v in edges) and min(rank) >= 0


def test_crossings_are_taken_away_and_circles_refused() -> None:
    placed = arrange([(10, 10)] * 6, [(0, 5), (1, 4), (2, 3)])
    xs = [x for x, _ in placed.centres]
    assert np.argsort(xs[:3]).tolist() == np.argsort(xs[:2:-1]).tolist()
    with pytest.raises(OptionError):
        arrange([(10, 10)] * 2, [(0, 1), (1, 0)])
    assert arrange([], []).centres == []


def test_a_long_edge_is_straight() -> None:
    chain = [(i, i + 1) for i in range(9)]
    placed = arrange([(60, 20)] * 10, [*chain, (0, 9)])
    inner = [x for x, _ in placed.paths[-1][2:-2]]
    assert max(inner) - min(inner) < 3  # pixels


# ---- texts


AWKWARD = '<b>&"\'\\\n\x00\x1b\ud800 </svg> 한글 이름 ]]>'


def test_svg_and_dot_are_well_formed_whatever_the_names(tmp_path) -> None:
    x = mulgil.tensor([1.0, 2.0], requires_grad=True)
    diagram = plot.graph((x * x).sum(), names={AWKWARD: x})
    diagram.title = AWKWARD
    root = ET.fromstring(diagram.svg)
    shown = "".join(root.itertext())
    assert "한글 이름" in shown and '<b>&"' in shown
    path = diagram.save(tmp_path / "new" / "graph.svg")
    assert path.read_text(encoding="utf-8") == diagram.svg == diagram._repr_svg_()
    for kind in (".dot", ".gv"):
        assert diagram.save(tmp_path / f"graph{kind}").read_text(encoding="utf-8").startswith("digraph ")
    outside = re.sub(r'"(\\.|[^"\\])*"', "TEXT", diagram.dot)  # each quoted text ends where it should
    assert '"' not in outside and "svg" not in outside and outside.count("->") == len(diagram.edges)
    with pytest.raises(OptionError, match="saved as"):
        diagram.save(tmp_path / "graph.jpg")


@pytest.mark.parametrize("letters", ["WWWWMMMM@@", "학습률과 손실함수", "iiiiiillll", "x" * 300])
def test_text_stays_in_its_box(letters: str) -> None:
    """By matplotlib's measure of the font that most systems have; Korean letters are as wide as they are high."""
    text_path = pytest.importorskip("matplotlib.textpath")
    font = pytest.importorskip("matplotlib.font_manager").FontProperties(family="DejaVu Sans", size=12)
    for kind, (shape, _, _) in LOOKS.items():
        diagram = Diagram()
        diagram.add(0, letters, kind=kind)
        (shown,), (width, height) = diagram.boxes[0].shown, diagram.boxes[0].size
        is_korean = ord(shown[0]) > 0x1100
        wide = 12 * len(shown) if is_korean else text_path.TextPath((0, 0), shown, prop=font).get_extents().width
        room = width * np.sqrt(1 - (12 / height) ** 2) if shape == "ellipse" else width
        assert wide <= room


def test_kinds_differ_in_grey() -> None:
    def grey(kind: str) -> float:
        r, g, b = (int(LOOKS[kind][1][i : i + 2], 16) for i in (1, 3, 5))
        return 0.3 * r + 0.59 * g + 0.11 * b

    assert min(abs(grey("data") - grey("parameter")), abs(grey("function") - grey("data"))) > 20


# ---- tensors


def test_functions_and_data_as_dezero_draws_them() -> None:
    x = mulgil.tensor(2.0, requires_grad=True)
    y = mulgil.sin(x) ** 2
    whole = plot.graph(y, names={"x": x, "y": y})
    assert texts(whole) == {"x scalar", "Sin", "scalar", "2", "Pow", "y scalar"}
    assert arrows(whole) == {("x", "Sin"), ("Sin", "scalar"), ("scalar", "Pow"), ("2", "Pow"), ("Pow", "y")}
    assert arrows(plot.graph(y, verbose=0, names={"x": x, "y": y})) == {("x", "Sin"), ("Sin", "Pow"), ("2", "Pow"), ("Pow", "y")}
    assert "x scalar f32" in texts(plot.graph(y, verbose=2, names={"x": x}))
    kinds = {box.lines[0]: box.kind for box in whole.boxes}
    assert (kinds["x"], kinds["y"], kinds["2"], kinds["Sin"]) == ("input", "output", "constant", "function")


def test_second_derivatives() -> None:
    x = mulgil.tensor(2.0, requires_grad=True)
    (mulgil.sin(x) ** 2).backward(create_graph=True)
    diagram = plot.graph(x.grad, names={"x": x, "gx": x.grad})
    assert {"x scalar", "Cos", "gx scalar"} <= texts(diagram)
    assert len(diagram.boxes) == len({(box.lines, i) for i, box in enumerate(diagram.boxes)})
    (second,) = mulgil.autograd.grad(x.grad, x, create_graph=True) if hasattr(mulgil.autograd, "grad") else (x.grad,)
    ET.fromstring(plot.graph([x.grad, second], verbose=2).svg)


def test_a_loss_with_the_names_of_a_model() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    loss = F.cross_entropy(model(mulgil.rand(5, 4)), mulgil.randint(0, 2, (5,)))
    diagram = plot.graph(loss, names=model)
    assert {"0.weight [3, 4]", "2.bias [2]", "[5, 4]", "[5]", "CrossEntropy", "scalar"} <= texts(diagram)
    assert ("2.weight", "Affine") in arrows(diagram) and ("[5]", "CrossEntropy") in arrows(diagram)
    loss.backward()
    with pytest.raises(GradientError, match="released"):
        plot.graph(loss)


def test_a_tensor_used_twice_is_one_ellipse_and_several_outputs_are_told_apart() -> None:
    x = mulgil.tensor(np.ones((4, 6)), requires_grad=True)
    diagram = plot.graph(x * x + x)
    assert [box.kind for box in diagram.boxes].count("input") == 1
    leaf = plot.graph(x)
    assert len(leaf.boxes) == 1 and not leaf.edges


def test_graph_refuses() -> None:
    for bad, options in ((np.ones(3), {}), ([], {}), ("x", {}), (mulgil.ones(2), {"verbose": 3}), (nn.Linear(2, 2), {})):
        with pytest.raises(OptionError):
            plot.graph(bad, **options)


# ---- modules


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.scale = nn.Parameter(np.ones(4, np.float32))
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.body(x)) * self.scale + x


def test_layers_functions_between_them_and_loose_parameters() -> None:
    model = Residual()
    model.train()
    state = mulgil.default_generator.get_state()
    diagram = plot.graph(model, (4,))
    assert {"input [N, 4]", "body.0: Linear [N, 4] 20 parameters", "body.1: ReLU [N, 4]", "scale [4]", "Add [N, 4]"} <= texts(diagram)
    assert arrows(diagram) == {
        ("input", "body.0: Linear"),
        ("body.0: Linear", "body.1: ReLU"),
        ("body.1: ReLU", "drop: Dropout"),
        ("drop: Dropout", "Mul"),
        ("scale", "Mul"),
        ("Mul", "Add"),
        ("input", "Add"),
        ("Add", "output"),
    }
    assert model.training and not model._forward_hooks
    np.testing.assert_equal(mulgil.default_generator.get_state(), state)
    assert "Linear" in "".join(texts(plot.graph(model, (4,), verbose=0)))
    inside = plot.graph(model, (4,), verbose=2)
    assert {box.group for box in inside.boxes} >= {"body.0: Linear", "body.1: ReLU"} and "subgraph cluster_" in inside.dot


def test_examples_of_inputs() -> None:
    conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    assert "input [N, 1, 8, 8]" in texts(plot.graph(conv, (1, 8, 8)))
    for example in (mulgil.rand(7, 1, 8, 8), np.zeros((7, 1, 8, 8), np.float32), [mulgil.rand(7, 1, 8, 8)]):
        assert "input [7, 1, 8, 8]" in texts(plot.graph(conv, example))
    with pytest.raises(ShapeError, match="without the batch axis"):
        plot.graph(conv, (7, 5, 1, 8, 8))
    for bad in ((0,), "abc", [(1, 2), 3]):
        with pytest.raises(OptionError):
            plot.graph(conv, bad)

    class Two(nn.Module):
        def forward(self, a, b):
            return {"sum": a + b, "difference": a - b}

    diagram = plot.graph(Two(), [(3,), (3,)])
    assert {"input 1 [N, 3]", "input 2 [N, 3]"} <= texts(diagram) and [box.kind for box in diagram.boxes].count("output") == 2


# ---- compiled


@pytest.fixture(scope="module")
def compiled():
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    optimizer = mulgil.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    @mulgil.compile(state=[model, optimizer])
    def step(x, t):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), t)
        loss.backward()
        optimizer.step()
        return loss

    with pytest.raises(OptionError, match="once it has run"):
        plot.graph(step)
    step(mulgil.rand(4, 6), mulgil.randint(0, 3, (4,)))
    return step


def test_a_compiled_step_by_kernels_and_by_calls(compiled) -> None:
    (program,) = compiled.programs.values()
    kernels = [step for step in program.steps if hasattr(step, "nodes")]
    for x in (compiled, program):
        steps = plot.graph(x)
        named = [box for box in steps.boxes if box.kind == "kernel"]
        assert [box.lines[0] for box in named] == [f"kernel {i + 1}" for i in range(len(kernels))]
        assert named[0].lines[1].startswith(str(kernels[0].nodes[0].op).split("(")[0])
        assert any(box.lines[0].startswith("result") for box in steps.boxes)
    assert max(len(box.lines) for box in plot.graph(program, verbose=0).boxes) == 1
    calls = plot.graph(program, verbose=2)
    assert [box.kind for box in calls.boxes].count("function") == len(program.graph.nodes)
    assert len({box.group for box in calls.boxes}) == len(kernels) + 1
    assert {box.lines[0] for box in calls.boxes} >= {v.name for v in program.graph.values() if v.kind == "input"}
    assert [box.kind for box in plot.graph(program.graph, verbose=2).boxes].count("function") == len(program.graph.nodes)
    for diagram in (plot.graph(program, verbose=v) for v in (0, 1, 2)):
        ET.fromstring(diagram.svg)
        assert "inputs:" in str(program.graph)  # the graph's own print stays


def test_five_hundred_boxes() -> None:
    x = mulgil.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(36):
        y = mulgil.sin(y) * y
    y.backward(create_graph=True)
    diagram = plot.graph(x.grad)
    assert len(diagram.boxes) > 450
    assert len(ET.fromstring(diagram.svg).findall(f".//{SVG}text")) >= len(diagram.boxes)
