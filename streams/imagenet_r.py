"""Streams of ImageNet-R and ImageNet-A, the hard relatives of ImageNet on which pre-trained models are adapted.

Neither has an official training set, and published divisions differ: by the shards of one library, by an unseeded draw
of whoever ran first, by lists, by archives. Here the fifth of each class whose file names have the smallest SHA-256 is
the test set, and nothing else has a say; a published division can be given in its place. Results on different divisions
are not comparable: the record carries a digest of the test set's names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from .builders import SplitOptions
from .core import Stream
from .named import stream
from .photos import photo_stream
from .sources.photos import Published
from .sources.wordnet import IMAGENET_R as NAMES

HENDRYCKS = "https://people.eecs.berkeley.edu/~hendrycks"
IMAGENET_R = Published(
    "imagenet-r", ("imagenet-r",), 200, 30_000,
    f"unpack {HENDRYCKS}/imagenet-r.tar (2.2 GB) there",
    f"{HENDRYCKS}/imagenet-r.tar", "18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52", NAMES,
)  # fmt: skip
IMAGENET_A = Published(
    "imagenet-a", ("imagenet-a",), 200, 7_500,
    f"unpack {HENDRYCKS}/imagenet-a.tar (0.7 GB) there",
    f"{HENDRYCKS}/imagenet-a.tar", "3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e",
)  # fmt: skip


@stream("split-imagenet-r", embedded=False, setting="cil", needs="imagenet-r")
def split_imagenet_r(
    *,
    data: str | Path | None = None,
    download: bool = False,
    n_tasks: int = 10,
    split: str = "hash",
    hub: str | None = None,
    **options: Unpack[SplitOptions],
) -> Stream:
    """ImageNet-R 224x224 colour, 10 tasks of 20 classes; class-incremental.

    30,000 renditions (art, cartoons, toys and so on) of 200 ImageNet classes of unequal sizes (Hendrycks et al. 2021),
    about 24,000 to train and 6,000 to test; `n_tasks` is 5 or 20 elsewhere, too. Classes are numbered by their WordNet
    ids, `class_order` "natural" keeps that order. Inputs are in [0, 1], without mean and deviation: the middle 224x224
    pixels of an image whose short side is 256, and in training random resized crops of its middle 256x256 pixels
    (published recipes crop the whole image, so that their boxes reach what this middle leaves out).

    Args:
        split: "hash"; "given" for a copy that comes in train/ and test/; or lists: a .json of "train" and "test", a
            train.txt or train.yaml beside its test.txt or test.yaml, a folder with train/CLASS/ and test/CLASS/.
        hub: a copy at Hugging Face, such as "axiong/imagenet-r", a .parquet file, or a folder of them.
    """
    return photo_stream(IMAGENET_R, data, split, n_tasks, download=download, hub=hub, **options)


@stream("split-imagenet-a", embedded=False, setting="cil", needs="imagenet-a")
def split_imagenet_a(
    *,
    data: str | Path | None = None,
    download: bool = False,
    n_tasks: int = 10,
    split: str = "hash",
    hub: str | None = None,
    **options: Unpack[SplitOptions],
) -> Stream:
    """ImageNet-A 224x224 colour, 10 tasks of 20 classes; class-incremental.

    7,500 photos of 200 ImageNet classes that misled a ResNet-50 (Hendrycks et al. 2021), about 6,000 to train and 1,500
    to test. Options and inputs as for split-imagenet-r.
    """
    return photo_stream(IMAGENET_A, data, split, n_tasks, download=download, hub=hub, **options)
