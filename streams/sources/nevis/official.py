"""Official parts of NEVIS'22's data sets, their pictures still encoded; and which of them a machine has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....base.errors import InvalidError, StorageError, UsageError
from .. import data_root
from ..needs import Need, need
from ..pictures import Picture
from ..table import in_table
from .divisions import LEAST, RULES, SPLITS, assign, rows
from .layouts import Layout, layout, wanted
from .manifest import Task, dataset
from .readers import by_hash, crops
from .variants import partial_name, variant

# Where a picture's name tells the number by which it is divided.
KEYS = {"by-view": re.compile(r"__(\d+)\."), "by-pose": re.compile(r"_P(\d\d)A")}


@dataclass(frozen=True, eq=False)
class Part:
    """Some samples of a data set, in the order that rules of division go by.

    Attributes:
        pictures: [N], each opened when it is asked for.
        labels: [N] int64 class ids; or [N, C] uint8, which classes a picture of a multi-label task shows.
        classes: names by class id, in sorted order; the same of every part.
    """

    pictures: tuple[Picture, ...]
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    def select(self, index: np.ndarray) -> Part:
        """Some of the samples."""
        return Part(tuple(self.pictures[row] for row in index), self.labels[index], self.classes)


def official(task: Task, data: str | Path | None = None, hub: str | None = None) -> dict[str, Part]:
    """The parts of a data set that its rule divides, by their names; nothing is decoded.

    A rule that cuts by order gets each part in the order of the SHA-256 of its pictures' names: the published code cuts
    records that TensorFlow Datasets has shuffled, by a hash of its own, while files stand class by class.

    Args:
        data: folder of data sets; see `data_root`.
        hub: read a copy at Hugging Face instead, or .parquet files; of data sets that come as train and test alone.

    Raises:
        StorageError: it is not there, not whole, or nothing reads it; the message says what to do.
    """
    root, found = data_root(data), layout(task)
    pictures = _copied(task, hub) if hub else _read(task, found, root)
    if task.split == "by-crop":
        pictures = crops(pictures)
    if task.split == "by-person":
        count = Counter(picture.label for picture in pictures)
        pictures = [picture for picture in pictures if count[picture.label] >= LEAST]
    if RULES[task.split].ordered:
        pictures = sorted(pictures, key=by_hash)
    many = task.kind == "multi-label"
    classes = tuple(sorted({name for p in pictures for name in (p.label.split("|") if many else [p.label]) if name}))
    parts = {part: [p for p in pictures if p.part == part] for part in RULES[task.split].parts}
    _whole(task, classes, parts, found.sizes if found else {}, hub or str(root))
    number = {name: i for i, name in enumerate(classes)}
    return {
        part: Part(tuple(members), (_multi_hot if many else _ids)(members, number), classes)
        for part, members in parts.items()
    }


def divided(task: Task, parts: Mapping[str, Part]) -> dict[str, Part]:
    """The parts as train, dev, train_and_dev, dev_test and test, by the task's rule."""
    assigned = assign(task.split, {part: len(found) for part, found in parts.items()}, _keys(task, parts))
    return {split: _joined(parts, rows(assigned, split)) for split in (*SPLITS, "train_and_dev")}


def status(name: str, data: str | Path | None = None, n: int | None = None, seed: int = 0) -> list[Need]:
    """The data sets of a stream such as "nevis-short", each once, in the order in which they come.

    Args:
        n, seed: of nevis-random-dataset; see `variants.variant`.
    """
    root = data_root(data)
    chosen = variant(name.removeprefix("nevis-"), n, seed)
    return [dataset_need(one, root) for one in dict.fromkeys(task.name for task in chosen)]


def dataset_need(name: str, root: Path) -> Need:
    """Whether a data set is there."""
    task = dataset(name)
    found = layout(task)
    if found is None:
        return Need(name, False, str(root), (), wanted(task))
    copy = task.hub if _two_parts(task) and not task.verify else ""
    return need(name, root, found.forms, wanted(task), bool(found.calls or found.archives), copy)


def present(
    name: str, data: str | Path | None = None, n: int | None = None, seed: int = 0
) -> tuple[str, tuple[Task, ...]]:
    """What the stream of those tasks is called whose data sets are there, and the tasks; arguments as for `status`."""
    there = {one.name for one in status(name, data, n, seed) if one.there}
    chosen = variant(name.removeprefix("nevis-"), n, seed)
    found = tuple(task for task in chosen if task.name in there)
    return partial_name(name, len(found), len(chosen)), found


def _read(task: Task, found: Layout | None, root: Path) -> list[Picture]:
    """The pictures, or one line that says what to do to have them."""
    if found is None or not dataset_need(task.name, root).there:
        raise StorageError(f"{task.title} is not under {root}: {wanted(task)}.")
    try:
        return found.read(root)
    except (IndexError, KeyError, ValueError) as error:  # lists and arrays that are not what they should be
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise InvalidError(f"{task.title} under {root} cannot be read: {reason}. Instead {wanted(task)}.") from None


def _copied(task: Task, hub: str) -> list[Picture]:
    """The pictures of a copy. Parts beside train and test are left out."""
    if not _two_parts(task):
        raise UsageError(f"{task.title} is not read from a copy at Hugging Face: its parts are not train and test.")
    return [picture for picture in in_table(hub) if picture.part]


def _two_parts(task: Task) -> bool:
    return task.kind == "single-label" and RULES[task.split].parts == ("train", "test")


def _whole(
    task: Task, classes: Sequence[str], parts: Mapping[str, Sequence], sizes: Mapping[str, int], where: str
) -> None:
    """A copy that lacks something is told apart from a whole one."""
    found = {part: len(members) for part, members in parts.items()}
    short = [f"{found[p]:,} pictures of the part {p}, not {sizes[p]:,}" for p in sizes if found[p] != sizes[p]]
    empty = [f"no pictures of the part {part}" for part, count in found.items() if not count]
    wrong = task.classes is not None and len(classes) != task.classes
    says = short + empty + ([f"{len(classes):,} classes, not {task.classes:,}"] if wrong else [])
    if says:
        raise StorageError(f"{task.title} in {where} has {says[0]}; it is incomplete or another one. {wanted(task)}.")


def _keys(task: Task, parts: Mapping[str, Part]) -> dict[str, np.ndarray]:
    pattern = KEYS.get(task.split)
    if pattern is None:
        return {part: found.labels for part, found in parts.items()}
    keys = {}
    for part, found in parts.items():
        matches = [pattern.search(picture.name) for picture in found.pictures]
        if not all(matches):
            strange = found.pictures[matches.index(None)].where
            raise UsageError(f"{strange} does not tell {RULES[task.split].keys}; keep the published names of files.")
        keys[part] = np.array([int(match.group(1)) for match in matches])
    return keys


def _ids(pictures: Sequence[Picture], number: Mapping[str, int]) -> np.ndarray:
    return np.array([number[picture.label] for picture in pictures], np.int64)


def _multi_hot(pictures: Sequence[Picture], number: Mapping[str, int]) -> np.ndarray:
    labels = np.zeros((len(pictures), len(number)), np.uint8)
    for row, picture in enumerate(pictures):
        labels[row, [number[name] for name in picture.label.split("|") if name]] = 1
    return labels


def _joined(parts: Mapping[str, Part], index: Mapping[str, np.ndarray]) -> Part:
    """Rows of several parts, one after the other."""
    some = [parts[part].select(index[part]) for part in parts]
    pictures = tuple(picture for part in some for picture in part.pictures)
    return Part(pictures, np.concatenate([part.labels for part in some]), some[0].classes)
