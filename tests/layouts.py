"""Small data sets of photos in the layouts of the real ones."""

from __future__ import annotations

import io
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
