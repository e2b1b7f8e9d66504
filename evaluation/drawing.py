"""The pieces that figures are drawn of: sized canvases, heat maps, whiskers, and files of the same bytes each time."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

GREY, PALE = "#555555", "#d5d5d5"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
MARKERS = "osD^vP"  # six against seven colours: 42 pairs before one repeats
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


def number(value: float, digits: int, sign: str = "") -> str:
    """Rounded, with a minus of full width; what rounds to nothing has no sign."""
    value = round(float(value), digits)
    return f"{value or 0.0:{sign if value else ''}.{digits}f}".replace("-", "−")


@contextmanager
def style() -> Iterator[None]:
    """Our own style whatever the user's is, and theirs again afterwards."""
    from matplotlib import style

    with style.context(["default", STYLE]):
        yield


def new_figure(wide: float, high: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(wide, high))


def new_axes(figure: Figure, left: float, top: float, wide: float, high: float) -> Axes:
    """Axes at a place in inches from the figure's upper left corner."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + high) / h, wide / w, high / h))


@dataclass(frozen=True)
class Grid:
    """Small panels in rows of a page's width, in reading order; lengths in inches."""

    count: int
    left: float
    top: float
    pitch: float  # from row to row
    page: float = 7.0

    @property
    def across(self) -> int:
        return min(self.count, 3 if self.count <= 9 else 4 if self.count <= 16 else 5)

    @property
    def down(self) -> int:
        return math.ceil(self.count / self.across)

    @property
    def wide(self) -> float:
        return self.page / max(self.across, 2)

    def panel(self, figure: Figure, k: int, high: float, below: float = 0.0) -> Axes:
        """Axes of place `k`; numbers stand at the outer axes alone."""
        row, column = divmod(k, self.across)
        left, top = self.left + column * self.wide, self.top + row * self.pitch + below
        ax = new_axes(figure, left, top, self.wide - 0.15, high)
        ax.tick_params(labelsize=6, labelleft=column == 0, labelbottom=k + self.across >= self.count)
        return ax


def text_width(labels: Sequence[str]) -> float:
    """Room for the longest label at 7 points; generous, for what is left over is trimmed when saved."""
    return 0.25 + 0.056 * max(map(len, labels))


def title(figure: Figure, title: str, scores: str, legend: str) -> None:
    high = figure.get_size_inches()[1]
    for text, top, look in (
        (title, 0.0, {"size": 10, "weight": "bold"}),
        (scores, 0.2, {"size": 8.5}),
        (legend, 0.38 if scores else 0.2, {"size": 7, "color": GREY}),
    ):
        figure.text(0, 1 - top / high, text, va="top", **look)


def caption(ax: Axes, title: str, *lines: str) -> None:
    """A title in bold and more lines, left-aligned over a matrix."""
    for k, line in enumerate([*reversed(lines), title]):
        look = {"size": 7.5, "weight": "bold" if k == len(lines) else "normal"}
        ax.annotate(line, (0, 1), (0, 4 + 9.5 * k), xycoords="axes fraction", textcoords="offset points", **look)


def heat(
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
    texts = {(i, j): number(values[i, j], int(columns <= 12), sign) for i, j in known}
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


def bars(ax: Axes, low: np.ndarray, high: np.ndarray, colour: str, hatch: str = "") -> None:
    """Bars [T] from `low` to `high` at 1 to T; none where an end is NaN."""
    from matplotlib.collections import PolyCollection

    tall = [(x, a, b) for x, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True), 1) if b > a]
    corners = [[(x - 0.4, a), (x + 0.4, a), (x + 0.4, b), (x - 0.4, b)] for x, a, b in tall]
    ax.add_collection(PolyCollection(corners, facecolors=colour, edgecolors="white", linewidths=0, hatch=hatch))


def legend_row(
    figure: Figure, top: float, areas: dict[str, tuple[str, str]], points: dict[str, tuple[str, str]]
) -> None:
    """What coloured and hatched areas and what markers stand for, side by side."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [Patch(fc=colour, ec="white", hatch=hatch, label=name, lw=0) for name, (colour, hatch) in areas.items()]
    for name, (marker, face) in points.items():
        handles.append(Line2D([], [], ls="", marker=marker, ms=3, mec="black", mfc=face, mew=0.5, label=name))
    place = (0, 1 - top / figure.get_size_inches()[1])
    look = {"frameon": False, "fontsize": 7, "columnspacing": 1.2, "handletextpad": 0.4, "borderpad": 0}
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=place, ncols=math.ceil(len(handles) / 2), **look)


def _squares(cells: Sequence[tuple[int, int]] | np.ndarray) -> list[list[tuple[float, float]]]:
    return [[(j + x, i + y) for x, y in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))] for i, j in cells]


def _ink(colour: np.ndarray) -> str:
    """Black or white, whichever contrasts more with an RGBA colour (WCAG 2.2 luminance): at least 4.5 to 1."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return "black" if 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 else "white"


def label_axes(ax: Axes, cell: float, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> None:
    """Names along a matrix; turned where they do not fit, and every second or third where even that is tight."""
    size = 7
    step = math.ceil(size * 1.15 / (cell * 72))
    ax.tick_params(length=0, labelsize=size)
    ax.set_xticks(range(0, len(columns), step), columns[::step])
    if rows:
        ax.set_yticks(range(0, len(rows), step), rows[::step])
    if len(columns) > 1 and text_width(columns) - 0.25 > 0.95 * cell:
        slanted = cell >= 0.3
        for tick in ax.get_xticklabels():
            tick.set(rotation=45 if slanted else 90, ha="right" if slanted else "center")
            tick.set_rotation_mode("anchor" if slanted else "default")


def colour_bar(
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
    ax = new_axes(figure, left, top, 0.12, min(high, 3.0))
    bar = figure.colorbar(ScalarMappable(Normalize(*limits), cmap), cax=ax, label=label)
    bar.set_ticks(np.linspace(*limits, 5))
    bar.outline.set_visible(False)
    ax.tick_params(labelsize=7, length=2)


def diverging() -> Colormap:
    """Orange below, blue above, near white at 0."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = ["#7f3b08", "#e08214", "#fdd9a8", "#f7f7f7", "#b5d4ea", "#4393c3", "#08306b"]
    return LinearSegmentedColormap.from_list("orange-blue", colours)


def dot(ax: Axes, score: dict[str, Any] | None, at: float, look: int, upright: bool = False) -> None:
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


def log_axis(ax: Axes, low: float, high: float) -> None:
    """A log axis in words (10 G, 1 T), with more of them where the range is short."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.set_xlim(low / 1.6, high * 1.6)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 30 else (1,), numticks=8))
    ax.xaxis.set_major_formatter(EngFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())


def save(figure: Figure, folder: str | Path | None, stem: str) -> None:
    """PNG at 200 dots an inch and SVG, without dates or versions, each whole or not at all."""
    if folder is None:
        return
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, dpi=200, bbox_inches="tight", metadata=metadata)
        write_atomic(Path(folder) / f"{stem}.{suffix}", buffer.getvalue())
