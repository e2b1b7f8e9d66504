"""Class-incremental streams with class names and prompts, as ZSCL (Zheng et al. 2023) has them beside MTIL."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Unpack

from ..base.errors import UsageError
from .assemble import at_least_one
from .augment import Resize
from .builders import SplitOptions, split
from .core import Stream
from .labelled import Labelled
from .named import stream
from .sources.cifar import cifar
from .sources.mtil_words import plain, prompts
from .sources.tinyimagenet import TINYIMAGENET, tinyimagenet

PROMPT = "a bad photo of a {}."
# The order of iCaRL (Rebuffi et al. 2017), which most class-incremental work on CIFAR-100 has taken over.
CIFAR100_ORDER = [
    87, 0, 52, 58, 44, 91, 68, 97, 51, 15, 94, 92, 10, 72, 49, 78, 61, 14, 8, 86, 84, 96, 18, 24, 32, 45, 88, 11, 4, 67,
    69, 66, 77, 47, 79, 93, 29, 50, 57, 83, 17, 81, 41, 12, 37, 59, 25, 20, 80, 73, 1, 28, 6, 46, 62, 82, 53, 9, 31, 75,
    38, 63, 33, 74, 27, 22, 36, 3, 16, 21, 60, 19, 70, 90, 89, 43, 5, 42, 65, 76, 40, 30, 23, 85, 2, 95, 56, 48, 71, 64,
    98, 13, 99, 7, 34, 55, 54, 26, 35, 39,
]  # fmt: skip


@stream("zscl-cifar100", embedded=False, setting="cil", needs="CIFAR100")
def zscl_cifar100(
    *,
    data: str | Path | None = None,
    download: bool = False,
    n_tasks: int = 10,
    prompt: str = PROMPT,
    image_size: int = 224,
    **options: Unpack[SplitOptions],
) -> Stream:
    """CIFAR-100 with class names, 224x224 colour, 10 tasks of 10 classes; class-incremental.

    Published with `n_tasks` 10, 20 and 50, in the class order of iCaRL, unless `class_order` says otherwise. Images are
    stored at 32x32 and resized on the device, bicubic, without augmentation.

    Args:
        prompt: of every class, its name in place of {}; "a good photo of a {}." is that of ImageNet in ZSCL.
    """
    made = {"class_order": CIFAR100_ORDER} | options
    labelled = _told(cifar("CIFAR100", data, download), prompt, image_size)
    return split(labelled, n_tasks, name="zscl-cifar100", **made)


@stream("zscl-tinyimagenet", embedded=False, setting="cil", needs="tiny-imagenet")
def zscl_tinyimagenet(
    *,
    data: str | Path | None = None,
    n_tasks: int = 6,
    base: int = 100,
    prompt: str = PROMPT,
    image_size: int = 224,
    **options: Unpack[SplitOptions],
) -> Stream:
    """TinyImageNet with class names, 224x224 colour, 100 classes and then 5 tasks of 20; class-incremental.

    100,000 photos to train and 10,000 to test, the official validation set. Published with `n_tasks` 6, 11 and 21. The
    class order is that of the WordNet ids; published code draws another, which `class_order` can give. Names are the
    first words of each class in WordNet, where published code has a list of its own.

    Args:
        base: classes of the first task; those that are left are divided evenly.
        prompt: as for zscl-cifar100.
    """
    labelled = tinyimagenet(data, TINYIMAGENET)
    for option, value in (("n_tasks", n_tasks), ("base", base)):
        at_least_one(option, value)
    left = labelled.classes - base
    if n_tasks < 2 or left < 1 or left % (n_tasks - 1):
        raise UsageError(
            f"{labelled.classes} classes do not make a first task of base={base} and n_tasks={n_tasks} less one of "
            "equal size after it."
        )
    sizes = [base] + [left // (n_tasks - 1)] * (n_tasks - 1)
    return split(_told(labelled, prompt, image_size), sizes=sizes, name="zscl-tinyimagenet", **options)


def _told(labelled: Labelled, prompt: str, size: int) -> Labelled:
    """Images at the size that a network reads, and classes in words."""
    at_least_one("image_size", size)
    if prompt.count("{}") != 1:
        raise UsageError(f"prompt has one {{}} in place of the class name; got {prompt!r}.")
    names = tuple(plain(name) for name in labelled.class_names)
    return dataclasses.replace(
        labelled, class_names=names, texts=prompts([prompt], names), transform=Resize(size), augment=None
    )
