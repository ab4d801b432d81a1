"""torchvision's MNIST, ToTensor, Pad and Normalize for PyTorch's side, one image at a time, written by torchvision's documentation.

torchvision itself is not needed. What it does between the file and the batch is here too: a PIL image for each sample, and an array of it.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

FILES = {True: ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"), False: ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}


def read_idx(folder: Path, name: str) -> torch.Tensor:
    """An IDX file of bytes, plain or compressed, as a tensor."""
    plain = folder / name
    data = plain.read_bytes() if plain.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape).copy())


class Images(torch.utils.data.Dataset):
    """Pairs of (PIL image, label); the image goes through `transform`."""

    def __init__(self, data: torch.Tensor, targets: torch.Tensor, transform: Callable[[Any], Any] | None = None):
        self.data, self.targets, self.transform = data, targets, transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image: Any = Image.fromarray(self.data[index].numpy())
        target = int(self.targets[index])
        return (image if self.transform is None else self.transform(image)), target


class MNIST(Images):
    """The images of MNIST's files in the folder `root`."""

    def __init__(self, root: str | Path, train: bool = True, transform: Callable[[Any], Any] | None = None):
        images, labels = FILES[train]
        super().__init__(read_idx(Path(root), images), read_idx(Path(root), labels), transform)


class ToTensor:
    """[1, H, W] of float32 from 0 to 1."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        x = torch.from_numpy(np.array(image, np.uint8, copy=True))
        x = x.view(image.size[1], image.size[0], 1).permute(2, 0, 1).contiguous()
        return x.to(torch.float32).div(255)


class Pad:
    """A PIL image with `padding` black pixels on each side."""

    def __init__(self, padding: int):
        self.padding = padding

    def __call__(self, image: Image.Image) -> Image.Image:
        return ImageOps.expand(image, border=self.padding, fill=0)


class Normalize:
    """(x - mean) / std for each channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone().sub_(self.mean).div_(self.std)


class Compose:
    def __init__(self, steps: Sequence[Callable[[Any], Any]]):
        self.steps = steps

    def __call__(self, x: Any) -> Any:
        for step in self.steps:
            x = step(x)
        return x
