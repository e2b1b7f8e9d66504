"""Figures of strategies that protect subspaces of each layer's inputs: how full they are, and who may change them.

Both read what a strategy reports of itself, a number per task (`SeedRun.diagnostics`), by names such as `used/LAYER`.
A record without such reports has no such figure; a number outside what is possible counts as not reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .drawing import MARKERS, Grid, bars, legend_row, new_axes, new_figure, save, style, title
from .views import Reports, View, about, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from .record import RunRecord

REGIMES = {  # bottom up, with colour and hatching; apart in grey as well
    "regime 3, kept": ("#0b3c6f", ""),
    "regime 3, demoted to 2": ("#d55e00", "//////"),
    "regime 2": ("#3d94cf", ""),
    "regime 1": ("#e6e6e6", ""),
}
SLOTS = {  # tasks in regime 3, with marker and filling
    "first": ("o", "black"),
    "second": ("s", "none"),
    "third": ("^", "black"),
    "fourth": ("D", "none"),
}
FINEST = 1e-4  # share of a task's steps, below which the scale of demotions is linear
HEAD = {"size": 6.5, "pad": 2.5, "loc": "left"}


def plot_subspaces(record: RunRecord, folder: str | Path | None = None) -> Figure | None:
    """Share of each layer's input space that is protected after each task: all layers together, then each by itself.

    Bands are 95 % intervals over complete seeds. Writes `subspaces.png` and `subspaces.svg` into a folder.

    Returns:
        None, and writes nothing, where no `used/LAYER` is reported.
    """
    from matplotlib import colormaps

    reports = Reports(record)
    layers = reports.layers("used")
    if not layers:
        return None
    views = [View(100 * reports.values(f"used/{layer}")) for layer in layers]
    stages, colours = np.arange(1, reports.tasks + 1), colormaps["viridis"](np.linspace(0, 0.88, len(layers)))
    grid = Grid(len(layers), left=0.55, top=3.6, pitch=1.0)
    legend = "share of each layer's input space that is protected, in titles after the last task; dashed: all"
    with style():
        figure = new_figure(grid.left + grid.page, grid.top + grid.pitch * grid.down + 0.2)
        banded = any(np.isfinite(view.half).any() for view in views)
        title(figure, about(record, reports.note), "", legend + "; bands: 95 % interval" * banded)
        main = new_axes(figure, grid.left, 0.45, grid.page - 0.15, 2.55)
        for k, (view, colour) in enumerate(zip(views, colours, strict=True)):
            ax = grid.panel(figure, k, 0.72)
            end = view.mean[-1]
            ax.set_title(_heading(layers[k], grid, f": {end:.0f} %" if np.isfinite(end) else ""), **HEAD)
            for each in (main, ax):
                each.plot(stages, view.mean, color=colour, lw=1.2, marker=MARKERS[k % len(MARKERS)], ms=2.5)
            low, high = np.clip((view.mean - view.half, view.mean + view.half), 0, 100)
            ax.fill_between(stages, low, high, color=colour, alpha=0.25, lw=0)
        main.set(ylabel="protected (%)", xlabel="tasks learnt")
        for ax in figure.axes:
            ax.axhline(100, color="black", lw=0.9, ls=(0, (4, 2)), zorder=1)
            ax.set(xlim=(0.6, reports.tasks + 0.4), ylim=(-3, 108), yticks=(0, 50, 100))
            _whole(ax.xaxis, 10 if ax is main else 5)
            ax.grid()
        save(figure, folder, "subspaces")
    return figure


def plot_regimes(record: RunRecord, folder: str | Path | None = None) -> Figure | None:
    """For each layer and task: how many earlier tasks are in which regime, and when those in regime 3 were demoted.

    Bars are means over complete seeds; under them stands a dot for each demotion of each seed. Regimes as in CUBER
    (Lin et al., 2022, arXiv 2211.00789). Writes `regimes.png` and `regimes.svg` into a folder.

    Returns:
        None, and writes nothing, where no `regime2/LAYER` or `regime3/LAYER` is reported, or there is one task only.
    """
    reports = Reports(record)
    layers = reports.layers("regime2", "regime3")
    if not layers or reports.tasks < 2:
        return None
    cases = [_Case.of(reports, layer) for layer in layers]
    slots = {name: look for name, look in SLOTS.items() if any(np.isfinite(case.at[name]).any() for case in cases)}
    limit = min(reports.tasks - 1, max(4, math.ceil(1.5 * max(case.peak for case in cases))))
    high = 1.15 if len(layers) <= 3 else 0.75
    grid = Grid(len(layers), left=0.65, top=0.85, pitch=high * (2 if slots else 1) + 0.42)
    legend = "bars: earlier tasks by regime, mean over seeds" + f", cut at {limit}" * (limit < reports.tasks - 1)
    legend += "; dots: when in the new task's steps each seed demoted one" * bool(slots)
    some = np.max([np.nan_to_num(np.diff(case.ends, axis=0)).max(1) for case in cases], 0) > 0
    areas = {name: REGIMES[name] for name, there in zip(REGIMES, some, strict=True) if there}
    with style():
        figure = new_figure(grid.left + grid.page, grid.top + grid.pitch * grid.down + 0.2)
        title(figure, about(record, reports.note), "", legend)
        legend_row(figure, 0.4, areas, {f"demoted: the {name} in regime 3": look for name, look in slots.items()})
        for k, case in enumerate(cases):
            upper = grid.panel(figure, k, high)
            upper.set_title(_heading(layers[k], grid), **HEAD)
            upper.set_ylim(0, limit)
            _whole(upper.yaxis, 4)
            for low, end, look in zip(case.ends[:-1], case.ends[1:], REGIMES.values(), strict=True):
                bars(upper, np.minimum(low, limit), np.minimum(end, limit), *look)
            if slots:
                upper.tick_params(labelbottom=False)
                lower = grid.panel(figure, k, high, below=high + 0.11)
                _demotions(lower, case.at, slots)
            if k % grid.across == 0:
                upper.set_ylabel("earlier tasks")
            figure.axes[-1].set_xlabel("new task" * (k + grid.across >= len(layers)), size=7)
        for ax in figure.axes:
            ax.set_xlim(1.4, reports.tasks + 0.6)
            _whole(ax.xaxis, 5)
        save(figure, folder, "regimes")
    return figure


@dataclass(frozen=True)
class _Case:
    """What became of one layer."""

    ends: np.ndarray  # [5, T] where the stacked means of the four regimes begin and end; NaN where nothing is known
    at: dict[str, np.ndarray]  # slot to [S, T-1] share of a later task's steps at which it was demoted

    @classmethod
    def of(cls, reports: Reports, layer: str) -> _Case:
        earlier = np.arange(reports.tasks)
        two, three, demoted = (reports.values(f"{kind}/{layer}", earlier) for kind in ("regime2", "regime3", "demoted"))
        known = np.isfinite(two) | np.isfinite(three)  # a strategy may do without one of them
        two, three, demoted = np.nan_to_num(two), np.nan_to_num(three), np.nan_to_num(demoted)
        three = np.minimum(three, earlier - two)
        demoted = np.minimum(demoted, three)
        ends = np.stack([np.zeros_like(two), three - demoted, three, two + three, np.zeros_like(two) + earlier], 1)
        at = {name: reports.values(f"demoted_at/{layer}/{k}")[:, 1:] for k, name in enumerate(SLOTS, 1)}
        return cls(View(np.where(known[:, None], ends, np.nan)).mean, at)

    @property
    def peak(self) -> float:
        """Most tasks in regimes 2 and 3 together."""
        return float(np.nan_to_num(self.ends[-2]).max())


def _demotions(ax: Axes, at: dict[str, np.ndarray], slots: dict[str, tuple[str, str]]) -> None:
    """A dot for each slot, seed and task, seeds side by side; logarithmic, because most fall in the first steps."""
    for name, (marker, face) in slots.items():
        seeds, later = at[name].shape
        x = np.arange(2, later + 2) + ((np.arange(seeds) + 0.5) / seeds - 0.5)[:, None] * 0.8
        size = max(1.0, min(3.0, 40 / (later * seeds) ** 0.5))
        ax.plot(x.ravel(), at[name].ravel(), marker, ms=size, mec="black", mfc=face, mew=0.4, ls="", clip_on=False)
    ax.set_yscale("symlog", linthresh=FINEST, linscale=0.5)
    ax.set(ylim=(-FINEST / 3, 1), yticks=(0, 1e-4, 1e-3, 1e-2, 0.1, 1))
    ax.set_yticklabels(["0", "0.01", "0.1", "1", "10", "100"])
    ax.minorticks_off()
    ax.grid(axis="y")
    if ax.yaxis.get_tick_params()["labelleft"]:
        ax.set_ylabel("at step (%)")


def _heading(layer: str, grid: Grid, more: str = "") -> str:
    return short(f"layer {layer}" if layer.isdecimal() else layer, int(19 * grid.wide) - len(more)) + more


def _whole(axis: Axis, most: int) -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10], integer=True))
