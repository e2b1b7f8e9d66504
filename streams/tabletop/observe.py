"""What a policy is given of the world: a vector of the robot and a token for each slot.

A token says where a thing is three times: relative to the gripper (doubled), the same ten times and clipped, so that
the last centimetres count, and on the table. How a thing looks is a random vector for each (colour, shape), which has
nothing to do with the words: what "red" means has to be learnt.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...base.seeds import frozen_random
from .tasks import KINDS, SLOTS
from .things import COLOURS, SHAPES
from .world import World

LOOK = 16  # width of an appearance vector
ROBOT = 3  # where the gripper is on the table in [-1, 1], and whether it holds something
# relative (2), relative close by (2), on the table (2), joint, held, in or on something, kind one-hot, appearance
TOKEN = 9 + len(KINDS) + LOOK
FLAT = ROBOT + SLOTS * TOKEN


def observe(world: World) -> tuple[Tensor, Tensor]:
    """Robot [N, 3] and entities [N, 12, 30]; the tokens of empty slots are 0."""
    held, grip = world.held >= 0, world.grip[:, None]
    robot = torch.cat([2 * world.grip - 1, held[:, None].float()], 1)
    off = world.at - grip  # [N, 12, 2]
    scalars = [world.joint, world.slot == world.held[:, None], world.parent != world.slot]
    kind = world.kind[..., None] == torch.arange(len(KINDS), device=robot.device)
    look = looks().to(robot.device)[world.colour, world.shape]
    parts = [
        2 * off,
        (10 * off).clamp(-1, 1),
        2 * world.at - 1,
        torch.stack([s.float() for s in scalars], 2),
        kind,
        look,
    ]
    return robot, torch.cat([p.float() for p in parts], 2) * kind.any(2, keepdim=True)


def flat(robot: Tensor, entities: Tensor) -> Tensor:
    """Both as one vector [N, 363]: the robot, then slot after slot."""
    return torch.cat([robot, entities.flatten(1)], 1)


@lru_cache(maxsize=1)
def looks() -> Tensor:
    """Appearance vectors [colours, shapes, 16] of length 4, each drawn by its own names, so that more can be added."""
    rows = [[frozen_random("tabletop look", c, s).standard_normal(LOOK) for s in SHAPES] for c in COLOURS]
    table = torch.from_numpy(np.array(rows))
    return (4 * table / table.norm(dim=2, keepdim=True)).float()
