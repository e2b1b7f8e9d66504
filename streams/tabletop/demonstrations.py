"""Demonstrations of the expert with a trembling hand: what it wanted is the label, what was done is worse.

Noise on the executed action takes the demonstrations to where a learner will stray, and shows the way back (DART,
Laskey et al., 2017, arXiv 1703.09327).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...base.errors import InvalidError
from ...base.seeds import frozen_random
from .expert import expert
from .observe import observe
from .starts import COUNT, starts
from .tasks import TaskSpec
from .world import World

TREMBLE, FLIP = 0.3, 0.02  # deviation of the executed x and y, in full actions; how often the hand does the contrary


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """Episodes of one task, one after another, L steps in all.

    Row t of everything but `actions` and `executed` is what was there before the step, so that a policy sees row t when
    it chooses actions[t]. (LIBERO's files hold in row t of the observations what came of actions[t].)

    Attributes:
        actions: [L, 3] what the expert wanted: the labels.
        executed: [L, 3] what was done: replays follow these.
        states: [L, 51], as `World.state`.
        robot, entities: [L, 3] and [L, 12, 30], as `observe` gives them.
        lengths: [D] steps of each episode; the goal holds after its last, and not before.
    """

    task: TaskSpec
    actions: Tensor
    executed: Tensor
    states: Tensor
    robot: Tensor
    entities: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def episodes(self) -> Iterator[slice]:
        """The rows of each episode."""
        ends = self.lengths.cumsum(0).tolist()
        yield from map(slice, [0, *ends[:-1]], ends)


def demonstrate(task: TaskSpec, count: int = COUNT, seed: int = 0, noise: float = 1.0) -> Demonstrations:
    """Demonstrations of a task from its own initial states: a function of (task.name, seed), and of the noise.

    Args:
        noise: 1 as described; 0 shows the expert as it is.
    """
    initial = starts(task, "demonstrations", count, seed)
    tremble, flip = _noise(task, count, seed, noise)
    world = World([task], torch.zeros(count, dtype=torch.int64), initial)
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    lengths = torch.full((count,), task.horizon)
    for t in range(task.horizon):
        wanted = expert(world)
        done = torch.cat([(wanted[:, :2] + tremble[:, t]).clamp(-1, 1), wanted[:, 2:] * flip[:, t]], 1)
        steps.append((world.state, wanted, done))
        world.step(done)
        lengths = torch.where(world.success, lengths.clamp(max=t + 1), lengths)
        if world.success.all():
            break
    else:
        raise InvalidError(
            f"task {task.name}: the expert failed from {int((~world.success).sum())} of {count} states in "
            f"{task.horizon} steps; give it a longer horizon."
        )
    made = torch.arange(len(steps)) < lengths[:, None]  # [D, T]
    states, actions, executed = (torch.stack(part, 1)[made] for part in zip(*steps, strict=True))
    robot, entities = observe(World([task], torch.zeros(len(states), dtype=torch.int64), states))
    return Demonstrations(task, actions, executed, states, robot, entities, lengths)


def _noise(task: TaskSpec, count: int, seed: int, noise: float) -> tuple[Tensor, Tensor]:
    """What is added to x and y [D, T, 2], and the factor of the grip [D, T, 1], for each episode by itself."""
    normal, uniform = (frozen_random("tabletop noise", task.name, seed, part) for part in ("tremble", "flip"))
    tremble = normal.standard_normal((count, task.horizon, 2)) * (TREMBLE * noise)
    flip = uniform.random_sample((count, task.horizon, 1)) < FLIP * noise
    return torch.from_numpy(tremble).float(), torch.from_numpy(1.0 - 2.0 * flip).float()
