"""miniImageNet (Vinyals et al. 2016) in the forms that go round: 100 classes of 600 images, divided in several ways.

The usual division is of the classes (64, 16 and 20, for learning from few examples); a continual learner needs one of
each class's images. So the parts of a copy are kept where each holds all classes, and put together otherwise.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

from ...base.errors import InvalidError, StorageError, UsageError
from ...base.files import read_bytes
from . import table
from .pictures import Picture, in_folders

LIMIT = 2**26  # bytes of a list
PARTS = ("train", "val", "validation", "test")


def in_folder(folder: Path) -> list[Picture]:
    """The pictures of `folder`/CLASS/, of `folder`/images/CLASS/, of train/CLASS/, val/CLASS/ and test/CLASS/ there, or
    of the files in `folder`/images/ that train.csv, val.csv and test.csv ("filename,label") list.

    Raises:
        UsageError: there are pickles alone, which are not opened. StorageError: a listed image is missing.
    """
    lists = [path for part in PARTS if (path := folder / f"{part}.csv").is_file()]
    divided = [part for part in PARTS if (folder / part).is_dir()]
    pickles = sorted([*folder.glob("*.pkl"), *folder.glob("*.pickle")])
    if lists and (folder / "images").is_dir():
        return divided_by_image([picture for path in lists for picture in _listed(path, folder / "images")])
    if divided:
        return divided_by_image(
            [dataclasses.replace(p, part=part) for part in divided for p in in_folders(folder / part)]
        )
    found = in_folders(folder)
    if pickles and not found:
        raise UsageError(
            f"{pickles[0]} is a pickle, which can run any code when it is opened, so it is not; use the images: "
            "folders n01532829/ and so on, images/ with train.csv, val.csv and test.csv, or hub=timm/mini-imagenet."
        )
    return found


def in_table(source: str) -> list[Picture]:
    """The pictures of a copy at Hugging Face; see `table.in_table`."""
    return divided_by_image(table.in_table(source))


def divided_by_image(pictures: list[Picture]) -> list[Picture]:
    """Training and test pictures where two parts hold all classes, otherwise all pictures, undivided.

    The test part is the validation part where there is one, else the part called test: with a validation part of
    100 images a class comes a test part of 50 images of ImageNet's own validation set, which is left out.
    """
    classes: dict[str, set[str]] = {}
    for picture in pictures:
        classes.setdefault(picture.part, set()).add(picture.label)
    whole = [part for part in PARTS if classes.get(part) == set().union(*classes.values())]
    if len(whole) < 2 or whole[0] != "train":
        return sorted(dataclasses.replace(picture, part="") for picture in pictures)
    roles = {"train": "train", whole[1]: "test"}
    return sorted(dataclasses.replace(p, part=roles[p.part]) for p in pictures if p.part in roles)


def _listed(path: Path, images: Path) -> list[Picture]:
    """The pictures of one list, whose name is their part."""
    from PIL import Image

    try:
        rows = list(csv.DictReader(io.StringIO(read_bytes(path, LIMIT).decode())))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidError(f"{path} is not a list of filename,label: {error}.") from None
    if not rows or not {"filename", "label"} <= set(rows[0]):
        raise InvalidError(f"{path} is not a list of filename,label.")
    found = []
    for row in rows:
        file, label = images / Path(row["filename"] or "?").name, row["label"]
        if not file.is_file():
            raise StorageError(f"{path} lists {file.name}, which is not in {images}; unpack the archive again.")
        opener = lambda file=file: Image.open(file)  # noqa: E731
        found.append(Picture(label, f"{label}/{file.name}", path.stem, file.stat().st_size, str(file), opener))
    return found
