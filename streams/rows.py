"""Rows of a memory map that stay on disk until they are drawn, so that a task of a large data set costs an index."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

STEP_BYTES = 2**27  # moved to a device at once


class Rows:
    """Some rows of an array on disk, in an order of one's own. Indexing reads the rows asked for, and nothing else.

    What it shows is its rows alone: the rest of the array is as far away as the file itself.

    Args:
        source: [M, ...], a memory map or `Rows` of one.
        index: which rows; whatever indexes an array of M.
    """

    def __init__(self, source: np.ndarray | Rows, index: np.ndarray | slice = slice(None)) -> None:
        known = source._index if isinstance(source, Rows) else np.arange(len(source))
        self._source: np.ndarray = source._source if isinstance(source, Rows) else source
        self._index = known[index]

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        return f"Rows({len(self):,} of {len(self._source):,})"

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return (len(self), *self._source.shape[1:])

    @property
    def ndim(self) -> int:
        """As of an array."""
        return self._source.ndim

    @property
    def dtype(self) -> np.dtype:
        """As of an array."""
        return self._source.dtype

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return len(self) * self._source[:1].nbytes

    def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
        """Rows in memory. The disk is read in ascending order, whatever the order asked for."""
        rows = self._index[key]
        if rows.ndim == 0:
            return np.array(self._source[rows])
        if np.all(rows[:-1] <= rows[1:]):
            return np.asarray(self._source[rows])
        order = np.argsort(rows, kind="stable")
        read = np.empty((len(rows), *self._source.shape[1:]), self._source.dtype)
        read[order] = self._source[rows[order]]
        return read


def on_device(rows: np.ndarray | Rows, device: torch.device | str) -> Tensor | np.ndarray | Rows:
    """The rows on a GPU, if they fill at most half of what is free there; otherwise as they are, to be drawn."""
    device = torch.device(device)
    if device.type != "cuda" or rows.nbytes > _free_bytes(device) // 2:
        return rows
    return gathered(rows, device)


def gathered(rows: np.ndarray | Rows, device: torch.device | str = "cpu") -> Tensor:
    """All rows as one tensor, read piece by piece."""
    kind = torch.from_numpy(np.empty(0, rows.dtype)).dtype
    held = torch.empty(rows.shape, dtype=kind, device=device)
    step = max(1, STEP_BYTES * len(rows) // max(rows.nbytes, 1))
    for start in range(0, len(rows), step):
        held[start : start + step] = torch.from_numpy(Rows(rows)[start : start + step])
    return held


def _free_bytes(device: torch.device) -> int:
    """What the driver has free, and what torch holds without using it."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
