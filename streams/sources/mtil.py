"""The eleven data sets of MTIL (Zheng et al. 2023), each decoded once into squares that CLIP reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...base.errors import StorageError, UsageError
from ...base.seeds import frozen_random
from ..labelled import Labelled
from ..rows import Rows
from . import fetch, mtil_layouts, table
from .cifar import cifar
from .idx import mnist
from .mtil_words import TEMPLATES, prompts, word
from .needs import Need, idx_files, need
from .photos import SIZE, Published, photos
from .pictures import Picture


@dataclass(frozen=True)
class Domain:
    """One data set: how its copies look, and what tells a whole one.

    Attributes:
        title: for people.
        classes, train, test: how many of each there are.
        forms: paths below the folder of data sets that show a copy, for each form that one comes in.
        read: gives the pictures of the folder that the first path of a form starts with, divided.
        get: what to do to have it, as a sentence.
        download: fetches it into the folder of data sets, and checks what comes; None where its home is gone.
        hub: a copy at Hugging Face.
        drawn: whether it is divided here, by a draw, and comes undivided.
    """

    title: str
    classes: int
    train: int
    test: int
    forms: tuple[tuple[str, ...], ...]
    read: Callable[[Path], list[Picture]]
    get: str
    download: Callable[[Path], Any] | None = None
    hub: str = ""
    drawn: bool = False


def _torchvision(name: str) -> Callable[[Path], Any]:
    """The download of one of its classes."""

    def download(root: Path) -> None:
        from torchvision import datasets

        fetch(name, root, lambda: getattr(datasets, name)(root, download=True))

    return download


CARS = "stanford_cars"
DOMAINS: Mapping[str, Domain] = {
    "aircraft": Domain(
        "FGVC Aircraft", 100, 3_334, 3_333,
        (("fgvc-aircraft-2013b/data/images", "fgvc-aircraft-2013b/data/images_variant_train.txt",
          "fgvc-aircraft-2013b/data/images_variant_test.txt"),),
        mtil_layouts.aircraft,
        "unpack https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
        _torchvision("FGVCAircraft"),
    ),
    "caltech101": Domain(
        "Caltech101", 101, 6_941, 1_736, (("caltech101/101_ObjectCategories",),), mtil_layouts.caltech101,
        "unpack 101_ObjectCategories.tar.gz of https://data.caltech.edu/records/mzrjq-6wc02 into caltech101",
        _torchvision("Caltech101"), drawn=True,
    ),
    "cifar100": Domain(
        "CIFAR-100", 100, 50_000, 10_000,
        (("cifar-100-binary/train.bin", "cifar-100-binary/test.bin"),
         ("cifar-100-python/train", "cifar-100-python/test")),
        mtil_layouts.cifar100, "unpack https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        lambda root: cifar("CIFAR100", root, download=True),
        "uoft-cs/cifar100",
    ),
    "dtd": Domain(
        "Describable Textures", 47, 1_880, 1_880,
        (("dtd/dtd/images", "dtd/dtd/labels/train1.txt", "dtd/dtd/labels/test1.txt"),), mtil_layouts.dtd,
        "unpack https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz into dtd", _torchvision("DTD"),
    ),
    "eurosat": Domain(
        "EuroSAT", 10, 21_600, 5_400, (("eurosat/2750",),), mtil_layouts.eurosat,
        "unpack EuroSAT.zip of https://huggingface.co/datasets/torchgeo/eurosat into eurosat",
        _torchvision("EuroSAT"), drawn=True,
    ),
    "flowers102": Domain(
        "Flowers102", 102, 1_020, 6_149,
        (("flowers-102/jpg", "flowers-102/imagelabels.mat", "flowers-102/setid.mat"),), mtil_layouts.flowers102,
        "put 102flowers.tgz, unpacked, imagelabels.mat and setid.mat of "
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102 into flowers-102",
        _torchvision("Flowers102"),
    ),
    "food101": Domain(
        "Food101", 101, 75_750, 25_250,
        (("food-101/images", "food-101/meta/train.json", "food-101/meta/test.json"),), mtil_layouts.food101,
        "unpack http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", _torchvision("Food101"),
    ),
    "mnist": Domain(
        "MNIST", 10, 60_000, 10_000, (idx_files("MNIST"),), mtil_layouts.mnist_digits,
        "put the four IDX files into MNIST/raw", lambda root: mnist("MNIST", root, download=True), "ylecun/mnist",
    ),
    "oxford-pets": Domain(
        "Oxford-IIIT Pets", 37, 3_680, 3_669,
        (("oxford-iiit-pet/images", "oxford-iiit-pet/annotations/trainval.txt",
          "oxford-iiit-pet/annotations/test.txt"),),
        mtil_layouts.oxford_pets,
        "unpack images.tar.gz and annotations.tar.gz of https://www.robots.ox.ac.uk/~vgg/data/pets into "
        "oxford-iiit-pet",
        _torchvision("OxfordIIITPet"), "timm/oxford-iiit-pet",
    ),
    "stanford-cars": Domain(
        "Stanford Cars", 196, 8_144, 8_041,
        ((f"{CARS}/cars_train", f"{CARS}/cars_test", f"{CARS}/devkit/cars_meta.mat",
          f"{CARS}/devkit/cars_train_annos.mat", f"{CARS}/cars_test_annos_withlabels.mat"),
         (f"{CARS}/train", f"{CARS}/test")),
        mtil_layouts.stanford_cars,
        f"put a copy there as {CARS}/train/CLASS and {CARS}/test/CLASS (its first home is gone)",
        hub="tanganke/stanford_cars",
    ),
    "sun397": Domain(
        "SUN397", 397, 87_003, 21_751, (("SUN397/ClassName.txt", "SUN397/a"),), mtil_layouts.sun397,
        "unpack http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz", _torchvision("SUN397"), drawn=True,
    ),
}  # fmt: skip


def domain_need(name: str, root: Path) -> Need:
    """Whether a data set is there."""
    domain = DOMAINS[name]
    return need(name, root, domain.forms, domain.get, bool(domain.download or domain.hub), domain.hub)


def load_domain(name: str, data: str | Path | None, hub: str | None = None) -> tuple[Labelled, dict[str, str]]:
    """Pixels [N, 3, 224, 224] uint8, a memory map; prompts by class; and what says how it was divided.

    A picture's short side is brought to 224 pixels, bicubic, and the middle square is taken, as CLIP does it. Classes
    are numbered by their names in sorted order.

    Raises:
        StorageError: it is not there, or not whole, or a copy that is divided in another way.
    """
    domain = DOMAINS[name]
    folders = tuple(dict.fromkeys(Path(form[0]).parts[0] for form in domain.forms))
    source = Published(
        name, folders, domain.classes, domain.train + domain.test, domain.get,
        in_folder=lambda home: _worded(name, domain.read(home)), in_table=lambda address: _copied(name, address),
    )  # fmt: skip
    labelled, about = photos(source, data, "given", hub=hub, side=SIZE, size=None)
    train, test = len(labelled.train_y), len(labelled.test_y)
    if (train, test) != (domain.train, domain.test):
        raise StorageError(
            f"{hub or name} has {train:,} pictures to train and {test:,} to test, but {domain.title} has "
            f"{domain.train:,} and {domain.test:,}: it is divided in another way. Instead {domain.get}."
        )
    return dataclasses.replace(labelled, texts=prompts(TEMPLATES[name], labelled.class_names)), about


def without_class(labelled: Labelled, name: str) -> Labelled:
    """All but one class; those after it move up."""
    gone = labelled.class_names.index(name)
    kept = _kept(labelled, (labelled.train_y != gone).numpy(), (labelled.test_y != gone).numpy())
    train_y, test_y = (y - (y > gone).long() for y in (kept.train_y, kept.test_y))
    names, texts = (
        tuple(one for number, one in enumerate(row) if number != gone) for row in (kept.class_names, kept.texts)
    )
    return dataclasses.replace(kept, train_y=train_y, test_y=test_y, class_names=names, texts=texts)


def few(labelled: Labelled, shots: int, *keys: int | str) -> Labelled:
    """At most so many training samples of each class, drawn by the keys; the test set is whole."""
    draw, y = frozen_random("shots", *keys), labelled.train_y.numpy()
    rows = np.zeros(len(y), bool)
    for label in range(labelled.classes):
        rows[draw.permutation(np.flatnonzero(y == label))[:shots]] = True
    return _kept(labelled, rows, np.ones(len(labelled.test_y), bool))


def _kept(labelled: Labelled, train: np.ndarray, test: np.ndarray) -> Labelled:
    """Some rows of each part."""
    return dataclasses.replace(
        labelled,
        train_x=Rows(labelled.train_x, np.flatnonzero(train)),
        train_y=labelled.train_y[torch.from_numpy(train)],
        test_x=Rows(labelled.test_x, np.flatnonzero(test)),
        test_y=labelled.test_y[torch.from_numpy(test)],
    )


def _worded(name: str, pictures: Sequence[Picture]) -> list[Picture]:
    """Pictures whose labels are what prompts call their classes."""
    return sorted(dataclasses.replace(picture, label=word(name, picture.label)) for picture in pictures)


def _copied(name: str, address: str) -> list[Picture]:
    """The pictures of a copy at Hugging Face, or in Parquet files; parts beside train and test are left out."""
    pictures = table.in_table(address)
    if DOMAINS[name].drawn:
        pictures = mtil_layouts.divided([dataclasses.replace(picture, part="") for picture in pictures])
    elif any(picture.part for picture in pictures):
        pictures = [picture for picture in pictures if picture.part in mtil_layouts.PARTS]
    numbers = next((picture.label for picture in pictures if picture.label.isdecimal()), "")
    if numbers and name == "mnist":
        pictures = [dataclasses.replace(picture, label=str(int(picture.label))) for picture in pictures]
    elif numbers:
        raise UsageError(f"{address} has labels without names, such as {int(numbers)}, of which no prompts are made.")
    return _worded(name, pictures)
