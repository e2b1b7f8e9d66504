"""The world: N environments, 12 slots each, that advance together in a few dozen tensor operations.

A gripper moves over a table of side 1. Closed, it takes what is nearest within reach and can be taken: an item or a
dish with nothing on it, the handle of a slider, a knob; open, it lets go. What is let go near a dish, a place or an
open slider is from then on in it. Nothing collides; there is no height.

Environments may be of different tasks, so that a row of an evaluation matrix is one batch, and none depends on what
else is in the batch: all arithmetic is elementwise, of single roundings, or a choice among the 12 slots of one row.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...base.errors import UsageError
from .tasks import GOALS, HOLDERS, KINDS, MOVABLE, SIDES, SLOTS, TaskSpec
from .things import COLOURS, SHAPES

STEP = 0.05  # what a full action moves, in sides of the table
REACH = 0.045  # of the gripper
NEAR = 0.05  # how near to a place something must be let go
CLOSE = 0.025  # the tolerance of where a thing is to be beside another: chance should not find it
TRAVEL = 0.15  # of a slider's handle, towards the robot
DEPTH = 0.06  # of a slider's middle behind its handle
TURN = 0.25  # of a knob, in a step that it is held; let go before it is on, it springs back
OPEN, SHUT = 0.8, 0.1  # joints above are open or on, below are shut
STATE = 3 + 4 * SLOTS  # gripper (2), held; x and y of each slot, joint of each, parent of each

NOTHING, INSIDE, BESIDE, HIGH, LOW = range(5)  # what a predicate tests
TESTS = {"In": INSIDE, "On": INSIDE, **dict.fromkeys(SIDES, BESIDE), "Open": HIGH, "TurnOn": HIGH, "Close": LOW}
EMPTY = len(KINDS)  # the kind of a slot without an entity


class World:
    """Environments as tensors, all with N rows. Methods that change them put new tensors in place of the old.

    Attributes:
        task: [N] which of the tasks.
        kind, colour, shape: [N, 12] numbers in KINDS, COLOURS and SHAPES; of an empty slot, 5, 0 and 0.
        test, subject, object: [N, 3] of each predicate, what it tests and of which slots; shift: [N, 3, 2] off the
            object, where it wants the subject; aim: [N, 3, 2] the same for an expert, who puts two things side by side.
        horizon: [N] steps.
        grip: [N, 2] where the gripper is; held: [N] the slot in its hand, or -1.
        rest: [N, 12, 2] where things are, or would be if the slider that they are or lie in was shut.
        joint: [N, 12] in [0, 1]; parent: [N, 12] the slot that a thing is in or on, or its own.
        at: [N, 12, 2] where things are, derived from the above.
        steps, success: [N] how many were made, and whether the goal has held at any of them.
    """

    def __init__(
        self, tasks: Sequence[TaskSpec], rows: Tensor, states: Tensor, device: torch.device | str = "cpu"
    ) -> None:
        """Environments of tasks[rows] [N], in states [N, 51] as `state` gives them."""
        if len(rows) != len(states) or states.shape[1:] != (STATE,):
            raise UsageError(f"{len(rows)} environments need states [{len(rows)}, {STATE}], not {[*states.shape]}.")
        self.task = rows.to(device)
        for name, table in _tables(tasks).items():
            setattr(self, name, table.to(device)[self.task])
        self.slot = torch.arange(SLOTS, device=device).expand(len(rows), SLOTS)
        self.movable, self.holder = self._is(*MOVABLE), self._is(*HOLDERS)
        self.slider, self.knob = self._is("slider"), self._is("knob")
        self.depth = self.slider * DEPTH
        self.load(states.to(device))

    def load(self, states: Tensor) -> None:
        """Put every environment into a state [N, 51], at its step 0."""
        N = len(states)
        self.grip, self.held = states[:, :2], states[:, 2].long()
        self.rest = states[:, 3 : 3 + 2 * SLOTS].reshape(N, SLOTS, 2)
        self.joint, self.parent = states[:, -2 * SLOTS : -SLOTS], states[:, -SLOTS:].long()
        self.steps, self.success = torch.zeros_like(self.held), torch.zeros_like(self.held, dtype=torch.bool)
        self._settle()

    @property
    def state(self) -> Tensor:
        """All that matters for what comes next: [N, 51] float."""
        # numbers of slots are exact in float
        return torch.cat([self.grip, self.held[:, None], self.rest.flatten(1), self.joint, self.parent], 1)

    def select(self, rows: Tensor) -> World:
        """A world of some of the environments, by index or by a mask [N]."""
        chosen = copy.copy(self)
        for name, value in vars(self).items():
            setattr(chosen, name, value[rows])
        return chosen

    def __len__(self) -> int:
        return len(self.task)

    @property
    def over(self) -> Tensor:
        """[N] bool: succeeded, or out of steps."""
        return self.success | (self.steps >= self.horizon)

    def step(self, actions: Tensor) -> None:
        """Advance by actions [N, 3] in [-1, 1]: to the right, away from the robot, and closed if positive."""
        a, close = actions.clamp(-1, 1), actions[:, 2] > 0
        grip = (self.grip + STEP * a[:, :2]).clamp(0, 1)
        hand = self.slot == self.held[:, None]  # [N, 12]
        carried = hand & self.movable

        pulled = ((self.rest[..., 1] - grip[:, None, 1]) / TRAVEL).clamp(0, 1)
        turned = torch.where(hand & close[:, None], (self.joint + TURN).clamp(max=1), 0)
        joint = torch.where(hand & self.slider, pulled, self.joint)
        self.joint = torch.where(self.knob & (joint < 1), turned, joint)

        self.grip = grip
        onto, taken = self.landing(), self.nearest(self.at, self.graspable(), REACH)
        freed, lands = carried & ~close[:, None], onto >= 0
        drawn = self.slide.gather(1, onto.clamp(min=0)[:, None]) * lands[:, None]  # [N, 1]
        self.parent = torch.where(freed & lands[:, None], onto[:, None], self.parent)
        self.held = torch.where(close, torch.where(self.held >= 0, self.held, taken), -1)

        hand = self.slot == self.held[:, None]
        carried, fixed = hand & self.movable, (hand & ~self.movable).any(1)
        self.parent = torch.where(carried, self.slot, self.parent)
        here = torch.stack([grip[:, :1].expand_as(drawn), grip[:, 1:] + drawn * freed.any(1, keepdim=True)], 2)
        self.rest = torch.where((carried | freed)[..., None], here, self.rest)
        self._settle()
        self.grip = torch.where(fixed[:, None], self.of(self.at, self.held.clamp(min=0)), grip)  # bound to the handle
        self.steps = self.steps + 1
        self.success = self.success | self.satisfied().all(1)

    def satisfied(self) -> Tensor:
        """[N, 3] bool: which predicates hold now; those that a task does not have always do."""
        s, o = self.subject, self.object
        let_go, joint = s != self.held[:, None], self.joint.gather(1, s)
        near = square(self.off()) < CLOSE * CLOSE
        return (
            (self.test == NOTHING)
            | (self.test == INSIDE) & (self.parent.gather(1, s) == o) & let_go
            | (self.test == BESIDE) & near & let_go
            | (self.test == HIGH) & (joint > OPEN)
            | (self.test == LOW) & (joint < SHUT)
        )

    def off(self) -> Tensor:
        """[N, 3, 2] how far the subject of each predicate is from its object, or from where it is to be beside it."""
        return self.of(self.at, self.subject) - self.of(self.at, self.object) - self.shift

    def graspable(self) -> Tensor:
        """[N, 12] bool: what a hand could take: handles, knobs, what can be carried, bears nothing, is not shut in."""
        bears = torch.zeros(len(self), SLOTS + 1, dtype=torch.bool, device=self.grip.device)
        bears.scatter_(1, torch.where(self.parent != self.slot, self.parent, SLOTS), True)
        return self.slider | self.knob | (self.movable & ~bears[:, :SLOTS] & ~self.away)

    def landing(self) -> Tensor:
        """[N] the slot onto which what is in the hand would fall here, or -1 for the table."""
        shut = self.slider & (self.joint <= OPEN)
        takes = self.holder & ~shut & ~self.away & (self.slot != self.held[:, None])
        return self.nearest(self.middle, takes, NEAR)

    @property
    def middle(self) -> Tensor:
        """[N, 12, 2] where to put something in or on each slot: behind the handle of a slider."""
        return torch.stack([self.at[..., 0], self.at[..., 1] + self.depth], 2)

    def nearest(self, points: Tensor, allowed: Tensor, radius: float) -> Tensor:
        """[N] the allowed slot whose point [N, 12, 2] is nearest to the gripper, or -1 if none is within the radius."""
        far = torch.where(allowed, square(points - self.grip[:, None]), 9.0)
        slot = far.argmin(1, keepdim=True)
        return torch.where(far.gather(1, slot) < radius * radius, slot, -1)[:, 0]

    @staticmethod
    def of(values: Tensor, slots: Tensor) -> Tensor:
        """values [N, 12, 2] of some slots: [N] gives [N, 2], [N, K] gives [N, K, 2]."""
        index = slots.reshape(len(slots), -1, 1).expand(-1, -1, 2)
        return values.gather(1, index).reshape(*slots.shape, 2)

    def _settle(self) -> None:
        """Derive where things are: what lies in a slider, be it on something else there, moves along with it."""
        root = self.parent.gather(1, self.parent)
        root = root.gather(1, root)  # piles of up to five
        drawn = self.joint * self.slider
        self.root, self.slide = root, TRAVEL * drawn.gather(1, root)
        self.at = torch.stack([self.rest[..., 0], self.rest[..., 1] - self.slide], 2)
        self.away = (root != self.slot) & (self.slider & (self.joint <= OPEN)).gather(1, root)  # shut in

    def _is(self, *kinds: str) -> Tensor:
        found = torch.zeros_like(self.kind, dtype=torch.bool)
        for kind in kinds:
            found |= self.kind == KINDS.index(kind)
        return found


def square(v: Tensor) -> Tensor:
    """Squared length of vectors [..., 2], each operation rounded by itself on every device."""
    x, y = v[..., 0], v[..., 1]
    return x * x + y * y


def _tables(tasks: Sequence[TaskSpec]) -> dict[str, Tensor]:
    """What does not change, stacked over tasks."""
    columns: dict[str, list[Any]] = {name: [] for name in ("kind", "colour", "shape", "test", "subject", "object")}
    shift, aim = torch.zeros(len(tasks), GOALS, 2), torch.zeros(len(tasks), GOALS, 2)
    for t, task in enumerate(tasks):
        empty, spare = SLOTS - len(task.entities), GOALS - len(task.goal)
        columns["kind"].append([KINDS.index(e.kind) for e in task.entities] + [EMPTY] * empty)
        columns["colour"].append([list(COLOURS).index(e.colour) for e in task.entities] + [0] * empty)
        columns["shape"].append([SHAPES.index(e.shape) for e in task.entities] + [0] * empty)
        columns["test"].append([TESTS[p.name] for p in task.goal] + [NOTHING] * spare)
        columns["subject"].append([task.slot(p.subject) for p in task.goal] + [0] * spare)
        columns["object"].append([task.slot(p.object or p.subject) for p in task.goal] + [0] * spare)
        for g, p in enumerate(task.goal):
            shift[t, g] = aim[t, g] = torch.tensor(SIDES.get(p.name, (0.0, 0.0)))
            company = [q for q in task.goal if TESTS[q.name] == INSIDE and q.object == p.object]
            if TESTS[p.name] == INSIDE and len(company) > 1:
                aim[t, g, 0] = 0.015 * (2 * company.index(p) - len(company) + 1)
    tables = {name: torch.tensor(rows) for name, rows in columns.items()}
    return {**tables, "shift": shift, "aim": aim, "horizon": torch.tensor([task.horizon for task in tasks])}
