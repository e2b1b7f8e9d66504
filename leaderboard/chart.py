"""Where things stand in the one drawing of a board: its main score against training compute, with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 920, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 18, 52  # margins
LETTER, LINE = 6.9, 15  # rough width of a letter and height of a line of the labels
PREFIXES = ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1.0, "FLOP"))


@dataclass(frozen=True)
class Point:
    """One entry: mean score in percent with its interval, and training FLOPs."""

    name: str
    href: str
    flops: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Mark:
    """A point in pixels; `label` is empty where there is no room for it."""

    point: Point
    x: float
    y: float
    top: float
    bottom: float
    front: bool
    label: str = ""
    label_x: float = 0
    label_y: float = 0
    anchor: str = "start"


@dataclass(frozen=True)
class Scatter:
    """What the template draws. Ticks are (pixel, text)."""

    marks: list[Mark]
    front: str  # points of a polyline, best score at or below each compute
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def scatter(points: Sequence[Point], better: str = "higher") -> Scatter | None:
    """Lay the points out on a logarithmic axis of compute; None without points. No compute stands at the far left."""
    if not points:
        return None
    logs = [math.log10(p.flops) for p in points if p.flops > 0] or [0.0]
    # a fifth of a decade of air on each side, so that no mark sits on the frame
    low, high = min(logs) - 0.2, max(logs) + 0.35
    bottom = min(90, 10 * math.floor(min(p.low for p in points) / 10))
    top = max(10 * math.ceil(max(p.high for p in points) / 10), bottom + 10)
    bottom, top = max(0, bottom), min(100, top)

    def x(flops: float) -> float:
        share = (math.log10(flops) - low) / (high - low) if flops > 0 else 0.0
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(percent: float) -> float:
        share = (min(max(percent, bottom), top) - bottom) / (top - bottom)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    best = front(points, better)
    marks = [Mark(p, x(p.flops), y(p.mean), y(p.high), y(p.low), p in best) for p in points]
    steps = sorted((m for m in marks if m.front), key=lambda m: (m.x, m.y))
    path = [(steps[0].x, steps[0].y)]
    for before, after in zip(steps, steps[1:], strict=False):
        path += [(after.x, before.y), (after.x, after.y)]
    path.append((WIDTH - RIGHT, steps[-1].y))
    step = 10 if top - bottom > 30 else 5 if top - bottom > 10 else 2
    return Scatter(
        marks=_labelled(marks, path),
        front=" ".join(f"{x},{y}" for x, y in path),
        x_ticks=[(x(value), text) for value, text in _decades(low, high)],
        y_ticks=[(y(value), str(value)) for value in range(bottom, top + 1, step)],
    )


def front(points: Sequence[Point], better: str = "higher") -> list[Point]:
    """Points that no other beats: better at no more compute, or as good at less."""
    sign = 1 if better == "higher" else -1

    def beats(q: Point, p: Point) -> bool:
        return sign * q.mean >= sign * p.mean and q.flops <= p.flops and (q.mean, q.flops) != (p.mean, p.flops)

    return [p for p in points if not any(beats(q, p) for q in points)]


def _decades(low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers between two powers of ten: 1, 2, 5 where the axis is short, else powers of ten."""
    digits = (1, 2, 5) if high - low < 2.2 else (1,)
    span = range(math.floor(low), math.ceil(high) + 1)
    values = [digit * 10.0**power for power in span for digit in digits]
    return [(v, flops_text(v)) for v in values if low <= math.log10(v) <= high and v >= 1]


def flops_text(value: float) -> str:
    """Such as `20 GFLOP`."""
    scale, unit = next(((s, u) for s, u in PREFIXES if value >= s), PREFIXES[-1])
    return f"{value / scale:,.3g} {unit}"


def _labelled(marks: list[Mark], path: list[tuple[float, float]]) -> list[Mark]:
    """Names beside their points, front first, wherever one of five places is free; else the table has the name."""
    taken = [(m.x - 7, min(m.y - 7, m.top), m.x + 7, max(m.y + 7, m.bottom)) for m in marks]
    for (ax, ay), (bx, by) in zip(path, path[1:], strict=False):
        taken.append((min(ax, bx) - 1, min(ay, by) - 1, max(ax, bx) + 1, max(ay, by) + 1))
    placed: dict[int, Mark] = {}
    for i in sorted(range(len(marks)), key=lambda i: (not marks[i].front, -marks[i].point.mean, i)):
        m = marks[i]
        name = m.point.name if len(m.point.name) <= 26 else m.point.name[:25] + "…"
        wide = len(name) * LETTER
        for label_x, label_y, anchor in (
            (m.x + 11, m.y + 4, "start"),
            (m.x - 11, m.y + 4, "end"),
            (m.x + 9, m.y + 19, "start"),
            (m.x + 9, m.y - 10, "start"),
            (m.x - 9, m.y - 10, "end"),
        ):
            start = label_x if anchor == "start" else label_x - wide
            box = (start, label_y - LINE + 3, start + wide, label_y + 3)
            inside = box[0] > LEFT and box[2] < WIDTH and box[1] > TOP - 10 and box[3] < HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                placed[i] = Mark(
                    m.point,
                    m.x,
                    m.y,
                    m.top,
                    m.bottom,
                    m.front,
                    name,
                    round(label_x, 1),
                    round(label_y, 1),
                    anchor,
                )
                break
    return [placed.get(i, mark) for i, mark in enumerate(marks)]


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
