"""A test of a policy: attempts from fixed initial states, each a success or not."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .observe import ROBOT, TOKEN, flat, observe
from .rollouts import roll_out
from .tasks import TaskSpec, write
from .things import tokens
from .world import World

VERSION = 2  # of the world: raised when a step may come out otherwise


@dataclass(frozen=True)
class Attempts:
    """Tasks[rows] from states. A policy sees the last `history` observations; at first, the first one several times.

    Attributes:
        rows: [N] which of the tasks. states: [N, 51]. said: [T, L] what instruction a policy is given for each task.
        things: tokens that it sees.
    """

    tasks: tuple[TaskSpec, ...]
    rows: Tensor
    states: Tensor
    said: Tensor
    things: int
    history: int = 1

    def __len__(self) -> int:
        return len(self.rows)

    def score(self, predict: Callable[[Tensor], Tensor], batch_size: int = 1024) -> Tensor:
        """[N] bool: the goal held at some step within the horizon. `predict` maps [B, H, D] to actions [B, 3]."""

        def act(world: World) -> Tensor:
            now = inputs(world, self.said, self.things)[:, None]  # [B, 1, D]
            past = getattr(world, "past", None)  # hung on the world, whose rows it loses with those that are done
            world.past = now.expand(-1, self.history, -1) if past is None else torch.cat([past[:, 1:], now], 1)
            return predict(world.past)

        parts = zip(self.rows.split(batch_size), self.states.split(batch_size), strict=True)
        return torch.cat([roll_out(World(self.tasks, *part, part[0].device), act)[0] for part in parts])

    def to(self, device: torch.device | str) -> Attempts:
        """The same on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("rows", "states", "said")}
        return dataclasses.replace(self, **moved)

    def joined(self, others: Sequence[Attempts]) -> Attempts | None:
        """All of them in one batch, after this one; None if they see in different ways."""
        every = [self, *others]
        if not all(isinstance(o, Attempts) for o in every):
            return None
        if len({(o.said.shape[1], o.things, o.history) for o in every}) > 1:
            return None
        starts = [sum(len(o.tasks) for o in every[:i]) for i in range(len(every))]
        return Attempts(
            tuple(task for o in every for task in o.tasks),
            torch.cat([o.rows + start for o, start in zip(every, starts, strict=True)]),
            torch.cat([o.states for o in every]),
            torch.cat([o.said for o in every]),
            self.things,
            self.history,
        )

    def digest(self) -> str:
        """SHA-256 of the world's version, the tasks in words, the states and what is said."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        total = hashlib.sha256(f"tabletop {VERSION} {self.things} {self.history}".encode())
        for task in self.tasks:
            total.update(write(task).encode())
        for part in (self.rows, self.states, self.said):
            total.update(part.cpu().contiguous().numpy())
        return total.hexdigest()


def inputs(world: World, said: Tensor, things: int) -> Tensor:
    """[N, D] what a policy is given: the robot, the first things, and what is said of each one's task."""
    robot, entities = observe(world)
    return torch.cat([flat(robot, entities[:, :things]), said.to(world.grip)[world.task]], 1)


def spoken(tasks: Sequence[TaskSpec], language: str) -> tuple[str, Tensor]:
    """Name of the part and [T, L]: "words" as numbers of the vocabulary, or "one-hot" the task's own position."""
    if language == "words":
        return "words", tokens(task.instruction for task in tasks).float()
    return "task", torch.eye(len(tasks))


def layout(name: str, length: int, things: int) -> dict[str, tuple[int, ...]]:
    """Of the last axis of an input."""
    return {"robot": (ROBOT,), "entities": (things, TOKEN), name: (length,)}
