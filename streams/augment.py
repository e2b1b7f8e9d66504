"""Ways from stored images to a network's inputs, a whole batch at a time, on the device that holds it.

Each is a frozen dataclass, so that a stream's fingerprint tells them apart by their settings. `CenterCrop`, `Resize`
and `Normalise` are transforms; `RandomResizedCrop` is an augmentation, which training uses in a transform's place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..base.errors import UsageError

if TYPE_CHECKING:
    from .rows import Rows

TRIES = 10  # boxes drawn before the largest centred one is taken, as in torchvision


@dataclass(frozen=True)
class CenterCrop:
    """The middle `size` x `size` pixels of images [B, C, H, W]."""

    size: int

    def __call__(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        if min(h, w) < self.size:
            raise UsageError(f"images of {h}x{w} pixels have no middle of {self.size}x{self.size}.")
        top, left = round((h - self.size) / 2), round((w - self.size) / 2)
        return x[..., top : top + self.size, left : left + self.size]


@dataclass(frozen=True)
class Resize:
    """Images [B, C, H, W] at `size` x `size`: bicubic, widened where it shrinks, kept within [0, 1]."""

    size: int

    def __call__(self, x: Tensor) -> Tensor:
        size = (self.size, self.size)
        return functional.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False).clamp_(0, 1)


@dataclass(frozen=True)
class Normalise:
    """Pixels in [0, 1], less their mean and over their standard deviation, by channel."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        mean, deviation = (torch.tensor(v, device=x.device)[:, None, None] for v in (self.mean, self.deviation))
        return (x - mean) / deviation

    @classmethod
    def of(cls, sources: Sequence[Tensor | np.ndarray | Rows]) -> Normalise:
        """By all pixels [N, C, H, W] uint8 together, to four decimals, as papers tell them: exact on every machine."""
        counts = torch.zeros(sources[0].shape[1], 256, dtype=torch.int64)
        for source in sources:
            for start in range(0, len(source), 4096):
                part = torch.as_tensor(source[start : start + 4096])
                for channel, pixels in enumerate(part.movedim(1, 0)):
                    counts[channel] += torch.bincount(pixels.reshape(-1), minlength=256)
        values = torch.arange(256, dtype=torch.float64) / 255
        share = counts / counts.sum(1, keepdim=True)
        mean = (share * values).sum(1)
        deviation = ((share * values**2).sum(1) - mean**2).clamp(min=0).sqrt()
        found = cls(*(tuple(round(float(v), 4) for v in vector) for vector in (mean, deviation)))
        if not all(found.deviation):
            raise UsageError("normalise needs pixels that differ; a channel has one value almost throughout.")
        return found


class Boxes(NamedTuple):
    """One crop per image, in pixels, each [B]; `flip` says which are mirrored."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random box of each image [B, C, H, W], resized to `size` x `size`, and mirrored now and then.

    The law is torchvision's: area uniform in `scale` (of the image's), ratio of width to height log-uniform in `ratio`,
    redrawn up to ten times until it fits, place uniform. So is the resizing: bilinear, widened where it shrinks.

    Args:
        flip: probability of a mirror image.
    """

    size: int
    scale: tuple[float, float] = (0.05, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.cut(x, self.boxes(len(x), *x.shape[-2:], generator))

    def boxes(self, count: int, height: int, width: int, generator: torch.Generator) -> Boxes:
        """A box for each of `count` images of `height` x `width`."""
        draws = torch.rand(2 * TRIES + 3, count, generator=generator, device=generator.device)
        area = height * width * (self.scale[0] + (self.scale[1] - self.scale[0]) * draws[:TRIES])
        low, high = (math.log(ratio) for ratio in self.ratio)
        ratio = torch.exp(low + (high - low) * draws[TRIES : 2 * TRIES])
        w, h = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
        fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        first = fits.to(torch.uint8).argmax(0, keepdim=True)  # 0 where none fits
        fits, h, w = (part.gather(0, first)[0] for part in (fits, h, w))
        whole_h, whole_w = self._largest(height, width)
        h, w = h.where(fits, h.new_tensor(whole_h)), w.where(fits, w.new_tensor(whole_w))
        room_h, room_w = height - h, width - w
        place = zip(draws[-3:-1], (room_h, room_w), strict=True)
        top, left = ((u * (room + 1)).long().minimum(room) for u, room in place)
        top, left = top.where(fits, room_h // 2), left.where(fits, room_w // 2)
        return Boxes(top, left, h, w, draws[-1] < self.flip)

    def _largest(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the largest box within the ratios."""
        if width / height < self.ratio[0]:
            return round(width / self.ratio[0]), width
        if width / height > self.ratio[1]:
            return height, round(height * self.ratio[1])
        return height, width

    def cut(self, x: Tensor, boxes: Boxes) -> Tensor:
        """The boxes of the images, at `size` x `size`: two matrix products per image, rows and columns apart."""
        b, c, h, w = x.shape
        rows = _weights(boxes.top, boxes.height, h, self.size, x.dtype)
        columns = _weights(boxes.left, boxes.width, w, self.size, x.dtype)
        columns = torch.where(boxes.flip[:, None, None], columns.flip(1), columns)
        x = (x.reshape(b, c * h, w) @ columns.transpose(1, 2)).view(b, c, h, self.size)
        return rows[:, None] @ x


def _weights(start: Tensor, length: Tensor, size: int, new: int, dtype: torch.dtype) -> Tensor:
    """[B, new, size]: how much of each pixel from `start` to before `start + length` goes into each new pixel."""
    start, length = start[:, None, None].to(dtype), length[:, None, None].to(dtype)
    step = length / new
    centre = start + (torch.arange(new, device=start.device, dtype=dtype)[:, None] + 0.5) * step
    pixel = torch.arange(size, device=start.device, dtype=dtype) + 0.5
    weight = (1 - (pixel - centre).abs() / step.clamp(min=1)).clamp_(min=0)
    weight = weight * ((pixel > start) & (pixel < start + length))
    return weight / weight.sum(-1, keepdim=True)
