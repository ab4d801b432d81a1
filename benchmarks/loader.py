"""Seconds for an epoch of MNIST through a DataLoader: shuffled, batch 100, ToTensor + Normalize; PyTorch's beside it.

    python -m benchmarks.loader [--batch-size 100] [--data-root DIR] [--write]

Where torch is installed, its DataLoader runs over `vision`, which does per sample what torchvision documents (torchvision itself is
not needed). Without MNIST on disk, random images of the same size are used.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterable

import numpy as np

import mulgil
from benchmarks import page, tables
from mulgil.data import DataLoader, datasets, transforms

MEAN, STD = 0.1307, 0.3081


def seconds(loader: Iterable, repeats: int) -> dict[str, float]:
    """Median and best time of an epoch, after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for _batch in loader:
            pass
        times.append(time.perf_counter() - start)
    return {"median": statistics.median(times[1:]), "best": min(times[1:])}


def mnist(root: str | None) -> datasets.ImageDataset:
    """MNIST's training part, or random images of its size."""
    if datasets.is_available("mnist", root):
        return datasets.MNIST(root)
    print("MNIST is not on disk: random images of its size")
    random = np.random.default_rng(0)
    return datasets.ImageDataset(random.integers(256, size=(60_000, 28, 28), dtype=np.uint8), random.integers(10, size=60_000))


def torch_loader(data: datasets.ImageDataset, batch_size: int) -> Iterable | None:
    """PyTorch's loader over the same images, prepared one at a time as torchvision does; None without torch and pillow."""
    try:
        import torch

        from benchmarks import vision
    except ImportError:
        return None
    transform = vision.Compose([vision.ToTensor(), vision.Normalize([MEAN], [STD])])
    images = vision.Images(torch.from_numpy(np.array(data.data.array)), torch.from_numpy(np.array(data.targets.array)), transform)
    return torch.utils.data.DataLoader(images, batch_size=batch_size, shuffle=True)


def options_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=int, default=100, help="of the loaders (default 100)")


def run(options: argparse.Namespace) -> None:
    """Measure, print, save."""
    mulgil.manual_seed(0)
    data = mnist(options.data_root)
    normalize = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    flat = transforms.Lambda(lambda x: x.view(-1))
    results = {}
    for name, steps in (("mulgil", normalize), ("mulgil, with a Lambda for each sample", [*normalize, flat])):
        data.transform = transforms.Compose(steps)
        results[name] = seconds(DataLoader(data, batch_size=options.batch_size, shuffle=True), 5)
    other = torch_loader(data, options.batch_size)
    if other is not None:
        results["PyTorch, each sample on its own"] = seconds(other, 1)
    print(tables.loader(results))
    page.save(options, loader=results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options_of(parser)
    page.options_of(parser)
    parser.add_argument("--data-root", help="the folder of MNIST's files")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
