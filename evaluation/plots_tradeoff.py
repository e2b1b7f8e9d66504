"""One metric against another, a point a run: what is kept against what is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import UsageError
from . import metrics
from .drawing import MARKERS, PALETTE, new_axes, new_figure, save, style, text_width, title
from .statistics import summarise
from .views import arrived, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .record import RunRecord


def plot_tradeoff(records: Sequence[RunRecord], x: str, y: str, folder: str | Path | None = None) -> Figure:
    """Metric `y` against metric `x`, with 95 % intervals over seeds both ways, of runs on one stream.

    Beside it every run by its strategy and the settings in which it differs from the others, the best in `y` first.
    Writes `tradeoff.png` and `tradeoff.svg` into a folder.

    Raises:
        UsageError: an unknown metric, or no run in which both are defined.
        MismatchError: the records are of different streams.
    """
    from .plots import distinct, same_stream

    same_stream(records, 1)
    chosen = [metrics.registry.load(name) for name in (x, y)]
    rows = []
    for record, name in zip(records, distinct(records, 160), strict=True):
        summary = summarise(record, [x, y])
        if all(summary[metric]["mean"] is not None for metric in (x, y)):
            rows.append((name, summary[x], summary[y]))
    if not rows:
        raise UsageError(f"in none of the {plural(len(records), 'run')} are both {x} and {y} defined.")
    sign = -1 if chosen[1].better == "higher" else 1
    rows.sort(key=lambda row: sign * row[2]["mean"])
    side, step = 3.4, 0.2
    high = max(side, step * len(rows))
    with style():
        figure = new_figure(0.6 + side + 0.35 + text_width([name for name, _, _ in rows]), 0.45 + high + 0.5)
        sure = any(row[2]["ci95"] for row in rows)
        title(figure, arrived(*records), "", "mean and 95 % interval over seeds" if sure else "mean over seeds")
        ax = new_axes(figure, 0.6, 0.45, side, high)
        key = new_axes(figure, 0.6 + side + 0.2, 0.45, 0.2, step * len(rows))
        for i, (name, across, up) in enumerate(rows):
            look = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)], "ms": 5, "ls": "none"}
            ax.errorbar(
                100 * across["mean"], 100 * up["mean"], _arms(up), _arms(across), elinewidth=0.7, capsize=0, **look
            )
            key.plot(0, i, **look)
            key.text(0.6, i, name, va="center")
        units = ["percentage points" if metric.difference else "%" for metric in chosen]
        ax.set(xlabel=f"{chosen[0].label} ({units[0]})", ylabel=f"{chosen[1].label} ({units[1]})")
        ax.grid()
        key.set(xlim=(-0.5, 0.5), ylim=(len(rows) - 0.5, -0.5))
        key.axis("off")
        save(figure, folder, "tradeoff")
    return figure


def _arms(summary: dict) -> list[list[float]] | None:
    """Distances from the mean to the ends of the interval, in percent."""
    if not summary["ci95"]:
        return None
    low, high = summary["ci95"]
    return [[100 * (summary["mean"] - low)], [100 * (high - summary["mean"])]]
