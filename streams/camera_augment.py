"""Pictures in observations, in other colours and moved a little, in training; the numbers beside them stay as they are.

As LIBERO's code has it (`BatchWiseImgColorJitterAug`, `TranslationAug`; arXiv 2306.03310): brightness, contrast and
saturation times 0.7 to 1.3, hue turned by up to 0.3 of the circle, a tenth of samples left as they are; then moved by
up to 4 pixels each way, 8 from end to end, the border repeated. All steps and cameras of a sample go together. What
differs: colours are drawn for each sample, not once a batch, and changed in this order, not in a random one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .packed import Unpacked

GREY = (0.2989, 0.587, 0.114)  # weights of red, green and blue in ITU-R BT.601, as torchvision rounds them


@dataclass(frozen=True)
class Shaken:
    """An augmentation of `Data` whose transform is `unpacked`.

    Args:
        cameras, side: pictures [cameras, 3, side, side] come first in each step.
        strength: of the colours. kept: the share of samples that stay in theirs. room: pixels from end to end.
    """

    unpacked: Unpacked
    cameras: int
    side: int
    strength: float = 0.3
    kept: float = 0.1
    room: int = 8

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """[B, H, P + 4 D] in [0, 1] to [B, H, P + D]."""
        x = self.unpacked(x)
        B, P = len(x), self.unpacked.pixels
        seen = x[..., :P].reshape(B, -1, 3, self.side, self.side)  # [B, H V, 3, S, S]
        draws = torch.rand(7, B, generator=generator, device=generator.device).to(x.device)
        coloured = coloured_(seen.clone(), *(self.strength * (2 * draws[:4] - 1)))
        seen = torch.where((draws[4] < self.kept)[:, None, None, None, None], seen, coloured)
        offset = (draws[5:] * (self.room + 1)).long().clamp_(max=self.room)
        x[..., :P] = moved(seen, *offset, self.room // 2).reshape(*x.shape[:2], P)
        return x


def coloured_(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """Pictures [B, N, 3, S, S], in place; changes [B] about 0: of a factor about 1, of hue in turns."""
    each = lambda change: change[:, None, None, None, None]
    x = x.mul_(1 + each(brightness)).clamp_(0, 1)
    x = _from(x, _grey(x).mean((-2, -1), keepdim=True), 1 + each(contrast))
    x = _from(x, _grey(x), 1 + each(saturation))
    return _turned(x, each(hue)[:, :, 0])


def _grey(x: Tensor) -> Tensor:
    return (x * x.new_tensor(GREY)[:, None, None]).sum(-3, keepdim=True)


def _from(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """So many times as far from another picture."""
    return (other + factor * (x - other)).clamp_(0, 1)


def _turned(x: Tensor, hue: Tensor) -> Tensor:
    """Hue, in the model of hue, saturation and value, by part of a turn [B, 1, 1, 1] more."""
    red, green, blue = x.unbind(-3)
    value, low = x.amax(-3), x.amin(-3)
    span = value - low
    safe = span.where(span > 0, 1)
    sixths = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    at = sixths + 6 * hue
    parts = [(at + n) % 6 for n in (5, 3, 1)]
    return torch.stack([value - span * torch.minimum(k, 4 - k).clamp(0, 1) for k in parts], -3)


def moved(x: Tensor, down: Tensor, right: Tensor, most: int) -> Tensor:
    """Of pictures [B, N, 3, S, S] with a border of `most` pixels, the window at (down, right), each [B]."""
    S, B = x.shape[-1], len(x)
    padded = F.pad(x.flatten(1, 2), 4 * (most,), mode="replicate")  # [B, 3 N, S + 2 most, ...]
    at = lambda n: torch.arange(n, device=x.device)
    sample, channel = at(B)[:, None, None, None], at(padded.shape[1])[:, None, None]
    rows, columns = (down[:, None] + at(S))[:, None, :, None], (right[:, None] + at(S))[:, None, None, :]
    return padded[sample, channel, rows, columns].view(x.shape)
