"""Streams of fine-grained photos: birds and cars, with the division that they come in."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from .assemble import at_least_one
from .builders import SplitOptions
from .core import Stream
from .named import stream
from .photos import photo_stream
from .sources.photos import Published

CUB200 = Published(
    "cub200", ("CUB_200_2011", "cub", "cub200"), 200, 11_788,
    "unpack CUB_200_2011.tgz of https://www.vision.caltech.edu/datasets/cub_200_2011 there",
)  # fmt: skip
CARS196 = Published(
    "cars196", ("cars196", "stanford_cars", "stanford-cars", "cars"), 196, 0,
    "put the Stanford Cars there as train/CLASS/ and test/CLASS/ folders of images",
)  # fmt: skip


@stream("split-cub200", embedded=False, setting="cil", needs="CUB_200_2011")
def split_cub200(
    *,
    data: str | Path | None = None,
    n_tasks: int = 10,
    split: str = "given",
    hub: str | None = None,
    **options: Unpack[SplitOptions],
) -> Stream:
    """CUB-200-2011 birds 224x224 colour, 10 tasks of 20 classes; class-incremental.

    11,788 photos of 200 species (Wah et al. 2011), 5,994 to train and 5,794 to test by its train_test_split.txt, or as
    a copy in train/ and test/ has them. Options and inputs as for split-imagenet-r.
    """
    return photo_stream(CUB200, data, split, n_tasks, hub=hub, **options)


@stream("split-cars196", embedded=False, setting="cil", needs="cars196")
def split_cars196(
    *,
    data: str | Path | None = None,
    n_tasks: int = 10,
    split: str = "given",
    hub: str | None = None,
    **options: Unpack[SplitOptions],
) -> Stream:
    """Stanford Cars 224x224 colour, 10 tasks of 20 classes, the last of 16; class-incremental.

    16,185 photos of 196 makes and models (Krause et al. 2013), 8,144 to train and 8,041 to test. Tasks are of equal
    size but for the last, which has what is left. Options and inputs as for split-imagenet-r.
    """
    at_least_one("n_tasks", n_tasks)
    size = -(-CARS196.classes // n_tasks)
    sizes = [size] * (n_tasks - 1) + [CARS196.classes - size * (n_tasks - 1)]
    return photo_stream(CARS196, data, split, n_tasks, hub=hub, sizes=sizes, **options)
