"""BDDL, the text form in which LIBERO states a task: what is there, where it starts, and what is to be true at the end.

    (define (problem LIBERO_Tabletop_Manipulation)
      (:domain robosuite)
      (:language Turn on the stove)
      (:regions (stove_region (:target main_table) (:ranges ((-0.42 0.2 -0.4 0.22)))))
      (:fixtures main_table - table flat_stove_1 - flat_stove)
      (:objects plate_1 - plate)
      (:obj_of_interest flat_stove_1)
      (:init (On flat_stove_1 main_table_stove_region))
      (:goal (And (Turnon flat_stove_1))))

Source: LIBERO's files; arXiv 2306.03310, section 3. Comments begin with a semicolon.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from ....base.errors import InvalidError

Goal = tuple[tuple[str, ...], ...]  # a conjunction of predicates: (("In", "bowl_1", "cabinet_1_top_region"), ...)
SECTIONS = (":domain", ":language", ":regions", ":fixtures", ":objects", ":obj_of_interest", ":init", ":goal")


@dataclass(frozen=True)
class Region:
    """A part of a thing that predicates speak of as TARGET_NAME.

    Attributes:
        ranges: (x0, y0, x1, y1) in metres, from the middle of the target; none where the region is part of its model.
        yaw: (from, to) in radians, of what starts there; None where nothing is said.
        rgba: colour in which it is drawn; None where nothing is said.
    """

    name: str
    target: str
    ranges: tuple[tuple[float, ...], ...] = ()
    yaw: tuple[float, ...] | None = None
    rgba: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Problem:
    """A task as its BDDL file states it.

    Attributes:
        name: the kind of scene, such as "LIBERO_Tabletop_Manipulation".
        language: what the file says, which is not what LIBERO tells a policy; see `suites.language`.
        fixtures, objects: type by instance.
        interest: the instances that the task is about.
        init, goal: predicates, all of which hold.
    """

    name: str
    domain: str
    language: str
    regions: tuple[Region, ...]
    fixtures: Mapping[str, str]
    objects: Mapping[str, str]
    interest: tuple[str, ...]
    init: Goal
    goal: Goal


def parse(text: str, where: str = "the text") -> Problem:
    """The problem that a text states. Raises InvalidError with the place where it is not one."""
    whole = _nested(text, where)
    try:
        define, (problem, name), *sections = whole
        if (define, problem) != ("define", "problem"):
            raise ValueError("it does not begin with (define (problem NAME)")
        parts = {section[0]: section[1:] for section in sections}
        strange = [key for key in parts if key not in SECTIONS]
        if strange or ":goal" not in parts:
            raise ValueError(f"the section {strange[0]} is not known" if strange else "it has no :goal")
        get = lambda key: parts.get(key, [])
        return Problem(
            name, " ".join(get(":domain")), " ".join(get(":language")),
            tuple(_region(region) for region in get(":regions")),
            _typed(get(":fixtures")), _typed(get(":objects")), tuple(get(":obj_of_interest")),
            tuple(map(_predicate, get(":init"))), _conjunction(get(":goal")),
        )  # fmt: skip
    except (ValueError, TypeError, IndexError) as error:
        raise InvalidError(f"{where} is not a BDDL problem: {error}. Compare it with LIBERO's files.") from None


def write(problem: Problem) -> str:
    """The text, from which `parse` makes the same problem."""
    told = [f"(:domain {problem.domain})", f"(:language {problem.language})"]
    told += _section(":regions", [_region_text(region) for region in problem.regions])
    told += _section(":fixtures", [f"{name} - {kind}" for name, kind in problem.fixtures.items()])
    told += _section(":objects", [f"{name} - {kind}" for name, kind in problem.objects.items()])
    told += _section(":obj_of_interest", list(problem.interest))
    told += _section(":init", [_spaced(one) for one in problem.init])
    told += _section(":goal", [f"(And {' '.join(_spaced(one) for one in problem.goal)})"])
    return "\n".join([f"(define (problem {problem.name})", *(f"  {line}" for line in told), ")", ""])


def _nested(text: str, where: str) -> list:
    """The one list of lists of words that a text is."""
    stack: list[list] = [[]]
    opened: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        for word in re.findall(r"[()]|[^\s()]+", line.partition(";")[0]):
            if word == "(":
                opened.append(number)
                stack.append([])
            elif word != ")":
                stack[-1].append(word)
            elif not opened:
                raise InvalidError(f"{where}, line {number}: a parenthesis is closed that was never opened.")
            else:
                opened.pop()
                stack[-2].append(stack.pop())
    if opened:
        raise InvalidError(f"{where}, line {opened[-1]}: the parenthesis opened here is never closed.")
    if len(stack[0]) != 1 or not isinstance(stack[0][0], list):
        raise InvalidError(f"{where} is not one (define ...), but {len(stack[0])} expressions.")
    return stack[0][0]


def _region(said: list) -> Region:
    name, *attributes = said
    told = {key: value for key, value in attributes}
    strange = sorted(set(told) - {":target", ":ranges", ":yaw_rotation", ":rgba"})
    if strange or ":target" not in told:
        raise ValueError(f"the region {name} has {strange[0] if strange else 'no :target'}")
    ranges = tuple(_numbers(box, 4) for box in told.get(":ranges", []))
    yaw = _numbers(told[":yaw_rotation"][0], 2) if ":yaw_rotation" in told else None
    rgba = _numbers(told[":rgba"], 4) if ":rgba" in told else None
    return Region(name, told[":target"], ranges, yaw, rgba)


def _region_text(region: Region) -> str:
    boxes = " ".join(_spaced(box) for box in region.ranges)
    told = [f"(:target {region.target})"]
    told += [f"(:ranges ({boxes}))"] if region.ranges else []
    told += [f"(:yaw_rotation ({_spaced(region.yaw)}))"] if region.yaw else []
    told += [f"(:rgba {_spaced(region.rgba)})"] if region.rgba else []
    return f"({region.name} {' '.join(told)})"


def _numbers(words: list[str], count: int) -> tuple[float, ...]:
    if len(words) != count:
        raise ValueError(f"({' '.join(words)}) has {len(words)} numbers, not {count}")
    return tuple(float(word) for word in words)


def _typed(words: list[str]) -> dict[str, str]:
    """Type by instance, of "a b - cup c - plate"."""
    found: dict[str, str] = {}
    waiting: list[str] = []
    words = iter(words)
    for word in words:
        if word == "-":
            found |= dict.fromkeys(waiting, next(words, ""))
            waiting = []
        else:
            waiting.append(word)
    if waiting or "" in found.values():
        raise ValueError(f"{(waiting or list(found))[-1]} has no type")
    return found


def _predicate(said: list) -> tuple[str, ...]:
    return tuple(said) if said and all(isinstance(word, str) for word in said) else _unknown(said)


def _conjunction(goal: list) -> Goal:
    (said,) = goal
    conjunction = said[0].lower() == "and" if isinstance(said[0], str) else _unknown(said)
    return tuple(_predicate(one) for one in (said[1:] if conjunction else [said]))


def _unknown(said: list) -> NoReturn:
    raise ValueError(f"{said} is not a predicate, such as (On bowl_1 plate_1)")


def _section(name: str, lines: list[str]) -> list[str]:
    return [f"({name}", *(f"  {line}" for line in lines), ")"] if lines else []


def _spaced(words: tuple) -> str:
    return f"({' '.join(map(str, words))})"
