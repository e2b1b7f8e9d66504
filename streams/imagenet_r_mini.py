"""The stand-in for Split ImageNet-R: characters that `vit-micro` knows as photographs, in renditions it never saw."""

from __future__ import annotations

import unicodedata
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from ..base.errors import UsageError
from ..base.seeds import frozen_random
from .builders import SplitOptions, split
from .core import Stream
from .labelled import Labelled
from .named import stream

CLASSES = 100
FEWEST, MOST = 45, 180  # training images of the rarest and the commonest class


@stream("imagenet-r-mini", embedded=True, setting="cil", needs="")
def imagenet_r_mini(*, n_tasks: int = 10, canvas: float = 0.15, **options: Unpack[SplitOptions]) -> Stream:
    """Characters 24x24 colour in eight renditions, 10 tasks of 10 classes; class-incremental, for `vit-micro`.

    100 of the 300 characters that `vit-micro` was pre-trained on as photographs, here outlined, sketched, hatched, in
    negative, as mosaics, stamps, embroideries and watercolours, all on one canvas; 45 to 180 training images a class,
    a quarter as many to test. About 9,800 and 2,400 images in all, generated in a few seconds from the stream's seed.

    Args:
        canvas: how strongly its weave shows; 0 leaves it out, and with it most of what adaptation can gain.
    """
    if not 0 <= canvas <= 1:
        raise UsageError(f"canvas must be between 0 and 1; got {canvas}.")
    return split(_labelled(canvas, options.get("seed", 0)), n_tasks, name="imagenet-r-mini", **options)


def _labelled(canvas: float, seed: int) -> Labelled:
    from .sources.glyphs import CHARACTERS, glyph_masks

    masks = glyph_masks(CHARACTERS[:CLASSES])
    names = tuple(unicodedata.name(c).lower() for c in CHARACTERS[:CLASSES])
    rank = frozen_random("imagenet-r-mini", "sizes", seed).permutation(CLASSES) / (CLASSES - 1)
    sizes = np.rint(FEWEST * (MOST / FEWEST) ** rank).astype(int)  # as unequal as ImageNet-R's, on a smaller scale
    train_x, train_y = _drawn(masks, sizes, canvas, "train", seed)
    test_x, test_y = _drawn(masks, np.rint(sizes / 4).astype(int), canvas, "test", seed)
    return Labelled(train_x, train_y, test_x, test_y, names)


def _drawn(masks: list[np.ndarray], sizes: np.ndarray, canvas: float, part: str, seed: int) -> tuple[Tensor, Tensor]:
    """Images [N, 3, 24, 24] uint8 and labels, class after class, each image in a font and a style of its own."""
    from .sources.drawings import SIZE, STYLES, Draw, renditions

    y = np.repeat(np.arange(len(masks)), sizes)
    state = frozen_random("imagenet-r-mini", part, seed)
    style = state.randint(len(STYLES), size=len(y))
    face = (state.random_sample(len(y)) * np.array([len(mask) for mask in masks])[y]).astype(int)
    x = torch.empty(len(y), 3, SIZE, SIZE, dtype=torch.uint8)
    for number, name in enumerate(STYLES):
        rows = np.flatnonzero(style == number)
        draw = Draw.frozen(frozen_random("imagenet-r-mini", part, seed, name))
        for few in np.array_split(rows, len(rows) // 32 + 1):
            some = torch.from_numpy(np.stack([masks[y[i]][face[i]] for i in few])).double() / 255
            x[few] = (renditions(some, name, draw, canvas) * 255).round().to(torch.uint8)
    return x, torch.from_numpy(y)
