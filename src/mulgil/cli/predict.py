"""`mulgil predict`: what a saved model sees in image files."""

from __future__ import annotations

from typing import Any

import click

from mulgil.errors import MulgilError


@click.command()
@click.argument("model", type=click.Path(dir_okay=False))
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
def predict(model: str, images: tuple[str, ...]) -> int:
    """What MODEL sees in each IMAGE.

    Any size and colour will do; dark writing on light paper is inverted, as the notes say. The preprocessing is the one that
    the model was trained with: it stands in the model's file.
    """
    from mulgil.io import load

    classifier = load(model)
    failed = False
    for path in images:
        try:
            label, share, second, notes = classify(classifier, path)
        except MulgilError as error:
            click.echo(str(error), err=True)
            failed = True
            continue
        remark = f"   ({'; '.join(notes)})" if notes else ""
        click.echo(f"{path}: {label}  {share:.1%}   then {second}{remark}")
    return int(failed)


def classify(model: Any, path: str) -> tuple[str, float, str, list[str]]:
    """(class, probability, the runner-up as text, notes) of an image file."""
    import numpy as np

    import mulgil
    from mulgil import nn
    from mulgil.cli.images import HANDWRITING, read_image
    from mulgil.train.inputs import known, prepare, training_set

    info = known(model)
    image, notes = read_image(path, image_size(info), centre=(training_set(model) or "mnist") in HANDWRITING)
    model.eval()
    with mulgil.no_grad():
        shares = np.asarray(nn.functional.softmax(model(prepare(model, image[None, None])), dim=1))[0]
    names = info.get("classes") or [str(i) for i in range(len(shares))]
    first, second = np.argsort(shares)[::-1][:2]
    return names[first], float(shares[first]), f"{names[second]} {shares[second]:.1%}", notes


def image_size(info: dict[str, Any]) -> tuple[int, int]:
    """(height, width) of the images that a model was trained on, before their preprocessing; MNIST's where it does not know."""
    shape: list[int] = info.get("image_shape") or info.get("input_shape") or []
    return (int(shape[-2]), int(shape[-1])) if len(shape) > 1 else (28, 28)
