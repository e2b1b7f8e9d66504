"""The data sets of NEVIS'22 that are read as they are published: which pictures, of what, of which official part.

Each reader takes the folder of data sets and gives encoded pictures. A picture's part is one of its rule's; its label
is its class as published, or its classes with "|" between them. Lists and folders are read here and not through
torchvision's classes, whose labels are private.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ....base.errors import InvalidError
from ....base.files import read_bytes
from .. import mtil_layouts
from ..folder import images_in
from ..mtil_layouts import folder_at, lines_of, matlab, picture_at
from ..pictures import Picture, in_folders
from ..splits import test_mask
from .arrays import Reader

LIMIT = 2**28  # bytes of a list


def voc(year: int, *parts: str) -> Reader:
    """Pascal VOC: ImageSets/Main/PART.txt, and Annotations/ID.xml, of which all objects count, difficult ones, too."""

    def read(root: Path) -> list[Picture]:
        home = root / "VOCdevkit" / f"VOC{year}"
        found = []
        for part in parts:
            for image in lines_of(home / "ImageSets" / "Main" / f"{part}.txt"):
                names = _objects(home / "Annotations" / f"{image}.xml")
                found.append(picture_at(home / "JPEGImages" / f"{image}.jpg", "|".join(sorted(names)), part))
        return found

    return read


def caltech101(root: Path) -> list[Picture]:
    """Caltech101 with its pictures of no class; thirty of each class, by the SHA-256 of their names, are to train."""
    members: dict[str, list[Picture]] = {}
    for picture in in_folders(folder_at(root / "caltech101" / "101_ObjectCategories")):
        members.setdefault(picture.label, []).append(picture)
    ordered = (sorted(group, key=by_hash) for group in members.values())
    return [_in(picture, "train" if row < 30 else "test") for group in ordered for row, picture in enumerate(group)]


def sun397(root: Path) -> list[Picture]:
    """SUN397, which comes undivided: 70 %, 10 % and 20 % in the order of the SHA-256 of the names, as TensorFlow
    Datasets divides it by lists of its own."""
    pictures = sorted(mtil_layouts.sun397(root / "SUN397"), key=by_hash)
    train, val = int(0.7 * len(pictures)), int(0.8 * len(pictures))
    part = lambda row: "train" if row < train else "val" if row < val else "test"
    return [_in(picture, part(row)) for row, picture in enumerate(pictures)]


def flowers102(root: Path) -> list[Picture]:
    """Flowers102: jpg/, numbers of images in setid.mat, of flowers in imagelabels.mat."""
    home, parts = root / "flowers-102", {"train": "trnid", "val": "valid", "test": "tstid"}
    labels = matlab(home / "imagelabels.mat", "labels")
    sets = {part: matlab(home / "setid.mat", name) for part, name in parts.items()}
    rows = ((part, int(image)) for part, images in sets.items() for image in images)
    return [picture_at(home / "jpg" / f"image_{i:05}.jpg", f"{int(labels[i - 1]):03}", part) for part, i in rows]


def dtd(root: Path) -> list[Picture]:
    """Describable Textures: the first of its ten partitions."""
    home = root / "dtd" / "dtd"
    rows = ((part, line) for part in ("train", "val", "test") for line in lines_of(home / "labels" / f"{part}1.txt"))
    return [picture_at(home / "images" / line, line.partition("/")[0], part) for part, line in rows]


def gtsrb(root: Path) -> list[Picture]:
    """German traffic signs: the final training set in folders of classes, the test pictures with a list."""
    home = root / "gtsrb"
    train = in_folders(folder_at(home / "GTSRB" / "Final_Training" / "Images"))
    table = csv.DictReader(io.StringIO(read_bytes(home / "GT-final_test.csv", LIMIT).decode()), delimiter=";")
    images = home / "GTSRB" / "Final_Test" / "Images"
    test = [picture_at(images / row["Filename"], f"{int(row['ClassId']):05}", "test") for row in table]
    return [_in(picture, "train") for picture in train] + test


def aircraft_family(root: Path) -> list[Picture]:
    """FGVC Aircraft: data/images_family_trainval.txt and _test.txt, "0034309 Boeing 707" a line."""
    home = root / "fgvc-aircraft-2013b" / "data"
    lists = {"train": home / "images_family_trainval.txt", "test": home / "images_family_test.txt"}
    rows = ((part, line.partition(" ")) for part, path in lists.items() for line in lines_of(path))
    return [picture_at(home / "images" / f"{image}.jpg", label, part) for part, (image, _, label) in rows]


def celeba(root: Path) -> list[Picture]:
    """CelebA: a table of attributes, 1 or -1, below a line with their number and one with their names."""
    home = root / "celeba"
    _, names, *table = (line.split() for line in lines_of(home / "list_attr_celeba.txt"))
    parts = dict(line.split() for line in lines_of(home / "list_eval_partition.txt"))
    folder, number = home / "img_align_celeba", ("train", "val", "test")
    return [
        picture_at(folder / image, "|".join(n for n, v in zip(names, values, strict=True) if v == "1"),
                 number[int(parts[image])])
        for image, *values in table
    ]  # fmt: skip


def cub200(root: Path) -> list[Picture]:
    """CUB-200-2011 by its own two lists."""
    home = root / "CUB_200_2011"
    pictures = in_folders(home)
    mask = test_mask(pictures, "given", home)
    return [_in(picture, "test" if test else "train") for picture, test in zip(pictures, mask, strict=True)]


def coil(folder: str) -> Reader:
    """COIL: obj1__0.png, the object and its angle (COIL-20: the number of the view)."""

    def read(root: Path) -> list[Picture]:
        files = images_in(folder_at(root / folder))
        return [picture_at(file, f"{int(file.name[3:].partition('__')[0]):03}", "all") for file in files]

    return read


def notmnist(root: Path) -> list[Picture]:
    """notMNIST_small: folders of letters; its two empty files are no pictures."""
    return [_in(picture, "all") for picture in in_folders(folder_at(root / "notMNIST_small")) if picture.size]


def folders(home: str, **parts: str) -> Reader:
    """Folders of classes in folders of parts, or in one: `parts` gives the folder of each."""

    def read(root: Path) -> list[Picture]:
        found = {part: in_folders(folder_at(root / home / folder)) for part, folder in parts.items()}
        return [_in(picture, part) for part, pictures in found.items() for picture in pictures]

    return read


def crops(pictures: Sequence[Picture]) -> list[Picture]:
    """Nine crops of each picture, a third of its width and height each, column by column."""

    def crop(picture: Picture, k: int) -> Any:
        image = picture.open()
        w, h = image.width // 3, image.height // 3
        return image.crop((k // 3 * w, k % 3 * h, (k // 3 + 1) * w, (k % 3 + 1) * h))

    return [
        dataclasses.replace(picture, name=f"{picture.name}-{k}", open=lambda picture=picture, k=k: crop(picture, k))
        for picture in pictures
        for k in range(9)
    ]


def by_hash(picture: Picture) -> bytes:
    """An order that neither classes nor file systems decide."""
    return hashlib.sha256(picture.name.encode()).digest()


def _in(picture: Picture, part: str) -> Picture:
    return dataclasses.replace(picture, part=part)


def _objects(path: Path) -> set[str]:
    """Names of the objects of a picture; parts of objects have names, too, and do not count."""
    try:
        names = {
            (name.text or "").strip() for name in ElementTree.fromstring(read_bytes(path, LIMIT)).findall("object/name")
        }
    except ElementTree.ParseError as error:
        raise InvalidError(f"{path} is no XML file: {error}. Unpack the archive again.") from None
    if not names:
        raise InvalidError(f"{path} names no object. Unpack the archive again.")
    return names
