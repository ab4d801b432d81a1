"""Data: sets of samples, the order of visiting them, what is done to each, and batches of them. Names are PyTorch's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mulgil.data import datasets, transforms
from mulgil.data.assembly import Assembly
from mulgil.data.collate import default_collate
from mulgil.data.dataset import Dataset, Subset, TensorDataset, random_split
from mulgil.data.datasets import download_mnist, load_mnist
from mulgil.data.loader import DataLoader
from mulgil.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from mulgil.names import lookup

__all__ = [
    "Assembly",
    "BatchSampler",
    "DataLoader",
    "Dataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "datasets",
    "default_collate",
    "download_mnist",
    "load_mnist",
    "random_split",
    "transforms",
]

if not TYPE_CHECKING:  # a checker would take any name for known
    __getattr__ = lookup(__name__)
