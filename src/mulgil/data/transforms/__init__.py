"""Transforms: what happens to an image between the data set and the model. Names and results are torchvision's.

A transform is a function of one sample, `t(sample)`. Those that are a `Transform` also have `t.batch(samples)`, the
same function of many samples at once along a leading axis, with bit-identical results; a loader uses it to prepare a whole batch
in a few NumPy calls. `apply_batch` runs any pipeline on a batch: together as far as every step can, and sample by sample from
the first step on that cannot, such as a `Lambda`.

Images are [..., H, W]: [C, H, W] a sample, [N, C, H, W] a batch, as array or Tensor, uint8 or floating. Results carry no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mulgil.data.transforms.base import Compose, Lambda, Transform, apply_batch
from mulgil.data.transforms.geometry import Pad, Resize
from mulgil.data.transforms.values import Flatten, Normalize, ToTensor
from mulgil.names import lookup

__all__ = ["Compose", "Flatten", "Lambda", "Normalize", "Pad", "Resize", "ToTensor", "Transform", "apply_batch"]

if not TYPE_CHECKING:  # a checker would take any name for known
    __getattr__ = lookup(__name__)
