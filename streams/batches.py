"""Mini-batches by counting: batch `s` of task `k` is a function of (seed, k, s), so a run resumes from one integer.

Samples are gathered and converted a chunk of batches at a time and then sliced, because on small networks the
gather and the conversion of one batch cost as much as a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..base.seeds import torch_generator
from .core import Data

CHUNK_ELEMENTS = 2**21  # floats gathered at once, about 8 MB; part of the recipe where augmentation draws per chunk


class Batch(NamedTuple):
    """What one step of training reads.

    x: [B, ...] float, inputs as training makes them. y: [B] targets. stored: [B, ...] as the stream stores the samples,
    which is what a replay memory keeps. prepare: makes inputs of stored samples, without augmentation. epoch: the
    pass over the data that the batch belongs to, from 0.
    """

    x: Tensor
    y: Tensor
    stored: Tensor
    prepare: Callable[[Tensor], Tensor]
    epoch: int = 0


def steps_per_epoch(data: Data, batch_size: int) -> int:
    """Batches in one pass; the last may be smaller."""
    return math.ceil(len(data) / batch_size)


def batches(data: Data, batch_size: int, epochs: int, key: tuple[int | str, ...], start: int = 0) -> Iterator[Batch]:
    """Shuffled batches of `epochs` passes, from batch number `start` on.

    Args:
        key: what the shuffling and the augmentation are derived from, such as (seed, task, "batches").
    """
    device = data.targets.device
    per_epoch = steps_per_epoch(data, batch_size)
    elements = batch_size * max(math.prod(data.shape), math.prod(data.input_shape))
    per_chunk = max(1, min(64, CHUNK_ELEMENTS // max(elements, 1)))
    for epoch in range(start // per_epoch, epochs):
        order = torch.randperm(len(data), generator=torch_generator(*key, epoch)).to(device)
        skip = start - epoch * per_epoch if epoch == start // per_epoch else 0
        for chunk in range(skip // per_chunk, math.ceil(per_epoch / per_chunk)):
            stored, y = data.gather(order[chunk * per_chunk * batch_size :][: per_chunk * batch_size])
            augment = torch_generator(*key, epoch, chunk, device=device) if data.augment else None
            x = data.prepare(stored, augment)
            for number, batch in enumerate(
                zip(x.split(batch_size), y.split(batch_size), stored.split(batch_size), strict=True)
            ):
                if chunk * per_chunk + number >= skip:
                    data.drawn["samples"] += len(batch[1])
                    yield Batch(*batch, data.prepare, epoch)
