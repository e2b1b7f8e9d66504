"""Ten generated textures: surfaces without a thing on them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .drawings import Draw

Pattern = Callable[[Draw, Tensor, Tensor], Tensor]


def texture(kind: str, like: Tensor, draw: Draw) -> Tensor:
    """Pictures [B, 3, S/2, S/2] of one of `TEXTURES` in two tints; of masks [B, S, S] only the size counts."""
    B, side = len(like), like.shape[-1]
    line = torch.arange(side, dtype=like.dtype, device=like.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    v = TEXTURES[kind](draw, *(p.expand(B, 1, side, side) for p in (y, x)))
    dark, bright = (draw.one(low, low + 0.3, B) + draw.between(-0.1, 0.1, B, 3, 1, 1) for low in (0.1, 0.6))
    swap = draw.chance(0.5, B)
    image = F.avg_pool2d(torch.where(swap, bright, dark) * (1 - v) + torch.where(swap, dark, bright) * v, 2)
    return (image + 0.05 * draw.normal01(*image.shape)).clamp(0, 1)


def _waves(along: Tensor, draw: Draw, share: float = 0.5) -> Tensor:
    """0 and 1 in turn, 9 to 15 pixels apart; 1 on that share of the way."""
    B = len(along)
    return ((along / draw.one(9, 15, B) + draw.one(0, 1, B)) % 1 < share).to(along.dtype)


def _stripes(degrees: float) -> Pattern:
    def draw_stripes(draw: Draw, y: Tensor, x: Tensor) -> Tensor:
        angle = (degrees + draw.one(-12, 12, len(x))) * (math.pi / 180)
        return _waves(torch.cos(angle) * x + torch.sin(angle) * y, draw)

    return draw_stripes


def _checks(draw: Draw, y: Tensor, x: Tensor) -> Tensor:
    return (_waves(x, draw) - _waves(y, draw)).abs()


def _lattice(draw: Draw, y: Tensor, x: Tensor) -> Tensor:
    return torch.maximum(_waves(x, draw, 0.25), _waves(y, draw, 0.25))


def _dots(draw: Draw, y: Tensor, x: Tensor) -> Tensor:
    period, B = draw.one(10, 15, len(x)), len(x)
    down, across = ((p / period + draw.one(0, 1, B)) % 1 - 0.5 for p in (y, x))
    return (down**2 + across**2 < 0.09).to(x.dtype)


def _rings(draw: Draw, y: Tensor, x: Tensor) -> Tensor:
    B, side = len(x), x.shape[-1]
    centre = draw.between(0.3, 0.7, B, 2, 1, 1) * side
    return _waves(((y - centre[:, :1]) ** 2 + (x - centre[:, 1:]) ** 2).sqrt(), draw)


def _bricks(draw: Draw, y: Tensor, x: Tensor) -> Tensor:
    height, B = draw.one(9, 13, len(x)), len(x)
    row = y / height + draw.one(0, 1, B)
    joint = (x / (2 * height) + draw.one(0, 1, B) + 0.5 * (row.floor() % 2)) % 1 < 0.1
    return ((row % 1 < 0.2) | joint).to(x.dtype)


def _grain(draw: Draw, y: Tensor, x: Tensor) -> Tensor:
    return F.interpolate(draw.uniform01(len(x), 1, *(side // 4 for side in x.shape[2:])), x.shape[2:])


TEXTURES: dict[str, Pattern] = {
    "columns": _stripes(0),
    "slope": _stripes(45),
    "rows": _stripes(90),
    "fall": _stripes(135),
    "checks": _checks,
    "lattice": _lattice,
    "dots": _dots,
    "rings": _rings,
    "bricks": _bricks,
    "grain": _grain,
}
