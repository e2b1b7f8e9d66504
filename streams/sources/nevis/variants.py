"""The streams that are cut from the manifest: NEVIS'22's own variants and ablations, and one of what loads today."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ....base.errors import UsageError, unknown
from ....base.seeds import frozen_random
from .manifest import Task, dataset, tasks

IMAGENET = "imagenet"
CUT = 30  # tasks that an ablation removes
# Lists of their own, with years of their own: when the shorter stream takes a task, and not whence it is.
LISTS: Mapping[str, Mapping[int, str]] = {
    "short": {
        2004: "coil100 mnist",
        2006: "pascal2005 caltech-cars uiuc-cars",
        2009: "pascal2006",
        2010: "caltech101",
        2011: "graz02 scenes15 pascal2007 lfw",
        2013: "sketch brodatz",
        2014: "imagenet pascal2012 caltech256",
        2018: "cifar100 cifar10 usps mnist mnist-m office-caltech pacs isic2017",
        2019: "fashion-mnist",
        2020: "stanford-dogs cub200 stanford-cars aircraft-family",
    },
    "tiny": {
        2004: "mnist",
        2010: "caltech101",
        2014: "pascal2012",
        2018: "cifar100 mnist isic2017",
        2020: "cub200",
    },
    "debug": {1999: "pascal2007", 2000: "coil20"},
    "imagenet-only": {2014: "imagenet"},
    # Ours: what packages download today, with the full stream's years.
    "lite": {
        2004: "mnist",
        2005: "caltech101",
        2010: "pascal2007",
        2011: "caltech256 flowers102 gtsrb",
        2013: "pascal2012",
        2015: "mnist sun397 cifar10",
        2016: "aircraft-family dtd oxford-pets svhn caltech101",
        2017: "cifar100",
        2018: "usps semeion emnist-balanced",
        2019: "fashion-mnist stl10 food101",
        2021: "flowers102 pcam",
    },
}
ABLATIONS = ("remove-first-30", "remove-last-30", "no-imagenet", "random-dataset")
NAMES = ("full", *LISTS, "major-domain-only", "large-dataset-only", *ABLATIONS)


def variant(name: str, n: int | None = None, seed: int = 0, held_out: bool = True) -> tuple[Task, ...]:
    """The tasks of a variant in order.

    Ablations change the tasks before 2020 alone. The published stream leaves the held-out years out by default; here
    they are in it unless `held_out` is False. The published draw of random-dataset is by another generator, so that
    ours has other tasks.

    Args:
        name: one of `NAMES`.
        n: of random-dataset alone, and needed there: how many tasks, the 14 held-out ones included.
        seed: of that draw.

    Raises:
        UsageError: an unknown name, or a number of tasks that cannot be.
    """
    if name not in NAMES:
        raise unknown("variant of NEVIS'22", name, NAMES)
    if (n is not None) != (name == "random-dataset"):
        raise UsageError("n is the number of tasks of random-dataset, which needs it; other variants do not take it.")
    found = listed(LISTS[name]) if name in LISTS else _of_full(name, n or 0, seed)
    return tuple(task for task in found if held_out or not task.held_out)


def listed(years: Mapping[int, str]) -> tuple[Task, ...]:
    """Data sets by year; one that occurs again is told to repeat."""
    found: dict[str, int] = {}
    chosen = []
    for year, names in years.items():
        for name in names.split():
            chosen.append(dataclasses.replace(dataset(name), year=year, repeats=found.get(name)))
            found.setdefault(name, year)
    return tuple(chosen)


def partial_name(name: str, there: int, total: int) -> str:
    """What a stream is called: its own name if all its tasks are there, else one that no board ranks beside it."""
    return name if there == total else f"{name}-partial-{there}of{total}"


def _of_full(name: str, n: int, seed: int) -> Sequence[Task]:
    full = tasks()
    if name == "full":
        return full
    if name == "major-domain-only":
        return _again([task for task in full if task.major])
    if name == "large-dataset-only":
        return _again([task for task in full if task.large])
    early, late = [t for t in full if not t.held_out], [t for t in full if t.held_out]
    if name == "random-dataset":
        if not len(late) < n <= len(full):
            raise UsageError(f"random-dataset has from {len(late) + 1} to {len(full)} tasks; got n={n}.")
        rows = frozen_random("nevis random-dataset", seed).permutation(len(early))[: n - len(late)]
        kept = [early[row] for row in sorted(rows)]
    else:
        kept = {
            "remove-first-30": early[CUT:],
            "remove-last-30": _without_last(early, CUT),
            "no-imagenet": [task for task in early if task.name != IMAGENET],
        }[name]
    return _again([*kept, *late])


def _without_last(early: Sequence[Task], k: int) -> list[Task]:
    """The published code goes back year by year, and of the year in which it reaches `k` drops the first tasks."""
    while k:
        year = early[-1].year
        last = [task for task in early if task.year == year]
        early = [task for task in early if task.year < year]
        if len(last) > k:
            return [*early, *last[k:]]
        k -= len(last)
    return list(early)


def _again(chosen: Sequence[Task]) -> list[Task]:
    """The tasks, with what they repeat told anew, since a first occurrence may be left out."""
    found: dict[str, int] = {}
    for task in chosen:
        found.setdefault(task.name, task.year)
    return [dataclasses.replace(t, repeats=found[t.name] if found[t.name] != t.year else None) for t in chosen]
