"""Pictures [B, 3, 24, 24] in [0, 1] of what a few words can say: things in colours, patterns, dots, flowers, land.

A thing is inked through its mask; everything else is a function of places. Batched float64 arithmetic, to be rounded to
bytes, as in `drawings`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .drawings import SIZE, Draw, placed
from .textures import TEXTURES

COLOURS = {
    "red": (0.90, 0.12, 0.12),
    "orange": (0.98, 0.55, 0.10),
    "yellow": (0.95, 0.92, 0.20),
    "green": (0.15, 0.70, 0.20),
    "cyan": (0.20, 0.85, 0.85),
    "blue": (0.15, 0.30, 0.95),
    "purple": (0.60, 0.20, 0.80),
    "pink": (0.98, 0.60, 0.78),
}
PATTERNS = {
    "striped": "slope",
    "checked": "checks",
    "dotted": "dots",
    "ringed": "rings",
    "bricked": "bricks",
    "grainy": "grain",
}  # what captions call the textures


def places(B: int, draw: Draw | None = None, turn: float = 0.0) -> tuple[Tensor, Tensor]:
    """Rows and columns [B, 1, 24, 24] in [-1, 1], turned by up to `turn` radians where a draw is given."""
    line = (torch.arange(SIZE, dtype=torch.float64) * 2 - (SIZE - 1)) / SIZE
    y, x = (p.expand(B, 1, SIZE, SIZE) for p in torch.meshgrid(line, line, indexing="ij"))
    if draw is None:
        return y, x
    angle = draw.one(-turn, turn, B)
    c, s = torch.cos(angle), torch.sin(angle)
    return c * y - s * x, s * y + c * x


def edge(distance: Tensor) -> Tensor:
    """Coverage of a pixel by what lies at positive distance, in halves of the picture's side."""
    return (distance * (SIZE / 2) + 0.5).clamp(0, 1)


def clouds(draw: Draw, B: int, cells: int, channels: int = 1) -> Tensor:
    """Smooth noise [B, channels, 24, 24] in [0, 1)."""
    grid = draw.uniform01(B, channels, cells, cells)
    return F.interpolate(grid, (SIZE, SIZE), mode="bilinear", align_corners=False)


def tint(draw: Draw, B: int, low: float, high: float, colourful: float = 0.05) -> Tensor:
    """A grey [B, 3, 1, 1] between two levels, each channel off by up to `colourful`."""
    return draw.one(low, high, B) + draw.between(-colourful, colourful, B, 3, 1, 1)


def paint(colours: Sequence[int], draw: Draw, jitter: float = 0.06) -> Tensor:
    """Each of the numbered `COLOURS` [B, 3, 1, 1], a little off."""
    table = torch.tensor(list(COLOURS.values()), dtype=torch.float64)
    B = len(colours)
    ink = table[torch.as_tensor(colours)][:, :, None, None] * draw.one(0.8, 1.05, B)
    return ink + draw.between(-jitter, jitter, B, 3, 1, 1)


def pattern(kinds: Sequence[int], draw: Draw) -> Tensor:
    """Each of the numbered `PATTERNS` [B, 1, 24, 24] in [0, 1]; 0 everywhere for the number -1."""
    line = torch.arange(2 * SIZE, dtype=torch.float64)
    kinds = torch.as_tensor(kinds)
    v = torch.zeros(len(kinds), 1, SIZE, SIZE, dtype=torch.float64)
    for number, texture in enumerate(PATTERNS.values()):
        rows = (kinds == number).nonzero()[:, 0]
        if len(rows):
            y, x = (p.expand(len(rows), 1, -1, -1) for p in torch.meshgrid(line, line, indexing="ij"))
            v[rows] = F.avg_pool2d(TEXTURES[texture](draw, y, x), 2)
    return v


def thing(masks: Tensor, ink: Tensor, ground: Tensor, draw: Draw) -> Tensor:
    """What masks [B, 48, 48] in [0, 1] cover, turned and shifted, in ink on a ground, both [B, 3, 1 or 24, 1 or 24]."""
    m = F.avg_pool2d(placed(masks, draw), 2)
    return ground * (1 - m) + ink * m


def outlined(masks: Tensor, draw: Draw) -> Tensor:
    """Coverage [B, 1, 24, 24] of a pencil that went round masks [B, 48, 48] twice, not quite in one place."""
    total = torch.zeros(len(masks), 1, SIZE, SIZE, dtype=torch.float64)
    m = placed(masks, draw)
    line = (F.max_pool2d(m, 3, 1, 1) + F.max_pool2d(-m, 3, 1, 1)).clamp(0, 1)
    for shift in ((0, 0), (1, -1)):
        total = torch.maximum(total, F.avg_pool2d(torch.roll(line, shift, (2, 3)), 2))
    return total


def dots(counts: Sequence[int], draw: Draw, loose: float = 0.5) -> Tensor:
    """Coverage [B, 1, 24, 24] of so many discs, each in a cell of its own of three times three.

    Args:
        loose: how far they may leave the middles of their cells, and how much they differ in size; 0 to 1.
    """
    counts = torch.as_tensor(counts)
    B, (y, x) = len(counts), places(len(counts))
    rank = draw.uniform01(B, 9).argsort(1).argsort(1)  # the cells in some order
    cell = torch.arange(9)
    down, across = (
        ((c - 1) * 0.62)[:, None, None] + loose * draw.between(-0.1, 0.1, B, 9, 1, 1) for c in (cell // 3, cell % 3)
    )
    radius = 0.2 * (1 + loose * draw.between(-0.25, 0.25, B, 9, 1, 1))
    covered = edge(radius - ((y - down) ** 2 + (x - across) ** 2).sqrt())
    return (covered * (rank < counts[:, None])[:, :, None, None]).amax(1, keepdim=True)


def flower(petals: Sequence[int], draw: Draw, depth: tuple[float, float] = (0.5, 0.6)) -> tuple[Tensor, Tensor]:
    """Coverage [B, 1, 24, 24] of a corolla of so many petals and of the disc in its middle.

    Args:
        depth: between which the cuts that part the petals lie, as a share of the radius.
    """
    B, (y, x) = len(petals), places(len(petals), draw, math.pi)
    y, x = (p + draw.one(-0.12, 0.12, B) for p in (y, x))
    n, cut, size = torch.as_tensor(petals)[:, None, None, None], draw.one(*depth, B), draw.one(0.7, 0.9, B)
    radius, around = (y**2 + x**2).sqrt(), torch.cos(n * torch.atan2(y, x))
    return edge(size * (1 - cut * (0.5 - 0.5 * around)) - radius), edge(0.22 * size - radius)


def scribble(draw: Draw, B: int, strokes: int, width: float) -> Tensor:
    """Coverage [B, 1, 24, 24] of straight strokes through the picture, of a width in halves of its side."""
    total = torch.zeros(B, 1, SIZE, SIZE, dtype=torch.float64)
    for _ in range(strokes):
        y, _ = places(B, draw, math.pi)
        total = torch.maximum(total, edge(width / 2 - (y + draw.one(-0.8, 0.8, B)).abs()))
    return total


def finished(x: Tensor, draw: Draw, noise: Tensor | float) -> Tensor:
    """With noise between plus and minus `noise`, as bytes."""
    x = x + noise * (2 * draw.uniform01(*x.shape) - 1)
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)
