"""Films as figures: what a policy did right after a task was learnt, and what it does at the end; a strip and a GIF."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import UsageError
from ..base.files import write_atomic
from .drawing import GREY, PALETTE, new_axes, new_figure, save, style, title
from .films import Take
from .views import about, plural, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .record import RunRecord

FIRST = 3  # tasks that are shown if none are named
SHOTS = 8  # in a strip
SIDE, LEFT, GAP = 0.7, 1.25, 0.05  # of a picture in a strip, words beside it, between two; in inches
SCREEN, DPI = 1.9, 100  # the same side in a GIF, and its dots an inch
RING = 0.075  # radius, in sides of a picture
PACE, PAUSE = 100, 2500  # milliseconds of a step, and of the last
RIGHT, WRONG = PALETTE[2], PALETTE[1]


def plot_films(
    record: RunRecord,
    seed: int,
    takes: Sequence[Take],
    tasks: Sequence[int] | None = None,
    folder: str | Path | None = None,
) -> Figure:
    """Eight pictures of each film of some tasks: a row right after the task was learnt, and one after the last task.

    Pictures in a column are of the same step, evenly over the shorter of the two films, but those in the last column,
    which are of each film's end. Writes `films.png` and `films.svg` into a folder.

    Args:
        seed: that the films are of, with the takes as `load_films` gives them.
        tasks: positions; None for the first three of which there are films.

    Raises:
        UsageError: there is no film of a task.
    """
    head, pitch = 0.2, SIDE + 0.18  # over the rows of a task, and from row to row
    shown = _of_each(takes, tasks)
    high = 0.45 + sum(head + pitch * len(films) + 0.06 for films in shown)
    with style():
        figure = new_figure(LEFT + SHOTS * (SIDE + GAP), high)
        title(figure, about(record, f"seed {seed}"), "", f"{_legend(shown)}; numbers: steps")
        top = 0.45
        for films in shown:
            _write(figure, 0, top, _name(record, films[0].task, 90), weight="bold", size=8)
            top += head
            shortest = min(len(take.film) for take in films)
            for take in films:
                _write(figure, 0, top + 0.12, _when(record, take), size=7.5)
                _write(figure, 0, top + 0.29, _outcome(take), size=7.5, weight="bold", color=_colour(take))
                pictures = _pictures(take, SIDE * 200)
                for k, step in enumerate(chosen(len(pictures), shortest)):
                    panel = _Panel(new_axes(figure, LEFT + k * (SIDE + GAP), top, SIDE, SIDE), take, pictures)
                    panel.show(step)
                    panel.ax.set_xlabel(str(step), size=6.5, color=GREY, labelpad=1.5)
                top += pitch
            top += 0.06
        save(figure, folder, "films")
    return figure


def animate_films(
    record: RunRecord, seed: int, takes: Sequence[Take], tasks: Sequence[int] | None, folder: str | Path
) -> Path:
    """The same films running side by side, those of one task in a column: `films.gif` in a folder."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    shown, top, pitch = _of_each(takes, tasks), 0.75, SCREEN + 0.25
    with style():
        figure = new_figure(LEFT + len(shown) * (SCREEN + 0.1), top + max(map(len, shown)) * pitch)
        figure.set_dpi(DPI)
        title(figure, about(record, f"seed {seed}"), "", _legend(shown))
        panels = []
        for row, take in enumerate(max(shown, key=len)):
            _write(figure, 0, top + row * pitch + SCREEN / 2, _when(record, take), size=8)
        for column, films in enumerate(shown):
            left = LEFT + column * (SCREEN + 0.1)
            name = "\n".join(wrap(_name(record, films[0].task, 52), 27))
            _write(figure, left, top - 0.04, name, weight="bold", size=8, va="bottom")
            for row, take in enumerate(films):
                ax = new_axes(figure, left, top + row * pitch, SCREEN, SCREEN)
                panels.append(_Panel(ax, take, _pictures(take, SCREEN * DPI), told=True))
        canvas, images = FigureCanvasAgg(figure), []
        for step in range(max(len(panel.pictures) for panel in panels)):
            for panel in panels:
                panel.show(min(step, len(panel.pictures) - 1))
            canvas.draw()
            inside = np.asarray(canvas.buffer_rgba())[..., :3]
            images.append(Image.fromarray(np.pad(inside, ((10, 0), (10, 10), (0, 0)), constant_values=255)))
    palette = images[-1].quantize()
    first, *others = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    colours, page = palette.getpalette(), first.getpixel((0, 0))
    colours[3 * page : 3 * page + 3] = [255, 255, 255]  # again: it was mixed with what is nearly white
    for image in (first, *others):
        image.putpalette(colours)
    buffer, pace = io.BytesIO(), [PACE] * len(others) + [PAUSE]
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=pace, loop=0, optimize=False)
    path = Path(folder) / "films.gif"
    write_atomic(path, buffer.getvalue())
    return path


class _Panel:
    """Axes in which a film is shown, as `pictures` [T, S, S, 3]; framed by its outcome when it is over."""

    def __init__(self, ax: Axes, take: Take, pictures: np.ndarray, told: bool = False) -> None:
        from matplotlib.patches import Circle

        self.ax, self.take, self.pictures = ax, take, pictures
        self.subjects = take.film.subjects().numpy()
        self.image = ax.imshow(pictures[0], extent=(0, 1, 1, 0))
        self.rings = [Circle((0, 0), RING, fill=False, ec="white", lw=0.9, ls=(0, (3, 1.5))) for _ in self.subjects[0]]
        for ring in self.rings:
            ax.add_patch(ring)
        self.told = ax.set_title("", size=8, weight="bold", color=_colour(take), pad=-1, y=-0.11) if told else None
        ax.set(xticks=(), yticks=(), xlim=(0, 1), ylim=(1, 0))
        ax.spines[:].set(visible=True, linewidth=2.2, color=_colour(take))

    def show(self, step: int) -> None:
        over = step == len(self.pictures) - 1
        self.image.set_data(self.pictures[step])
        for ring, place in zip(self.rings, self.subjects[step], strict=True):
            ring.center = place
        self.ax.spines[:].set_visible(over)
        if self.told is not None:
            self.told.set_text(_outcome(self.take) if over else "")


def chosen(length: int, shortest: int) -> list[int]:
    """Steps of a film of so many pictures, beside one that is the shorter: the same ones of both, and its own end."""
    steps = np.linspace(0, shortest - 1, SHOTS).round().astype(int).tolist()
    return sorted({*steps[:-1], length - 1})


def _of_each(takes: Sequence[Take], tasks: Sequence[int] | None) -> list[list[Take]]:
    """Films of each task, the earlier first."""
    filmed = sorted({take.task for take in takes})
    tasks = filmed[:FIRST] if tasks is None else tasks
    for task in tasks:
        if task not in filmed:
            known = ", ".join(str(t + 1) for t in filmed)
            raise UsageError(f"there is no film of task {task + 1}; there are some of {known}.")
    return [sorted((take for take in takes if take.task == task), key=lambda take: take.row) for task in tasks]


def _legend(shown: Iterable[Sequence[Take]]) -> str:
    ringed = any(take.film.subjects().numel() for films in shown for take in films)
    return "the first attempt at a task" + "; ring: what its goal is about" * ringed


def _pictures(take: Take, size: float) -> np.ndarray:
    return take.film.frames(round(size)).permute(0, 2, 3, 1).numpy()


def _name(record: RunRecord, task: int, limit: int) -> str:
    return f"{task + 1}. {short(record.stream.tasks[task], limit)}"


def _when(record: RunRecord, take: Take) -> str:
    if take.row == take.task + 1:
        return "just learnt"
    return f"after all {plural(len(record.stream.tasks), 'task')}"


def _outcome(take: Take) -> str:
    return f"{'success' if take.success else 'failure'}, {plural(len(take.film) - 1, 'step')}"


def _colour(take: Take) -> str:
    return RIGHT if take.success else WRONG


def _write(figure: Figure, left: float, top: float, text: str, **look: Any) -> None:
    """Text at a place in inches from the figure's upper left corner."""
    wide, high = figure.get_size_inches()
    figure.text(left / wide, 1 - top / high, text, **{"va": "top"} | look)
