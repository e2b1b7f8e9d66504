"""The tasks of NEVIS'22 in their order, read from tasks.csv."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from ....base.errors import InvalidError, unknown
from ....base.files import read_bytes

FILE = Path(__file__).with_name("tasks.csv")
LIMIT = 2**20  # bytes
HELD_OUT = 2020  # the first year of the meta-test
KINDS = ("single-label", "multi-label", "quantised")
STATES = ("maintained", "manual", "gone")


@dataclass(frozen=True)
class Task:
    """A line of the manifest; where the data set occurred before, with the facts of its first line.

    Attributes:
        year: of the publication that the task is taken from.
        name: of the data set, also of its folder.
        title: for people.
        kind: single-label (error: 1 - top-1 accuracy), multi-label (1 - mAP), or quantised: numbers in bins, which are
            told apart like classes.
        classes: outputs of the head; of a quantised task the bins; None where only the files tell.
        bins: where numbers were quantised, into how many; else None.
        domain: family, after the paper's: object, scene, face, texture, shape, art, ocr, medical, satellite, quality,
            counting, pose.
        repeats: year in which the data set came first, where it came before; else None.
        split: name of a rule of `divisions.RULES`.
        source: "torchvision.NAME" for files as that class downloads them, "archive" for those of the authors as they
            unpack, "folder" for pictures that people put into folders of classes, "unread" for what nothing here reads.
        status: maintained (a package downloads it today), manual, or gone from where the publication had it. Addresses
            are those of the published code of 2022.
        major, large: member of the published lists of major domains and of large data sets.
        hub: a copy at Hugging Face, "" where none is known; `verify` says that nobody here has seen it.
        inferred: columns that are known from the data set's description and not from the published code.
        get: where it is to be had.
    """

    year: int
    name: str
    title: str
    kind: Literal["single-label", "multi-label", "quantised"]
    classes: int | None
    bins: int | None
    domain: str
    repeats: int | None
    split: str
    source: str
    status: Literal["maintained", "manual", "gone"]
    major: bool
    large: bool
    hub: str
    verify: bool
    inferred: tuple[str, ...]
    get: str

    @property
    def held_out(self) -> bool:
        """Whether it is of the meta-test, on which nothing is tuned."""
        return self.year >= HELD_OUT


@cache
def tasks() -> tuple[Task, ...]:
    """All 106 in order.

    Raises:
        InvalidError: a line of the file that makes no sense; the message tells its number.
    """
    return read(read_bytes(FILE, LIMIT).decode())


def dataset(name: str) -> Task:
    """The first task of a data set."""
    found = next((task for task in tasks() if task.name == name), None)
    if found is None:
        raise unknown("data set of NEVIS'22", name, {task.name for task in tasks()})
    return found


def read(text: str) -> tuple[Task, ...]:
    """The tasks of a manifest; lines of one year stand together, and a repeated data set tells its facts once."""
    found: list[Task] = []
    first: dict[str, Task] = {}
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), 2):
        try:
            task = _again(row, first) if row["repeats"] else _task(row)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidError(f"{FILE.name}, line {number}: {' '.join(str(error).split())}. Mend the line.") from None
        if found and task.year < found[-1].year:
            raise InvalidError(f"{FILE.name}, line {number}: {task.year} comes after {found[-1].year}. Sort by year.")
        if task.name in first and not task.repeats:
            raise InvalidError(f"{FILE.name}, line {number}: {task.name} came before; say in which year it did.")
        first.setdefault(task.name, task)
        found.append(task)
    return tuple(found)


def _task(row: dict[str, str]) -> Task:
    hub = row["hub"].removeprefix("verify ")
    if row["kind"] not in KINDS or row["status"] not in STATES:
        raise ValueError(f"{row['kind']!r} and {row['status']!r} are not of {', '.join(KINDS)} and {', '.join(STATES)}")
    return Task(
        year=int(row["year"]), name=row["name"], title=row["title"], kind=row["kind"], classes=_number(row["classes"]),
        bins=_number(row["bins"]), domain=row["domain"], repeats=None, split=row["split"], source=row["source"],
        status=row["status"], major=_yes(row["major"]), large=_yes(row["large"]), hub=hub, verify=hub != row["hub"],
        inferred=tuple(row["inferred"].split()), get=row["get"],
    )  # fmt: skip


def _again(row: dict[str, str], first: dict[str, Task]) -> Task:
    """A data set that came before; memberships are of the task and not of the data set."""
    before = first.get(row["name"])
    if before is None or before.year != int(row["repeats"]):
        raise ValueError(f"{row['name']} is not of {row['repeats']}")
    year, major, large = int(row["year"]), _yes(row["major"]), _yes(row["large"])
    return replace(before, year=year, repeats=before.year, major=major, large=large)


def _number(text: str) -> int | None:
    return int(text) if text else None


def _yes(text: str) -> bool:
    if text not in ("", "yes"):
        raise ValueError(f"{text!r} is neither 'yes' nor empty")
    return text == "yes"
