"""Experience replay: mix each batch with samples of earlier tasks.

Chaudhry et al., "On Tiny Episodic Memories in Continual Learning" (2019): reservoir memory, one step on the
concatenation of the current batch and a memory batch of the same size.
Deviations: the memory is read with replacement and without augmentation; a sample is offered to the reservoir once, in
the first pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..streams.batches import Batch
from ..streams.core import StreamInfo
from .config import Amount, Count
from .context import Context
from .core import GradientStrategy, TrainConfig, strategy
from .parts.memory import ReservoirMemory


@dataclass(frozen=True)
class ERConfig(TrainConfig):
    """memory: samples kept in all. replay_batch: memory samples per step; 0 means as many as the batch has."""

    memory: Count = 500
    replay_batch: Amount = 0


@strategy("er")
class ER(GradientStrategy):
    """Train on each batch together with a batch from a reservoir memory of earlier samples."""

    Config = ERConfig
    stateful = (*GradientStrategy.stateful, "memory")
    rehearses = True

    def setup(self, info: StreamInfo, context: Context) -> None:
        """With an empty memory."""
        super().setup(info, context)
        self.memory = ReservoirMemory(self.config.memory)

    def loss(self, batch: Batch) -> Tensor:
        """One cross-entropy over current and replayed samples."""
        if not len(self.memory):
            return super().loss(batch)
        stored, y = self.memory.draw(self.replayed(batch), self.context.generator("replay"))
        x = batch.prepare(stored)
        return self.objective.loss(self.model(torch.cat([batch.x, x])), torch.cat([batch.y, y]))

    def after_step(self, batch: Batch) -> None:
        """Offer the batch to the memory."""
        if batch.epoch == 0:
            self.memory.add(batch.stored, batch.y, self.context.generator("reservoir"))

    def replayed(self, batch: Batch) -> int:
        """Memory samples in the next step."""
        return (self.config.replay_batch or len(batch.y)) if len(self.memory) else 0

    def cost_key(self, batch: Batch) -> tuple[int, ...]:
        """Replayed samples."""
        return (self.replayed(batch),)
