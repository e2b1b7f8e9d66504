"""Leakage: training samples that stand in a held-out set as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..base.errors import UsageError
from ..base.seeds import frozen_random

if TYPE_CHECKING:
    from .core import Data, LabelledTest, Task
    from .rows import Rows

ALLOWED = 0.01  # of the held-out samples: published data sets contain a few


def overlap(task: Task, test: LabelledTest) -> int:
    """How many test and validation samples of a task occur, same bytes and same label, in its training data."""
    return sum(duplicates(task.train, held) for held in (test.data, task.val) if held is not None)


def allowed_overlap(task: Task, test: LabelledTest, where: str) -> int:
    """`overlap`, refused above 1 % of the held-out samples."""
    count, held = overlap(task, test), len(test) + (len(task.val) if task.val is not None else 0)
    if count > ALLOWED * held:
        raise UsageError(
            f"{where}: {count:,} of {held:,} held-out samples occur in its training data too, "
            f"more than the {ALLOWED:.0%} allowed; remove the duplicates."
        )
    return count


def duplicates(train: Data, held: Data) -> int:
    """How many rows of `held` occur in `train`: by hash first, then confirmed byte for byte."""
    if train.shape != held.shape:
        return 0
    ours, theirs = row_hashes(train.samples, train.targets), row_hashes(held.samples, held.targets)
    suspects = np.flatnonzero(np.isin(theirs, ours))
    if not len(suspects):
        return 0
    known = {_row(train, i) for i in np.flatnonzero(np.isin(ours, theirs[suspects]))}
    return sum(_row(held, i) in known for i in suspects)


def row_hashes(samples: Tensor | np.ndarray | Rows, targets: Tensor, chunk: int = 1024) -> np.ndarray:
    """[N] uint64, equal for rows of equal bytes and target: sums of 32-bit words times odd 64-bit constants."""
    if targets.ndim > 1:  # what is to be done, in numbers
        told = targets.flatten(1)
        return row_hashes(samples, targets.new_zeros(len(targets)), chunk) + row_hashes(told, told.new_ones(len(told)))
    n, width = len(samples), int(np.prod(samples.shape[1:])) * _numpy(samples[:1]).itemsize
    words = -(-width // 4)
    chunk = max(1, min(chunk, 2**26 // max(width, 1)))  # bounds the memory it takes
    factors = frozen_random("row hashes").randint(0, 2**64, words + 1, np.uint64) | np.uint64(1)
    hashes = _numpy(targets).astype(np.int64).view(np.uint64) * factors[-1]
    for start in range(0, n, chunk):
        rows = np.ascontiguousarray(_numpy(samples[start : start + chunk])).reshape(min(chunk, n - start), -1)
        padded = np.zeros((len(rows), 4 * words), np.uint8)
        padded[:, :width] = rows.view(np.uint8)
        hashes[start : start + chunk] += padded.view(np.uint32) @ factors[:words]
    return hashes


def _row(data: Data, index: int) -> tuple[bytes, bytes]:
    return _numpy(data.samples[int(index)]).tobytes(), _numpy(data.targets[int(index)]).tobytes()


def _numpy(array: Tensor | np.ndarray) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()
