"""Rotation and resizing of pixels in integer arithmetic: the same bytes on every machine.

A stream's fingerprint covers its pixels, so that no floating-point rounding may reach them. Positions and weights are
fixed-point integers, computed once for all images of a task; the blend itself is a gather and integer sums.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..base.errors import UsageError

UNIT = 2**16  # one pixel in fixed point
FINE = 2**8  # the unit of one bilinear weight; two of them multiply to UNIT


def rotate(images: Tensor, degrees: float, nearest: bool = False, chunk: int = 1024) -> Tensor:
    """Images [N, C, H, W] uint8 turned counter-clockwise about their centre, black outside, same size.

    Bilinear, or the nearest pixel. Multiples of 90 degrees are exact on square images.
    """
    pixels(images)
    n, c, h, w = images.shape
    index, weight = _rotation_map(h, w, degrees, nearest)
    flat, turned = images.reshape(n * c, h * w), torch.empty(n * c, h * w, dtype=torch.uint8)
    for start in range(0, n * c, chunk):
        # pixels first, images last: a gather then copies whole rows, and each row has one weight
        columns = flat[start : start + chunk].t().contiguous()
        total = torch.full(columns.shape, UNIT // 2, dtype=torch.int32)
        for corner in range(len(index)):
            total.addcmul_(columns[index[corner]].int(), weight[corner, :, None])
        turned[start : start + chunk] = (total >> 16).to(torch.uint8).t()
    return turned.reshape(n, c, h, w)


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Images [N, C, H, W] uint8 in another size: bilinear, widened to a triangle filter where it shrinks."""
    pixels(images)
    for axis, size in ((2, height), (3, width)):
        if images.shape[axis] != size:
            weight = _resize_weights(images.shape[axis], size)
            # double precision holds these sums of integers exactly, whatever the order of summation
            total = torch.tensordot(images.double(), weight, dims=([axis], [1])).movedim(-1, axis)
            images = ((total.long() + UNIT // 2) >> 16).to(torch.uint8)
    return images.contiguous()


def pixels(images: Tensor) -> None:
    """Refuse what is not [N, C, H, W] uint8."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim != 4:
        raise UsageError(
            "rotating, resizing and normalising need uint8 pixels [N, C, H, W], "
            f"not {list(images.shape)} {images.dtype}."
        )


def _rotation_map(h: int, w: int, degrees: float, nearest: bool) -> tuple[Tensor, Tensor]:
    """Source positions [4, H*W] and weights [4, H*W] (summing to UNIT inside the image) of every output pixel.

    With the nearest pixel there is one position instead of four.
    """
    cos, sin = (round(f(math.radians(degrees)) * UNIT) for f in (math.cos, math.sin))
    # twice the distance from the centre, so that it is an integer for even and odd sizes
    y, x = np.meshgrid(2 * np.arange(h) - (h - 1), 2 * np.arange(w) - (w - 1), indexing="ij")
    source_x = (cos * x - sin * y + (w - 1) * UNIT).ravel()
    source_y = (sin * x + cos * y + (h - 1) * UNIT).ravel()
    # from halves of 2**-16 pixels to pixels and 8-bit fractions
    source_x, source_y = (source_x + FINE) >> 9, (source_y + FINE) >> 9
    if nearest:
        source_x, source_y = (source_x + FINE // 2) >> 8 << 8, (source_y + FINE // 2) >> 8 << 8
    index, weight = [], []
    for down in (0,) if nearest else (0, 1):
        for right in (0,) if nearest else (0, 1):
            row, column = (source_y >> 8) + down, (source_x >> 8) + right
            part = _share(source_y & 255, down) * _share(source_x & 255, right)
            inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
            index.append(np.where(inside, row * w + column, 0))
            weight.append(np.where(inside, part, 0).astype(np.int32))
    return torch.from_numpy(np.stack(index)), torch.from_numpy(np.stack(weight))


def _share(fraction: np.ndarray, far: int) -> np.ndarray:
    return fraction if far else FINE - fraction


@lru_cache(maxsize=64)
def _resize_weights(size: int, new: int) -> Tensor:
    """Weights [new, size], integers in double precision, each row summing to UNIT."""
    # in units of 1 / (2 new) pixels, in which all centres are integers
    centre = (2 * np.arange(new)[:, None] + 1) * size
    distance = np.abs(centre - (2 * np.arange(size) + 1) * new)
    triangle = np.maximum(2 * max(size, new) - distance, 0)
    # differences of rounded running sums: exact, and nothing is lost to rounding
    running = np.cumsum(triangle, axis=1) * UNIT
    whole = triangle.sum(axis=1, keepdims=True)
    return torch.from_numpy(np.diff((2 * running + whole) // (2 * whole), axis=1, prepend=0)).double()
