"""Tasks without end: a table laid at random, and what could be done there. Eighteen such tables make the suite of 90.

Fixtures stand at the far side, dishes and items in the middle, all of different looks; every task can be solved, since
goals are chosen so that no part of one undoes another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from numpy.random import RandomState

from ...base.errors import UsageError
from ...base.seeds import frozen_random
from .tasks import MOVABLE, Entity, Predicate, TaskSpec
from .things import COLOURS, ITEM_SHAPES, at, by, thing

SCENES, EACH = 18, 5  # of the suite of 90
HORIZON, LONG = 60, 100  # for each predicate of a goal; with a door to open first
FIXTURES = ("cabinet", "stove", "microwave", "rack", "basket", "back compartment")
DISHES = ("plate", "bowl", "ramekin", "cookie box")
SIDES = {"LeftOf": "left of", "RightOf": "right of", "FrontOf": "in front of", "Behind": "behind"}


@dataclass(frozen=True)
class Errand:
    """A predicate with the words that ask for it."""

    words: str
    goal: Predicate
    horizon: int = HORIZON

    def spoils(self, other: Errand) -> bool:
        """Whether doing both would take more than doing one after the other."""
        mine, theirs = self.goal, other.goal
        return mine.subject in (theirs.subject, theirs.object) or mine.object == theirs.subject


def generate(seed: int, goals: int = 1) -> TaskSpec:
    """Task number `seed` of an endless list: a table of its own and a goal of one or two predicates."""
    if goals not in (1, 2):
        raise UsageError(f"a generated task has 1 or 2 goals, not {goals}.")
    random = frozen_random("tabletop generated", seed, goals)
    scene = laid(random)
    errands = list(_errands(scene))
    chosen = [errands[random.randint(len(errands))]]
    if goals == 2:
        rest = [e for e in errands if not e.spoils(chosen[0])]
        chosen.append(rest[random.randint(len(rest))])
    said = " and ".join(e.words for e in chosen)
    return TaskSpec(
        f"generated/{goals}-{seed}", said, scene, tuple(e.goal for e in chosen), sum(e.horizon for e in chosen)
    )


def ninety() -> tuple[TaskSpec, ...]:
    """Five single goals on each of eighteen tables."""
    tasks = []
    for number in range(SCENES):
        random = frozen_random("tabletop scenes", number)
        scene = laid(random)
        errands = list(_errands(scene))
        for e in _varied(errands, random):
            name = f"90/scene-{number + 1}/{e.words.replace(' ', '-')}"
            tasks.append(TaskSpec(name, e.words, scene, (e.goal,), e.horizon))
    return tuple(tasks)


def laid(random: RandomState) -> tuple[Entity, ...]:
    """A table: two or three fixtures, one or two dishes, three or four items; in an order that tells nothing."""
    scene: list[Entity] = []
    spots = random.permutation([0.19, 0.51, 0.83])[: random.randint(2, 4)]
    for x, name in zip(spots, random.permutation(FIXTURES), strict=False):
        scene += _fixture(str(name), float(x), random)
    middle = at(0.5, 0.37, 0.33, 0.13)
    scene += [thing(str(name), middle) for name in random.permutation(DISHES)[: random.randint(1, 3)]]
    looks = [f"{colour} {shape}" for colour in COLOURS for shape in ITEM_SHAPES]
    scene += [thing(str(name), middle) for name in random.permutation(looks)[: random.randint(3, 5)]]
    return tuple(scene[i] for i in random.permutation(len(scene)))


def _fixture(name: str, x: float, random: RandomState) -> list[Entity]:
    """A fixture with its parts; whether its doors stand open is drawn."""
    opened = [bool(v) for v in random.randint(2, size=2)]
    if name == "microwave":
        return [thing(name, at(x, 0.77, 0.01), opened=opened[0])]
    here = thing(name, at(x, 0.85, 0.01))
    if name == "cabinet":
        drawers = (("left drawer", -0.07), ("right drawer", 0.07))
        return [here, *(thing(n, by(name, dx, -0.11), opened=o) for (n, dx), o in zip(drawers, opened, strict=True))]
    return [here, thing("knob", by(name, 0.13, 0))] if name == "stove" else [here]


def _errands(scene: tuple[Entity, ...]) -> Iterator[Errand]:
    """Everything that could be asked for on a table."""
    for e in scene:
        it = e.name.replace("_", " ")
        if e.kind == "slider":
            yield Errand(*((f"close the {it}", Predicate("Close", e.name)) if e.opened else
                           (f"open the {it}", Predicate("Open", e.name))))  # fmt: skip
        elif e.kind == "knob":
            yield Errand("turn on the stove", Predicate("TurnOn", e.name))
        elif e.kind in MOVABLE:
            for other in scene:
                there = other.name.replace("_", " ")
                if other is not e and other.kind in ("place", "slider") or (other.kind == "dish" and e.kind == "item"):
                    into = other.kind == "slider" or other.name in ("basket", "bowl", "back_compartment")
                    name = "In" if into else "On"
                    yield Errand(
                        f"put the {it} {name.lower()} the {there}",
                        Predicate(name, e.name, other.name),
                        LONG if other.kind == "slider" and not other.opened else HORIZON,
                    )
                if other.kind == "dish" and e.kind == "item":
                    for side, words in SIDES.items():
                        yield Errand(f"put the {it} {words} the {there}", Predicate(side, e.name, other.name))


def _varied(errands: list[Errand], random: RandomState) -> list[Errand]:
    """Five errands, of as many sorts as there are, in the table's order of drawing."""
    drawn = [errands[i] for i in random.permutation(len(errands))]
    sorts: dict[str, list[Errand]] = {}
    for e in drawn:
        sorts.setdefault(e.goal.name, []).append(e)
    turns = sorted((turn, i, e) for i, group in enumerate(sorts.values()) for turn, e in enumerate(group))
    return [e for *_, e in turns[:EACH]]
