"""Figures of records, fit to print: transfer matrices, curves, comparisons, scores.

Every function returns a `matplotlib.figure.Figure` that no global registry knows of, and writes it as PNG and SVG
where a folder is given; the same record gives the same bytes under the same matplotlib. Accuracies in matrices and
curves stand on one fixed scale, 0 to 100 %, so that two figures can be held side by side. Colours survive colour
blindness and grey printers (cividis; blue against orange for differences; Okabe and Ito's palette, with markers,
for strategies). Lengths in the code are inches, and adapt to the number of tasks.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import MismatchError, UsageError
from ..base.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    from .record import RunRecord

GREY, PALE = "#555555", "#d5d5d5"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
MARKERS = "osD^vP"  # six against seven colours: 42 pairs before one repeats
SCORES = {"acc": ("ACC", "%", ""), "bwt": ("BWT", "pp", "+"), "fwt_lopez_paz": ("FWT", "pp", "+")}
STYLE = {
    "font.size": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.4,
    "errorbar.capsize": 2,
    "text.parse_math": False,  # a name may hold dollar signs
    "svg.fonttype": "none",  # text stays text: searchable, and set in whatever script a name is written in
    "svg.hashsalt": "carryover",
}


def plot_record(record: RunRecord, folder: str | Path | None = None) -> Figure:
    """Transfer matrix, mean over complete seeds, above the final accuracy of every task with its 95 % interval.

    Without a complete seed, what the unfinished ones measured is shown, and the title says so. Writes
    `transfer-matrix.png` and `transfer-matrix.svg` into a folder.
    """
    view, tasks = _View.of(record), len(record.stream.tasks)
    names, rows = _names(record, 28), _rows(record)
    cell = min(0.5, max(0.15, 7 / tasks))
    left, top, wide, high = _width(rows), 0.65, tasks * cell, (tasks + 1) * cell
    half = view.half[-1]
    known = bool(np.isfinite(half).any())
    numbered = known and cell >= 0.28
    below = top + high + (0.28 if numbered else 0.12)
    with _style():
        figure = _figure(max(6.5, left + wide + 0.8), below + 0.85 + _width(names))
        _title(
            figure,
            _about(record, view),
            _scores(_summary(record)),
            _legend(view) + "; ±: 95 % interval" * known,
        )
        ax = _axes(figure, left, top, wide, high)
        _heat(ax, view.mean, cell)
        _label(ax, cell, rows=rows)
        _bar(figure, (left + wide + 0.12, top, high), "cividis", (0, 100), "accuracy (%)")

        strip = _axes(figure, left, below, wide, 0.75)
        strip.errorbar(range(tasks), view.mean[-1], half, fmt="o", color="black", ms=3.5, lw=1)
        strip.set(xlim=(-0.5, tasks - 0.5), ylim=(-4, 104), yticks=(0, 50, 100), ylabel="final (%)")
        strip.grid(axis="y")
        _label(strip, cell, columns=names)
        for j in range(tasks if numbered else 0):
            strip.text(j, 109, f"±{half[j]:.1f}", ha="center", va="bottom", size=6.5, color=GREY)
        _save(figure, folder, "transfer-matrix")
    return figure


def plot_curves(record: RunRecord, folder: str | Path | None = None) -> Figure:
    """Accuracy of each task after each stage: all together with their mean over seen tasks, then each by itself.

    Bands are 95 % intervals over complete seeds; dotted is before a task is learnt. Writes `curves.png` and
    `curves.svg` into a folder.
    """
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    view, tasks = _View.of(record), len(record.stream.tasks)
    seen = _View(np.stack([view.stack[:, i, :i].mean(1) for i in range(1, tasks + 1)], 1))  # [S, T]
    stages, across = np.arange(tasks + 1), min(tasks, 5 if tasks <= 20 else 10)
    left, top, wide, each = 0.55, 0.45, 7.0, 7.0 / max(across, 3)
    names, colours = _names(record, int(each * 19)), colormaps["viridis"](np.linspace(0, 0.88, tasks))
    legend = "thick: mean over the tasks seen so far; dotted: not learnt yet"
    with _style():
        figure = _figure(left + wide, top + 3.3 + (math.ceil(tasks / across) + 0.2) * (tasks > 1))
        _title(figure, _about(record, view), "", legend + "; bands: 95 % interval" * (len(view.stack) > 2))
        main = _axes(figure, left, top, wide - 0.1, 2.7)
        panels = [
            _axes(figure, left + j % across * each, top + 3.45 + j // across, each - 0.1, 0.7)
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
        _save(figure, folder, "curves")
    return figure


def plot_comparison(records: Sequence[RunRecord], folder: str | Path | None = None) -> Figure:
    """Transfer matrices of several records on one stream; of two also the difference, first minus second.

    Cells of the difference whose paired 95 % interval over common seeds excludes 0 are outlined, uncorrected for
    the number of cells. Writes `comparison.png` and `comparison.svg` into a folder.

    Raises:
        MismatchError: the records are of different streams.
    """
    _same_stream(records, 2)
    views, titles, tasks = [_View.of(r) for r in records], _distinct(records), len(records[0].stream.tasks)
    names, rows = _names(records[0], 20), _rows(records[0])
    across, pair = min(len(records), 3), len(records) == 2
    cell = min(0.5, max(0.1, 3.8 / tasks))
    left, top, wide, high = _width(rows), 0.85, tasks * cell, (tasks + 1) * cell
    right, down = max(wide + 0.2, 1.7), high + _width(names) + 0.5
    end = left + (across - 1) * right + wide  # where the last matrix ends and its colour bar begins
    legend = _legend(*views)
    with _style():
        figure = _figure(end + 0.8 + pair * (wide + 1.0), top + down * math.ceil(len(records) / across))
        for k, (record, view) in enumerate(zip(records, views, strict=True)):
            ax = _axes(figure, left + k % across * right, top + k // across * down, wide, high)
            _heat(ax, view.mean, cell)
            _label(ax, cell, rows=rows if k % across == 0 else [""] * len(rows), columns=names)
            _caption(ax, titles[k], _score(_summary(record), "acc"), view.note)
        _bar(figure, (end + 0.12, top, high), "cividis", (0, 100), "accuracy (%)")
        if pair:
            delta, common = _difference(records, views)
            largest = np.nanmax(np.abs(delta.mean), initial=0)
            limits = next((-x, x) for x in (1, 2, 5, 10, 20, 50, 100) if x >= largest)
            ax = _axes(figure, end + 1.0, top, wide, high)
            _heat(ax, delta.mean, cell, _diverging(), limits, np.abs(delta.mean) > delta.half, sign="+")
            _label(ax, cell, rows=[""] * len(rows), columns=names)
            paired = _plural(common, "common seed") if common else "unpaired: no common seed"
            _caption(ax, "difference", _short(f"{titles[0]} − {titles[1]}", 30), paired)
            _bar(figure, (end + 1.0 + wide + 0.12, top, high), _diverging(), limits, "percentage points")
            if np.isfinite(delta.half).any():
                legend += "; outlined difference: paired 95 % interval excludes 0 (uncorrected)"
        _title(figure, _stream(*records), "", legend)
        _save(figure, folder, "comparison")
    return figure


def plot_scores(records: Sequence[RunRecord], folder: str | Path | None = None) -> Figure:
    """ACC and BWT of records on one stream, best first; and ACC against training FLOPs if all counted them.

    Whiskers are 95 % intervals over seeds. Writes `scores.png` and `scores.svg` into a folder.

    Raises:
        MismatchError: the records are of different streams.
    """
    _same_stream(records, 1)
    rows = [(name, _summary(r), _flops(r)) for name, r in zip(_distinct(records), records, strict=True)]
    rows.sort(key=lambda row: -row[1]["acc"]["mean"] if "acc" in row[1] else math.inf)
    names = [name if summary else f"{name}: no complete seed" for name, summary, _ in rows]
    costs = [flops for _, _, flops in rows]
    counted = all(costs)
    left, top, wide, high = _width(names), 0.45, 2.4, max(1.6 if counted else 0.5, 0.26 * len(rows))
    with _style():
        figure = _figure(left + 2 * wide + 0.3 + counted * (wide + 0.6), top + high + 0.5)
        _title(figure, _stream(*records), "", "mean and 95 % interval over seeds")
        for k, (score, label) in enumerate((("acc", "ACC (%)"), ("bwt", "BWT (percentage points)"))):
            ax = _axes(figure, left + k * (wide + 0.15), top, wide, high)
            for i, (_, summary, _) in enumerate(rows):
                _dot(ax, summary.get(score), i, look=i)
            ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel=label)
            ax.set_yticks(range(len(rows)), names if k == 0 else [""] * len(rows))
            ax.tick_params(axis="y", length=0)
            ax.grid(axis="x")
        if any("bwt" in summary for _, summary, _ in rows):
            ax.axvline(0, color=GREY, lw=0.8, zorder=1)
        else:
            ax.set(xticks=[], xlabel="BWT is not defined")
        if counted:
            ax = _axes(figure, left + 2 * wide + 0.8, top, wide, high)
            for i, (_, summary, flops) in enumerate(rows):
                _dot(ax, summary.get("acc"), flops, look=i, upright=True)
            ax.set(xlabel="training FLOPs per seed", ylabel="ACC (%)")
            _log_axis(ax, min(costs), max(costs))
            ax.grid()
        _save(figure, folder, "scores")
    return figure


# -- numbers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _View:
    """Percentages [S, ...] with their mean and the half width of its 95 % interval, NaN where there is none."""

    stack: np.ndarray
    note: str = ""

    @classmethod
    def of(cls, record: RunRecord) -> _View:
        every = 100 * record.matrix.numpy()
        complete = [run.status == "complete" for run in record.runs]
        if any(complete):
            return cls(every[complete], _plural(sum(complete), "seed"))
        return cls(every, f"no complete seed, {len(every)} unfinished")

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


def _difference(records: Sequence[RunRecord], views: Sequence[_View]) -> tuple[_View, int]:
    """First minus second, seed by seed where they share complete ones, and how many they share."""
    places = [{run.seed: i for i, run in enumerate(record.complete)} for record in records]
    common = sorted(places[0].keys() & places[1].keys())
    if not common:
        return _View(views[0].mean[None] - views[1].mean[None]), 0
    first, second = (view.stack[[at[seed] for seed in common]] for view, at in zip(views, places, strict=True))
    return _View(first - second), len(common)


def _summary(record: RunRecord) -> dict[str, dict[str, Any]]:
    """The scores over complete seeds that are defined, in fractions: there is no BWT of one task."""
    from .statistics import summarise

    return {name: score for name, score in summarise(record, SCORES).items() if score["mean"] is not None}


def _flops(record: RunRecord) -> float:
    return sum(run.cost.train_flops for run in record.complete) / max(len(record.complete), 1)


def _same_stream(records: Sequence[RunRecord], least: int) -> None:
    if len(records) < least:
        raise UsageError(f"this figure needs at least {_plural(least, 'record')}; {len(records)} given.")
    first = records[0].stream
    for other in (record.stream for record in records[1:]):
        if (other.fingerprint, other.test_sizes) != (first.fingerprint, first.test_sizes):
            raise MismatchError(
                f"{first.name} ({first.fingerprint[:8]}) and {other.name} ({other.fingerprint[:8]}) are not the same "
                "stream; plot records of one stream together."
            )


# -- words ----------------------------------------------------------------------------------------------------


def _short(text: str, limit: int) -> str:
    """Printable and no longer than `limit`; the middle goes first, because names often differ at their end."""
    text = "".join(c if c.isprintable() else " " for c in text)
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail].rstrip()}…{text[-tail:].lstrip()}"


def _names(record: RunRecord, limit: int) -> list[str]:
    return [_short(name, limit) for name in record.stream.tasks]


def _rows(record: RunRecord) -> list[str]:
    return ["before training", *(f"after task {k} ({name})" for k, name in enumerate(_names(record, 20), 1))]


def _distinct(records: Sequence[RunRecord]) -> list[str]:
    """Strategy names, with the setting and the configuration in which those of one name differ."""
    facts = [{"setting": r.stream.setting, **r.strategy.config} for r in records]
    titles = []
    for record, fact in zip(records, facts, strict=True):
        name = record.strategy.name
        alike = [f for r, f in zip(records, facts, strict=True) if r.strategy.name == name]
        differ = [f"{key}={value}" for key, value in fact.items() if any(f.get(key) != value for f in alike)]
        titles.append(_short(f"{name} ({', '.join(differ)})" if differ else name, 40))
    return titles


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _stream(*records: RunRecord) -> str:
    settings = dict.fromkeys(record.stream.setting for record in records)
    return f"{_short(records[0].stream.name, 40)} · {_short(' / '.join(settings), 40)}"


def _about(record: RunRecord, view: _View) -> str:
    return f"{_short(record.strategy.name, 40)} on {_stream(record)} · {view.note}"


def _legend(*views: _View) -> str:
    holes = any(np.isnan(view.mean).any() for view in views)
    return "hatched: not learnt yet; outlined: just learnt" + "; dot: not measured" * holes


def _number(value: float, digits: int, sign: str = "") -> str:
    """Rounded, with a minus of full width; what rounds to nothing has no sign."""
    value = round(float(value), digits)
    return f"{value or 0.0:{sign if value else ''}.{digits}f}".replace("-", "−")


def _score(summary: dict[str, dict[str, Any]], name: str) -> str:
    """A score with unit and interval; nothing where it is not defined."""
    score, (label, unit, sign) = summary.get(name), SCORES[name]
    if score is None:
        return ""
    ends = ", ".join(_number(100 * end, 1, sign) for end in score["ci95"] or ())
    return f"{label} {_number(100 * score['mean'], 1, sign)} {unit}" + (f" [{ends}]" if ends else "")


def _scores(summary: dict[str, dict[str, Any]]) -> str:
    return " \u2003".join(filter(None, (_score(summary, name) for name in SCORES)))


# -- drawing --------------------------------------------------------------------------------------------------


@contextmanager
def _style() -> Iterator[None]:
    """Our own style whatever the user's is, and theirs again afterwards."""
    from matplotlib import style

    with style.context(["default", STYLE]):
        yield


def _figure(wide: float, high: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(wide, high))


def _axes(figure: Figure, left: float, top: float, wide: float, high: float) -> Axes:
    """Axes at a place in inches from the figure's upper left corner."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + high) / h, wide / w, high / h))


def _width(labels: Sequence[str]) -> float:
    """Room for the longest label at 7 points; generous, for what is left over is trimmed when saved."""
    return 0.25 + 0.056 * max(map(len, labels))


def _title(figure: Figure, title: str, scores: str, legend: str) -> None:
    high = figure.get_size_inches()[1]
    for text, top, look in (
        (title, 0.0, {"size": 10, "weight": "bold"}),
        (scores, 0.2, {"size": 8.5}),
        (legend, 0.38 if scores else 0.2, {"size": 7, "color": GREY}),
    ):
        figure.text(0, 1 - top / high, text, va="top", **look)


def _caption(ax: Axes, title: str, *lines: str) -> None:
    """A title in bold and more lines, left-aligned over a matrix."""
    for k, line in enumerate([*reversed(lines), title]):
        look = {"size": 7.5, "weight": "bold" if k == len(lines) else "normal"}
        ax.annotate(line, (0, 1), (0, 4 + 9.5 * k), xycoords="axes fraction", textcoords="offset points", **look)


def _heat(
    ax: Axes,
    values: np.ndarray,
    cell: float,
    cmap: str | Colormap = "cividis",
    limits: tuple[float, float] = (0, 100),
    outline: np.ndarray | None = None,
    sign: str = "",
) -> None:
    """Percentages [T+1, T] as coloured cells with their numbers; hatched where a task is not learnt yet.

    Numbers have one decimal up to 12 tasks and none beyond, and are dropped where cells are too small for them.

    Args:
        outline: [T+1, T] bool; by default the cells of the task just learnt.
    """
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.colors import Normalize

    rows, columns = values.shape
    colours = colormaps.get_cmap(cmap)(Normalize(*limits)(values))
    outline = np.eye(rows, columns, -1, dtype=bool) if outline is None else outline
    known = [(i, j) for i, j in np.argwhere(np.isfinite(values)).tolist()]
    texts = {(i, j): _number(values[i, j], int(columns <= 12), sign) for i, j in known}
    longest = max(map(len, ["100", *texts.values()]))
    size = min(8.0, 0.8 * cell * 72 / (0.64 * longest))  # a digit is 0.64 em wide
    written = size >= 5 and cell >= 0.17
    strokes, inks = [], []
    for i, j in known:
        ink = _ink(colours[i, j])
        if written:
            ax.text(j, i, texts[i, j], ha="center", va="center_baseline", size=size, color=ink)
        for d in (-0.72, -0.48, 0.48, 0.72) if written else (0,):  # corners alone, to keep clear of the number
            if j >= i:
                u, v = max(-0.5, d - 0.5), min(0.5, d + 0.5)
                strokes.append([(j + u, i + d - u), (j + v, i + d - v)])
                inks.append(ink)
    gap = min(1.0, 2.5 * cell)
    faces = [colours[at] for at in known] or "none"
    ax.add_collection(PolyCollection(_squares(known), facecolors=faces, edgecolors="white", linewidths=gap))
    ax.add_collection(LineCollection(strokes, colors=inks or "none", linewidths=gap / 2, alpha=0.45))
    frame = PolyCollection(_squares(np.argwhere(outline)), facecolors="none", edgecolors="black", clip_on=False)
    frame.set_linewidth(1.3 * gap)
    ax.add_collection(frame)
    ax.scatter(*np.argwhere(np.isnan(values)).T[::-1], s=2, color=GREY)
    ax.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    ax.spines[:].set_visible(False)


def _squares(cells: Sequence[tuple[int, int]] | np.ndarray) -> list[list[tuple[float, float]]]:
    return [[(j + x, i + y) for x, y in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))] for i, j in cells]


def _ink(colour: np.ndarray) -> str:
    """Black or white, whichever contrasts more with an RGBA colour (WCAG 2.2 luminance): at least 4.5 to 1."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return "black" if 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 else "white"


def _label(ax: Axes, cell: float, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> None:
    """Names along a matrix; turned where they do not fit, and every second or third where even that is tight."""
    size = 7
    step = math.ceil(size * 1.15 / (cell * 72))
    ax.tick_params(length=0, labelsize=size)
    ax.set_xticks(range(0, len(columns), step), columns[::step])
    if rows:
        ax.set_yticks(range(0, len(rows), step), rows[::step])
    if len(columns) > 1 and _width(columns) - 0.25 > 0.95 * cell:
        slanted = cell >= 0.3
        for tick in ax.get_xticklabels():
            tick.set(rotation=45 if slanted else 90, ha="right" if slanted else "center")
            tick.set_rotation_mode("anchor" if slanted else "default")


def _bar(
    figure: Figure,
    place: tuple[float, float, float],
    cmap: str | Colormap,
    limits: tuple[float, float],
    label: str,
) -> None:
    """A colour bar beside a matrix: left, top and the matrix's height."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    left, top, high = place
    ax = _axes(figure, left, top, 0.12, min(high, 3.0))
    bar = figure.colorbar(ScalarMappable(Normalize(*limits), cmap), cax=ax, label=label)
    bar.set_ticks(np.linspace(*limits, 5))
    bar.outline.set_visible(False)
    ax.tick_params(labelsize=7, length=2)


def _diverging() -> Colormap:
    """Orange below, blue above, near white at 0."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = ["#7f3b08", "#e08214", "#fdd9a8", "#f7f7f7", "#b5d4ea", "#4393c3", "#08306b"]
    return LinearSegmentedColormap.from_list("orange-blue", colours)


def _dot(ax: Axes, score: dict[str, Any] | None, at: float, look: int, upright: bool = False) -> None:
    """The mean of a score with its whisker, at `at` on the other axis; nothing where it is not defined."""
    if score is None:
        return
    mean = 100 * score["mean"]
    whisker = None if score["ci95"] is None else np.abs(100 * np.array(score["ci95"]) - mean)[:, None]
    style = {"fmt": MARKERS[look % len(MARKERS)], "color": PALETTE[look % len(PALETTE)], "ms": 4, "lw": 1.2}
    if upright:
        ax.errorbar(at, mean, yerr=whisker, **style)
    else:
        ax.errorbar(mean, at, xerr=whisker, **style)


def _log_axis(ax: Axes, low: float, high: float) -> None:
    """A log axis in words (10 G, 1 T), with more of them where the range is short."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.set_xlim(low / 1.6, high * 1.6)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 30 else (1,), numticks=8))
    ax.xaxis.set_major_formatter(EngFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())


def _save(figure: Figure, folder: str | Path | None, stem: str) -> None:
    """PNG at 200 dots an inch and SVG, without dates or versions, each whole or not at all."""
    if folder is None:
        return
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, dpi=200, bbox_inches="tight", metadata=metadata)
        write_atomic(Path(folder) / f"{stem}.{suffix}", buffer.getvalue())
