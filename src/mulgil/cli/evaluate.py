"""`mulgil eval`: a saved model on a test set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mulgil.cli.options import DATA_NAMES, data_root_option, device_option
from mulgil.cli.screen import echo

if TYPE_CHECKING:
    from mulgil.train import Interpretation


@click.command(name="eval")
@click.argument("model", type=click.Path())
@click.option("--data", type=click.Choice(DATA_NAMES), help="(default: the set that the model was trained on)")
@data_root_option
@device_option
@click.option("--report", is_flag=True, help="Precision, recall and F1 of each class, and what is confused most often.")
@click.option("--confusion", metavar="PNG", help="Draw the confusion matrix.")
@click.option("--mistakes", metavar="PNG", help="Draw what it got wrong.")
@click.option("--top-losses", metavar="PNG", help="Draw the images with the highest losses.")
def evaluate(model: str, data: str | None, data_root: str | None, device: str, report: bool, **pictures: str | None) -> int:
    """Loss and accuracy of MODEL, a file or the folder of a run, on a test set; which classes it confuses, and where it fails."""
    import time

    from mulgil.cli.model import at_work, load_model
    from mulgil.train import interpret
    from mulgil.train.inputs import training_set
    from mulgil.train.sources import load_source

    classifier = load_model(model, device)
    # raw images: the model knows what to do with them
    source = load_source(data or training_set(classifier) or "auto", data_root, None, echo)
    start = time.perf_counter()
    with at_work(model):
        result = interpret(classifier, source.test, classes=source.classes)
    rate = len(result) / (time.perf_counter() - start)
    figures = f"loss {result.loss:.4f}  accuracy {result.accuracy:.4f}"
    echo(f"{source.name} test: {figures}  ({len(result):,} images, {rate:,.0f} images/s)")
    if report:
        show_report(result)
    draw(result, pictures)
    return 0


def show_report(result: Interpretation) -> None:
    """The scores of each class, and the most frequent confusions."""
    echo(f"\n{result.report()}\n")
    for true, predicted, count in result.most_confused(5):
        echo(f"{count:>5,} x {true} taken for {predicted}")


def draw(result: Interpretation, paths: dict[str, str | None]) -> None:
    """The pictures that were asked for, into their files."""
    views = {
        "confusion": result.plot_confusion_matrix,
        "mistakes": lambda: result.plot_mistakes(seed=0),
        "top_losses": result.plot_top_losses,
    }
    for name, path in paths.items():
        if path:
            from mulgil import plot

            echo(f"{name.replace('_', ' ')}: {plot.save_png(views[name](), path)}")
