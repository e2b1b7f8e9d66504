"""What figures say of a record: numbers with their mean and interval, and the words around them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .record import RunRecord, SeedRun


@dataclass(frozen=True)
class View:
    """Numbers [S, ...] with their mean and the half width of its 95 % interval, NaN where there is none."""

    stack: np.ndarray
    note: str = ""

    @classmethod
    def of(cls, record: RunRecord) -> View:
        """Accuracies in percent, [S, T+1, T], of the runs that figures show."""
        runs, note = shown(record)
        seeds = {run.seed for run in runs}
        return cls(100 * record.matrix.numpy()[[seed in seeds for seed in record.seeds]], note)

    @cached_property
    def mean(self) -> np.ndarray:
        known = np.isfinite(self.stack).sum(0)
        return np.where(known > 0, np.nansum(self.stack, 0) / np.maximum(known, 1), np.nan)

    @cached_property
    def half(self) -> np.ndarray:
        from .statistics import t_interval

        def half(values: np.ndarray) -> float:
            interval = t_interval(values)
            return (interval[1] - interval[0]) / 2 if interval else math.nan

        return np.apply_along_axis(half, 0, self.stack)


def shown(record: RunRecord) -> tuple[list[SeedRun], str]:
    """The runs that a figure is of, and what it calls them: the complete ones, else the unfinished."""
    if record.complete:
        return record.complete, plural(len(record.complete), "seed")
    return record.runs, f"no complete seed, {len(record.runs)} unfinished"


def short(text: str, limit: int) -> str:
    """Printable and no longer than `limit`; the middle goes first, because names often differ at their end."""
    text = "".join(c if c.isprintable() else " " for c in text)
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail].rstrip()}…{text[-tail:].lstrip()}"


def plural(number: int, noun: str) -> str:
    """1 seed, 2 seeds."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def arrived(*records: RunRecord) -> str:
    """The stream of records that share one, and how it was presented."""
    settings = dict.fromkeys(record.stream.setting for record in records)
    return f"{short(records[0].stream.name, 40)} · {short(' / '.join(settings), 40)}"


def about(record: RunRecord, note: str) -> str:
    """A figure's title: who learnt what, and over how many seeds."""
    return f"{short(record.strategy.name, 40)} on {arrived(record)} · {note}"


class Reports:
    """What the shown runs report of themselves under `KIND/LAYER`, with a number for each task."""

    MOST = 40  # layers in a figure; a record may name any number

    def __init__(self, record: RunRecord) -> None:
        self.runs, self.note = shown(record)
        self.tasks = len(record.stream.tasks)

    def layers(self, *kinds: str) -> list[str]:
        """Those of which there is a number, numbers in names by their size; a stem first and a head last."""
        found = {
            name.partition("/")[2]
            for run in self.runs
            for name, values in run.diagnostics.items()
            if name.partition("/")[0] in kinds and any(value is not None for value in values)
        }
        return sorted(found - {""}, key=_depth)[: self.MOST]

    def values(self, name: str, most: float | np.ndarray = 1.0) -> np.ndarray:
        """[S, T], NaN where there is no number in [0, most]."""
        values = np.full((len(self.runs), self.tasks), np.nan)
        for row, run in zip(values, self.runs, strict=True):
            told = run.diagnostics.get(name, [])[: self.tasks]
            row[: len(told)] = [math.nan if value is None else value for value in told]
        return np.where((values >= -1e-6) & (values <= most + 1e-6), np.clip(values, 0, most), np.nan)


def _depth(layer: str) -> tuple[int, list[str | tuple[int, str]]]:
    """Sorts by depth, as far as a name tells."""
    parts = re.split(r"([0-9]+)", layer)  # text, digits, text, ...
    place = {"stem": 0, "head": 2}.get(layer.partition(".")[0], 1)
    return place, [(len(part.lstrip("0")), part) if k % 2 else part for k, part in enumerate(parts)]
