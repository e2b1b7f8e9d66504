"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in the published binary version.

The better known Python version is a pickle, which can run any code when it is opened. It is opened only if its bytes
are the published ones, by their checksums.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...base.errors import InvalidError, StorageError
from ...base.files import read_bytes
from ..labelled import Labelled
from . import data_root, fetch

LIMIT = 2**31  # bytes of one file
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Layout:
    """Where a version's files are and what a record looks like: label bytes (the last one counts), then pixels."""

    archive: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: str
    label_bytes: int
    python_folder: str
    classes: tuple[str, ...]


FINE = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish",
    "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
    "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine",
    "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk",
    "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
    "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip
# The twenty coarse labels in their published order, each with its five fine ones.
SUPERCLASSES = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
LAYOUTS = {
    "CIFAR10": _Layout(
        "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", "cifar-10-batches-bin",
        tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin", 1, "cifar-10-batches-py",
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    "CIFAR100": _Layout(
        "cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", "cifar-100-binary",
        ("train.bin",), "test.bin", 2, "cifar-100-python",
        FINE,
    ),
}  # fmt: skip


def cifar(name: str, data: str | Path | None = None, download: bool = False) -> Labelled:
    """CIFAR10 or CIFAR100 (fine labels) from `data`; the official split, pixels [N, 3, 32, 32].

    Raises:
        StorageError: files are missing; the message says where they belong.
        InvalidError: a file is truncated, or a Python version is not the published one.
    """
    root, layout = data_root(data), LAYOUTS[name]
    folder = root / layout.folder
    if all((folder / file).is_file() for file in (*layout.train, layout.test)):
        train = [_read(folder / file, layout) for file in layout.train]
        x, y = (torch.cat(parts) for parts in zip(*train, strict=True))
        return Labelled(x, y, *_read(folder / layout.test, layout), layout.classes)
    if (root / layout.python_folder).is_dir():
        return _published_pickles(name, root, layout)
    if not download:
        raise StorageError(
            f"{name} is not under {root}: unpack {layout.archive} there, so that {folder / layout.test} exists, "
            "or run again with --download."
        )
    fetch(name, root, lambda: _download(layout, root))
    return cifar(name, data)


def _read(path: Path, layout: _Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels [N, 3, 32, 32] uint8 and labels [N] int64 of one binary file."""
    data, record = read_bytes(path, LIMIT), layout.label_bytes + PIXELS
    if not data or len(data) % record:
        raise InvalidError(f"{path} has {len(data):,} bytes, not a multiple of {record:,}; it is truncated or corrupt.")
    rows = torch.from_numpy(np.frombuffer(data, np.uint8).reshape(-1, record).copy())
    labels = rows[:, layout.label_bytes - 1].long()
    if labels.max() >= len(layout.classes):
        raise InvalidError(f"{path} holds the label {labels.max()}, but there are {len(layout.classes)} classes.")
    return rows[:, layout.label_bytes :].reshape(-1, 3, 32, 32).contiguous(), labels


def _published_pickles(name: str, root: Path, layout: _Layout) -> Labelled:
    from torchvision import datasets

    source, folder = getattr(datasets, name), root / layout.python_folder
    known = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    for file, md5 in known:
        if hashlib.md5(read_bytes(folder / file, LIMIT), usedforsecurity=False).hexdigest() != md5:
            raise InvalidError(
                f"{folder / file} is a pickle and not the published one (its MD5 is not {md5}), so it is not opened; "
                f"use the binary version: unpack {layout.archive} into {root}."
            )
    parts = [source(root, train=train) for train in (True, False)]
    train, test = (
        (torch.from_numpy(part.data).movedim(-1, 1).contiguous(), torch.tensor(part.targets)) for part in parts
    )
    return Labelled(*train, *test, layout.classes)


def _download(layout: _Layout, root: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    url = f"https://www.cs.toronto.edu/~kriz/{layout.archive}"
    download_and_extract_archive(url, str(root), md5=layout.md5, remove_finished=True)
