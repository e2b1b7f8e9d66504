"""A folder of images, one subfolder per class."""

from __future__ import annotations

from pathlib import Path

import torch

from ...base.errors import StorageError, UsageError
from ..labelled import Labelled, from_arrays
from .images import Found, decode

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


def from_folder(path: str | Path, size: int | None = None, *, test_fraction: float = 0.2, seed: int = 0) -> Labelled:
    """Labelled data from `path`/CLASS/image.png, or from such folders in `path`/train and `path`/test (or val).

    Classes are numbered in the order of their names. Without a test folder, `test_fraction` of every class is split
    off, fixed by the seed. All pixels are read into memory.

    Args:
        size: cut the largest centred square and resize it to `size` x `size`; None needs images of one size.

    Raises:
        StorageError: no such folder. InvalidError: a file that is no image. UsageError: no classes, or unequal sizes.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        raise StorageError(f"{path} is not a folder; it should hold one folder of images per class.")
    train = path / "train" if (path / "train").is_dir() else path
    test = next((path / name for name in ("test", "val") if train != path and (path / name).is_dir()), None)
    names = tuple(sorted(folder.name for folder in train.iterdir() if folder.is_dir() and images_in(folder)))
    if not names:
        raise UsageError(f"{train} holds no folder with images; it should hold one per class.")
    found, y = _found(train, names)
    if test is None:
        return from_arrays(*decode(size, found), y, class_names=names, test_fraction=test_fraction, seed=seed)
    strangers = sorted(folder.name for folder in test.iterdir() if folder.is_dir() and folder.name not in names)
    if strangers:
        raise UsageError(f"{test} has the class {strangers[0]!r}, which {train} has not.")
    held, test_y = _found(test, names)
    x, test_x = decode(size, found, held)
    return Labelled(x, y, test_x, test_y, names)


def _found(folder: Path, names: tuple[str, ...]) -> tuple[Found, torch.Tensor]:
    """What `decode` takes, and the labels."""
    from PIL import Image

    files = [(file, label) for label, name in enumerate(names) for file in images_in(folder / name)]
    found = [(str(file), lambda file=file: Image.open(file)) for file, _ in files]
    return found, torch.tensor([label for _, label in files])


def images_in(folder: Path) -> list[Path]:
    """Image files at any depth, in an order that no file system decides."""
    if not folder.is_dir():
        return []
    found = (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())
