"""Observations with pictures, stored as bytes: a pixel takes one, a number four; nothing is rounded.

A camera's steps would take four times the room as floats, in memory, in a replay buffer and on the way to a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NUMBER = 4  # bytes of a float32


def packed(pixels: Tensor, numbers: Tensor) -> Tensor:
    """Bytes [..., P + 4 D] uint8 of pixels [..., P] uint8 and numbers [..., D] float32, for `Unpacked`."""
    return torch.cat([pixels, numbers.contiguous().view(torch.uint8)], -1)


@dataclass(frozen=True)
class Unpacked:
    """A transform of `Data`: what `packed` made, drawn as bytes over 255, becomes pixels in [0, 1] and the numbers.

    Args:
        pixels: how many of the bytes are pixels; they come first.
    """

    pixels: int

    def __call__(self, x: Tensor) -> Tensor:
        """[B, H, P + 4 D] in [0, 1] to [B, H, P + D]."""
        numbers = (x[..., self.pixels :] * 255).round().to(torch.uint8).contiguous()
        return torch.cat([x[..., : self.pixels], numbers.view(torch.float32)], -1)
