"""A scripted expert for every task: it serves the first predicate that does not hold, and recovers from anything."""

from __future__ import annotations

import torch
from torch import Tensor

from .world import BESIDE, HIGH, INSIDE, OPEN, STEP, World, square

CLOSE_AT, LET_GO_AT = 0.03, 0.02  # distances at which it closes and opens the hand
HOME = (0.5, 0.12)  # where it carries what it took by mistake and cannot put down


def expert(world: World) -> Tensor:
    """Actions [N, 3] in [-1, 1], a function of the present state alone."""
    thing, open_it, carry, target = _errand(world)
    grip, held = world.grip, world.held
    has = held == thing
    slides = _pick(world.slider, thing)

    # the hand is empty: go there, and close it where it will take this and nothing else
    there = world.of(world.at, thing) - grip
    sure = world.nearest(world.at, world.graspable(), CLOSE_AT) == thing
    # the thing is in the hand: carry it to the target, slide it, or hold a knob
    pull = torch.stack([torch.zeros_like(grip[:, 0]), torch.where(open_it, -STEP, STEP)], 1)
    along = torch.where(slides[:, None], pull, torch.where(carry[:, None], target - grip, 0))
    there = torch.where(has[:, None], along, there)
    arrived = carry & _within(target - grip, LET_GO_AT)
    # something else is: put it down where nothing else would take it
    other = (held >= 0) & ~has
    aside = other & _pick(world.movable, held.clamp(min=0)) & (world.landing() >= 0)
    home = torch.tensor(HOME, device=grip.device) - grip
    there = torch.where(other[:, None], torch.where(aside[:, None], home, 0), there)

    close = torch.where(has, ~arrived, torch.where(other, aside, sure))
    xy = (there / STEP).clamp(-1, 1)
    return torch.cat([xy, torch.where(close, 1.0, -1.0)[:, None]], 1)


def _errand(world: World) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What to do next: the slot [N] to take, whether to open it or to carry it [N], and where to [N, 2]."""
    first = (~world.satisfied()).int().argmax(1, keepdim=True)
    test, a, b = (part.gather(1, first)[:, 0] for part in (world.test, world.subject, world.object))
    aim = world.of(world.aim, first[:, 0])
    carry = (test == INSIDE) | (test == BESIDE)
    target = aim + torch.where((test == BESIDE)[:, None], world.of(world.at, b), world.of(world.middle, b))

    # what is in a drawer, or belongs into one, asks for the drawer to be open
    shut = world.slider & (world.joint <= OPEN)
    root_a, root_b = _pick(world.root, a), _pick(world.root, b)
    a_away, b_away = _pick(shut, root_a), _pick(shut, root_b) & (test == INSIDE)
    opening = carry & (a_away | b_away)
    thing = torch.where(opening, torch.where(a_away, root_a, root_b), a)
    open_it = opening | (test == HIGH)
    carry = carry & ~opening

    # and what bears something can be taken only when that is gone
    for _ in range(2):
        upon = (world.parent == thing[:, None]) & (world.slot != thing[:, None])
        thing = torch.where(carry & upon.any(1), upon.int().argmax(1), thing)
    return thing, open_it, carry, target


def _pick(values: Tensor, slots: Tensor) -> Tensor:
    """values [N, 12] at one slot [N] of each row."""
    return values.gather(1, slots[:, None])[:, 0]


def _within(v: Tensor, radius: float) -> Tensor:
    return square(v) < radius * radius
