"""Small data sets in the layouts of the real ones."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = {"n01443537": 9, "n01484850": 12, "n01494475": 5, "n01498041": 23, "n01514859": 6, "n01518878": 10}


def photo(seed: int, kind: str = "PNG") -> bytes:
    """A photo of its own size, some upright and some wide."""
    draw = np.random.RandomState(seed)
    height, width = draw.randint(12, 24, 2)
    file = io.BytesIO()
    Image.fromarray(draw.randint(0, 256, (height, width, 3)).astype(np.uint8)).save(file, kind)
    return file.getvalue()


def contents(sizes: dict[str, int] | None = None) -> dict[str, bytes]:
    """Name to bytes, as ImageNet-R names its files. PNG inside, lest a pinned fingerprint depend on a decoder."""
    found = {}
    for number, (label, size) in enumerate((sizes or SIZES).items()):
        for i in range(size):
            found[f"{label}/{('art', 'toy')[i % 2]}_{i // 2}.jpg"] = photo(1000 * number + i)
    return found


def write(root: Path, files: dict[str, bytes]) -> Path:
    """The files under a folder, made in the order given."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def digits(
    n: int, classes: int = 10, shape: tuple[int, ...] = (28, 28), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Noise [n, *shape] uint8, and labels that go round."""
    return np.random.RandomState(seed).randint(0, 256, (n, *shape)).astype(np.uint8), np.arange(n) % classes


def idx_files(folder: Path, n: int = 40) -> Path:
    """The four IDX files of MNIST or a relative, n images to train and n/2 to test."""
    found = {}
    for part, count in (("train", n), ("t10k", n // 2)):
        x, y = digits(count, seed=count)
        for kind, array in (("images-idx3", x), ("labels-idx1", y.astype(np.uint8))):
            head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            found[f"{part}-{kind}-ubyte"] = head + array.tobytes()
    return write(folder / "raw", found)


def cifar10_files(root: Path, n: int = 20) -> Path:
    """The binary version of CIFAR-10: label byte, then the planes; n records a file."""
    found = {}
    for number, file in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        x, y = digits(n, shape=(3072,), seed=number)
        found[file] = np.concatenate([y[:, None], x], axis=1).astype(np.uint8).tobytes()
    return write(root / "cifar-10-batches-bin", found)


def cifar100_files(root: Path, coarse: list[int], n: int = 200) -> Path:
    """The binary version of CIFAR-100: coarse label byte, fine label byte, then the planes."""
    found = {}
    for number, file in enumerate(("train.bin", "test.bin")):
        x, y = digits(n, 100, (3072,), number)
        found[file] = np.concatenate([np.array(coarse)[y][:, None], y[:, None], x], axis=1).astype(np.uint8).tobytes()
    return write(root / "cifar-100-binary", found)


def svhn_files(folder: Path, n: int = 20) -> dict[str, bytes]:
    """SVHN's two .mat files: X [32, 32, 3, n], and y [n, 1] in which 10 stands for the digit 0."""
    from scipy.io import savemat

    for number, part in enumerate(("train", "test")):
        x, y = digits(n, shape=(32, 32, 3), seed=number)
        file = io.BytesIO()
        savemat(file, {"X": x.transpose(1, 2, 3, 0), "y": np.where(y == 0, 10, y).astype(np.uint8)[:, None]})
        write(folder, {f"{part}_32x32.mat": file.getvalue()})
    return {part: (folder / f"{part}_32x32.mat").read_bytes() for part in ("train", "test")}


def letters(n: int, seed: int = 0) -> dict[str, bytes]:
    """notMNIST's folders A to J, n grey images of 28 x 28 each, by name."""
    found = {}
    for label, letter in enumerate("ABCDEFGHIJ"):
        for i, pixels in enumerate(digits(n, seed=100 * seed + label)[0]):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            found[f"{letter}/font{i}.png"] = file.getvalue()
    return found
