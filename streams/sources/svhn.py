"""Street View House Numbers (Netzer et al. 2011), cropped digits, from the two published .mat files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from ...base.errors import StorageError
from ..labelled import Labelled
from . import data_root, fetch

FILES = ("train_32x32.mat", "test_32x32.mat")
HOME = "http://ufldl.stanford.edu/housenumbers"


def svhn(data: str | Path | None = None, download: bool = False) -> Labelled:
    """SVHN from `data`/SVHN or `data`; 73,257 images to train and 26,032 to test, pixels [N, 3, 32, 32].

    Raises:
        StorageError: a file is missing or is not the published one, by its checksum; or SciPy is missing.
    """
    if find_spec("scipy") is None:
        raise StorageError("SVHN's .mat files are read with SciPy, which is not installed. Run: pip install scipy.")
    from torchvision.datasets import SVHN

    root = data_root(data)
    home = next((h for h in (root / "SVHN", root) if all((h / file).is_file() for file in FILES)), None)
    if home is None and not download:
        raise StorageError(
            f"SVHN is not under {root}: put {FILES[0]} and {FILES[1]} of {HOME} into {root / 'SVHN'}, "
            "or run again with --download."
        )
    home = home or root / "SVHN"
    parts = [fetch("SVHN", home, lambda part=part: SVHN(home, part, download=download)) for part in ("train", "test")]
    arrays = [array for part in parts for array in (torch.from_numpy(part.data), torch.from_numpy(part.labels))]
    return Labelled(*arrays, tuple("0123456789"))
