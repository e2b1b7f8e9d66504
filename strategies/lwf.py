"""Learning without forgetting: on the new task's data, keep the answers that the network gave before it.

Li and Hoiem, "Learning without Forgetting" (ECCV 2016): the old network's outputs on the new inputs are recorded and
distilled with temperature 2, one softmax per old head; without task ids, one softmax over all earlier classes.
Deviations: no warm-up of the new head; the distillation loss carries the factor T^2 of Hinton et al. (2015), so that
its gradient does not depend on the temperature's scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call

from ..streams.batches import Batch
from ..streams.core import StreamInfo, Task
from .config import NonNegative, Positive
from .context import Context
from .core import GradientStrategy, TrainConfig, strategy
from .parts.distillation import distillation


@dataclass(frozen=True)
class LwFConfig(TrainConfig):
    """strength: weight of the distillation loss. temperature: of both softmaxes."""

    strength: NonNegative = 1.0
    temperature: Positive = 2.0


@strategy("lwf", needs=("boundaries",))
class LwF(GradientStrategy):
    """Distil the previous network's answers on the new task's inputs (learning without forgetting)."""

    Config = LwFConfig
    kinds = ("classification",)
    stateful = (*GradientStrategy.stateful, "teacher")

    def setup(self, info: StreamInfo, context: Context) -> None:
        """No teacher yet."""
        super().setup(info, context)
        self.teacher: dict[str, Tensor] | None = None

    def begin_task(self, task: Task) -> None:
        """The network as it stands becomes the teacher."""
        if self.tasks_begun > 1:
            self.teacher = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy on the new labels plus distillation on the old heads."""
        logits = self.model(batch.x)
        loss = self.objective.loss(logits, batch.y)
        if self.teacher is None:
            return loss
        with torch.no_grad():
            self.model.eval()  # the teacher answers as it did at test, and keeps its running statistics
            taught = functional_call(self.model, self.teacher, batch.x)
            self.model.train()
        heads = self.objective.old_heads()
        kept = sum(distillation(logits[:, head], taught[:, head], self.config.temperature) for head in heads)
        return loss + self.config.strength * kept
