"""Streams of CIFAR-10 and CIFAR-100, read from their published binary files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Unpack

from .assemble import at_least_one
from .augment import RandomResizedCrop, Resize
from .builders import SplitOptions, split
from .core import Stream
from .labelled import Labelled
from .named import stream
from .sources.cifar import cifar


@stream("split-cifar10", embedded=False, setting="cil", needs="CIFAR10")
def split_cifar10(
    *,
    data: str | Path | None = None,
    download: bool = False,
    n_tasks: int = 5,
    image_size: int | None = None,
    **options: Unpack[SplitOptions],
) -> Stream:
    """CIFAR-10 32x32 colour, 5 tasks of 2 classes; class-incremental.

    50,000 images to train and 10,000 to test (Krizhevsky 2009), 10,000 and 2,000 per task.
    `image_size` as for split-cifar100.
    """
    return split(_sized(cifar("CIFAR10", data, download), image_size), n_tasks, name="split-cifar10", **options)


@stream("split-cifar100", embedded=False, setting="cil", needs="CIFAR100")
def split_cifar100(
    *,
    data: str | Path | None = None,
    download: bool = False,
    n_tasks: int = 10,
    image_size: int | None = None,
    **options: Unpack[SplitOptions],
) -> Stream:
    """CIFAR-100 32x32 colour, 10 tasks of 10 classes; class-incremental.

    50,000 images to train and 10,000 to test (Krizhevsky 2009), fine labels in alphabetical order, 5,000 and 1,000 per
    task. `n_tasks=20` gives 5 classes per task, as in Lopez-Paz and Ranzato (2017), who tell the task id: `til`.

    Args:
        image_size: 224 for a pre-trained vision transformer: images are resized on the device, bicubic at test, and as
            random resized crops with mirror images in training. None leaves them as they are.
    """
    return split(_sized(cifar("CIFAR100", data, download), image_size), n_tasks, name="split-cifar100", **options)


def _sized(labelled: Labelled, size: int | None) -> Labelled:
    if size is None:
        return labelled
    at_least_one("image_size", size)
    return dataclasses.replace(labelled, transform=Resize(size), augment=RandomResizedCrop(size))
