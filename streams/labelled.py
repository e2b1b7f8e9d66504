"""Labelled data before it is a stream: what every source gives and every builder takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..base.errors import UsageError
from ..base.seeds import frozen_random
from .leakage import row_hashes
from .rows import Rows

if TYPE_CHECKING:
    from .core import Augment, Transform


@dataclass(frozen=True, eq=False)
class Labelled:
    """Training and test samples with class ids 0..C-1.

    Args:
        train_x, test_x: [N, ...] uint8 pixels [N, C, H, W] or floats; a tensor, a NumPy memory map, or `Rows` of one.
        train_y, test_y: [N] int64.
        class_names: by class id; without them there are as many classes as the largest label says.
        transform, augment: passed on to `Data`: how stored samples become inputs, and how in training.
        texts: for image-text streams, the prompts of each class, by class id; the first is for training.
    """

    train_x: Tensor | np.ndarray | Rows
    train_y: Tensor
    test_x: Tensor | np.ndarray | Rows
    test_y: Tensor
    class_names: tuple[str, ...] = ()
    transform: Transform | None = None
    augment: Augment | None = None
    texts: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        for part, x, y in (("training", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            if len(x) != len(y):
                raise UsageError(f"the {part} set has {len(x)} samples but {len(y)} labels.")
            if not len(y):
                raise UsageError(f"the {part} set is empty.")
            if y.dtype != torch.int64 or y.ndim != 1:
                raise UsageError(
                    f"the {part} labels must be [N] int64, not {list(y.shape)} {y.dtype}; see from_arrays."
                )
            if y.min() < 0 or y.max() >= self.classes:
                raise UsageError(
                    f"the {part} labels reach from {y.min()} to {y.max()}, not within 0..{self.classes - 1}."
                )
        if tuple(self.train_x.shape[1:]) != tuple(self.test_x.shape[1:]):
            raise UsageError(
                f"a training sample has shape {list(self.train_x.shape[1:])} "
                f"but a test sample {list(self.test_x.shape[1:])}; bring them to one shape."
            )

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names) or int(max(self.train_y.max(), self.test_y.max())) + 1

    def __repr__(self) -> str:
        shape = "x".join(str(n) for n in self.train_x.shape[1:])
        sizes = f"{len(self.train_y)} training and {len(self.test_y)} test samples"
        return f"Labelled({sizes} of {shape}, {self.classes} classes)"


def from_arrays(
    x: Any,
    y: Any,
    test_x: Any = None,
    test_y: Any = None,
    *,
    class_names: Sequence[str] = (),
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Labelled:
    """Labelled data from NumPy arrays or torch tensors.

    Labels may be of any kind: integers that are not 0..C-1, and strings, are numbered in sorted order and become the
    class names. Without a test set, `test_fraction` of every class is split off, fixed by the seed; equal samples stay
    on one side.

    Args:
        x, test_x: [N, ...] uint8 pixels or floats; images as [N, C, H, W], [N, H, W, C] or (uint8 alone) [N, H, W].
            A memory map is kept as it is.
        y, test_y: [N] labels.

    Raises:
        UsageError: a dtype or shape that is ambiguous, NaN, a label outside the class names.
    """
    if (test_x is None) != (test_y is None):
        raise UsageError("a test set needs both test_x and test_y.")
    train_y, labels = _array(y, "y"), _array(y, "y")
    if test_y is not None:
        test_y = _array(test_y, "test_y")
        labels = np.concatenate([train_y, test_y])
    train_y, names = _numbered(train_y, labels, class_names)
    train_x = _samples(x, "x")
    if len(train_x) != len(train_y):
        raise UsageError(f"x has {len(train_x)} samples but y has {len(train_y)} labels.")
    if test_y is not None:
        test_y, _ = _numbered(test_y, labels, class_names)
        return Labelled(train_x, train_y, _samples(test_x, "test_x"), test_y, names)
    keep, held = holdout(train_x, train_y, test_fraction, "test split", seed)
    if not len(held) or not len(keep):
        raise UsageError("no class has two different samples, so that one could be held out. Give test_x and test_y.")
    return Labelled(_rows(train_x, keep), train_y[keep], _rows(train_x, held), train_y[held], names)


def holdout(
    x: Tensor | np.ndarray | Rows, y: Tensor, fraction: float, *keys: int | str
) -> tuple[np.ndarray, np.ndarray]:
    """Ascending row indices (kept, held out): `fraction` of every class, drawn by `frozen_random(*keys)`.

    Rows that are equal in bytes and label go to the same side, so that what is held out is unseen. A class of at least
    two different samples has one on either side.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"a fraction to hold out lies between 0 and 1; got {fraction}.")
    hashes, labels = row_hashes(x, y), y.cpu().numpy()
    first = np.sort(np.unique(hashes, return_index=True)[1])  # one row for each set of equal rows
    draw, held = frozen_random(*keys), []
    for label in np.unique(labels):
        members = first[labels[first] == label]
        count = min(max(int(len(members) * fraction + 0.5), 1), len(members) - 1)
        held.append(draw.permutation(members)[:count])
    mask = np.isin(hashes, hashes[np.concatenate(held)])
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def _rows(x: Tensor | np.ndarray, index: np.ndarray) -> Tensor | Rows:
    return Rows(x, index) if isinstance(x, np.ndarray) else x[torch.from_numpy(index)]


def _array(labels: Any, what: str) -> np.ndarray:
    labels = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iubUSO":
        raise UsageError(f"{what} must be [N] integers or strings, not {list(labels.shape)} {labels.dtype}.")
    return labels.astype(str) if labels.dtype.kind in "OS" else labels


def _numbered(labels: np.ndarray, every: np.ndarray, names: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
    """Class ids [N] int64 and class names; `every` are the labels of training and test set together."""
    names = tuple(str(name) for name in names)
    values = np.unique(every)
    if labels.dtype.kind in "US":
        values = np.array(names) if names else values
        missing = np.setdiff1d(every, values)
        if len(missing):
            raise UsageError(f"the label {str(missing[0])!r} is not among class_names.")
        order = np.argsort(values)
        ids = order[np.searchsorted(values, labels, sorter=order)]
        return torch.from_numpy(ids.astype(np.int64)), tuple(str(value) for value in values)
    if names or np.array_equal(values, np.arange(len(values))):
        if len(values) and names and (values[0] < 0 or values[-1] >= len(names)):
            raise UsageError(f"labels reach from {values[0]} to {values[-1]}, but there are {len(names)} class_names.")
        return torch.from_numpy(labels.astype(np.int64)), names
    return torch.from_numpy(np.searchsorted(values, labels)), tuple(str(value) for value in values)


def _samples(x: Any, what: str) -> Tensor | np.ndarray:
    """uint8 or float samples with channels first; see `from_arrays`."""
    if not isinstance(x, np.memmap):
        x = x.detach().cpu() if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x))
    kind = str(x.dtype).removeprefix("torch.")
    if kind != "uint8" and "float" not in kind:
        raise UsageError(f"{what} has dtype {kind}; give pixels as uint8 (0..255) or anything else as floats.")
    if x.ndim < 2:
        raise UsageError(f"{what} must be [N, ...], not {list(x.shape)}.")
    if x.ndim == 3 and kind == "uint8":
        x = x[:, None]
    if x.ndim == 4 and x.shape[-1] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        x = np.moveaxis(x, -1, 1) if isinstance(x, np.ndarray) else x.movedim(-1, 1).contiguous()
    if isinstance(x, np.ndarray) or kind == "uint8":
        return x
    if not torch.isfinite(x).all():
        raise UsageError(f"{what} holds NaN or infinite values; clean it first.")
    return x.float()
