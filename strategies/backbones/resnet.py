"""The slim residual network of the continual-learning literature: ResNet-18 with 20 filters."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import backbone


@backbone("slim-resnet18")
def slim_resnet18(
    shape: tuple[int, ...], classes: int, *, filters: int = 20, norm: str = "group", stem_stride: int = 1
) -> nn.Module:
    """ResNet-18 with a 3x3 stem and stages of 20, 40, 80, 160 filters (Lopez-Paz and Ranzato, 2017).

    Deviation: group normalisation in place of batch normalisation, unless norm="batch". A group-normalised network
    treats every sample alone, so its predictions do not depend on the test batch, and the gradients of all memories
    can be taken in one vectorised pass.

    Args:
        stem_stride: 2 halves the size at once, as Saha et al. (2021) do for images of 84 x 84. Their head has no bias
            and reads 2x2 averages; here it has one and reads the average over the image.
    """
    if norm not in ("group", "batch"):
        raise ValueError(f'norm={norm!r} must be "group" or "batch"')
    if stem_stride not in (1, 2):
        raise ValueError(f"stem_stride={stem_stride!r} must be 1 or 2")
    return SlimResNet(shape[0], classes, filters, norm, stem_stride)


def _normalise(norm: str, channels: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(math.gcd(channels, max(1, channels // 10)), channels)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = _normalise(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = _normalise(norm, outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), _normalise(norm, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H/stride, W/stride]."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class SlimResNet(nn.Module):
    """Stem, four stages of two blocks, average pool, one linear head over all classes."""

    def __init__(self, channels: int, classes: int, filters: int, norm: str, stem_stride: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, filters, 3, stem_stride, 1, bias=False), _normalise(norm, filters), nn.ReLU()
        )
        widths = [filters, filters, 2 * filters, 4 * filters, 8 * filters]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(Block(w, v, 1 if i == 0 else 2, norm), Block(v, v, 1, norm))
                for i, (w, v) in enumerate(zip(widths[:-1], widths[1:], strict=True))
            )
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, classes]."""
        features = torch.mean(self.stages(self.stem(x)), dim=(2, 3))
        return self.head(features)
