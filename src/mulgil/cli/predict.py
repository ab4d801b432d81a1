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
    from mulgil.io import load, read_info

    classifier, info = load(model), read_info(model)
    failed = False
    for path in images:
        try:
            label, share, second, notes = classify(classifier, info, path)
        except MulgilError as error:
            click.echo(str(error), err=True)
            failed = True
            continue
        remark = f"   ({'; '.join(notes)})" if notes else ""
        click.echo(f"{path}: {label}  {share:.1%}   then {second}{remark}")
    return int(failed)


def classify(model: Any, info: dict[str, Any], path: str) -> tuple[str, float, str, list[str]]:
    """(class, probability, the runner-up as text, notes) of an image file."""
    import numpy as np

    import mulgil
    from mulgil import nn
    from mulgil.cli.images import HANDWRITING, read_image
    from mulgil.train.preprocess import build_transform

    shape = tuple(info.get("input_shape", (1, 28, 28)))
    image, notes = read_image(path, (shape[-2], shape[-1]), centre=info.get("data", "mnist") in HANDWRITING)
    batch = build_transform(info.get("preprocessing", [["ToTensor", {}]])).batch(image[None, None])
    model.eval()
    with mulgil.no_grad():
        shares = np.asarray(nn.functional.softmax(model(batch), dim=1))[0]
    names = info.get("classes") or [str(i) for i in range(len(shares))]
    first, second = np.argsort(shares)[::-1][:2]
    return names[first], float(shares[first]), f"{names[second]} {shares[second]:.1%}", notes
