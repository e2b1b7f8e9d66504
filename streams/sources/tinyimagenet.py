"""TinyImageNet (Stanford CS231n): 200 ImageNet classes of 64 x 64 pixels, as its archive unpacks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ...base.errors import InvalidError, StorageError
from ...base.files import read_bytes
from ..labelled import Labelled
from .photos import Published, photos
from .pictures import Picture, in_folders

SIDE = 64  # pixels
LIMIT = 2**26  # bytes of a list


def in_folder(home: Path) -> list[Picture]:
    """The pictures of train/n01443537/images/ and of val/images/, whose classes val/val_annotations.txt tells.

    The archive's test pictures have no labels; its validation pictures are the test set.
    """
    from PIL import Image

    if not (home / "train").is_dir():
        raise StorageError(f"{home / 'train'} is not a folder; unpack the archive again.")
    found = [dataclasses.replace(picture, part="train") for picture in in_folders(home / "train")]
    for file, label in _columns(home / "val" / "val_annotations.txt"):
        path = home / "val" / "images" / file
        if not path.is_file():
            raise StorageError(f"{path} does not exist; val_annotations.txt lists it. Unpack the archive again.")
        opener = lambda path=path: Image.open(path)  # noqa: E731
        found.append(Picture(label, f"{label}/{file}", "test", path.stat().st_size, str(path), opener))
    return sorted(found)


TINYIMAGENET = Published(
    "tiny-imagenet", ("tiny-imagenet-200",), 200, 110_000,
    "unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip there", in_folder=in_folder,
)  # fmt: skip


def tinyimagenet(data: str | Path | None = None, source: Published = TINYIMAGENET) -> Labelled:
    """Pixels [N, 3, 64, 64] uint8, a memory map; classes by their WordNet ids, called by the first word of words.txt.

    Raises:
        StorageError: it is not there, or not whole.
    """
    words: dict[str, str] = {}

    def read(home: Path) -> list[Picture]:
        words.update((label, text.partition(",")[0].lower()) for label, text in _columns(home / "words.txt"))
        return in_folder(home)

    labelled, _ = photos(dataclasses.replace(source, in_folder=read), data, "given", side=SIDE, size=None)
    names = tuple(words.get(label, label) for label in labelled.class_names)
    return dataclasses.replace(labelled, class_names=names)


def _columns(path: Path) -> list[tuple[str, str]]:
    """The first two of every line."""
    lines = [line.split("\t") for line in read_bytes(path, LIMIT).decode(errors="replace").splitlines() if line.strip()]
    if any(len(line) < 2 for line in lines):
        raise InvalidError(f"{path} does not have two columns on every line; unpack the archive again.")
    return [(line[0], line[1]) for line in lines]
