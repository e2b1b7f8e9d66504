"""Initial states: drawn once for each task, and the same for ever, as LIBERO keeps 50 of each in a file."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from ...base.errors import InvalidError
from ...base.seeds import frozen_random
from .expert import HOME
from .tasks import SLOTS, Entity, TaskSpec
from .world import BESIDE, DEPTH, NOTHING, TRAVEL, World, square

GAP = 0.1  # between things at first, where the boxes leave room for it
TRIES = 48  # places that are drawn for a thing
COUNT = 50  # states of a task for each purpose, and drawn together
SPARE, ROUNDS = 60, 10  # drawn beside, and how often, in case that a part of the goal already holds in some, or nearly
FAR = 0.2  # from where it is to go a thing is at least that should be beside another


def starts(task: TaskSpec, purpose: str = "evaluation", count: int = COUNT, seed: int = 0) -> Tensor:
    """Initial states [count, 51] in which no part of the goal holds: a function of (task.name, seed, purpose).

    Args:
        purpose: "evaluation" or "demonstrations", which share no state.
    """
    blocks = [_block(task, purpose, seed, number) for number in range(-(-count // COUNT))]
    return torch.cat(blocks)[:count]


def _block(task: TaskSpec, purpose: str, seed: int, number: int) -> Tensor:
    """Fifty of them, so that whoever asks for more or fewer gets the same first ones."""
    random, fresh = frozen_random("tabletop starts", task.name, seed, purpose, number), []
    for _ in range(ROUNDS):
        states = _drawn(task, COUNT + SPARE, random)
        world = World([task], torch.zeros(len(states), dtype=torch.int64), states)
        done = world.satisfied() & (world.test != NOTHING)
        near = (world.test == BESIDE) & (square(world.off()) < FAR * FAR)
        fresh.append(states[~(done | near).any(1)])
        if sum(map(len, fresh)) >= COUNT:
            return torch.cat(fresh)[:COUNT]
    raise InvalidError(f"task {task.name}: its goal holds from the start; move the boxes of what it is about.")


def _drawn(task: TaskSpec, M: int, random: RandomState) -> Tensor:
    """M states, each thing where one of its boxes allows, apart from those that were put down before it."""
    names = [e.name for e in task.entities]
    rest, joint = np.zeros((M, SLOTS, 2)), np.zeros((M, SLOTS))
    parent = np.tile(np.arange(SLOTS), (M, 1))
    taken: list[tuple[str, np.ndarray]] = []  # whose, and points [M, 2]
    todo = list(task.entities)
    while todo:
        ready = [e for e in todo if not any(s.of in {t.name for t in todo} for s in e.starts)]
        if not ready:
            raise InvalidError(f"task {task.name}: {todo[0].name} starts by what starts by it; give one a place.")
        e = ready[0]
        todo.remove(e)
        slot, which = names.index(e.name), random.permutation(M) % len(e.starts)
        low, high, base = np.zeros((M, 2)), np.zeros((M, 2)), np.zeros((M, 2))
        free = np.ones(M, bool)
        for number, start in enumerate(e.starts):
            rows = which == number
            low[rows], high[rows] = start.box[:2], start.box[2:]
            if start.of:
                other = names.index(start.of)
                base[rows] = rest[rows, other]
                if start.inside:
                    free[rows], parent[rows, slot] = False, other
                    base[rows, 1] += DEPTH * (task.entities[other].kind == "slider")
        spots = base[:, None] + low[:, None] + (high - low)[:, None] * random.random_sample((M, TRIES, 2))
        chosen = spots[np.arange(M), _roomiest(spots, [p for _, p in taken])]
        rest[:, slot] = np.where(free[:, None], chosen, spots[:, 0])
        joint[:, slot] = e.opened
        taken += [(e.name, rest[:, slot] - (0, reach)) for reach in _extent(e)]
    home = np.array(HOME) + np.array([0.1, 0.05]) * (2 * random.random_sample((M, 2)) - 1)
    state = np.concatenate([home, np.full((M, 1), -1), rest.reshape(M, -1), joint, parent], 1)
    return torch.from_numpy(state).float()


def _roomiest(spots: np.ndarray, points: list[np.ndarray]) -> np.ndarray:
    """[M] the first of spots [M, TRIES, 2] that is a gap away from all points, or else the one farthest from them."""
    room = np.full(spots.shape[:2], GAP)
    for p in points:
        room = np.minimum(room, np.hypot(*np.moveaxis(spots - p[:, None], 2, 0)))
    return room.argmax(1)


def _extent(e: Entity) -> tuple[float, ...]:
    """How far towards the robot the points lie that others keep away from: a slider needs room to open."""
    return (0, TRAVEL) if e.kind == "slider" else (0,)
