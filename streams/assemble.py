"""What all builders share: taking each task's rows, drawing subsets, holding out validation data, refusing leakage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base.errors import UsageError
from ..base.seeds import frozen_random
from .affine import pixels
from .augment import Normalise
from .core import CIL, Data, LabelledTest, Setting, Stream, Task
from .labelled import Labelled, holdout
from .leakage import allowed_overlap
from .rows import Rows, gathered


@dataclass(frozen=True)
class Part:
    """What one task takes from labelled data: rows (None is all), a change of the samples, a shift of the class ids."""

    name: str
    classes: tuple[int, ...]
    source: Labelled
    train: np.ndarray | None = None
    test: np.ndarray | None = None
    change: Callable[[Tensor], Tensor] | None = None
    shift: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)

    def data(self, x: Tensor | np.ndarray | Rows, y: Tensor, rows: np.ndarray | None) -> Data:
        """The samples of a task. A view into a larger tensor is copied: a strategy could reach the rest through it."""
        data = Data(x, y, self.source.transform, self.source.augment)
        if rows is not None:
            data = data.select(rows)
        elif isinstance(x, Tensor) and x.untyped_storage().nbytes() > x.nbytes:
            data = dataclasses.replace(data, samples=x.clone())
        samples = data.samples
        if self.change:  # what is on disk is read into memory for it
            samples = self.change(samples if isinstance(samples, Tensor) else gathered(samples))
        return dataclasses.replace(data, samples=samples, targets=data.targets + self.shift)


def assemble(
    parts: Sequence[Part],
    name: str,
    version: int,
    setting: Setting | str,
    seed: int,
    train_per_task: int | None,
    disjoint: bool,
    val_fraction: float,
    normalise: bool,
    classes: int,
    class_names: tuple[str, ...],
    meta: dict[str, Any],
) -> Stream:
    """The tasks and tests of all parts: subsets drawn, validation held out, leakage refused."""
    if train_per_task is not None:
        at_least_one("train_per_task", train_per_task)
    elif disjoint:
        raise UsageError(f"stream {name}: disjoint says how train_per_task draws; give train_per_task as well.")
    if not 0 <= val_fraction < 1:
        raise UsageError(f"val_fraction must be at least 0 and less than 1; got {val_fraction}.")
    if normalise:
        parts = _normalised(parts, name)
    tasks, tests, repeated, given = [], [], 0, _Unused(seed)
    for t, part in enumerate(parts):
        where, source = f"stream {name}, task {t} ({part.name})", part.source
        rows, held = part.train, None
        available = len(source.train_y) if rows is None else len(rows)
        if not available or (part.test is not None and not len(part.test)):
            raise UsageError(f"{where}: there are no {'test' if available else 'training'} samples of its classes.")
        if train_per_task is not None:
            if train_per_task > available:
                raise UsageError(f"{where}: train_per_task is {train_per_task:,} but there are {available:,} samples.")
            if disjoint:
                rows = given.take(source, rows, train_per_task, where)
            else:
                drawn = np.sort(frozen_random("subset", seed, t).permutation(available)[:train_per_task])
                rows = drawn if rows is None else rows[drawn]
        if val_fraction:
            rows = np.arange(available) if rows is None else rows
            chosen = Data(source.train_x, source.train_y).select(rows)
            keep, out = holdout(chosen.samples, chosen.targets, val_fraction, "validation", seed, t)
            rows, held = rows[keep], rows[out]
            if not len(held):
                raise UsageError(f"{where}: too few samples to hold out val_fraction={val_fraction}.")
        val = part.data(source.train_x, source.train_y, held) if held is not None else None
        task = Task(t, part.name, part.classes, part.data(source.train_x, source.train_y, rows), val, part.meta)
        test = LabelledTest(dataclasses.replace(part.data(source.test_x, source.test_y, part.test), augment=None))
        repeated += allowed_overlap(task, test, where)
        tasks.append(task)
        tests.append(test)
    meta = meta | {"duplicates": repeated} | ({"disjoint": True} if disjoint else {})
    texts = {c: prompts for part in parts for c, prompts in enumerate(part.source.texts, part.shift)}
    prompts, kind = tuple(texts[c] for c in sorted(texts)), "image-text" if texts else "classification"
    stream = Stream(name, version, CIL, tasks, tests, classes, seed, class_names, kind, meta, prompts)
    return stream.with_setting(setting)


class _Unused:
    """The training rows that no task has had yet: one permutation per source, from which each task cuts its slice."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.left: dict[int, np.ndarray] = {}

    def take(self, source: Labelled, rows: np.ndarray | None, count: int, where: str) -> np.ndarray:
        """The next `count` of `rows` (None is all), ascending, which no later task gets."""
        if id(source) not in self.left:
            self.left[id(source)] = frozen_random("disjoint subsets", self.seed).permutation(len(source.train_y))
        left = self.left[id(source)]
        found = np.flatnonzero(np.isin(left, rows)) if rows is not None else np.arange(len(left))
        if len(found) < count:
            raise UsageError(
                f"{where}: train_per_task is {count:,} but {len(found):,} samples are left that no task before has; "
                "take fewer for each task, fewer tasks, or disjoint=false."
            )
        taken = found[:count]
        self.left[id(source)] = np.delete(left, taken)
        return np.sort(left[taken])


def _normalised(parts: Sequence[Part], name: str) -> list[Part]:
    """Parts whose sources share one transform, by the training pixels of all of them."""
    sources = {id(part.source): part.source for part in parts}
    for source in sources.values():
        if source.transform is not None or source.augment is not None:
            raise UsageError(f"stream {name}: its samples are prepared in another way already. Leave normalise out.")
        pixels(source.train_x[:1] if isinstance(source.train_x, Tensor) else torch.from_numpy(source.train_x[:1]))
    transform = Normalise.of([source.train_x for source in sources.values()])
    made = {key: dataclasses.replace(source, transform=transform) for key, source in sources.items()}
    return [dataclasses.replace(part, source=made[id(part.source)]) for part in parts]


def at_least_one(option: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise UsageError(f"{option} must be an integer of at least 1; got {value!r}.")
