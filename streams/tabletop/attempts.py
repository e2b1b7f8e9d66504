"""A test of a policy: attempts from fixed initial states, each a success or not."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..film import Film
from .camera import render
from .observe import ROBOT, TOKEN, flat, observe
from .rollouts import roll_out
from .tasks import TaskSpec, write
from .things import tokens
from .world import World

VERSION = 2  # of the world: raised when a step may come out otherwise
VIEW = "agentview_rgb"  # the camera, by LIBERO's name


@dataclass(frozen=True)
class Attempts:
    """Tasks[rows] from states. A policy sees the last `history` observations; at first, the first one several times.

    Attributes:
        rows: [N] which of the tasks. states: [N, 51]. said: [T, L] what instruction a policy is given for each task.
        things: tokens that it sees. camera: or, if not 0, the side of a picture that it sees in their place.
    """

    tasks: tuple[TaskSpec, ...]
    rows: Tensor
    states: Tensor
    said: Tensor
    things: int
    history: int = 1
    camera: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def score(self, predict: Callable[[Tensor], Tensor], batch_size: int = 1024) -> Tensor:
        """[N] bool: the goal held at some step within the horizon. `predict` maps [B, H, D] to actions [B, 3]."""
        return self.watched(predict, batch_size)[0]

    def watched(
        self, predict: Callable[[Tensor], Tensor], batch_size: int = 1024, cases: Sequence[int] = ()
    ) -> tuple[Tensor, list[Film]]:
        """The same, and films of some of the attempts: states from the first to the one that ended it."""
        filmed = torch.zeros(len(self), dtype=torch.bool, device=self.rows.device)
        filmed[list(cases)] = True
        right, seen = [], []  # seen: at every step, which of the filmed attempts go on, and their states

        def act(world: World) -> Tensor:
            now = inputs(world, self.said, self.things, self.camera)[:, None]  # [B, 1, D]
            past = getattr(world, "past", None)  # hung on the world, whose rows it loses with those that are done
            world.past = now.expand(-1, self.history, -1) if past is None else torch.cat([past[:, 1:], now], 1)
            return predict(world.past)

        def watch(world: World) -> None:
            mine = filmed[world.case]
            seen.append((world.case[mine], world.state[mine]))

        for part in torch.arange(len(self), device=self.rows.device).split(batch_size):
            world = World(self.tasks, self.rows[part], self.states[part], part.device)
            world.case = part
            right.append(roll_out(world, act, watch if cases else None)[0])
        if not cases:
            return torch.cat(right), []
        case, state = (torch.cat(column).cpu() for column in zip(*seen, strict=True))
        return torch.cat(right), [Film(state[case == c], write(self.tasks[int(self.rows[c])])) for c in cases]

    def to(self, device: torch.device | str) -> Attempts:
        """The same on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("rows", "states", "said")}
        return dataclasses.replace(self, **moved)

    def joined(self, others: Sequence[Attempts]) -> Attempts | None:
        """All of them in one batch, after this one; None if they see in different ways."""
        every = [self, *others]
        if not all(isinstance(o, Attempts) for o in every):
            return None
        if len({(o.said.shape[1], o.things, o.history, o.camera) for o in every}) > 1:
            return None
        starts = [sum(len(o.tasks) for o in every[:i]) for i in range(len(every))]
        return Attempts(
            tuple(task for o in every for task in o.tasks),
            torch.cat([o.rows + start for o, start in zip(every, starts, strict=True)]),
            torch.cat([o.states for o in every]),
            torch.cat([o.said for o in every]),
            self.things,
            self.history,
            self.camera,
        )

    def digest(self) -> str:
        """SHA-256 of the world's version, the tasks in words, the states and what is said."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        total = hashlib.sha256(f"tabletop {VERSION} {self.things} {self.history}".encode())
        total.update(f"camera {self.camera}".encode() if self.camera else b"")
        for task in self.tasks:
            total.update(write(task).encode())
        for part in (self.rows, self.states, self.said):
            total.update(part.cpu().contiguous().numpy())
        return total.hexdigest()


def inputs(world: World, said: Tensor, things: int, camera: int = 0) -> Tensor:
    """[N, D] what a policy is given: the robot, the first things, and what is said of each one's task.

    From a camera a picture first, in [0, 1], the robot, and what is said.
    """
    robot, entities = observe(world)
    told = said.to(world.grip)[world.task]
    if camera:
        return torch.cat([render(world, camera).flatten(1) / 255, robot, told], 1)
    return torch.cat([flat(robot, entities[:, :things]), told], 1)


def spoken(tasks: Sequence[TaskSpec], language: str) -> tuple[str, Tensor]:
    """Name of the part and [T, L]: "words" as numbers of the vocabulary, or "one-hot" the task's own position."""
    if language == "words":
        return "words", tokens(task.instruction for task in tasks).float()
    return "task", torch.eye(len(tasks))


def layout(name: str, length: int, things: int, camera: int = 0) -> dict[str, tuple[int, ...]]:
    """Of the last axis of an input."""
    if camera:
        return {VIEW: (3, camera, camera), "robot": (ROBOT,), name: (length,)}
    return {"robot": (ROBOT,), "entities": (things, TOKEN), name: (length,)}
