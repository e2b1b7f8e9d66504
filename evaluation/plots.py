"""Figures of records, fit to print: transfer matrices, curves, comparisons, scores.

Every function returns a `matplotlib.figure.Figure` that no global registry knows of, and writes it as PNG and SVG
where a folder is given; the same record gives the same bytes under the same matplotlib. Accuracies in matrices and
curves stand on one fixed scale, 0 to 100 %, so that two figures can be held side by side. Colours survive colour
blindness and grey printers (cividis; blue against orange for differences; Okabe and Ito's palette, with markers,
for strategies). Lengths in the code are inches, and adapt to the number of tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import MismatchError, UsageError
from .drawing import (
    GREY,
    caption,
    colour_bar,
    diverging,
    dot,
    heat,
    label_axes,
    log_axis,
    new_axes,
    new_figure,
    number,
    save,
    style,
    text_width,
    title,
)
from .views import View, about, arrived, plural, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .record import RunRecord

SCORES = {"acc": ("ACC", "%", ""), "bwt": ("BWT", "pp", "+"), "fwt_lopez_paz": ("FWT", "pp", "+")}


def plot_record(record: RunRecord, folder: str | Path | None = None) -> Figure:
    """Transfer matrix, mean over complete seeds, above the final accuracy of every task with its 95 % interval.

    Without a complete seed, what the unfinished ones measured is shown, and the title says so. Writes
    `transfer-matrix.png` and `transfer-matrix.svg` into a folder.
    """
    view, tasks = View.of(record), len(record.stream.tasks)
    names, rows = _names(record, 28), _rows(record)
    cell = min(0.5, max(0.15, 7 / tasks))
    left, top, wide, high = text_width(rows), 0.65, tasks * cell, (tasks + 1) * cell
    half = view.half[-1]
    known = bool(np.isfinite(half).any())
    numbered = known and cell >= 0.28
    below = top + high + (0.28 if numbered else 0.12)
    with style():
        figure = new_figure(max(6.5, left + wide + 0.8), below + 0.85 + text_width(names))
        title(
            figure,
            about(record, view.note),
            _scores(_summary(record)),
            _legend(view) + "; ±: 95 % interval" * known,
        )
        ax = new_axes(figure, left, top, wide, high)
        heat(ax, view.mean, cell)
        label_axes(ax, cell, rows=rows)
        colour_bar(figure, (left + wide + 0.12, top, high), "cividis", (0, 100), "accuracy (%)")

        strip = new_axes(figure, left, below, wide, 0.75)
        strip.errorbar(range(tasks), view.mean[-1], half, fmt="o", color="black", ms=3.5, lw=1)
        strip.set(xlim=(-0.5, tasks - 0.5), ylim=(-4, 104), yticks=(0, 50, 100), ylabel="final (%)")
        strip.grid(axis="y")
        label_axes(strip, cell, columns=names)
        for j in range(tasks if numbered else 0):
            strip.text(j, 109, f"±{half[j]:.1f}", ha="center", va="bottom", size=6.5, color=GREY)
        save(figure, folder, "transfer-matrix")
    return figure


def plot_curves(record: RunRecord, folder: str | Path | None = None) -> Figure:
    """Accuracy of each task after each stage: all together with their mean over seen tasks, then each by itself.

    Bands are 95 % intervals over complete seeds; dotted is before a task is learnt. Writes `curves.png` and
    `curves.svg` into a folder.
    """
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    view, tasks = View.of(record), len(record.stream.tasks)
    seen = View(np.stack([view.stack[:, i, :i].mean(1) for i in range(1, tasks + 1)], 1))  # [S, T]
    stages, across = np.arange(tasks + 1), min(tasks, 5 if tasks <= 20 else 10)
    left, top, wide, each = 0.55, 0.45, 7.0, 7.0 / max(across, 3)
    names, colours = _names(record, int(each * 19)), colormaps["viridis"](np.linspace(0, 0.88, tasks))
    legend = "thick: mean over the tasks seen so far; dotted: not learnt yet"
    with style():
        figure = new_figure(left + wide, top + 3.3 + (math.ceil(tasks / across) + 0.2) * (tasks > 1))
        title(figure, about(record, view.note), "", legend + "; bands: 95 % interval" * (len(view.stack) > 2))
        main = new_axes(figure, left, top, wide - 0.1, 2.7)
        panels = [
            new_axes(figure, left + j % across * each, top + 3.45 + j // across, each - 0.1, 0.7)
            for j in range(tasks if tasks > 1 else 0)
        ]
        for j, colour in enumerate(colours):
            mean, half = view.mean[:, j], view.half[:, j]
            look = {
                "color": colour,
                "lw": 1.1,
                "marker": ".",
                "ms": 3,
                "markevery": 1 if tasks <= 20 else [0],
            }
            for ax in [main, *panels[j : j + 1]]:
                ax.plot(stages[: j + 2], mean[: j + 2], color=colour, lw=0.8, ls=":")
                ax.plot(stages[j + 1 :], mean[j + 1 :], **look)
            ax.fill_between(stages, mean - half, mean + half, color=colour, alpha=0.25, lw=0)
        for j, ax in enumerate(panels):
            ax.set_title(names[j], size=6, pad=2, loc="left")
            ax.tick_params(labelsize=6, labelleft=j % across == 0, labelbottom=j + across >= tasks)
        low, high = seen.mean - seen.half, seen.mean + seen.half
        main.fill_between(stages[1:], low, high, color="black", alpha=0.2, lw=0)
        main.plot(stages[1:], seen.mean, color="black", lw=2.2, marker="o", ms=4 if tasks <= 20 else 0)
        main.set(ylabel="accuracy (%)", xlabel="tasks learnt (0: before training)")
        for ax in [main, *panels]:
            ax.set(xlim=(-0.03 * tasks, 1.03 * tasks), ylim=(-3, 103), yticks=(0, 50, 100))
            ax.xaxis.set_major_locator(MaxNLocator(10 if ax is main else 4, steps=[1, 2, 5, 10], integer=True))
            ax.grid()
        save(figure, folder, "curves")
    return figure


def plot_comparison(records: Sequence[RunRecord], folder: str | Path | None = None) -> Figure:
    """Transfer matrices of several records on one stream; of two also the difference, first minus second.

    Cells of the difference whose paired 95 % interval over common seeds excludes 0 are outlined, uncorrected for
    the number of cells. Writes `comparison.png` and `comparison.svg` into a folder.

    Raises:
        MismatchError: the records are of different streams.
    """
    same_stream(records, 2)
    views, titles, tasks = [View.of(r) for r in records], distinct(records), len(records[0].stream.tasks)
    names, rows = _names(records[0], 20), _rows(records[0])
    across, pair = min(len(records), 3), len(records) == 2
    cell = min(0.5, max(0.1, 3.8 / tasks))
    left, top, wide, high = text_width(rows), 0.85, tasks * cell, (tasks + 1) * cell
    right, down = max(wide + 0.2, 1.7), high + text_width(names) + 0.5
    end = left + (across - 1) * right + wide  # where the last matrix ends and its colour bar begins
    legend = _legend(*views)
    with style():
        figure = new_figure(end + 0.8 + pair * (wide + 1.0), top + down * math.ceil(len(records) / across))
        for k, (record, view) in enumerate(zip(records, views, strict=True)):
            ax = new_axes(figure, left + k % across * right, top + k // across * down, wide, high)
            heat(ax, view.mean, cell)
            label_axes(ax, cell, rows=rows if k % across == 0 else [""] * len(rows), columns=names)
            caption(ax, titles[k], _score(_summary(record), "acc"), view.note)
        colour_bar(figure, (end + 0.12, top, high), "cividis", (0, 100), "accuracy (%)")
        if pair:
            delta, common = _difference(records, views)
            largest = np.nanmax(np.abs(delta.mean), initial=0)
            limits = next((-x, x) for x in (1, 2, 5, 10, 20, 50, 100) if x >= largest)
            ax = new_axes(figure, end + 1.0, top, wide, high)
            heat(ax, delta.mean, cell, diverging(), limits, np.abs(delta.mean) > delta.half, sign="+")
            label_axes(ax, cell, rows=[""] * len(rows), columns=names)
            paired = plural(common, "common seed") if common else "unpaired: no common seed"
            caption(ax, "difference", short(f"{titles[0]} − {titles[1]}", 30), paired)
            colour_bar(figure, (end + 1.0 + wide + 0.12, top, high), diverging(), limits, "percentage points")
            if np.isfinite(delta.half).any():
                legend += "; outlined difference: paired 95 % interval excludes 0 (uncorrected)"
        title(figure, arrived(*records), "", legend)
        save(figure, folder, "comparison")
    return figure


def plot_scores(records: Sequence[RunRecord], folder: str | Path | None = None) -> Figure:
    """ACC and BWT of records on one stream, best first; and ACC against training FLOPs if all counted them.

    Whiskers are 95 % intervals over seeds. Writes `scores.png` and `scores.svg` into a folder.

    Raises:
        MismatchError: the records are of different streams.
    """
    same_stream(records, 1)
    rows = [(name, _summary(r), _flops(r)) for name, r in zip(distinct(records), records, strict=True)]
    rows.sort(key=lambda row: -row[1]["acc"]["mean"] if "acc" in row[1] else math.inf)
    names = [name if summary else f"{name}: no complete seed" for name, summary, _ in rows]
    costs = [flops for _, _, flops in rows]
    counted = all(costs)
    left, top, wide, high = text_width(names), 0.45, 2.4, max(1.6 if counted else 0.5, 0.26 * len(rows))
    with style():
        figure = new_figure(left + 2 * wide + 0.3 + counted * (wide + 0.6), top + high + 0.5)
        title(figure, arrived(*records), "", "mean and 95 % interval over seeds")
        for k, (score, label) in enumerate((("acc", "ACC (%)"), ("bwt", "BWT (percentage points)"))):
            ax = new_axes(figure, left + k * (wide + 0.15), top, wide, high)
            for i, (_, summary, _) in enumerate(rows):
                dot(ax, summary.get(score), i, look=i)
            ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel=label)
            ax.set_yticks(range(len(rows)), names if k == 0 else [""] * len(rows))
            ax.tick_params(axis="y", length=0)
            ax.grid(axis="x")
        if any("bwt" in summary for _, summary, _ in rows):
            ax.axvline(0, color=GREY, lw=0.8, zorder=1)
        else:
            ax.set(xticks=[], xlabel="BWT is not defined")
        if counted:
            ax = new_axes(figure, left + 2 * wide + 0.8, top, wide, high)
            for i, (_, summary, flops) in enumerate(rows):
                dot(ax, summary.get("acc"), flops, look=i, upright=True)
            ax.set(xlabel="training FLOPs per seed", ylabel="ACC (%)")
            log_axis(ax, min(costs), max(costs))
            ax.grid()
        save(figure, folder, "scores")
    return figure


# -- numbers --------------------------------------------------------------------------------------------------


def _difference(records: Sequence[RunRecord], views: Sequence[View]) -> tuple[View, int]:
    """First minus second, seed by seed where they share complete ones, and how many they share."""
    places = [{run.seed: i for i, run in enumerate(record.complete)} for record in records]
    common = sorted(places[0].keys() & places[1].keys())
    if not common:
        return View(views[0].mean[None] - views[1].mean[None]), 0
    first, second = (view.stack[[at[seed] for seed in common]] for view, at in zip(views, places, strict=True))
    return View(first - second), len(common)


def _summary(record: RunRecord) -> dict[str, dict[str, Any]]:
    """The scores over complete seeds that are defined, in fractions: there is no BWT of one task."""
    from .statistics import summarise

    return {name: score for name, score in summarise(record, SCORES).items() if score["mean"] is not None}


def _flops(record: RunRecord) -> float:
    return sum(run.cost.train_flops for run in record.complete) / max(len(record.complete), 1)


def same_stream(records: Sequence[RunRecord], least: int) -> None:
    """Refuse fewer records than `least`, and such of different streams."""
    if len(records) < least:
        raise UsageError(f"this figure needs at least {plural(least, 'record')}; {len(records)} given.")
    first = records[0].stream
    for other in (record.stream for record in records[1:]):
        if (other.fingerprint, other.test_sizes) != (first.fingerprint, first.test_sizes):
            raise MismatchError(
                f"{first.name} ({first.fingerprint[:8]}) and {other.name} ({other.fingerprint[:8]}) are not the same "
                "stream; plot records of one stream together."
            )


# -- words ----------------------------------------------------------------------------------------------------


def _names(record: RunRecord, limit: int) -> list[str]:
    return [short(name, limit) for name in record.stream.tasks]


def _rows(record: RunRecord) -> list[str]:
    return ["before training", *(f"after task {k} ({name})" for k, name in enumerate(_names(record, 20), 1))]


def distinct(records: Sequence[RunRecord], limit: int = 40) -> list[str]:
    """Strategy names, with the setting and the configuration in which those of one name differ."""
    facts = [{"setting": r.stream.setting, **r.strategy.config} for r in records]
    titles = []
    for record, fact in zip(records, facts, strict=True):
        name = record.strategy.name
        alike = [f for r, f in zip(records, facts, strict=True) if r.strategy.name == name]
        differ = [f"{key}={value}" for key, value in fact.items() if any(f.get(key) != value for f in alike)]
        titles.append(short(f"{name} ({', '.join(differ)})" if differ else name, limit))
    return titles


def _legend(*views: View) -> str:
    holes = any(np.isnan(view.mean).any() for view in views)
    return "hatched: not learnt yet; outlined: just learnt" + "; dot: not measured" * holes


def _score(summary: dict[str, dict[str, Any]], name: str) -> str:
    """A score with unit and interval; nothing where it is not defined."""
    score, (label, unit, sign) = summary.get(name), SCORES[name]
    if score is None:
        return ""
    ends = ", ".join(number(100 * end, 1, sign) for end in score["ci95"] or ())
    return f"{label} {number(100 * score['mean'], 1, sign)} {unit}" + (f" [{ends}]" if ends else "")


def _scores(summary: dict[str, dict[str, Any]]) -> str:
    return " \u2003".join(filter(None, (_score(summary, name) for name in SCORES)))
