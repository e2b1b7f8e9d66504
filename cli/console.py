"""The terminal's side of the command line: progress while it is one, and plain lines where it is not."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..benchmarks.launch import Job, Watch
from ..benchmarks.workers import Tell

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..evaluation.record import RunRecord


def show(records: Sequence[RunRecord], title: str, columns: Sequence[str]) -> None:
    """A table of results on standard output. A pipe gets wide lines; a narrow terminal goes without the costs."""
    from rich.console import Console

    from ..evaluation.report import results

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(results(records, title, console.width < 110, columns))


def say(text: str = "") -> None:
    """A line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """Text with its control characters written out: a name from a file may not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escape(text: str) -> str:
    """Text that rich shows as it is."""
    from rich.markup import escape as shown

    return shown(visible(text))


def dump(value: Any) -> None:
    """A result for machines, on standard output."""
    print(json.dumps(value, indent=None, allow_nan=False))


class ProgressBars(Watch):
    """One bar per run (strategy on benchmark), over its seeds, and one for the whole."""

    def __init__(self, display: Progress) -> None:
        self.display = display
        self.jobs: Sequence[Job] = []
        self.shares: list[float] = []
        self.bars: dict[str, Any] = {}
        self.preparing = display.add_task("preparing", total=None, left="")

    def planned(self, jobs: Sequence[Job]) -> None:
        """A bar for each folder, and the total above when there are several."""
        self.display.remove_task(self.preparing)
        self.jobs, self.shares = jobs, [0.0] * len(jobs)
        folders = dict.fromkeys(job.folder for job in jobs)
        if len(folders) > 1:
            self.bars[""] = self.display.add_task("all", total=len(jobs), left="left")
        for folder in folders:
            mine = [job for job in jobs if job.folder == folder]
            label = escape(f"{mine[0].spec.strategy} on {mine[0].spec.target}")
            few = len(folders) <= 12
            self.bars[folder] = self.display.add_task(label, total=len(mine), visible=few, left="left")

    def progress(self, number: int, share: float) -> None:
        """Move the bars."""
        step = share - self.shares[number]
        self.shares[number] = share
        for key in ("", self.jobs[number].folder):
            if key in self.bars:
                self.display.advance(self.bars[key], step)


@contextmanager
def watching() -> Iterator[Watch]:
    """A `Watch` with live bars on a terminal, a silent one elsewhere."""
    with _display() as display:
        yield Watch() if display is None else ProgressBars(display)


@contextmanager
def telling(label: str) -> Iterator[Tell]:
    """One bar for one piece of work, moved by telling the share that is done."""
    with _display() as display:
        if display is None:
            yield lambda share: None
        else:
            bar = display.add_task(escape(label), total=1, left="left")
            yield lambda share: display.update(bar, completed=share)


@contextmanager
def _display() -> Iterator[Progress | None]:
    """Where bars are drawn, on standard error; None where that is no terminal."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        yield display
