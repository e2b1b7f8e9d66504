"""What a task on the table-top is: things, where they start, a goal in predicates and in words; and its text form.

The text form follows the spirit of BDDL, in which LIBERO states its tasks (Liu et al., 2023, arXiv 2306.03310):

    (define (problem goal/put-the-bowl-on-the-plate)
      (:language put the bowl on the plate)
      (:horizon 60)
      (:objects (bowl dish black bowl) (plate dish white plate))
      (:init (At bowl 0.4 0.4 0.5 0.5) (At plate 0.6 0.3 0.7 0.35))
      (:goal (And (On bowl plate))))

Several starts of one thing are alternatives, of which each initial state draws one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...base.errors import InvalidError, UsageError, unknown

SLOTS, GOALS = 12, 3  # entities and predicates that a task has at most
BESIDE = 0.13  # how far off "left of" aims, in sides of the table
KINDS = ("item", "dish", "place", "slider", "knob")
MOVABLE = ("item", "dish")
HOLDERS = ("dish", "place", "slider")
SIDES = {"LeftOf": (-BESIDE, 0.0), "RightOf": (BESIDE, 0.0), "FrontOf": (0.0, -BESIDE), "Behind": (0.0, BESIDE)}
# the kinds that each predicate may speak of: of its subject, and of its object where it has one
PREDICATES: dict[str, tuple[tuple[str, ...], ...]] = {
    "In": (MOVABLE, HOLDERS),
    "On": (MOVABLE, HOLDERS),
    **dict.fromkeys(SIDES, (MOVABLE, KINDS)),
    "Open": (("slider",),),
    "Close": (("slider",),),
    "TurnOn": (("knob",),),
}
STARTS = {"At": 6, "By": 7, "In": 7}  # words of a start in the text form


@dataclass(frozen=True)
class Predicate:
    """One thing that is to hold, such as On(bowl, plate). In and On are the same to the world, not to a reader."""

    name: str
    subject: str
    object: str = ""


@dataclass(frozen=True)
class Start:
    """Where a thing may stand at first.

    Args:
        box: (x0, y0, x1, y1) in sides of the table, x to the right, y away from the robot; relative to `of` if given.
        of: the name of another entity.
        inside: in or on the other, not beside it.
    """

    box: tuple[float, float, float, float]
    of: str = ""
    inside: bool = False


@dataclass(frozen=True)
class Entity:
    """A thing on the table.

    Args:
        kind: "item" (can be carried), "dish" (can be carried, and things put on it), "place" (fixed, things can be put
            on it), "slider" (a drawer or a door that slides: opens, closes, holds), or "knob" (turns on).
        starts: alternatives; those of sliders are where the handle is when shut.
        opened: of a slider, whether it starts open.
    """

    name: str
    kind: str
    colour: str
    shape: str
    starts: tuple[Start, ...]
    opened: bool = False


@dataclass(frozen=True)
class TaskSpec:
    """A task: what is there, what is to be done, and in how many steps.

    Args:
        name: as "suite/words-of-the-instruction"; initial states are a function of it.
        goal: a conjunction of up to three predicates, in an order in which they can be brought about.
        horizon: steps after which an attempt is over.
    """

    name: str
    instruction: str
    entities: tuple[Entity, ...]
    goal: tuple[Predicate, ...]
    horizon: int

    def __post_init__(self) -> None:
        kinds = {e.name: e.kind for e in self.entities}
        if len(kinds) < len(self.entities) or len(kinds) > SLOTS:
            raise UsageError(f"task {self.name}: it takes up to {SLOTS} entities, each with a name of its own.")
        if not 0 < len(self.goal) <= GOALS:
            raise UsageError(f"task {self.name}: a goal has 1 to {GOALS} predicates, not {len(self.goal)}.")
        for e in self.entities:
            if e.kind not in KINDS:
                raise unknown("kind of entity", e.kind, KINDS)
            if not e.starts or any(s.of not in {"", *kinds} - {e.name} for s in e.starts):
                raise UsageError(f"task {self.name}: {e.name} starts nowhere, or by an entity that is not there.")
        for p in self.goal:
            if p.name not in PREDICATES:
                raise unknown("predicate", p.name, PREDICATES)
            said = [name for name in (p.subject, p.object) if name]
            allowed = PREDICATES[p.name]
            if len(said) != len(allowed) or any(kinds.get(n) not in k for n, k in zip(said, allowed, strict=True)):
                wanted = ", ".join(" or ".join(k) for k in allowed)
                raise UsageError(f"task {self.name}: {p.name}({', '.join(said)}) is not about {wanted}.")

    def slot(self, name: str) -> int:
        """Position of an entity among the entities."""
        return [e.name for e in self.entities].index(name)


def write(task: TaskSpec) -> str:
    """The text form, from which `parse` makes the same task."""
    starts = [_start(e.name, s) for e in task.entities for s in e.starts]
    starts += [f"(Open {e.name})" for e in task.entities if e.opened]
    goal = " ".join(f"({' '.join(filter(None, (p.name, p.subject, p.object)))})" for p in task.goal)
    return "\n".join([
        f"(define (problem {task.name})",
        f"  (:language {task.instruction})",
        f"  (:horizon {task.horizon})",
        "  (:objects", *(f"    ({e.name} {e.kind} {e.colour} {e.shape})" for e in task.entities), "  )",
        "  (:init", *(f"    {line}" for line in starts), "  )",
        f"  (:goal (And {goal})))", "",
    ])  # fmt: skip


def parse(text: str) -> TaskSpec:
    """The task that a text form describes. Raises InvalidError where it is not one."""
    try:
        (define, (problem, name), *sections) = _nested(text)
        parts = {section[0]: section[1:] for section in sections}
        starts: dict[str, list[Start]] = {}
        opened = {said[1] for said in parts[":init"] if said[0] == "Open"}
        for said in parts[":init"]:
            if said[0] != "Open":
                if len(said) != STARTS[said[0]]:
                    raise ValueError(f"({' '.join(said)}) is no start")
                of = said[2] if said[0] != "At" else ""
                box = tuple(float(v) for v in said[-4:])
                starts.setdefault(said[1], []).append(Start(box, of, said[0] == "In"))
        entities = tuple(Entity(*o, tuple(starts.pop(o[0])), o[0] in opened) for o in parts[":objects"])
        ((conjunction, *goal),) = parts[":goal"]
        if (define, problem, conjunction) != ("define", "problem", "And") or starts:
            raise ValueError(f"it does not define a problem with a goal of And, or starts {', '.join(starts)}")
        horizon = int(parts[":horizon"][0])
        return TaskSpec(name, " ".join(parts[":language"]), entities, tuple(Predicate(*p) for p in goal), horizon)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InvalidError(
            f"this is not the text of a table-top task: {error}. Compare it with what write() gives."
        ) from error


def _start(name: str, s: Start) -> str:
    box = " ".join(f"{v!r}" for v in s.box)
    return f"(At {name} {box})" if not s.of else f"({'In' if s.inside else 'By'} {name} {s.of} {box})"


def _nested(text: str) -> list:
    """Words in brackets as lists in lists."""
    stack: list[list] = [[]]
    for word in re.findall(r"[()]|[^\s()]+", text):
        if word == "(":
            stack.append([])
        elif word != ")":
            stack[-1].append(word)
        elif len(stack) < 2:
            raise ValueError("a bracket closes that was not opened")
        else:
            stack[-2].append(stack.pop())
    if len(stack) != 1 or len(stack[0]) != 1:
        raise ValueError("a bracket is missing, or there is more than one definition")
    return stack[0][0]
