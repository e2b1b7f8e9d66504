"""Pictures as tokens, for policies of attention: a small convolutional stem, and the instruction's say in it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 8  # patches of a picture's side at most: tokens are 25 to 64 a picture
GROUP = 8  # channels that are normalised together


class Patches(nn.Module):
    """Convolutions that halve a picture until at most 8 x 8 patches are left, each a token.

    What is seen is scaled and shifted, so that an instruction can point at what looks like something; where it is
    comes after that, so that it looks the same everywhere. Without norms the small differences between patches would be
    lost in what they share, and learning would take several times as long.

    Args:
        cameras: V. size: S, of a picture's side. width: of a token.
    """

    def __init__(self, cameras: int, size: int, width: int) -> None:
        super().__init__()
        if size <= SIDE:
            raise ValueError(f"pictures must have more than {SIDE} pixels a side, not {size}")
        layers: list[nn.Module] = []
        inputs = 3
        while size > SIDE:
            layers += [nn.Conv2d(inputs, width, 3, 2, 1), nn.GroupNorm(max(1, width // GROUP), width), nn.ReLU()]
            inputs, size = width, -(-size // 2)
        self.stem = nn.Sequential(*layers[:-1])
        line = (2 * torch.arange(size) + 1) / size - 1
        spots = torch.stack(torch.meshgrid(line, -line, indexing="xy"), 2).flatten(0, 1)  # [P, 2], rows from the top
        self.register_buffer("spots", spots, persistent=False)
        self.token, self.where = nn.Linear(width, width), nn.Linear(2, width)
        self.camera = nn.Parameter(0.02 * torch.randn(cameras, 1, width))

    def forward(self, pictures: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Pictures [B, H, V, 3, S, S], and what the instruction says, twice [B, W], to tokens [B, H, V P, W]."""
        x = self.stem(pictures.flatten(0, 2)).flatten(2).transpose(1, 2).unflatten(0, pictures.shape[:3])
        scale, shift = (part[:, None, None, None] for part in (scale, shift))
        seen = self.token(F.relu((1 + scale) * x + shift))  # [B, H, V, P, W]
        return (seen + self.where(self.spots) + self.camera).flatten(2, 3)
