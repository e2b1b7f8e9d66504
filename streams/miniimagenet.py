"""Split miniImageNet: the stream of photos that a small network learns from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from .builders import SplitOptions
from .core import TIL, Stream
from .named import stream
from .photos import photo_stream
from .sources.miniimagenet import in_folder, in_table
from .sources.photos import Published

SIDE = 84  # pixels
MINIIMAGENET = Published(
    "miniimagenet", ("miniimagenet", "mini-imagenet", "mini_imagenet"), 100, 60_000,
    "put its images there as folders n01532829/ and so on, or as images/ with train.csv, val.csv and test.csv, "
    "or give hub=timm/mini-imagenet",
    one_in=6, in_folder=in_folder, in_table=in_table,
)  # fmt: skip


@stream("split-miniimagenet", embedded=False, setting="til", needs="miniimagenet")
def split_miniimagenet(
    *,
    data: str | Path | None = None,
    n_tasks: int = 20,
    split: str | None = None,
    hub: str | None = None,
    **options: Unpack[SplitOptions],
) -> Stream:
    """miniImageNet 84x84 colour, 20 tasks of 5 classes; task-incremental.

    60,000 photos of 100 ImageNet classes (Vinyals et al. 2016), 500 to train and 100 to test per class. Inputs are in
    [0, 1], without augmentation: the middle square of a photo, its side brought to 84 pixels. Classes are numbered by
    their WordNet ids; published results draw their order by seed: `class_order` "seeded".

    Args:
        split: "hash": of each class, the sixth whose file names have the smallest SHA-256 is for the test; "given", as
            a copy comes whose parts hold all classes; or lists, as for split-imagenet-r. By default as it comes, else
            by hash.
        hub: a copy at Hugging Face, such as "timm/mini-imagenet" (its train and validation splits are taken; its test
            split is ImageNet's and left out), a .parquet file, or a folder of them.
    """
    return photo_stream(
        MINIIMAGENET, data, split, n_tasks, hub=hub, side=SIDE, size=None, **({"setting": TIL} | options)
    )
