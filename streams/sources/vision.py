"""Any classification data set of torchvision."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...base.errors import UsageError, unknown
from ..labelled import Labelled, from_arrays
from . import data_root, fetch
from .cifar import LAYOUTS, cifar
from .idx import NAMES, mnist
from .images import decode


def from_torchvision(
    dataset: Any,
    test: Any = None,
    *,
    data: str | Path | None = None,
    download: bool = False,
    size: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Labelled:
    """Labelled images from a torchvision data set at hand, or from the name of its class, such as "SVHN".

    Args:
        dataset, test: objects with `.data` and `.targets`, or that give (image, label) pairs; a transform of theirs is
            applied once. Without `test`, `test_fraction` of every class is split off, fixed by the seed.
        data: folder of the data sets, for a name; see `data_root`.
        size: cut the largest centred square and resize it to `size` x `size`; None needs images of one size.

    Raises:
        StorageError: a name whose files are not there. UsageError: a name that torchvision has not, unequal sizes.
    """
    if isinstance(dataset, str):
        if dataset in NAMES and size is None:
            return mnist(dataset, data, download)
        if dataset in LAYOUTS and size is None:
            return cifar(dataset, data, download)
        dataset, test = _by_name(dataset, data_root(data), download)
    x, y = _read(dataset, size)
    held = (None, None) if test is None else _read(test, size)
    names = tuple(str(name) for name in getattr(dataset, "classes", ()))
    return from_arrays(x, y, *held, class_names=names, test_fraction=test_fraction, seed=seed)


def _by_name(name: str, root: Path, download: bool) -> tuple[Any, Any]:
    from torchvision import datasets

    source = getattr(datasets, name, None)
    if name not in datasets.__all__ or source is None:
        raise unknown("torchvision data set", name, datasets.__all__)
    known = inspect.signature(source).parameters
    if "train" in known:
        choices: tuple[dict, ...] = ({"train": True}, {"train": False})
    elif "split" in known:
        choices = ({"split": "train"}, {"split": "test"})
    else:
        raise UsageError(
            f"torchvision's {name} has no train and test parts by argument; construct it and pass the object."
        )
    more = {"download": download} if "download" in known else {}
    return tuple(fetch(name, root, lambda part=part: source(root, **part, **more)) for part in choices)


def _read(dataset: Any, size: int | None) -> tuple[torch.Tensor, list]:
    """Pixels [N, C, H, W] uint8 and labels. Arrays are taken as they are; otherwise each item is read once."""
    stored, labels = (
        getattr(dataset, "data", None),
        getattr(dataset, "targets", getattr(dataset, "labels", None)),
    )
    plain = getattr(dataset, "transform", None) is None and getattr(dataset, "target_transform", None) is None
    if plain and size is None and labels is not None and isinstance(stored, (np.ndarray, torch.Tensor)):
        return stored, [int(label) for label in labels]
    found: list[Any] = []

    def item(i: int) -> Any:
        image, label = dataset[i]
        found.append(int(label))
        return image

    return decode(size, ((f"item {i}", lambda i=i: item(i)) for i in range(len(dataset))))[0], found
