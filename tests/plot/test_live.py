"""The live plot: it counts as noggin does, draws within its share of the time, is saved and resumed, and is seen where somebody looks."""

from __future__ import annotations

import io
import sys
import types

import numpy as np
import pytest

from mulgil import plot
from mulgil.errors import DataError, OptionError
from mulgil.plot.terminal import chart

matplotlib = pytest.importorskip("matplotlib")


def lines(axes) -> dict[str, tuple[list, list]]:
    return {line.get_label().split(":")[0]: (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def fill(plotter, batches: int = 30, epoch: int = 10) -> None:
    for b in range(1, batches + 1):
        plotter.set_train_batch({"loss": 1 / b, "accuracy": b / batches}, batch_size=1 + b % 3)
        if b % epoch == 0:
            plotter.set_test_batch({"accuracy": b / batches}, batch_size=5)
            plotter.set_train_epoch()
            plotter.set_test_epoch()


def test_plotter_weighs_batches_and_marks_epochs() -> None:
    plotter, figure, axes = plot.create_plot(["loss", "accuracy"])
    for value, size in ((1.0, 100), (2.0, 50)):
        plotter.set_train_batch({"loss": value, "accuracy": value / 2, "ignored": 0}, batch_size=size)
    plotter.set_test_batch({"accuracy": 0.25}, batch_size=10)
    plotter.set_test_batch({"accuracy": np.float32(0.75)}, batch_size=30)
    plotter.set_train_epoch()
    plotter.set_test_epoch()
    plotter.set_train_batch({"loss": 0.5, "accuracy": 1}, batch_size=100)
    plotter.plot()
    assert lines(axes[1]) == {
        "train, batches": ([1, 2, 3], [0.5, 1.0, 1.0]),
        "train, epochs": ([2], [pytest.approx(200 / 3 / 100)]),
        "test, epochs": ([2], [0.625]),
    }
    assert list(lines(axes[0])) == ["train, batches", "train, epochs"]  # no test loss was given
    assert axes.shape == (2,) and figure is axes[0].figure
    plotter.plot(plot_batches=False)
    assert lines(axes[1])["train, batches"] == ([], [])


def test_a_metric_that_is_not_in_every_batch_stands_at_its_batches() -> None:
    plotter, _, axes = plot.create_plot("loss")
    for b in range(1, 7):
        plotter.set_train_batch({"loss": b} if b % 3 == 0 else {}, batch_size=1)
    plotter.plot()
    assert lines(axes)["train, batches"] == ([3, 6], [3, 6])


def test_the_last_batches_alone() -> None:
    plotter, _, axes = plot.create_plot("loss", last_n_batches=12)
    fill(plotter)
    plotter.plot()
    assert lines(axes)["train, batches"][0] == list(range(19, 31)) and lines(axes)["train, epochs"][0] == [20, 30]
    plotter.last_n_batches = None
    plotter.plot()
    assert len(lines(axes)["train, batches"][0]) == 30


def test_what_is_not_a_number_is_left_out() -> None:
    plotter, figure, axes = plot.create_plot("loss")
    for value in (1.0, float("nan"), float("inf"), 2.0):
        plotter.set_train_batch({"loss": value}, batch_size=1)
    plotter.set_train_epoch()
    plotter.plot()
    figure.canvas.draw()
    low, high = axes.get_ylim()
    assert 0.5 < low < 1 and 2 < high < 2.5
    assert "loss" in plotter.text()


def test_it_is_drawn_only_when_asked_where_nobody_looks_and_no_peak_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    plotter, _, axes = plot.create_plot("loss")
    drawn = []
    monkeypatch.setattr(plotter, "_draw_metric", lambda *a: drawn.append(a))
    for i in range(5001):
        plotter.set_train_batch({"loss": 7.0 if i == 1234 else 0.0}, batch_size=1)
    assert not drawn
    monkeypatch.undo()
    plotter.plot()
    x, y = lines(axes)["train, batches"]
    assert len(x) <= 2000 and max(y) == 7.0 and x == sorted(x)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
def test_drawing_takes_a_bounded_share_of_the_time(monkeypatch: pytest.MonkeyPatch, fraction: float) -> None:
    from mulgil.plot import live

    now = [0.0]
    drawings = []

    class Screen:
        def show(self, plotter, last: bool) -> None:
            drawings.append(last)
            now[0] += 1.0  # each drawing takes a second

    monkeypatch.setattr(live.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(live, "screens_for", lambda *a: [Screen()])
    plotter, _, _ = plot.create_plot("loss", max_fraction_spent_plotting=fraction)
    for _ in range(1000):
        now[0] += 0.1  # a batch
        plotter.set_train_batch({"loss": 0.0}, batch_size=1)
    assert len(drawings) <= fraction * now[0] + 2 and (len(drawings) >= 5) == (fraction > 0)
    if fraction == 1:
        assert len(drawings) <= 501  # five a second, in a hundred seconds of batches
    plotter.plot()
    assert drawings[-1] is True and not any(drawings[:-1])


def test_saved_in_mid_epoch_and_resumed(tmp_path) -> None:
    whole, _, axes = plot.create_plot(["loss", "accuracy"])
    fill(whole, 27)
    first, _, _ = plot.create_plot(["loss", "accuracy"])
    fill(first, 27)
    first.save(tmp_path / "metrics.npz")
    resumed, _, again = plot.create_plot(["loss", "accuracy"])
    resumed.load(tmp_path / "metrics.npz")
    third = plot.LivePlot.from_dict(first.to_dict())
    for plotter in (whole, resumed, third):
        fill(plotter, 8, epoch=4)
        plotter.plot()
    for a, b, c in zip(axes, again, third.plot_objects[1], strict=True):
        assert lines(a) == lines(b) == lines(c)
    assert whole.num_train_batch == third.num_train_batch == 35


def test_metrics_file_is_nogginsform(tmp_path) -> None:
    logger = plot.LiveLogger()
    fill(logger, 20)
    logger.set_train_batch({"a;b": 1.0}, batch_size=2)
    plot.save_metrics(tmp_path / "m.npz", logger)
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        assert file["sep"].item() == ";;" and "train;;a;b;;batch_data" in file.files
        assert list(file["train_order"]) == ["loss", "accuracy", "a;b"] and list(file["test_order"]) == ["accuracy"]
    train, test = plot.load_metrics(tmp_path / "m.npz")
    np.testing.assert_array_equal(train["loss"]["batch_data"], logger.train_metrics["loss"]["batch_data"])
    assert test["accuracy"]["epoch_domain"].tolist() == [10, 20] and train["a;b"]["total_weighting"] == 2
    plot.save_metrics(tmp_path / "n.npz", train_metrics=train, test_metrics=test)
    assert plot.load_metrics(tmp_path / "n.npz").test["accuracy"]["epoch_data"].tolist() == test["accuracy"]["epoch_data"].tolist()
    plotter, _, axes = plot.plot_logger(logger, colors={"loss": "black"}, ncols=3)
    assert plotter.metrics == ("loss", "accuracy", "a;b") and len(axes) == 3 and axes[0].lines[0].get_color() == "black"


def test_damaged_files_are_refused_and_change_nothing(tmp_path) -> None:
    plotter, _, _ = plot.create_plot(["loss", "accuracy"])
    fill(plotter)
    path = tmp_path / "m.npz"
    plotter.save(path)
    good = path.read_bytes()
    before = plotter.to_dict()
    np.savez(tmp_path / "pickled.npz", sep=np.array([{}], dtype=object))
    for data in (b"", good[: len(good) // 2], good[:-1], b"PK\x03\x04" + good[10:], (tmp_path / "pickled.npz").read_bytes()):
        path.write_bytes(data)
        with pytest.raises(DataError):
            plotter.load(path)
    with pytest.raises(DataError, match="no such file"):
        plotter.load(tmp_path / "other.npz")
    lengths = {"name": "loss", "batch_data": np.zeros(3), "batch_domain": np.zeros(2), "epoch_data": [], "epoch_domain": []}
    with pytest.raises(DataError):
        plotter.load_dict({"train_metrics": {"loss": lengths}, "test_metrics": {}})
    np.testing.assert_equal(plotter.to_dict(), before)


def test_colours_as_noggin_takes_them() -> None:
    plotter, _, axes = plot.create_plot({"loss": "red", "accuracy": {"train": "#123456", "test": (0, 0, 0)}})
    fill(plotter)
    plotter.plot()
    colours = [[line.get_color() for line in a.lines] for a in axes]
    assert colours == [["red", "red"], ["#123456", "#123456", (0, 0, 0)]]
    assert plotter.metric_colors["loss"] == {"train": "red"}
    again = plot.LivePlot.from_dict(plotter.to_dict())
    assert again.metric_colors == plotter.metric_colors


@pytest.mark.parametrize(
    ("metrics", "options"),
    [
        ([], {}),
        (["a", "a"], {}),
        ([1], {}),
        ("a", {"ncols": 0}),
        ("a", {"max_fraction_spent_plotting": 2}),
        ("a", {"last_n_batches": 0}),
        ({"a": "no colour"}, {}),
        ({"a": {"validation": "red"}}, {}),
    ],
)
def test_create_plot_refuses(metrics, options) -> None:
    with pytest.raises(OptionError):
        plot.create_plot(metrics, **options)


def test_a_batch_that_is_refused_leaves_nothing() -> None:
    plotter, _, _ = plot.create_plot(["a", "b"])
    with pytest.raises(OptionError):
        plotter.set_train_batch({"a": 1}, batch_size=0)
    with pytest.raises((TypeError, ValueError)):
        plotter.set_train_batch({"a": 1, "b": "none"}, batch_size=1)
    assert plotter.num_train_batch == 0 and not plotter.train_metrics


# ---- where it is seen


def test_png_follows(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "live.png"
    plotter, _, _ = plot.create_plot("loss", png=path, max_fraction_spent_plotting=1)
    monkeypatch.setattr("mulgil.plot.live.SHORTEST_WAIT", 0.0)
    plotter.set_train_batch({"loss": 1}, batch_size=1)
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG")
    for i in range(5):
        plotter.set_train_batch({"loss": i}, batch_size=1)
    assert path.read_bytes() != first and list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_written_does_not_end_the_training(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    plotter, _, _ = plot.create_plot("loss", png=tmp_path / "file" / "live.png")
    with pytest.warns(UserWarning, match="no longer shown"):
        plotter.plot()
    plotter.set_train_batch({"loss": 1}, batch_size=1)
    plotter.plot()
    assert plotter.num_train_batch == 1


def test_notebook_has_one_output_that_is_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    shown, updated = [], []

    def display(picture, display_id: bool):
        shown.append(picture)
        return types.SimpleNamespace(update=updated.append)

    parts = types.SimpleNamespace(display=display, Image=lambda data, format: data)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=1), display=parts))
    monkeypatch.setitem(sys.modules, "IPython.display", parts)
    plotter, _, _ = plot.create_plot("loss", max_fraction_spent_plotting=0)
    assert len(shown) == 1 and not plt.get_fignums()  # else the inline backend shows it again when the cell ends
    plotter.set_train_batch({"loss": 1}, batch_size=1)
    plotter.plot()
    assert len(shown) == 1 and len(updated) == 1 and updated[0].startswith(b"\x89PNG") and updated[0] != shown[0]


@pytest.mark.parametrize("encoding", ["utf-8", "cp949", "ascii"])
def test_terminal_by_request(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    plotter, _, _ = plot.create_plot(["loss", "accuracy"], terminal=True)
    fill(plotter)
    plotter.plot()
    out.flush()
    text = out.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert text.count("loss") == 1 and "x test 1" in text and ("⠀" in text) == (encoding == "utf-8")


def test_chart() -> None:
    text = chart("t", ([1, 2, 3], [0, 5, 10]), [("o", [3], [10]), ("x", [1], [0])], width=20, height=5, braille=False).splitlines()
    assert text[0] == "t" and len(text) == 7 and max(map(len, text)) <= 20
    assert text[1].startswith("       10|") and text[1].endswith("o")
    assert text[5].startswith("        0|x") and text[6].split() == ["1", "3"]
    for points in ([], [float("nan")], [3.0], [2.0, 2.0]):
        assert len(chart("t", (range(len(points)), points), [], width=30, height=4).splitlines()) in (5, 6)
