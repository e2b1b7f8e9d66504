"""Handwritten digits that come with scikit-learn: no file is needed."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from ...base.errors import StorageError
from ..labelled import Labelled, holdout


def digits() -> Labelled:
    """1,797 digits of 8 x 8 pixels (UCI optical recognition, Alpaydin and Kaynak 1998): 1,198 to train, 599 to test.

    The data set has no official split here: a third of every class is held out, the same in every version.
    """
    table = _table()  # 64 grey levels from 0 to 16, then the digit
    x = torch.from_numpy(((table[:, :64] * 255 + 8) // 16).astype(np.uint8)).reshape(-1, 1, 8, 8)
    y = torch.from_numpy(table[:, 64].copy())
    keep, held = holdout(x, y, 1 / 3, "digits test split")
    return Labelled(x[keep], y[keep], x[held], y[held], tuple("0123456789"))


def _table() -> np.ndarray:
    """[1797, 65] integers from the file that scikit-learn installs, read without importing scikit-learn (150 MB)."""
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise StorageError("the digits come with scikit-learn, which is not installed. Run: pip install scikit-learn.")
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.exists():  # another layout
        from sklearn.datasets import load_digits

        found = load_digits()
        return np.c_[found.data, found.target].astype(np.int64)
    with gzip.open(path, "rt") as file:
        return np.loadtxt(file, delimiter=",").astype(np.int64)
