"""The terminal's side of the command line: progress while it is one, and plain lines where it is not."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..benchmarks.launch import Job, Watch

if TYPE_CHECKING:
    from rich.console import Console


def out() -> Console:
    """Standard output: results. A pipe gets lines of a fixed width, so that tables are not cut to 80 columns."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def say(text: str = "") -> None:
    """A line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """Text with its control characters written out: a name from a file may not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def dump(value: Any) -> None:
    """A result for machines, on standard output."""
    print(json.dumps(value, indent=None, allow_nan=False))


class ProgressBars(Watch):
    """One bar per run (strategy on benchmark), over its seeds, and one for the whole."""

    def __init__(self, display: Any) -> None:
        self.display = display
        self.jobs: Sequence[Job] = []
        self.shares: list[float] = []
        self.bars: dict[str, Any] = {}

    def planned(self, jobs: Sequence[Job]) -> None:
        """A bar for each folder, and the total above when there are several."""
        self.jobs, self.shares = jobs, [0.0] * len(jobs)
        folders = dict.fromkeys(job.folder for job in jobs)
        if len(folders) > 1:
            self.bars[""] = self.display.add_task("all", total=len(jobs))
        for folder in folders:
            mine = [job for job in jobs if job.folder == folder]
            label = f"{mine[0].spec.strategy} on {mine[0].spec.target}"
            self.bars[folder] = self.display.add_task(label, total=len(mine), visible=len(folders) <= 12)

    def progress(self, number: int, share: float) -> None:
        """Move the bars."""
        step = share - self.shares[number]
        self.shares[number] = share
        for key in ("", self.jobs[number].folder):
            if key in self.bars:
                self.display.advance(self.bars[key], step)


@contextmanager
def watching():
    """A `Watch` with live bars on a terminal, a silent one elsewhere."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield Watch()
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
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        yield ProgressBars(display)
