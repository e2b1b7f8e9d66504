"""notMNIST (Bulatov 2011): the letters A to J in fonts of the web, 28 x 28 grey, a folder of PNG files for each."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...base.errors import InvalidError, StorageError
from ..labelled import Labelled
from . import data_root
from .folder import images_in

HOME = "http://yaroslavvb.com/upload/notMNIST"
LETTERS = "ABCDEFGHIJ"
SIDE = 28  # pixels
TEST = 10  # one image in so many, where the copy is not divided


def notmnist(data: str | Path | None = None) -> tuple[Labelled, dict[str, int]]:
    """notMNIST from `data`/notMNIST/Train/A/, /Test/A/ and so on, or from `data`/notMNIST_small/A/; and some counts.

    An undivided copy is divided here: of each letter, the tenth of the different images whose pixels have the smallest
    SHA-256 is the test set, so that equal images stay on one side. In a divided copy, training images that are in the
    test set, too, are left out. Files that are no images are skipped; the published archives have a few. The second
    value counts what was skipped and left out, for the record.

    Raises:
        StorageError: it is not there; the message says where it belongs. InvalidError: a letter without images.
    """
    root = data_root(data)
    divided = [root / "notMNIST" / part for part in ("Train", "Test")]
    small = next((f for f in (root / "notMNIST_small", root / "notMNIST") if (f / "A").is_dir()), None)
    if all(folder.is_dir() for folder in divided):
        (x, y, skipped), (test_x, test_y, more) = (_read(folder) for folder in divided)
        keep = ~np.isin(_hashes(x, y), _hashes(test_x, test_y))
        about = {"notmnist_skipped": skipped + more, "notmnist_repeated": int((~keep).sum())}
        return Labelled(x[keep], y[keep], test_x, test_y, tuple(LETTERS)), about
    if small is None:
        raise StorageError(
            f"notMNIST is not under {root}: unpack notMNIST_small.tar.gz of {HOME} there, so that "
            f"{root / 'notMNIST_small' / 'A'} exists, or a copy with notMNIST/Train/A and notMNIST/Test/A."
        )
    x, y, skipped = _read(small)
    held = torch.from_numpy(_tenth(_hashes(x, y), y.numpy()))
    return Labelled(x[~held], y[~held], x[held], y[held], tuple(LETTERS)), {"notmnist_skipped": skipped}


def _read(folder: Path) -> tuple[Tensor, Tensor, int]:
    """Pixels [N, 1, 28, 28] uint8, labels [N] int64, and the number of files that are no such image."""
    found, labels, skipped = [], [], 0
    for label, letter in enumerate(LETTERS):
        images = [image for file in images_in(folder / letter) if (image := _opened(file)) is not None]
        skipped += len(images_in(folder / letter)) - len(images)
        if not images:
            raise InvalidError(f"{folder / letter} holds no image of {SIDE}x{SIDE} pixels; unpack the archive again.")
        found += images
        labels += [label] * len(images)
    return torch.from_numpy(np.stack(found))[:, None], torch.tensor(labels), skipped


def _opened(file: Path) -> np.ndarray | None:
    """[28, 28] uint8; None where the file is empty, broken or of another size."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            pixels = np.array(image.convert("L"))
    except Exception:  # decoders raise whatever they like on a broken file
        return None
    return pixels if pixels.shape == (SIDE, SIDE) else None


def _hashes(x: Tensor, y: Tensor) -> np.ndarray:
    """[N] hexadecimal SHA-256 of label and pixels."""
    return np.array([hashlib.sha256(bytes([label]) + image.tobytes()).hexdigest() for image, label in
                     zip(x.numpy(), y.tolist(), strict=True)])  # fmt: skip


def _tenth(hashes: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[N] bool, the test set of an undivided copy."""
    chosen = []
    for label in np.unique(y):
        different = np.unique(hashes[y == label])
        chosen.append(different[: max(1, (2 * len(different) + TEST) // (2 * TEST))])
    return np.isin(hashes, np.concatenate(chosen))
