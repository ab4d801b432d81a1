"""Seconds for an epoch of MNIST through a DataLoader: shuffled, batch 100, ToTensor + Normalize; PyTorch's beside it.

    python benchmarks/loader.py [--batch-size 100] [--repeats 5] [--data-root DIR]

Where torch is installed, its DataLoader runs over a data set that does per sample what torchvision documents for its MNIST,
ToTensor and Normalize (torchvision itself is not needed). Without MNIST on disk, random images of the same size are used.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np

import mulgil
from mulgil.data import DataLoader, datasets, transforms

MEAN, STD = 0.1307, 0.3081


def seconds(make_loader: Callable[[], Iterable], repeats: int) -> tuple[float, float]:
    """Median and best time of an epoch, after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for _batch in make_loader():
            pass
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]), min(times[1:])


def mnist(root: str | None) -> datasets.ImageDataset:
    """MNIST's training part, or random images of its size."""
    if datasets.is_available("mnist", root):
        return datasets.MNIST(root)
    print("MNIST is not on disk: random images of its size")
    random = np.random.default_rng(0)
    return datasets.ImageDataset(random.integers(256, size=(60_000, 28, 28), dtype=np.uint8), random.integers(10, size=60_000))


def torch_loader(data: datasets.ImageDataset, batch_size: int) -> Callable[[], Iterable] | None:
    """PyTorch's loader over the same images, prepared one at a time as torchvision does; None without torch."""
    try:
        import torch
        from PIL import Image
        from torch.utils.data import DataLoader as TorchLoader
    except ImportError:
        return None
    images, labels = torch.from_numpy(data.data.array), data.targets.array
    mean, std = torch.tensor([MEAN])[:, None, None], torch.tensor([STD])[:, None, None]

    class PerSample:
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, i: int) -> tuple:
            picture = Image.fromarray(images[i].numpy())
            x = torch.from_numpy(np.array(picture, np.uint8, copy=True)).view(28, 28, 1).permute(2, 0, 1).contiguous()
            x = x.to(torch.float32).div(255)
            return x.clone().sub_(mean).div_(std), int(labels[i])

    loader = TorchLoader(PerSample(), batch_size=batch_size, shuffle=True)  # type: ignore[arg-type, var-annotated]
    return lambda: loader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data-root")
    options = parser.parse_args()
    mulgil.manual_seed(0)
    data = mnist(options.data_root)
    normalize = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    rows: list[tuple[str, tuple[float, float] | None]] = []
    flat = transforms.Lambda(lambda x: x.view(-1))
    for name, steps in (("mulgil", normalize), ("mulgil, and Lambda(view) per sample", [*normalize, flat])):
        data.transform = transforms.Compose(steps)
        loader = DataLoader(data, batch_size=options.batch_size, shuffle=True)
        rows.append((name, seconds(lambda loader=loader: loader, options.repeats)))  # type: ignore[misc]
    other = torch_loader(data, options.batch_size)
    rows.append(("PyTorch's DataLoader, per sample", seconds(other, 1) if other else None))
    print(f"an epoch of {len(data):,} images, batch {options.batch_size}, shuffled, ToTensor + Normalize")
    for name, times in rows:
        print(f"  {name:38} " + (f"{times[0]:7.3f} s (best {times[1]:.3f})" if times else "torch and pillow are not installed"))


if __name__ == "__main__":
    main()
