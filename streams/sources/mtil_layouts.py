"""The data sets of MTIL in the folders that torchvision's downloads leave: which pictures, of what, for which part.

Lists and folders are read here and not through torchvision's classes, whose labels are private and whose order of
SUN397 is the file system's. Tests compare the two.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...base.errors import InvalidError, StorageError
from ...base.files import read_bytes, read_json
from ..labelled import Labelled
from .cifar import cifar
from .folder import images_in
from .idx import mnist
from .mtil_words import FLOWERS
from .pictures import Picture, in_folders

LIMIT = 2**26  # bytes of a list
PARTS = ("train", "test")
# Of the published sizes, SHA-256 of the ascending test rows (int64, little-endian) that the draw below has always given
DRAWN = {
    8_677: "0e60aec355aa8dc9f5922680389ccbbd725048f3e3de882b0339f54a2c46b394",
    27_000: "ecbd1acac3a83ae9d85d3dd3dee907ae1f835d314c1796215355581963b0c955",
    108_754: "4378e9abcbdd9666c29578fb6abaf6e3bd928694547be91dc3aa44b4f23f693a",
}


def aircraft(home: Path) -> list[Picture]:
    """FGVC Aircraft: data/images_variant_train.txt and _test.txt, "0034309 DHC-6" a line."""
    lists = {part: home / "data" / f"images_variant_{part}.txt" for part in PARTS}
    rows = ((part, line.partition(" ")) for part, path in lists.items() for line in lines_of(path))
    return [picture_at(home / "data" / "images" / f"{image}.jpg", label, part) for part, (image, _, label) in rows]


def caltech101(home: Path) -> list[Picture]:
    """Caltech101: 101_ObjectCategories/CLASS/, without the pictures of no class."""
    found = in_folders(folder_at(home / "101_ObjectCategories"))
    return divided([picture for picture in found if picture.label != "BACKGROUND_Google"])


def cifar100(home: Path) -> list[Picture]:
    """CIFAR-100, as `cifar.cifar` reads it."""
    return list(_rows(cifar("CIFAR100", home.parent), str(home)))


def dtd(home: Path) -> list[Picture]:
    """Describable Textures: dtd/labels/train1.txt and test1.txt, "banded/banded_0002.jpg" a line."""
    home = home / "dtd"
    rows = ((part, line) for part in PARTS for line in lines_of(home / "labels" / f"{part}1.txt"))
    return [picture_at(home / "images" / line, line.partition("/")[0], part) for part, line in rows]


def eurosat(home: Path) -> list[Picture]:
    """EuroSAT in RGB: 2750/CLASS/."""
    return divided(in_folders(folder_at(home / "2750")))


def flowers102(home: Path) -> list[Picture]:
    """Flowers102: jpg/, numbers of images in setid.mat, of flowers in imagelabels.mat."""
    labels = matlab(home / "imagelabels.mat", "labels")
    sets = {"train": matlab(home / "setid.mat", "trnid"), "test": matlab(home / "setid.mat", "tstid")}
    rows = ((part, int(image)) for part, images in sets.items() for image in images)
    return [
        picture_at(home / "jpg" / f"image_{image:05}.jpg", FLOWERS[int(labels[image - 1]) - 1], part)
        for part, image in rows
    ]


def food101(home: Path) -> list[Picture]:
    """Food101: meta/train.json and test.json, {"apple_pie": ["apple_pie/1005649", ...]}."""
    lists = {part: read_json(home / "meta" / f"{part}.json", LIMIT) for part in PARTS}
    rows = ((part, label, image) for part in PARTS for label, images in lists[part].items() for image in images)
    return [picture_at(home / "images" / f"{image}.jpg", label, part) for part, label, image in rows]


def mnist_digits(home: Path) -> list[Picture]:
    """MNIST, as `idx.mnist` reads it."""
    return list(_rows(mnist("MNIST", home.parent), str(home)))


def oxford_pets(home: Path) -> list[Picture]:
    """Oxford-IIIT Pets: annotations/trainval.txt and test.txt, "Abyssinian_100 1 1 1" a line."""
    lists = {"train": home / "annotations" / "trainval.txt", "test": home / "annotations" / "test.txt"}
    rows = ((part, line.split(" ")[0]) for part, path in lists.items() for line in lines_of(path))
    return [picture_at(home / "images" / f"{image}.jpg", image.rpartition("_")[0], part) for part, image in rows]


def stanford_cars(home: Path) -> list[Picture]:
    """Stanford Cars: cars_train/ and cars_test/ with their lists in .mat; or train/CLASS/ and test/CLASS/."""
    if not (home / "devkit").is_dir():
        return in_folders(home)
    names = matlab(home / "devkit" / "cars_meta.mat", "class_names")
    lists = {
        "train": matlab(home / "devkit" / "cars_train_annos.mat", "annotations"),
        "test": matlab(home / "cars_test_annos_withlabels.mat", "annotations"),
    }
    rows = ((part, row) for part, annotations in lists.items() for row in annotations)
    return [
        picture_at(home / f"cars_{part}" / str(row["fname"]), str(names[int(row["class"]) - 1]), part)
        for part, row in rows
    ]


def sun397(home: Path) -> list[Picture]:
    """SUN397: a/abbey/sun_*.jpg, p/playground/... ; of the classes "/a/abbey" that ClassName.txt lists."""
    classes = {line[3:] for line in lines_of(home / "ClassName.txt")}
    files = [file for file in images_in(home) if file.name.startswith("sun_")]
    found = [picture_at(file, "/".join(file.relative_to(home).parts[1:-1])) for file in files]
    return divided([picture for picture in found if picture.label in classes])


def divided(pictures: Sequence[Picture]) -> list[Picture]:
    """Four fifths to train, the rest to test, drawn as torch's `random_split` with the seed 42 draws them.

    The pictures are numbered in the order of their labels and file names before. That is the published division of
    Caltech101 and EuroSAT. Of SUN397 it is one of its kind, since the published code numbers pictures as its file
    system lists them.

    Raises:
        InvalidError: this version of torch draws otherwise.
    """
    pictures, count = sorted(pictures), len(pictures)
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(42))
    held = np.sort(drawn[int(0.8 * count) :].numpy())
    if count in DRAWN and hashlib.sha256(held.astype("<i8").tobytes()).hexdigest() != DRAWN[count]:
        raise InvalidError(
            f"torch {torch.__version__} draws another division of {count:,} pictures than the published."
        )
    mask = np.isin(np.arange(count), held)
    return [dataclasses.replace(p, part=PARTS[int(test)]) for p, test in zip(pictures, mask, strict=True)]


def _rows(labelled: Labelled, where: str) -> Iterator[Picture]:
    """Pictures of arrays. A name holds a digest of the pixels, so that a changed one is noticed."""
    from PIL import Image

    arrays = (labelled.train_x, labelled.train_y), (labelled.test_x, labelled.test_y)
    for part, (x, y) in zip(PARTS, arrays, strict=True):
        for row, (pixels, label) in enumerate(zip(x.numpy(), y.tolist(), strict=True)):
            name = labelled.class_names[label]
            file = f"{name}/{part}-{row:05}-{hashlib.sha256(pixels.tobytes()).hexdigest()[:16]}"
            pixels = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
            opener = lambda pixels=pixels: Image.fromarray(pixels)  # noqa: E731
            yield Picture(name, file, part, pixels.size, f"{where}, {part} image {row}", opener)


def picture_at(file: Path, label: str, part: str = "") -> Picture:
    from PIL import Image

    if not file.is_file():
        raise StorageError(f"{file} does not exist; the data set lists it. Unpack the archive again.")
    size = file.stat().st_size
    return Picture(label, f"{label}/{file.name}", part, size, str(file), lambda: Image.open(file))


def folder_at(path: Path) -> Path:
    if not path.is_dir():
        raise StorageError(f"{path} is not a folder; unpack the archive again.")
    return path


def lines_of(path: Path) -> list[str]:
    try:
        text = read_bytes(path, LIMIT).decode()
    except UnicodeDecodeError as error:
        raise InvalidError(f"{path}: not UTF-8 at byte {error.start}.") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def matlab(path: Path, name: str) -> Any:
    """One array of a MATLAB file."""
    if find_spec("scipy") is None:
        raise StorageError(f"{path} is read with SciPy, which is not installed. Run: pip install scipy.")
    from scipy.io import loadmat

    read_bytes(path, LIMIT)  # whether it is there
    try:
        return np.atleast_1d(loadmat(path, squeeze_me=True, variable_names=[name])[name])
    except Exception as error:  # SciPy raises whatever it likes on a broken file
        raise InvalidError(f"{path} holds no array {name!r}: {' '.join(str(error).split())}.") from None
