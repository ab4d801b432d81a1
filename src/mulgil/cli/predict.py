"""`mulgil predict`: what a saved model sees in image files."""

from __future__ import annotations

from typing import Any

import click

from mulgil.cli.screen import echo
from mulgil.errors import ModelFileError, MulgilError, describe, visible


@click.command()
@click.argument("model", type=click.Path())
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
def predict(model: str, images: tuple[str, ...]) -> int:
    """What MODEL, a file or the folder of a run, sees in each IMAGE.

    Any size and colour will do; dark writing on light paper is inverted, as the notes say. The preprocessing is the one that
    the model was trained with: it stands in the model's file.
    """
    from mulgil.cli.model import at_work, load_model

    classifier = load_model(model)
    failed = False
    for path in images:
        try:
            with at_work(model):
                label, share, second, notes = classify(classifier, path)
        except MulgilError as error:
            echo(str(error), err=True)
            failed = True
            continue
        remark = f"   ({'; '.join(notes)})" if notes else ""
        echo(f"{visible(path)}: {visible(label)}  {share:.1%}   then {visible(second)}{remark}")
    return int(failed)


def classify(model: Any, path: str) -> tuple[str, float, str, list[str]]:
    """(class, probability, the runner-up as text, notes) of an image file."""
    import numpy as np

    import mulgil
    from mulgil import nn
    from mulgil.cli.images import HANDWRITING, read_image
    from mulgil.train.inputs import known_classes, prepare, training_set

    image, notes = read_image(path, image_size(model), centre=(training_set(model) or "mnist") in HANDWRITING)
    model.eval()
    with mulgil.no_grad(), np.errstate(all="ignore"):
        scores = model(prepare(model, image[None, None]))
        if scores.ndim != 2 or len(scores) != 1 or scores.shape[1] < 2:
            hint = "is this a model of another kind?"
            raise ModelFileError("a classifier must give a score for each class", describe(scores=scores), hint)
        shares = np.asarray(nn.functional.softmax(scores, dim=1))[0]
    if not np.isfinite(shares).all():
        rule, hint = "a classifier's scores must be finite numbers", "its weights are damaged, or its training went wrong: train it anew"
        raise ModelFileError(rule, f"{np.asarray(scores)[0]}", hint)
    names = known_classes(model, len(shares))
    first, second = np.argsort(shares)[::-1][:2]
    return names[first], float(shares[first]), f"{names[second]} {shares[second]:.1%}", notes


def image_size(model: Any) -> tuple[int, int]:
    """(height, width) of the images that a model was trained on, before their preprocessing; MNIST's where it does not know."""
    from mulgil.train.inputs import known_shape

    shape = known_shape(model, "image_shape") or known_shape(model, "input_shape") or ()
    return (shape[-2], shape[-1]) if len(shape) > 1 else (28, 28)
