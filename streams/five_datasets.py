"""Five data sets in a row: the 5-Datasets stream of the literature (Ebrahimi et al. 2020)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Unpack

import torch.nn.functional as F

from ..base.errors import StorageError, UsageError
from .builders import Options, from_tasks
from .core import Stream
from .labelled import Labelled
from .named import stream
from .sources.cifar import cifar
from .sources.idx import mnist
from .sources.notmnist import notmnist
from .sources.svhn import svhn

SIDE = 32  # pixels
ORDERS = {
    "gpm": ("CIFAR-10", "MNIST", "SVHN", "Fashion-MNIST", "notMNIST"),
    "l2p": ("SVHN", "MNIST", "CIFAR-10", "notMNIST", "Fashion-MNIST"),
}
Found = tuple[Labelled, dict[str, int]]
LOADERS: dict[str, Callable[[Any, bool], Found]] = {
    "CIFAR-10": lambda data, download: (cifar("CIFAR10", data, download), {}),
    "MNIST": lambda data, download: (mnist("MNIST", data, download), {}),
    "SVHN": lambda data, download: (svhn(data, download), {}),
    "Fashion-MNIST": lambda data, download: (mnist("FashionMNIST", data, download), {}),
    "notMNIST": lambda data, download: notmnist(data),
}


@stream("five-datasets", embedded=False, setting="til", needs="CIFAR10, MNIST, SVHN, FashionMNIST, notMNIST")
def five_datasets(
    *,
    data: str | Path | None = None,
    download: bool = False,
    n_tasks: int = 5,
    order: Literal["gpm", "l2p"] = "gpm",
    **options: Unpack[Options],
) -> Stream:
    """CIFAR-10, MNIST, SVHN, Fashion-MNIST and notMNIST at 32x32 colour, 10 classes each; task-incremental.

    Their official splits; grey images of 28x28 get a margin of 2 black pixels and three equal channels. Each data set
    adds its own classes, 50 in all. `n_tasks` takes the first so many, and needs no others.

    Args:
        order: "gpm" as listed (Saha, Garg and Roy 2021); "l2p" is SVHN, MNIST, CIFAR-10, notMNIST, Fashion-MNIST (Wang
            et al. 2022).
    """
    if not 1 <= n_tasks <= 5:
        raise UsageError(f"n_tasks must be from 1 to 5 of the data sets; got {n_tasks}.")
    found: dict[str, Labelled] = {}
    missing, about = [], {}
    for name in ORDERS[order][:n_tasks]:
        try:
            labelled, more = LOADERS[name](data, download)
        except StorageError as error:  # told together: each may take a while to fetch
            missing.append(str(error))
            continue
        found[name] = _coloured(name, labelled)
        about |= more
    if missing:
        raise StorageError(f"five-datasets lacks {len(missing)} of its {n_tasks} data sets. {' '.join(missing)}")
    made = from_tasks(found, name="five-datasets", **({"setting": "til"} | options))
    return dataclasses.replace(made, meta={**made.meta, "order": order, **about})


def _coloured(name: str, labelled: Labelled) -> Labelled:
    """Pixels [N, 3, 32, 32], whatever they were, and class names that say whose they are."""
    parts = []
    for x in (labelled.train_x, labelled.test_x):
        margin = (SIDE - x.shape[-1]) // 2
        parts.append(F.pad(x, (margin,) * 4).expand(-1, 3, -1, -1).contiguous())
    names = tuple(f"{name} {label}" for label in labelled.class_names)
    return Labelled(parts[0], labelled.train_y, parts[1], labelled.test_y, names)
