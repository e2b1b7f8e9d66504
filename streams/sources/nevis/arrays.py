"""The data sets of NEVIS'22 that come as arrays, and their pictures one by one."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ....base.errors import StorageError
from ....base.files import read_bytes
from ...labelled import Labelled
from .. import fetch
from ..idx import mnist, read_idx
from ..pictures import Picture

TURN = 99_999  # the seed of MNIST's rotation
Reader = Callable[[Path], list[Picture]]


def labelled(load: Callable[[Path], Labelled]) -> Reader:
    """What a reader of arrays gives, which comes as train and test."""

    def read(root: Path) -> list[Picture]:
        data = load(root)
        parts = (("train", data.train_x, data.train_y), ("test", data.test_x, data.test_y))
        return [p for part, x, y in parts for p in _rows(x.numpy(), y.numpy(), part, str(root), data.class_names)]

    return read


def arrays(source: str, **parts: Mapping[str, Any]) -> Reader:
    """A class of torchvision that holds its pictures as an array: its arguments for each part."""

    def read(root: Path) -> list[Picture]:
        from torchvision import datasets

        found: list[Picture] = []
        for part, given in parts.items():
            data = fetch(source, root, lambda given=given: getattr(datasets, source)(root, download=False, **given))
            labels = data.targets if hasattr(data, "targets") else data.labels
            found += _rows(np.asarray(data.data), np.asarray(labels), part, source)
        return found

    return read


def emnist(root: Path) -> list[Picture]:
    """EMNIST balanced in four IDX files, mirrored along the diagonal, as stored and as the published code reads it."""
    found: list[Picture] = []
    for part in ("train", "test"):
        images, labels = (
            _either(root / "EMNIST" / "raw", f"emnist-balanced-{part}-{kind}-ubyte")
            for kind in ("images-idx3", "labels-idx1")
        )
        found += _rows(read_idx(images, 3), read_idx(labels, 1), part, "EMNIST balanced")
    return found


def stl10(root: Path) -> list[Picture]:
    """STL-10: planes in column-major order, labels from 1; without the unlabelled pictures."""
    home, found = root / "stl10_binary", []
    for part in ("train", "test"):
        pixels = np.frombuffer(read_bytes(home / f"{part}_X.bin"), np.uint8).reshape(-1, 3, 96, 96).swapaxes(2, 3)
        labels = np.frombuffer(read_bytes(home / f"{part}_y.bin"), np.uint8)
        found += _rows(pixels, labels - 1, part, "STL-10")
    return found


def pcam(root: Path) -> list[Picture]:
    """PatchCamelyon in HDF5, each picture read when it is asked for."""
    if find_spec("h5py") is None:
        raise StorageError('PatchCamelyon is read with h5py, which is not installed. Run: pip install "h5py>=3.11".')
    import h5py
    from PIL import Image

    found = []
    for part, word in (("train", "train"), ("val", "valid"), ("test", "test")):
        path = root / "pcam" / f"camelyonpatch_level_2_split_{word}"
        files = [Path(f"{path}_{kind}.h5") for kind in "xy"]
        x, y = (fetch("PatchCamelyon", root, lambda f=file: h5py.File(f)[f.stem[-1]]) for file in files)
        size = files[0].stat().st_size
        for row, label in enumerate(y[:].ravel()):
            opener = lambda x=x, row=row: Image.fromarray(x[row])  # noqa: E731
            found.append(Picture(str(label), f"{label}/{part}-{row:06}", part, size, f"{files[0]}, row {row}", opener))
    return found


def turned(root: Path) -> list[Picture]:
    """MNIST with its training pictures turned, each by its own whole number of degrees; the test's stand upright."""
    pictures = labelled(lambda root: mnist("MNIST", root))(root)
    angles = np.random.RandomState(TURN).randint(0, 360, len(pictures)).tolist()
    return [p if p.part == "test" else _turn(p, angle) for p, angle in zip(pictures, angles, strict=True)]


def _rows(x: np.ndarray, y: np.ndarray, part: str, where: str, names: Sequence[str] = ()) -> Iterator[Picture]:
    """Pictures of arrays [N, H, W] or [N, C, H, W], named by their pixels; without names, labels have two digits."""
    for row, (pixels, number) in enumerate(zip(x, y.tolist(), strict=True)):
        label = names[number] if names else f"{number:02}"
        name = f"{label}/{part}-{row:06}-{hashlib.sha256(pixels.tobytes()).hexdigest()[:16]}"
        opener = lambda pixels=pixels: _image(pixels)  # noqa: E731
        yield Picture(label, name, part, pixels.size, f"{where}, {part} image {row}", opener)


def _image(pixels: np.ndarray) -> Any:
    from PIL import Image

    if pixels.ndim == 3:
        pixels = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(pixels))


def _turn(picture: Picture, angle: int) -> Picture:
    from PIL import Image

    opener = lambda: picture.open().rotate(angle, Image.Resampling.BICUBIC)  # noqa: E731
    return dataclasses.replace(picture, name=f"{picture.name}-{angle}", open=opener)


def _either(folder: Path, stem: str) -> Path:
    """A file, gzipped or not."""
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), folder / stem)
