"""`mulgil eval`: a saved model on a test set."""

from __future__ import annotations

import click

from mulgil.cli.options import DATA_NAMES, data_root_option, device_option


@click.command(name="eval")
@click.argument("model", type=click.Path(dir_okay=False))
@click.option("--data", type=click.Choice(DATA_NAMES), help="(default: the set that the model was trained on)")
@data_root_option
@device_option
@click.option("--mistakes", metavar="PNG", help="Draw what it got wrong.")
def evaluate(model: str, data: str | None, data_root: str | None, device: str, mistakes: str | None) -> int:
    """Loss and accuracy of MODEL on a test set."""
    from mulgil import nn
    from mulgil.data import DataLoader
    from mulgil.io import load, read_info
    from mulgil.train import loop
    from mulgil.train.preprocess import build_transform
    from mulgil.train.run import EVAL_BATCH
    from mulgil.train.sources import load_source

    classifier, info = load(model, device), read_info(model)
    transform = build_transform(info.get("preprocessing", [["ToTensor", {}]]))
    source = load_source(data or info.get("data", "auto"), data_root, transform, click.echo)
    result = loop.evaluate(classifier, DataLoader(source.test, batch_size=EVAL_BATCH), nn.CrossEntropyLoss())
    figures = f"loss {result.loss:.4f}  accuracy {result.accuracy:.4f}"
    click.echo(f"{source.name} test: {figures}  ({result.samples:,} images, {result.rate:,.0f} images/s)")
    if mistakes:
        from mulgil import plot
        from mulgil.cli.train import test_arrays

        images, truth = test_arrays(source.test)
        click.echo(f"mistakes: {plot.save_png(plot.mistakes(images, result.predictions, truth, source.classes), mistakes)}")
    return 0
