"""Generated images: "photographs" of shapes, and their "renditions" on canvas, from masks of glyphs and polygons.

All of it is batched arithmetic on masks [B, 48, 48], halved to images [B, 3, 24, 24] at the end; photographs come in
other sizes, too. Pre-training draws photographs without end in float32, on any device; a stream draws its images once,
in float64 and rounded to bytes, so that they come out the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FINE, SIZE = 48, 24  # pixels of a mask and of an image
PATCH = 6  # pixels after which the canvas repeats, and of a patch of the transformer that is to see it


@dataclass(frozen=True)
class Draw:
    """Where the numbers of a drawing come from.

    Args:
        uniform01, normal01: functions from a shape to a tensor of numbers in [0, 1), or of standard normal ones.
    """

    uniform01: Callable[..., Tensor]
    normal01: Callable[..., Tensor]

    @classmethod
    def frozen(cls, state: np.random.RandomState) -> Draw:
        """Float64 numbers that stay the same in every version: for streams."""
        return cls(
            lambda *shape: torch.from_numpy(state.random_sample(shape)),
            lambda *shape: torch.from_numpy(state.standard_normal(shape)),
        )

    @classmethod
    def fast(cls, generator: torch.Generator) -> Draw:
        """Float32 numbers on the generator's device: for pre-training."""
        where = {"generator": generator, "device": generator.device}
        return cls(lambda *shape: torch.rand(shape, **where), lambda *shape: torch.randn(shape, **where))

    def between(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in [low, high)."""
        return low + (high - low) * self.uniform01(*shape)

    def one(self, low: float, high: float, batch: int) -> Tensor:
        """A number for each image [B, 1, 1, 1]."""
        return self.between(low, high, batch, 1, 1, 1)

    def chance(self, p: float, batch: int) -> Tensor:
        """Whether something happens to each image [B, 1, 1, 1]."""
        return self.uniform01(batch, 1, 1, 1) < p

    def below(self, counts: Tensor) -> Tensor:
        """For each count n [B] an integer in 0..n-1."""
        return (self.uniform01(len(counts)).to(counts.device) * counts).long()


# -- photographs ------------------------------------------------------------------------------------------------------


def photographs(masks: Tensor, draw: Draw, rare: float = 0.06) -> Tensor:
    """Dark things on a bright ground [B, 3, 24, 24] in [0, 1]; what pre-training sees.

    Args:
        masks: [B, 48, 48] in [0, 1], or any other even size, twice that of the images.
        rare: the share of images with each of: swapped tones, blur, holes, a fabric (another each time). Renditions
            shift images in such ways, so they should be rare, and not absent.
    """
    B, m = len(masks), placed(masks, draw)
    side = m.shape[-1]
    x = _ground(draw, m) + 0.25 * (_clouds(draw, B, 6, side) - 0.5) * draw.chance(0.5, B)
    ink = _tint(draw, B, 0.02, 0.35) + 0.15 * (_clouds(draw, B, 5, side) - 0.5)
    x = _inked(x, ink, m)
    x = torch.where(draw.chance(0.3, B), 0.5 + (x - 0.5) * draw.one(0.4, 1, B), x)
    x = torch.where(draw.chance(rare, B), 1 - x, x)
    x = torch.where(draw.chance(rare, B), _blurred(x, 5), x)
    holes = F.interpolate((draw.uniform01(B, 1, 6, 6) < 0.15).to(x.dtype), (side, side)) > 0
    x = torch.where(draw.chance(rare, B) & holes, draw.between(0, 1, B, 3, 1, 1), x)
    x = torch.where(draw.chance(rare, B), x + draw.one(0.05, 0.2, B) * _fabric(draw, x), x)
    x = torch.where(draw.chance(0.2, B), x.mean(1, keepdim=True), x)
    return _finished(x, draw, draw.one(0, 0.05, B))


# -- renditions -------------------------------------------------------------------------------------------------------


def renditions(masks: Tensor, style: str, draw: Draw, canvas: float) -> Tensor:
    """The same things [B, 3, 24, 24] as somebody might have drawn, stamped or sewn them, all on one canvas.

    Args:
        masks: [B, 48, 48] in [0, 1].
        style: one of `STYLES`.
        canvas: how strongly its weave shows.
    """
    x = STYLES[style](placed(masks, draw), draw)
    x = x + canvas * draw.one(0.7, 1.3, len(x)) * weave(x)
    return _finished(x, draw, 0.03)


def weave(like: Tensor) -> Tensor:
    """The one canvas [1, 1, 48, 48], mean 0 and deviation 1: checks of 3 and threads between, repeated every 6 pixels.

    Because it repeats with the transformer's patches it adds the same to every token: a shift that is common to all
    tasks, that a head on frozen features cannot take back, and that few parameters inside can.
    """
    i = torch.arange(SIZE, device=like.device)
    checks = ((i[:, None] // 3 + i // 3) % 2).to(like.dtype) * 2 - 1
    threads = ((i[:, None] % 3 == 0) | (i % 3 == 0)).to(like.dtype)
    pattern = 0.6 * checks - 0.8 * threads
    pattern = (pattern - pattern.mean()) / pattern.std()
    return pattern.repeat_interleave(2, 0).repeat_interleave(2, 1)[None, None]


def _outline(m: Tensor, draw: Draw) -> Tensor:
    return _inked(_ground(draw, m), _tint(draw, len(m), 0.05, 0.35), (_grown(m, 3) - _shrunk(m, 5)).clamp(0, 1))


def _sketch(m: Tensor, draw: Draw) -> Tensor:
    edge = (_grown(m, 3) - m).clamp(0, 1)
    twice = torch.maximum(edge, 0.6 * torch.roll(edge, (1, -1), (2, 3)))
    return _inked(_ground(draw, m), _tint(draw, len(m), 0.05, 0.35), twice)


def _hatching(m: Tensor, draw: Draw) -> Tensor:
    return _inked(_ground(draw, m), _tint(draw, len(m), 0.05, 0.35), m * (0.25 + 0.75 * _stripes(draw, m, 5)))


def _negative(m: Tensor, draw: Draw) -> Tensor:
    dark = _tint(draw, len(m), 0.05, 0.35) + 0.15 * _stripes(draw, m, 8)
    return _inked(dark, _ground(draw, m), m)


def _mosaic(m: Tensor, draw: Draw) -> Tensor:
    x = _inked(_ground(draw, m), _tint(draw, len(m), 0.05, 0.35), m)
    tiles = F.avg_pool2d(x, 4)
    return F.interpolate(tiles + 0.06 * draw.normal01(*tiles.shape), (FINE, FINE))


def _stamp(m: Tensor, draw: Draw) -> Tensor:
    B = len(m)
    red = torch.cat([draw.one(0.55, 0.8, B), draw.between(0.1, 0.3, B, 2, 1, 1)], 1)
    return _inked(_ground(draw, m), red, m * (0.15 + 0.85 * (_clouds(draw, B, 12) > 0.25)))


def _embroidery(m: Tensor, draw: Draw) -> Tensor:
    stitches = torch.maximum(_stripes(draw, m, 4), _stripes(draw, m, 4))
    return _inked(_ground(draw, m), draw.between(0.05, 0.6, len(m), 3, 1, 1), m * (0.3 + 0.7 * stitches))


def _watercolour(m: Tensor, draw: Draw) -> Tensor:
    B = len(m)
    pigment = _tint(draw, B, 0.05, 0.35) + 0.3 * _clouds(draw, B, 7)
    return _inked(_ground(draw, m), pigment, _blurred(_grown(m, 3), 7) * (0.6 + 0.4 * _clouds(draw, B, 5)))


STYLES: dict[str, Callable[[Tensor, Draw], Tensor]] = {
    "outline": _outline,
    "sketch": _sketch,
    "hatching": _hatching,
    "negative": _negative,
    "mosaic": _mosaic,
    "stamp": _stamp,
    "embroidery": _embroidery,
    "watercolour": _watercolour,
}


# -- brushes ----------------------------------------------------------------------------------------------------------


def placed(masks: Tensor, draw: Draw) -> Tensor:
    """Masks [B, S, S] turned by up to 15 degrees, scaled by 0.75 to 1.1, sheared and shifted: [B, 1, S, S]."""
    B = len(masks)
    angle = draw.between(-15, 15, B) * (math.pi / 180)
    zoom, shear, aspect = 1 / draw.between(0.75, 1.1, B), draw.between(-0.15, 0.15, B), draw.between(0.9, 1.1, B)
    c, s = torch.cos(angle), torch.sin(angle)
    matrix = torch.stack([c * zoom * aspect, (shear - s) * zoom, s * zoom, c * zoom / aspect], 1).reshape(B, 2, 2)
    theta = torch.cat([matrix, draw.between(-0.2, 0.2, B, 2, 1)], 2)
    grid = F.affine_grid(theta, [B, 1, *masks.shape[1:]], align_corners=False)
    return F.grid_sample(masks.to(grid.dtype)[:, None], grid, align_corners=False)


def _inked(ground: Tensor, ink: Tensor, m: Tensor) -> Tensor:
    return ground * (1 - m) + ink * m


def _tint(draw: Draw, B: int, low: float, high: float) -> Tensor:
    return draw.one(low, high, B) + draw.between(-0.12, 0.12, B, 3, 1, 1)


def _ground(draw: Draw, like: Tensor) -> Tensor:
    """A bright tint [B, 3, S, S] that falls off to one side."""
    B, (y, x) = len(like), _places(like)
    return _tint(draw, B, 0.62, 0.95) + draw.one(-0.12, 0.12, B) * x + draw.one(-0.12, 0.12, B) * y


def _clouds(draw: Draw, B: int, cells: int, side: int = FINE) -> Tensor:
    """Smooth noise [B, 1, side, side] in [0, 1)."""
    return F.interpolate(draw.uniform01(B, 1, cells, cells), (side, side), mode="bilinear", align_corners=False)


def _stripes(draw: Draw, like: Tensor, period: float) -> Tensor:
    """0 and 1 in stripes of some direction, `period` mask pixels apart."""
    (y, x), angle = _places(like), draw.one(0, math.pi, len(like))
    along = (torch.cos(angle) * x + torch.sin(angle) * y) * (like.shape[-1] / 2)
    return (torch.sin(along * (2 * math.pi / period) + draw.one(0, 2 * math.pi, len(like))) > 0).to(like.dtype)


def _fabric(draw: Draw, like: Tensor) -> Tensor:
    """Crossed waves [B, 1, S, S] of frequencies and phases of their own."""
    (y, x), B = _places(like), len(like)
    waves = [torch.sin(draw.one(4, 24, B) * math.pi * p + draw.one(0, 2 * math.pi, B)) for p in (x, y)]
    return waves[0] * waves[1]


def _places(like: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns [S, S] in [-1, 1]."""
    line = torch.linspace(-1, 1, like.shape[-1], dtype=like.dtype, device=like.device)
    return torch.meshgrid(line, line, indexing="ij")


def _grown(m: Tensor, width: int) -> Tensor:
    return F.max_pool2d(m, width, 1, width // 2)


def _shrunk(m: Tensor, width: int) -> Tensor:
    return -_grown(-m, width)


def _blurred(x: Tensor, width: int) -> Tensor:
    return F.avg_pool2d(x, width, 1, width // 2, count_include_pad=False)


def _finished(x: Tensor, draw: Draw, noise: Tensor | float) -> Tensor:
    """Halved, with noise, in [0, 1]."""
    x = F.avg_pool2d(x, 2)
    return (x + noise * draw.normal01(*x.shape)).clamp(0, 1)
