"""CIFAR-100 by its superclasses: groups of classes in one of five fixed orders, which its stand-in has, too."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from ..base.errors import UsageError
from .builders import Options, split
from .core import Stream
from .labelled import Labelled
from .named import stream
from .sources.cifar import FINE, SUPERCLASSES, cifar

# Of twenty superclasses: as numbered, then the four that the experiments of Yoon et al. (2020), GPM and TRGP share.
ORDERS = (
    tuple(range(20)),
    (15, 12, 5, 9, 7, 16, 18, 17, 1, 0, 3, 8, 11, 14, 10, 6, 2, 4, 13, 19),
    (17, 1, 19, 18, 12, 7, 6, 0, 11, 15, 10, 5, 13, 3, 9, 16, 4, 14, 2, 8),
    (11, 9, 6, 5, 12, 4, 0, 10, 13, 7, 14, 3, 15, 16, 8, 1, 2, 19, 18, 17),
    (6, 14, 0, 11, 12, 17, 13, 4, 9, 1, 7, 19, 8, 10, 3, 15, 18, 5, 2, 16),
)


@stream("cifar100-superclasses", embedded=False, setting="til", needs="CIFAR100")
def cifar100_superclasses(
    *,
    data: str | Path | None = None,
    download: bool = False,
    n_tasks: int = 20,
    order: int = 0,
    **options: Unpack[Options],
) -> Stream:
    """CIFAR-100 32x32 colour, 20 tasks of one superclass, 5 classes each; task-incremental.

    2,500 images to train and 500 to test per task (Krizhevsky 2009). Class ids are those of the fine labels.

    Args:
        order: of the superclasses. The published experiments have five orders: 0 is as numbered, "aquatic mammals"
            first, and 1 to 4 are drawn once and for all (Yoon et al. 2020; Saha, Garg and Roy 2021).
    """
    groups = {name: tuple(FINE.index(fine) for fine in members) for name, members in SUPERCLASSES.items()}
    found = cifar("CIFAR100", data, download)
    return by_superclass(found, groups, order, n_tasks, name="cifar100-superclasses", **options)


def by_superclass(
    labelled: Labelled, groups: Mapping[str, Sequence[int]], order: int, n_tasks: int, *, name: str, **options: Any
) -> Stream:
    """Tasks of one superclass each, or of several where there are fewer tasks, named after them.

    Args:
        groups: the class ids of each of the twenty superclasses.
        order: an index of `ORDERS`.
    """
    if not 0 <= order < len(ORDERS):
        raise UsageError(f"order must be one of 0..{len(ORDERS) - 1}; got {order}.")
    names = list(groups)
    visited = [names[g] for g in ORDERS[order]]
    if n_tasks < 1 or len(names) % n_tasks:
        raise UsageError(
            f"{len(names)} superclasses do not divide into n_tasks={n_tasks}; it can be 1, 2, 4, 5, 10, 20."
        )
    classes = [c for group in visited for c in groups[group]]
    made = split(labelled, n_tasks, name=name, class_order=classes, **({"setting": "til"} | options))
    step = len(names) // n_tasks
    tasks = [
        dataclasses.replace(task, name=", ".join(visited[t * step : (t + 1) * step]).replace("_", " "))
        for t, task in enumerate(made.tasks)
    ]
    return dataclasses.replace(made, tasks=tasks, meta={**made.meta, "superclasses": visited})
