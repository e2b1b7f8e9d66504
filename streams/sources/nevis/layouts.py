"""How the data sets of NEVIS'22 lie on disk: what shows a copy, who reads it, how large it is, how to fetch it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....base.errors import StorageError
from .. import fetch, mtil_layouts, tinyimagenet
from ..cifar import LAYOUTS as CIFAR
from ..cifar import cifar
from ..idx import mnist
from ..needs import idx_files
from ..svhn import FILES as SVHN
from ..svhn import svhn
from . import arrays, readers
from .arrays import Reader
from .divisions import RULES
from .manifest import Task

HOME = "nevis"  # folder of the data sets that people put into folders of classes


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    Attributes:
        forms: paths below the folder of data sets that show a copy, for each form that one comes in.
        read: gives its pictures.
        sizes: how many a whole copy has, by part; empty where copies differ.
        calls: arguments of torchvision's class, for each download that it takes; without any it has none.
        archives: in its place folder, address and MD5 of each archive to be unpacked.
    """

    forms: tuple[tuple[str, ...], ...]
    read: Reader
    sizes: Mapping[str, int]
    calls: tuple[Mapping[str, Any], ...] = ()
    archives: tuple[tuple[str, str, str], ...] = ()


def _emnist() -> tuple[str, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
    return tuple(f"EMNIST/raw/emnist-balanced-{name}-ubyte" for name in names)


def _cifar(name: str) -> tuple[tuple[str, ...], ...]:
    layout = CIFAR[name]
    binary = tuple(f"{layout.folder}/{file}" for file in (*layout.train, layout.test))
    return binary, (f"{layout.python_folder}/test_batch" if name == "CIFAR10" else f"{layout.python_folder}/test",)


def _voc(year: int, *parts: str) -> tuple[tuple[str, ...], ...]:
    home = f"VOCdevkit/VOC{year}"
    return ((*(f"{home}/ImageSets/Main/{part}.txt" for part in parts), f"{home}/Annotations", f"{home}/JPEGImages"),)


_PCAM = tuple(
    f"pcam/camelyonpatch_level_2_split_{part}_{kind}.h5" for part in ("train", "valid", "test") for kind in "xy"
)
_SIGNS = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"
_TRAIN, _TEST = {"train": True}, {"train": False}
LAYOUTS: Mapping[str, Layout] = {
    "aircraft-family": Layout(
        (("fgvc-aircraft-2013b/data/images", "fgvc-aircraft-2013b/data/images_family_trainval.txt",
          "fgvc-aircraft-2013b/data/images_family_test.txt"),),
        readers.aircraft_family, {"train": 6_667, "test": 3_333}, ({"annotation_level": "family"},),
    ),
    "caltech101": Layout(
        (("caltech101/101_ObjectCategories/BACKGROUND_Google",),), readers.caltech101, {"train": 3_060, "test": 6_084},
        ({},),
    ),
    "caltech256": Layout(
        (("caltech256/256_ObjectCategories/257.clutter",),),
        readers.folders("caltech256/256_ObjectCategories", all="."), {"all": 30_607}, ({},),
    ),
    "celeba": Layout(
        (("celeba/img_align_celeba", "celeba/list_attr_celeba.txt", "celeba/list_eval_partition.txt"),),
        readers.celeba, {"train": 162_770, "val": 19_867, "test": 19_962}, ({},),
    ),
    "cifar10": Layout(
        _cifar("CIFAR10"), arrays.labelled(lambda root: cifar("CIFAR10", root)), {"train": 50_000, "test": 10_000},
        ({},),
    ),
    "cifar100": Layout(
        _cifar("CIFAR100"), arrays.labelled(lambda root: cifar("CIFAR100", root)), {"train": 50_000, "test": 10_000},
        ({},),
    ),
    "coil20": Layout((("coil-20-proc",),), readers.coil("coil-20-proc"), {"all": 1_440}),
    "coil100": Layout((("coil-100",),), readers.coil("coil-100"), {"all": 7_200}),
    "cub200": Layout(
        (("CUB_200_2011/images", "CUB_200_2011/images.txt", "CUB_200_2011/train_test_split.txt"),), readers.cub200,
        {"train": 5_994, "test": 5_794},
    ),
    "dtd": Layout(
        (("dtd/dtd/images", *(f"dtd/dtd/labels/{part}1.txt" for part in ("train", "val", "test"))),), readers.dtd,
        {"train": 1_880, "val": 1_880, "test": 1_880}, ({},),
    ),
    "emnist-balanced": Layout(
        (_emnist(),), arrays.emnist, {"train": 112_800, "test": 18_800}, ({"split": "balanced"},),
    ),
    "fashion-mnist": Layout(
        (idx_files("FashionMNIST"),), arrays.labelled(lambda root: mnist("FashionMNIST", root)),
        {"train": 60_000, "test": 10_000}, ({},),
    ),
    "flowers102": Layout(
        (("flowers-102/jpg", "flowers-102/imagelabels.mat", "flowers-102/setid.mat"),), readers.flowers102,
        {"train": 1_020, "val": 1_020, "test": 6_149}, ({},),
    ),
    "food101": Layout(
        (("food-101/images", "food-101/meta/train.json", "food-101/meta/test.json"),),
        lambda root: mtil_layouts.food101(root / "food-101"), {"train": 75_750, "test": 25_250}, ({},),
    ),
    "gtsrb": Layout(
        (("gtsrb/GTSRB/Final_Training/Images", "gtsrb/GTSRB/Final_Test/Images", "gtsrb/GT-final_test.csv"),),
        readers.gtsrb, {"train": 39_209, "test": 12_630},
        archives=(("gtsrb", f"{_SIGNS}/GTSRB_Final_Training_Images.zip", "f33fd80ac59bff73c82d25ab499e03a3"),
                  ("gtsrb", f"{_SIGNS}/GTSRB_Final_Test_Images.zip", "c7e4e6327067d32654124b0fe9e82185"),
                  ("gtsrb", f"{_SIGNS}/GTSRB_Final_Test_GT.zip", "fe31e9c9270bbcd7b84b7f21a9d9d9e5")),
    ),
    "imagenet": Layout(
        (("imagenet/train", "imagenet/val"),), readers.folders("imagenet", train="train", test="val"),
        {"train": 1_281_167, "test": 50_000},
    ),
    "mnist": Layout(
        (idx_files("MNIST"),), arrays.labelled(lambda root: mnist("MNIST", root)), {"train": 60_000, "test": 10_000},
        ({},),
    ),
    "mnist-rot": Layout((idx_files("MNIST"),), arrays.turned, {"train": 60_000, "test": 10_000}, ({},)),
    "notmnist": Layout((("notMNIST_small/A", "notMNIST_small/J"),), readers.notmnist, {}),
    "oxford-pets": Layout(
        (("oxford-iiit-pet/images", "oxford-iiit-pet/annotations/trainval.txt",
          "oxford-iiit-pet/annotations/test.txt"),),
        lambda root: mtil_layouts.oxford_pets(root / "oxford-iiit-pet"), {"train": 3_680, "test": 3_669}, ({},),
    ),
    "pascal2007": Layout(
        _voc(2007, "train", "val", "test"), readers.voc(2007, "train", "val", "test"),
        {"train": 2_501, "val": 2_510, "test": 4_952},
        ({"year": "2007", "image_set": "trainval"}, {"year": "2007", "image_set": "test"}),
    ),
    "pascal2012": Layout(
        _voc(2012, "train", "val"), readers.voc(2012, "train", "val"), {"train": 5_717, "val": 5_823},
        ({"year": "2012", "image_set": "trainval"},),
    ),
    "pcam": Layout(
        (_PCAM,), arrays.pcam, {"train": 262_144, "val": 32_768, "test": 32_768},
        tuple({"split": part} for part in ("train", "val", "test")),
    ),
    "semeion": Layout((("semeion.data",),), arrays.arrays("SEMEION", all={}), {"all": 1_593}, ({},)),
    "stanford-cars": Layout(
        (("stanford_cars/cars_train", "stanford_cars/cars_test", "stanford_cars/devkit/cars_meta.mat",
          "stanford_cars/devkit/cars_train_annos.mat", "stanford_cars/cars_test_annos_withlabels.mat"),
         ("stanford_cars/train", "stanford_cars/test")),
        lambda root: mtil_layouts.stanford_cars(root / "stanford_cars"), {"train": 8_144, "test": 8_041},
    ),
    "stl10": Layout(
        (tuple(f"stl10_binary/{part}_{kind}.bin" for part in ("train", "test") for kind in "Xy"),), arrays.stl10,
        {"train": 5_000, "test": 8_000}, ({},),
    ),
    "sun397": Layout(
        (("SUN397/ClassName.txt", "SUN397/a"),), readers.sun397, {"train": 76_127, "val": 10_876, "test": 21_751},
        ({},),
    ),
    "svhn": Layout(
        (tuple(f"SVHN/{file}" for file in SVHN), SVHN), arrays.labelled(svhn), {"train": 73_257, "test": 26_032},
        ({"split": "train"}, {"split": "test"}),
    ),
    "tiny-imagenet": Layout(
        (("tiny-imagenet-200/train", "tiny-imagenet-200/val/val_annotations.txt"),),
        lambda root: tinyimagenet.in_folder(root / "tiny-imagenet-200"), {"train": 100_000, "test": 10_000},
    ),
    "usps": Layout(
        (("usps.bz2", "usps.t.bz2"),), arrays.arrays("USPS", train=_TRAIN, test=_TEST),
        {"train": 7_291, "test": 2_007}, (_TRAIN, _TEST),
    ),
}  # fmt: skip


def layout(task: Task) -> Layout | None:
    """How a task's data set lies on disk; None for what nothing here reads.

    Those without a layout of their own are pictures in nevis/NAME/PART/CLASS/, or nevis/NAME/CLASS/ if they come
    undivided.
    """
    if task.source == "unread":
        return None
    if task.source != "folder":
        return LAYOUTS[task.name]
    home, parts = f"{HOME}/{task.name}", RULES[task.split].parts
    inside = {part: "." if parts == ("all",) else part for part in parts}
    forms = (tuple(home if folder == "." else f"{home}/{folder}" for folder in inside.values()),)
    return Layout(forms, readers.folders(home, **inside), {})


def download(task: Task, root: Path) -> None:
    """Fetch a data set as torchvision's class does, or unpack its archives.

    Raises:
        StorageError: it cannot be had.
    """
    from torchvision import datasets
    from torchvision.datasets.utils import download_and_extract_archive

    found, name = layout(task), task.source.removeprefix("torchvision.")
    if found is None or not (found.calls or found.archives):
        raise StorageError(f"{task.title} has no download. {wanted(task)}.")
    for given in found.calls:
        fetch(task.title, root, lambda given=given: getattr(datasets, name)(root, download=True, **given))
    for folder, url, md5 in found.archives:
        fetch(task.title, root, lambda f=folder, u=url, m=md5: download_and_extract_archive(u, str(root / f), md5=m))


def wanted(task: Task) -> str:
    """What to do to have a data set, as a sentence."""
    found = layout(task)
    if found is None:
        return f"nothing here reads it yet; its pictures are {task.get}"
    if task.source != "folder":
        return task.get
    places = " and ".join(f"{form}/CLASS" for form in found.forms[0])
    return f"put its pictures into {places}: {task.get}"
