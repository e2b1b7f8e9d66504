"""Published data sets of photos, brought to what a pre-trained vision transformer reads."""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ...base.errors import InvalidError, StorageError
from ..augment import CenterCrop, RandomResizedCrop
from ..labelled import Labelled
from ..rows import Rows
from . import data_root, fetch, own_cache
from .decoded import SIDE, decoded
from .pictures import Picture, in_folders
from .splits import test_mask
from .table import in_table

SIZE = 224  # pixels of an input


@dataclass(frozen=True)
class Published:
    """A data set as its authors give it away, which tells a whole copy from a partial one.

    Attributes:
        name: of messages and of the decoded copy.
        folders: under the data root, the first that is there is taken.
        classes, images: how many there are; 0 images where copies differ.
        get: what to do to have it, as a sentence for messages.
        url, sha256: of an archive that unpacks to the first folder; "" where there is none to fetch.
        names: readable, by label; empty where labels speak for themselves.
        one_in: of so many images one is for the test, where a hash of the names divides them.
        in_folder, in_table: give the pictures of a folder, and of a copy at Hugging Face.
    """

    name: str
    folders: tuple[str, ...]
    classes: int
    images: int
    get: str
    url: str = ""
    sha256: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    one_in: int = 5
    in_folder: Callable[[Path], list[Picture]] = in_folders
    in_table: Callable[[str], list[Picture]] = in_table


def photos(
    source: Published,
    data: str | Path | None,
    split: str | None,
    download: bool = False,
    hub: str | None = None,
    side: int = SIDE,
    size: int | None = SIZE,
) -> tuple[Labelled, dict[str, str]]:
    """The data set, its pixels a memory map [N, 3, side, side]; and what says how it was divided, for the record.

    Inputs are `size` x `size` in [0, 1]: the middle at test, a random resized crop with mirror images in training; or
    the whole square as it is, in training too, without `size`. Classes are numbered by their labels in sorted order.

    Args:
        split: see `splits.test_mask`; None is "given" where the data set comes divided, else "hash".
        hub: take the images from there and not from the data root; see `table.in_table`.

    Raises:
        StorageError: it is not there, or not all of it; the message says what is missing and where it is to be had.
    """
    root = data_root(data)
    home = None if hub else _home(source, root, download)
    pictures = source.in_table(hub) if hub else source.in_folder(home)
    labels = _whole(source, pictures, hub or str(home))
    split = split or ("given" if any(picture.part for picture in pictures) else "hash")
    mask = test_mask(pictures, split, home, source.one_in)
    pixels = decoded(source.name, pictures, (root / "decoded", own_cache() / "decoded"), side)
    y = torch.tensor([labels[picture.label] for picture in pictures])
    rows = torch.from_numpy(mask)
    parts = [part for held in (~rows, rows) for part in (Rows(pixels, held.numpy()), y[held])]
    names = tuple(source.names.get(label) or _readable(label) for label in labels)
    tests = "".join(f"{picture.name}\n" for picture, held in zip(pictures, mask, strict=True) if held)
    divided = split if split in ("hash", "given") else "listed"
    about = {"split": divided, "test_names_sha256": hashlib.sha256(tests.encode()).hexdigest()}
    views = (CenterCrop(size), RandomResizedCrop(size)) if size else ()
    return Labelled(*parts, names, *views), about


def _home(source: Published, root: Path, download: bool) -> Path:
    """The folder of the data set."""
    here = [root] if root.name in source.folders else []
    homes = [*here, *(root / folder for folder in source.folders)]
    found = next((home for home in homes if home.is_dir()), None)
    if found is not None:
        return found
    if not (download and source.url):
        ways = " or run again with --download" if source.url else ""
        raise StorageError(f"{source.name} is not under {root}: {source.get}, so that {homes[0]} exists{ways}.")
    fetch(source.name, root, lambda: _download(source, root))
    return _home(source, root, False)


def _whole(source: Published, pictures: list[Picture], where: str) -> dict[str, int]:
    """Class id by label, if the copy is whole."""
    labels = sorted({picture.label for picture in pictures})
    missing = sorted(set(source.names) - set(labels)) if set(labels) & set(source.names) else []
    lacks = f", such as {missing[0]} ({source.names[missing[0]]})" if missing else ""
    if len(labels) != source.classes or missing:
        says = f"{len(labels)} classes, not the {source.classes} of {source.name}"
        says += f"; {len(missing)} of them are missing{lacks}" if missing else ""
    elif source.images and len(pictures) != source.images:
        says = f"{len(pictures):,} images, not the {source.images:,} of {source.name}"
    else:
        return {label: number for number, label in enumerate(labels)}
    raise StorageError(f"{where} holds {says}. The download is incomplete or another data set: {source.get}.")


def _readable(label: str) -> str:
    """A folder's name, such as "001.Black_footed_Albatross", as people say it."""
    return re.sub(r"^\d+\.", "", label).replace("_", " ")


def _download(source: Published, root: Path) -> None:
    """Fetch the archive, check its bytes, and unpack it aside, so that a folder that is there is whole."""
    from torchvision.datasets.utils import download_url

    archive = root / source.url.rpartition("/")[2]
    if not archive.is_file():
        download_url(source.url, str(root), archive.name)
    with open(archive, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        raise InvalidError(f"{archive} is not the published one: its SHA-256 is {found}. Remove it and try again.")
    aside = root / f".{source.folders[0]}.part"
    shutil.rmtree(aside, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(aside, filter="data")
    (aside / source.folders[0]).rename(root / source.folders[0])
    shutil.rmtree(aside, ignore_errors=True)
    archive.unlink()
