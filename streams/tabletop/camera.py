"""The table from above as pixels: an optional observation, for policies that look.

Each shape is a stencil that was rasterised once; a picture is 12 stencils, from the bottom of the pile to its top, and
the gripper: a gather each for the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .tasks import KINDS, SLOTS
from .things import COLOURS, SHAPES
from .world import OPEN, World

TABLE_INK, HAND_INK = SLOTS, SLOTS + 1
GRAIN = 64  # pixels of a stencil's side
OVER = 2  # rays of a pixel's side
TABLE = (0.36, 0.42, 0.40)
GLOW = (1.0, 0.35, 0.05)  # of a knob that is on
HAND = (1.0, 0.0, 0.75)
# order of drawing by kind: places over the sliders that are pushed under them, then what may stand in either
LAYERS = (4, 3, 1, 0, 2, 5)  # item, dish, place, slider, knob; empty
PICTURES = 32  # drawn at once: what is in the processor's cache

Outline = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def render(world: World, size: int = 64) -> Tensor:
    """Pictures [N, 3, size, size] uint8; the robot stands below the lower edge."""
    chunks = torch.arange(len(world), device=world.grip.device).split(PICTURES)
    return torch.cat([_render(world.select(rows), size) for rows in chunks])


def _render(world: World, size: int) -> Tensor:
    N, S, device = len(world), size * OVER, world.grip.device
    line = (torch.arange(S, device=device) + 0.5) / S
    stencils, reach = _stencils().to(device), torch.tensor([r for r, _ in OUTLINES.values()], device=device)
    layer = torch.tensor(LAYERS, device=device)[world.kind] + 2 * (world.parent != world.slot)
    layer = torch.where(world.slot == world.held[:, None], 9, layer)
    shapes = torch.where(world.slider & (world.joint <= OPEN), LID, world.shape)
    visible, spots = (world.kind < len(KINDS)) & ~world.away, world.middle
    top = torch.full((N, S, S), TABLE_INK, dtype=torch.uint8, device=device)  # the ink that is seen at each ray
    for slot in layer.argsort(dim=1, stable=True).unbind(1):
        shape = shapes.gather(1, slot[:, None])[:, 0]
        mask = _stamp(stencils[shape], world.of(spots, slot), reach[shape], line)
        mask &= visible.gather(1, slot[:, None])[:, :, None]
        top = torch.where(mask, slot[:, None, None].to(torch.uint8), top)
    hand = torch.where(world.held >= 0, SHUT_HAND, OPEN_HAND)
    top = torch.where(_stamp(stencils[hand], world.grip, reach[hand], line), HAND_INK, top)
    inks = _inks(world).gather(1, top.flatten(1).long()[..., None].expand(-1, -1, 3))  # [N, S * S, 3]
    total = inks.view(N, size, OVER, size, OVER, 3).sum((2, 4), dtype=torch.int32)  # whole numbers: exact anywhere
    return ((total + OVER) // OVER**2).to(torch.uint8).permute(0, 3, 1, 2).contiguous()


def _inks(world: World) -> Tensor:
    """[N, 14, 3] in 0 to 255: of the slots, the table and the hand."""
    table = torch.tensor([*COLOURS.values(), TABLE, HAND, GLOW], device=world.grip.device)
    lit = (world.knob * world.joint)[..., None]
    slots = table[world.colour] * (1 - lit) + table[-1] * lit
    return (torch.cat([slots, table[-3:-1].expand(len(world), 2, 3)], 1) * 255).round().to(torch.uint8)


def _stamp(stencil: Tensor, centre: Tensor, reach: Tensor, line: Tensor) -> Tensor:
    """Where stencils [N, G, G] of half-widths reach [N] about centres [N, 2] cover the rays: [N, S, S] bool."""
    across, up = ((line - middle) / reach[:, None] for middle in centre.split(1, 1))  # [N, S]
    u, v = (((p + 1) * (GRAIN / 2)).floor().clamp(-1, GRAIN).long() + 1 for p in (across, -up.flip(1)))
    place = v[:, :, None] * stencil.shape[2] + u[:, None]
    return stencil.flatten(1).gather(1, place.flatten(1)).view_as(place)


@lru_cache(maxsize=1)
def _stencils() -> Tensor:
    """[shapes and three more, G + 2, G + 2] bool, rows from the top; the rim is empty."""
    line = (torch.arange(GRAIN, dtype=torch.float64) + 0.5) * 2 / GRAIN - 1
    y, x = torch.meshgrid(-line, line, indexing="ij")
    return F.pad(torch.stack([outline(x, y) for _, outline in OUTLINES.values()]), (1, 1, 1, 1))


def _radius(x: Tensor, y: Tensor) -> Tensor:
    return (x**2 + y**2).sqrt()


def _rim(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs())


def _star(x: Tensor, y: Tensor) -> Tensor:
    turn = torch.remainder(torch.atan2(x, y) * 5 / math.tau + 0.5, 1) - 0.5  # 0 at a tip, +-.5 between two
    return _radius(x, y) < 1 - 1.15 * turn.abs()


def _frame(x: Tensor, y: Tensor) -> Tensor:
    """A drawer from above: four walls, and a handle towards the robot."""
    walls = (_rim(x / 0.85, (y - 0.12) / 0.8) < 1) & ~(_rim(x / 0.6, (y - 0.12) / 0.58) < 1)
    return walls | _handle(x, y)


def _lid(x: Tensor, y: Tensor) -> Tensor:
    """The same when shut."""
    return (_rim(x / 0.85, (y - 0.12) / 0.8) < 1) | _handle(x, y)


def _handle(x: Tensor, y: Tensor) -> Tensor:
    return (x.abs() < 0.35) & (y < -0.6)


# half-widths in sides of the table, and what the stencil covers, x to the right and y up in [-1, 1]
OUTLINES: dict[str, tuple[float, Outline]] = {
    "disc": (0.04, lambda x, y: _radius(x, y) < 0.95),
    "square": (0.037, lambda x, y: _rim(x, y) < 0.95),
    "triangle": (0.045, lambda x, y: (y > -0.8) & (y < 0.95 - 1.9 * x.abs())),
    "ring": (0.043, lambda x, y: (_radius(x, y) < 1) & (_radius(x, y) > 0.5)),
    "star": (0.055, _star),
    "cross": (0.045, lambda x, y: (torch.minimum(x.abs(), y.abs()) < 0.3) & (_rim(x, y) < 0.95)),
    "diamond": (0.048, lambda x, y: x.abs() + y.abs() < 0.95),
    "bar": (0.055, lambda x, y: (x.abs() < 0.38) & (y.abs() < 0.95)),
    "bowl": (0.058, lambda x, y: (_radius(x, y) < 1) & ((_radius(x, y) > 0.72) | (_radius(x, y) < 0.45))),
    "plate": (0.075, lambda x, y: (_radius(x, y) < 1) & ~((_radius(x, y) > 0.68) & (_radius(x, y) < 0.78))),
    "box": (0.06, lambda x, y: (_rim(x, y / 0.8) < 1) & (y.abs() > 0.08)),
    "crate": (0.09, lambda x, y: (_rim(x, y) < 1) & ((_rim(x, y) > 0.8) | (((x + y) * 3) % 1 < 0.3))),
    "burner": (0.085, lambda x, y: (_rim(x, y) < 1) & ~((_radius(x, y) > 0.45) & (_radius(x, y) < 0.65))),
    "slab": (0.13, lambda x, y: (x.abs() < 1) & (y.abs() < 0.6)),
    "lattice": (0.085, lambda x, y: (_rim(x, y / 0.8) < 1) & ((x * 2.5 + 0.2) % 1 < 0.4)),
    "tray": (0.07, lambda x, y: (_rim(x, y) < 1) & ((_rim(x, y) > 0.75) | (y.abs() < 0.1))),
    "frame": (0.075, _frame),
    "dial": (0.035, lambda x, y: (_radius(x, y) < 1) & ~((x.abs() < 0.18) & (y > 0))),
    "lid": (0.075, _lid),
    "open hand": (0.055, lambda x, y: (x.abs() > 0.75) & (y.abs() < 0.7) | ((y > 0.55) & (y < 0.7))),
    "shut hand": (0.055, lambda x, y: ((x.abs() - 0.55).abs() < 0.13) & (y.abs() < 0.7) | ((y > 0.55) & (y < 0.7))),
}
LID, OPEN_HAND, SHUT_HAND = range(len(SHAPES), len(SHAPES) + 3)
