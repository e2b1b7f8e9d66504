"""Eight kinds of land as seen from above."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .drawings import SIZE, Draw
from .scenes import clouds, edge, places


def land(kind: str, B: int, draw: Draw) -> Tensor:
    """Pictures [B, 3, 24, 24] of one of `LAND`."""
    return LAND[kind](draw, B)


def _toned(rgb: tuple[float, float, float], draw: Draw, B: int) -> Tensor:
    base = torch.tensor(rgb, dtype=torch.float64)[:, None, None]
    return base * draw.one(0.8, 1.2, B) + draw.between(-0.04, 0.04, B, 3, 1, 1)


def _grass(draw: Draw, B: int) -> Tensor:
    return _toned((0.35, 0.55, 0.25), draw, B) + 0.12 * (clouds(draw, B, 5) - 0.5)


def _water(draw: Draw, B: int) -> Tensor:
    return _toned((0.15, 0.3, 0.55), draw, B) + 0.05 * (clouds(draw, B, 8) - 0.5)


def _sand(draw: Draw, B: int) -> Tensor:
    return _toned((0.8, 0.7, 0.45), draw, B)


def _over(below: Tensor, above: Tensor, m: Tensor) -> Tensor:
    return below * (1 - m) + above * m


def _forest(draw: Draw, B: int) -> Tensor:
    return _toned((0.15, 0.35, 0.15), draw, B) * (0.6 + 0.8 * clouds(draw, B, 12))


def _field(draw: Draw, B: int) -> Tensor:
    """Plots of several crops, ploughed in one direction."""
    plots = F.interpolate(draw.uniform01(B, 1, 3, 3), (SIZE, SIZE))
    y, _ = places(B, draw, math.pi)
    furrows = torch.sin(y * draw.one(18, 26, B))
    crop = _over(_toned((0.35, 0.6, 0.2), draw, B), _toned((0.75, 0.65, 0.3), draw, B), plots)
    return crop + 0.08 * furrows


def _lake(draw: Draw, B: int) -> Tensor:
    y, x = places(B, draw, math.pi)
    y, x = y + draw.one(-0.2, 0.2, B), x * draw.one(1, 1.4, B) + draw.one(-0.2, 0.2, B)
    shore = draw.one(0.45, 0.7, B) + 0.25 * (clouds(draw, B, 4) - 0.5)
    return _over(_grass(draw, B), _water(draw, B), edge(shore - (y**2 + x**2).sqrt()))


def _river(draw: Draw, B: int) -> Tensor:
    y, x = places(B, draw, math.pi)
    bend = draw.one(0.15, 0.3, B) * torch.sin(x * draw.one(2, 4, B) + draw.one(0, 2 * math.pi, B))
    return _over(_grass(draw, B), _water(draw, B), edge(draw.one(0.12, 0.2, B) - (y + bend).abs()))


def _road(draw: Draw, B: int) -> Tensor:
    y, _ = places(B, draw, math.pi)
    y = y + draw.one(-0.4, 0.4, B)
    road = _over(_toned((0.45, 0.45, 0.45), draw, B), torch.full((1, 3, 1, 1), 0.95).double(), edge(0.04 - y.abs()))
    return _over(_grass(draw, B), road, edge(draw.one(0.18, 0.26, B) - y.abs()))


def _town(draw: Draw, B: int) -> Tensor:
    """Roofs on a grid of streets."""
    y, x = places(B, draw, 0.3)
    step = draw.one(0.42, 0.56, B)
    block = [edge(0.36 * step - ((p / step + draw.one(0, 1, B)) % 1 - 0.5).abs() * step) for p in (y, x)]
    tiles = F.interpolate(draw.uniform01(B, 1, 5, 5), (SIZE, SIZE))
    roofs = _over(_toned((0.65, 0.3, 0.22), draw, B), _toned((0.75, 0.72, 0.7), draw, B), tiles)
    return _over(_toned((0.4, 0.4, 0.42), draw, B), roofs, block[0] * block[1])


def _desert(draw: Draw, B: int) -> Tensor:
    y, x = places(B, draw, math.pi)
    dunes = torch.sin(y * draw.one(8, 12, B) + draw.one(0.5, 1.2, B) * torch.sin(3 * x + draw.one(0, 6, B)))
    return _sand(draw, B) + 0.1 * dunes


def _coast(draw: Draw, B: int) -> Tensor:
    y, x = places(B, draw, math.pi)
    bend = draw.one(0.05, 0.2, B) * torch.sin(x * draw.one(2, 4, B) + draw.one(0, 2 * math.pi, B))
    y = y + bend + draw.one(-0.2, 0.2, B)
    dry = _over(_sand(draw, B), _grass(draw, B), edge(y - 0.35))
    return _over(_water(draw, B), dry, edge(y))


LAND: dict[str, Callable[[Draw, int], Tensor]] = {
    "forest": _forest,
    "field": _field,
    "lake": _lake,
    "river": _river,
    "road": _road,
    "town": _town,
    "desert": _desert,
    "coast": _coast,
}
