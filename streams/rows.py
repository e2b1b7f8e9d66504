"""Rows of a memory map that stay on disk until they are drawn, so that a task of a large data set costs an index."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..base.errors import CarryoverError
from ..base.files import canonical, read_json, sha256, write_atomic

STEP_BYTES = 2**27  # moved to a device at once
WORTH_KEEPING = 2**28  # bytes of which a digest is kept
KEPT_LIMIT = 2**20  # bytes of the file that keeps them


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
        return math.prod(self.shape) * self.dtype.itemsize

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


def remembered(rows: Tensor | np.ndarray | Rows, facts: bytes, compute: Callable[[], str]) -> str:
    """What `compute` says of the rows, kept beside a large map on disk: its bytes need not be read by every run.

    A map that was written since is another one: its size and the time of its last change are a part of the key.

    Args:
        facts: what else the result depends on.
    """
    source = rows._source if isinstance(rows, Rows) else rows
    index = rows._index if isinstance(rows, Rows) else np.arange(len(rows))
    if hasattr(source, "contents"):  # made when they are drawn, of less than they amount to
        return sha256(np.ascontiguousarray(index).tobytes() + facts + source.contents().encode())
    if not isinstance(source, np.memmap) or rows.nbytes < WORTH_KEEPING:
        return compute()
    path = Path(source.filename)
    state = path.stat()
    key = sha256(b"%d %d " % (state.st_size, state.st_mtime_ns) + np.ascontiguousarray(index).tobytes() + facts)
    kept = path.with_suffix(".digests.json")
    try:
        known = read_json(kept, KEPT_LIMIT) if kept.exists() else {}
        known = known if isinstance(known, dict) else {}
    except CarryoverError:  # damaged, and worth no more than the time to make it again
        known = {}
    if not isinstance(known.get(key), str):
        known[key] = compute()
        with suppress(OSError):  # a folder that cannot be written to
            write_atomic(kept, canonical(known))
    return known[key]


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
