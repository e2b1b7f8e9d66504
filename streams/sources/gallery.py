"""From masks to labelled pictures: so many of each class, painted in batches, the same bytes on every machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ...base.seeds import frozen_random
from ..labelled import Labelled
from .drawings import Draw

Paint = Callable[[Tensor, Draw], Tensor]
BATCH = 32  # painted at once; part of the recipe, since the draws of a batch come together

# Closed contours by name, each [P, 2] and y upwards; those that run clockwise are holes.
TURN = np.arange(48) * (2 * math.pi / 48)
DISC = np.stack([np.cos(TURN), np.sin(TURN)], 1)
SQUARE = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
POINTS = math.pi / 2 + np.arange(10) * (math.pi / 5)
BAR = np.array([[-1, -0.3], [1, -0.3], [1, 0.3], [-1, 0.3]], float)
SHAPES: dict[str, list[np.ndarray]] = {
    "disc": [DISC],
    "ring": [DISC, 0.6 * DISC[::-1]],
    "square": [SQUARE],
    "frame": [SQUARE, 0.6 * SQUARE[::-1]],
    "triangle": [np.array([[-1, -0.8], [1, -0.8], [0, 0.9]])],
    "diamond": [np.array([[0, -1], [0.7, 0], [0, 1], [-0.7, 0]])],
    "star": [np.stack([np.cos(POINTS), np.sin(POINTS)], 1) * np.where(np.arange(10) % 2, 0.42, 1)[:, None]],
    "cross": [BAR, BAR[:, ::-1][::-1]],
    "crescent": [np.concatenate([DISC[8:41], DISC[40:7:-1] * [0.55, 1]])],
    "bowl": [np.concatenate([DISC[24:], DISC[:1]])],
}


def painted(
    masks: Sequence[np.ndarray], paints: Sequence[Paint], train: int, test: int, names: Sequence[str], *keys: int | str
) -> Labelled:
    """`train` and `test` pictures of each class, one class after the other.

    Args:
        masks: by class [variants, S, S] uint8, one of which each picture shows.
        paints: by class, from masks [B, S, S] in [0, 1] to pictures [B, 3, H, W] in [0, 1].
        keys: what all draws are derived from.
    """
    parts = [_drawn(masks, paints, count, *keys, part) for part, count in (("train", train), ("test", test))]
    return Labelled(*parts[0], *parts[1], tuple(names))


def _drawn(masks: Sequence[np.ndarray], paints: Sequence[Paint], count: int, *keys: int | str) -> tuple[Tensor, Tensor]:
    """Pictures [N, 3, H, W] uint8 and labels [N]."""
    x = []
    for label, (mask, paint) in enumerate(zip(masks, paints, strict=True)):
        state = frozen_random(*keys, label)
        draw, variant = Draw.frozen(state), (state.random_sample(count) * len(mask)).astype(int)
        for start in range(0, count, BATCH):
            some = torch.from_numpy(mask[variant[start : start + BATCH]]).double() / 255
            x.append((paint(some, draw) * 255).round().to(torch.uint8))
    return torch.cat(x), torch.arange(len(masks)).repeat_interleave(count)
