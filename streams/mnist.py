"""Streams of MNIST and Fashion-MNIST, read from their four published IDX files."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from .builders import RELATED, Options, PermutedOptions, RotatedOptions, SplitOptions, permuted, rotated, split
from .core import Stream
from .named import stream
from .sources.idx import mnist


@stream("split-mnist", embedded=False, setting="cil", needs="MNIST")
def split_mnist(
    *, data: str | Path | None = None, download: bool = False, n_tasks: int = 5, **options: Unpack[SplitOptions]
) -> Stream:
    """MNIST 28x28, 5 tasks of 2 digits; class-incremental.

    60,000 images to train and 10,000 to test (LeCun, Cortes, Burges), about 12,000 and 2,000 per task.
    """
    return split(mnist("MNIST", data, download), n_tasks, name="split-mnist", **options)


@stream("permuted-mnist", embedded=False, setting="dil", needs="MNIST")
def permuted_mnist(
    *, data: str | Path | None = None, download: bool = False, n_tasks: int = 10, **options: Unpack[PermutedOptions]
) -> Stream:
    """MNIST 28x28, 10 tasks with permuted pixels; domain-incremental.

    60,000 to train and 10,000 to test per task, 55 MB each. `n_tasks=20, train_per_task=1000` is the protocol of
    Lopez-Paz and Ranzato (2017); like them, the first task is permuted too unless `identity_first`.
    """
    return permuted(mnist("MNIST", data, download), n_tasks, name="permuted-mnist", **options)


@stream("rotated-mnist", embedded=False, setting="dil", needs="MNIST")
def rotated_mnist(
    *, data: str | Path | None = None, download: bool = False, n_tasks: int = 10, **options: Unpack[RotatedOptions]
) -> Stream:
    """MNIST 28x28, 10 tasks of growing rotation up to 180°; domain-incremental.

    60,000 to train and 10,000 to test per task, 55 MB each. The protocol of Lopez-Paz and Ranzato (2017) is
    `n_tasks=20, train_per_task=1000, interpolation="nearest"`.
    """
    return rotated(mnist("MNIST", data, download), n_tasks, name="rotated-mnist", **options)


@stream("recurring-mnist", embedded=False, setting="til", needs="MNIST")
def recurring_mnist(
    *,
    data: str | Path | None = None,
    download: bool = False,
    n_tasks: int = 6,
    distinct: int = 2,
    **options: Unpack[Options],
) -> Stream:
    """MNIST 28x28, 6 tasks of 300 new images under two permutations in turn; task-incremental, one head.

    The same task comes back with other images, so that what is learnt on a visit can help the visits before; test sets
    are the 10,000 images each time. `distinct` is the number of permutations.
    """
    made = RELATED | {"train_per_task": 300} | options
    return permuted(mnist("MNIST", data, download), n_tasks, name="recurring-mnist", distinct=distinct, **made)


@stream("slowly-rotated-mnist", embedded=False, setting="til", needs="MNIST")
def slowly_rotated_mnist(
    *,
    data: str | Path | None = None,
    download: bool = False,
    n_tasks: int = 10,
    step: float = 15.0,
    **options: Unpack[Options],
) -> Stream:
    """MNIST 28x28, 10 tasks of 200 new images, each turned by 15° more; task-incremental, one head.

    Task t is turned by t times `step` degrees, the first not at all; test sets are the 10,000 images each time. With
    `step=5` neighbouring tasks are nearly one.
    """
    angles = [step * t for t in range(n_tasks)]
    made = RELATED | {"train_per_task": 200} | options
    return rotated(mnist("MNIST", data, download), n_tasks, name="slowly-rotated-mnist", angles=angles, **made)


@stream("split-fashion-mnist", embedded=False, setting="cil", needs="FashionMNIST")
def split_fashion_mnist(
    *, data: str | Path | None = None, download: bool = False, n_tasks: int = 5, **options: Unpack[SplitOptions]
) -> Stream:
    """Fashion-MNIST 28x28, 5 tasks of 2 kinds of clothing; class-incremental.

    60,000 images to train and 10,000 to test (Xiao, Rasul, Vollgraf 2017), 12,000 and 2,000 per task.
    """
    return split(mnist("FashionMNIST", data, download), n_tasks, name="split-fashion-mnist", **options)
