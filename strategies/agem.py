"""Averaged GEM: one constraint, the average loss over a batch from all earlier memories.

Chaudhry et al., "Efficient Lifelong Learning with A-GEM" (ICLR 2019), equation 11: if g conflicts with the gradient
g_ref on a random batch from the pooled memory, step along g - (g.g_ref / g_ref.g_ref) g_ref.
Deviation: no task descriptors. The published memory is balanced over classes; here it is the last samples of each task.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..base.errors import UsageError
from ..streams.batches import Batch
from ..streams.core import StreamInfo, Task
from .config import Count
from .context import Context
from .core import GradientStrategy, TrainConfig, strategy
from .parts.gradients import flat_gradient, set_gradient
from .parts.memory import RingMemory


@dataclass(frozen=True)
class AGEMConfig(TrainConfig):
    """memory: samples per task. reference: size of the batch behind the reference gradient."""

    memory: Count = 256
    reference: Count = 256


@strategy("agem", needs=("boundaries",))
class AGEM(GradientStrategy):
    """Project each gradient against the average memory gradient of the earlier tasks (averaged GEM)."""

    Config = AGEMConfig
    stateful = (*GradientStrategy.stateful, "memory")
    rehearses = True

    def setup(self, info: StreamInfo, context: Context) -> None:
        """With empty memories."""
        super().setup(info, context)
        if self.config.optimizer != "sgd" or self.config.momentum:
            raise UsageError("agem needs plain SGD: with momentum or Adam the step breaks its constraint.")
        self.memory = RingMemory(self.config.memory)

    def begin_task(self, task: Task) -> None:
        """Open the task's memory."""
        self.memory.begin_task()

    def adjust_gradients(self, batch: Batch) -> None:
        """One projection, without leaving the device."""
        if self.tasks_begun == 1:
            return
        g = flat_gradient(self.model)
        stored, y = self.memory.draw(self.config.reference, self.tasks_begun - 1, self.context.generator("reference"))
        self.optimizer.zero_grad()
        self.objective.loss(self.model(batch.prepare(stored)), y).backward()
        set_gradient(self.model, project_one(flat_gradient(self.model), g))

    def after_step(self, batch: Batch) -> None:
        """Write the batch into the task's memory."""
        self.memory.add(batch.stored, batch.y)


def project_one(reference: Tensor, g: Tensor) -> Tensor:
    """The gradient [P] without its component against `reference` [P]; g itself, bit for bit, if they agree."""
    dot = reference @ g
    share = torch.where(dot < 0, dot / (reference @ reference).clamp_min(torch.finfo(g.dtype).tiny), 0)
    return torch.where(dot < 0, g - share * reference, g)
