"""A film: one attempt step by step, as a test that can be watched keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .core import Predict, Test
from .tabletop.camera import render
from .tabletop.tasks import parse
from .tabletop.world import World


@dataclass(frozen=True)
class Film:
    """An attempt from its first state to its last.

    Attributes:
        shots: [T, 3, S, S] uint8 pictures; or, of the table-top, its states [T, 51], which take a hundredth.
        scene: of states, the task in its text form: all that is needed to draw them.
    """

    shots: Tensor
    scene: str = ""

    def __len__(self) -> int:
        return len(self.shots)

    def frames(self, size: int) -> Tensor:
        """[T, 3, S, S] uint8: pictures as they are, states as pictures of side `size`."""
        return render(self._world(), size) if self.scene else self.shots

    def subjects(self) -> Tensor:
        """[T, G, 2] where the things are that the goal is about, in sides of a picture, from its upper left corner.

        The table-top tells; of pictures nobody knows (G = 0).
        """
        if not self.scene:
            return torch.zeros(len(self), 0, 2)
        task = parse(self.scene)
        about = list(dict.fromkeys(task.slot(p.subject) for p in task.goal))
        return (self._world().at[:, about] - torch.tensor([0.0, 1.0])).abs()

    def _world(self) -> World:
        """All steps side by side."""
        return World([parse(self.scene)], torch.zeros(len(self), dtype=torch.int64), self.shots)


class Watchable(Test, Protocol):
    """A test whose cases can be watched. A run keeps films of some of them."""

    def watched(self, predict: Predict, batch_size: int, cases: Sequence[int]) -> tuple[Tensor, list[Film]]:
        """What `score` gives, from the same calls of `predict`, and a film of each of the cases, on the CPU."""
