"""Handwritten digits that come with scikit-learn: no file is needed."""

from __future__ import annotations

import numpy as np
import torch

from ..labelled import Labelled, holdout


def digits() -> Labelled:
    """1,797 digits of 8 x 8 pixels (UCI optical recognition, Alpaydin and Kaynak 1998): 1,198 to train, 599 to test.

    The data set has no official split here: a third of every class is held out, the same in every version.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = (found.images.astype(np.int64) * 255 + 8) // 16  # 17 grey levels, 0..16
    x = torch.from_numpy(pixels.astype(np.uint8))[:, None]
    y = torch.from_numpy(found.target.astype(np.int64))
    keep, held = holdout(x, y, 1 / 3, "digits test split")
    return Labelled(x[keep], y[keep], x[held], y[held], tuple("0123456789"))
