"""What was seen up to each step of demonstrations, put together when drawn: a frame is on disk once, not ten times.

A window ends with what was seen when the action to be predicted was chosen, and what was before the first step is that
first step again. LIBERO's own windows begin at each step and are filled up at the end with the last one, all of whose
actions are predicted; the newest alone counts when a policy acts.
"""

from __future__ import annotations

import hashlib
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ....base.errors import UsageError
from ....base.files import sha256
from ...camera_augment import Shaken
from ...core import Data
from ...packed import Unpacked, packed
from ...rows import Rows, remembered
from ..decoded import PIECE
from .demonstrations import Demonstrations


def parted(
    one: Demonstrations, said: Tensor, demonstrations: int | None, val_fraction: float, history: int, augment: bool
) -> tuple[Data, Data | None]:
    """Windows to learn from, and those of the demonstrations that are held out, the last ones; targets [n, A] actions.

    Inputs are [n, H, P + R + L]: pictures, the robot's numbers, what is told. Without pictures they are in memory.

    Args:
        said: [L]. demonstrations: the first so many; None for all. val_fraction: of these. augment: see `Shaken`.
    """
    count = len(one) if demonstrations is None else demonstrations
    held = round(val_fraction * count)
    if not 1 <= count <= len(one) or not 0 <= held < count:
        raise UsageError(
            f"{one.language!r} has {len(one)} demonstrations: take from 1 to so many (demonstrations), and leave one "
            f"to learn from (val_fraction); got {count}, of which {held} are held out."
        )
    ends = one.lengths.cumsum()
    first = np.repeat(ends - one.lengths, one.lengths)
    numbers = torch.cat([torch.from_numpy(one.proprio), said.expand(len(first), -1)], 1)  # [N, R + L]
    rows = np.split(np.arange(ends[count - 1]), [ends[count - held - 1]])
    targets = [torch.from_numpy(one.actions[each]) for each in rows]
    if one.images is None:
        train, val = (Data(numbers[behind(each, first, history)], y) for each, y in zip(rows, targets, strict=True))
    else:
        windows, unpacked = Windows(one.images, numbers, first, history), Unpacked(int(np.prod(one.images.shape[1:])))
        shaken = Shaken(unpacked, len(one.cameras), one.images.shape[-1]) if augment else None
        train = Data(Rows(windows, rows[0]), targets[0], unpacked, shaken)
        val = Data(Rows(windows, rows[1]), targets[1], unpacked)
    return train, val if held else None


class Windows:
    """An array [N, H, P + 4 D] uint8, as `Rows` wants one: P pixels, then D numbers as bytes; see `packed`.

    Args:
        images: [N, V, 3, S, S] uint8, such as a memory map.
        numbers: [N, D] float32.
        first: [N] the row with which the demonstration of each row begins.
        history: H.
    """

    dtype, ndim = np.dtype(np.uint8), 3

    def __init__(self, images: np.ndarray | Rows, numbers: Tensor, first: np.ndarray, history: int) -> None:
        self.images, self.numbers, self.first, self.history = images, numbers, first, history
        width = int(np.prod(images.shape[1:])) + numbers.element_size() * numbers.shape[1]
        self.shape = (len(first), history, width)

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
        back = behind(np.arange(len(self))[key], self.first, self.history)  # [..., H]
        frames, place = np.unique(back, return_inverse=True)
        pixels = torch.from_numpy(np.asarray(self.images[frames]).reshape(len(frames), -1))
        return packed(pixels, self.numbers[frames]).numpy()[place.reshape(back.shape)]

    def contents(self) -> str:
        """SHA-256 of what the windows are made from; that of the images is kept beside them."""
        return self._contents

    @cached_property
    def _contents(self) -> str:
        images = remembered(self.images, b"frames", self._read)
        numbers = sha256(self.numbers.numpy().tobytes() + np.ascontiguousarray(self.first).tobytes())
        return sha256(f"{images} {numbers} {self.shape}".encode())

    def _read(self) -> str:
        total = hashlib.sha256()
        for start in range(0, len(self), PIECE):
            total.update(np.ascontiguousarray(self.images[start : start + PIECE]))
        return total.hexdigest()


def behind(rows: np.ndarray, first: np.ndarray, history: int) -> np.ndarray:
    """[..., H] the rows of the last so many steps before and at each of `rows`, of one demonstration, oldest first."""
    return np.maximum(rows[..., None] + np.arange(1 - history, 1), first[rows][..., None])
