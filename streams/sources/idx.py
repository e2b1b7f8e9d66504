"""MNIST and its relatives: four IDX files in NAME/raw, gzipped or not, as published."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch

from ...base.errors import InvalidError, StorageError
from ...base.files import read_bytes
from ..labelled import Labelled
from . import data_root, fetch

LIMIT = 2**31  # bytes of one file's content
NAMES = {
    "MNIST": tuple("0123456789"),
    "FashionMNIST": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
}  # fmt: skip


def mnist(name: str = "MNIST", data: str | Path | None = None, download: bool = False) -> Labelled:
    """MNIST (LeCun, Cortes, Burges) or FashionMNIST (Xiao et al. 2017) from `data`/NAME/raw; the official split.

    Raises:
        StorageError: files are missing; the message says which, and where they belong.
        InvalidError: a file is truncated or is not what its name says.
    """
    root = data_root(data)
    folder = root / name / "raw"
    paths = {
        (part, kind): _find(folder, f"{part}-{kind}-idx{rank}-ubyte")
        for part in ("train", "t10k")
        for kind, rank in (("images", 3), ("labels", 1))
    }
    if not all(paths.values()):
        if not download:
            raise StorageError(
                f"{name} is not under {root}: put its four IDX files into {folder}, or run again with --download."
            )
        fetch(name, folder, lambda: _download(name, folder))
        return mnist(name, data)
    train, test = (
        _labelled(paths[part, "images"], paths[part, "labels"], len(NAMES[name])) for part in ("train", "t10k")
    )
    return Labelled(*train, *test, NAMES[name])


def read_idx(path: Path, rank: int) -> np.ndarray:
    """The uint8 array of an IDX file: magic number, dimensions and exact length are checked.

    Args:
        rank: number of dimensions that it must have.
    """
    data = _content(path)
    if len(data) < 4 + 4 * rank or data[:4] != bytes((0, 0, 8, rank)):
        raise InvalidError(f"{path} is not an IDX file of unsigned bytes with {rank} dimensions.")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", rank, 4))
    expected, found = int(np.prod(shape, dtype=object)), len(data) - 4 - 4 * rank
    if expected != found:
        raise InvalidError(
            f"{path} holds {found:,} bytes where its header {shape} needs {expected:,}; it is truncated or corrupt."
        )
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()


def _content(path: Path) -> bytes:
    if path.suffix != ".gz":
        return read_bytes(path, LIMIT)
    try:
        with gzip.open(path) as file:
            data = file.read(LIMIT + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidError(f"{path} is truncated or corrupt: {error}.") from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > LIMIT:
        raise InvalidError(f"{path} unpacks to more than {LIMIT:,} bytes.")
    return data


def _find(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)


def _labelled(images: Path, labels: Path, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = read_idx(images, 3), read_idx(labels, 1)
    if len(x) != len(y):
        raise InvalidError(f"{images} has {len(x):,} images but {labels.name} has {len(y):,} labels.")
    if len(y) and y.max() >= classes:
        raise InvalidError(f"{labels} holds the label {y.max()}, but there are {classes} classes.")
    return torch.from_numpy(x)[:, None], torch.from_numpy(y.astype(np.int64))


def _download(name: str, folder: Path) -> None:
    """The gzipped files, checked against the checksums that torchvision carries."""
    from torchvision import datasets
    from torchvision.datasets.utils import download_url

    source = getattr(datasets, name)
    for file, md5 in source.resources:
        download_url(source.mirrors[0] + file, str(folder), file, md5)
