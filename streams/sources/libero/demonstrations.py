"""Demonstrations of one task, in whatever files they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ....base.errors import unknown
from ...rows import Rows

CAMERAS = ("agentview_rgb", "eye_in_hand_rgb")
PROPRIO = ("gripper_states", "joint_states")  # 2 + 7 numbers: what LIBERO's policies are given
Pairing = Literal["seen", "stored"]


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """D demonstrations of a task, one after another, N steps in all, V cameras.

    Attributes:
        language: the task in words.
        actions: [N, A] float32; LIBERO's A is 7, see the folder's docstring.
        proprio: [N, P] float32, what the robot knows of itself.
        lengths: [D] int64, steps of each demonstration.
        images: [N, V, 3, H, W] uint8, upright, on disk: only the rows asked for are read. None without cameras.
        cameras: [V] names.
        bddl: the task's goal file; see `bddl.parse`. "" where there is none.
        initial: [D, S] float64, the simulator's state at the first step; None where there is none.
    """

    language: str
    actions: np.ndarray
    proprio: np.ndarray
    lengths: np.ndarray
    images: np.ndarray | Rows | None = None
    cameras: tuple[str, ...] = ()
    bddl: str = ""
    initial: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def episodes(self) -> Iterator[slice]:
        """The rows of each demonstration."""
        ends = self.lengths.cumsum().tolist()
        yield from map(slice, [0, *ends[:-1]], ends)


def paired(lengths: Sequence[int], pairing: Pairing) -> tuple[np.ndarray, np.ndarray]:
    """Of stored steps, which rows of the observations and which of the actions belong together.

    "seen": an action and the outcome of the one before it, which is what was seen when it was chosen; one row less for
    each demonstration. "stored": an action and its own outcome.
    """
    if pairing not in get_args(Pairing):
        raise unknown("pairing", pairing, get_args(Pairing))
    rows = np.arange(sum(lengths))
    if pairing == "stored":
        return rows, rows
    ends = np.cumsum(lengths)
    return np.delete(rows, ends - 1), np.delete(rows, ends - np.asarray(lengths))
