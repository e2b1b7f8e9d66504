"""A quadratic pull to the weights at the start of each task, all alike: the weight consolidation of ZSCL alone.

Zheng et al. (ICCV 2023) call it WC; Xuhong, Grandvalet and Davoine (ICML 2018) L2-SP. Expected: between fine-tuning and
`zscl` on image-text streams.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..streams.batches import Batch
from ..streams.core import StreamInfo, Task
from .config import NonNegative
from .context import Context
from .core import GradientStrategy, TrainConfig, strategy
from .parts.gradients import pull
from .parts.optimizers import trained


@dataclass(frozen=True)
class L2StartConfig(TrainConfig):
    """strength: lambda in lambda |theta - theta_start|^2."""

    strength: NonNegative = 0.1


@strategy("l2-start", needs=("boundaries",))
class L2Start(GradientStrategy):
    """Hold all weights near where the task began."""

    Config = L2StartConfig
    stateful = (*GradientStrategy.stateful, "start")

    def setup(self, info: StreamInfo, context: Context) -> None:
        """Nothing to hold yet."""
        super().setup(info, context)
        self.start: list[Tensor] = []

    def begin_task(self, task: Task) -> None:
        """The weights as they are now; in the first task they are random, and free, unless they were pre-trained."""
        free = self.tasks_begun == 1 and getattr(self.model, "pretrained", None) is None
        self.start = [] if free else [p.detach().clone() for p in trained(self.model)]

    def end_task(self, task: Task) -> None:
        """Nothing is kept between tasks."""
        self.start = []

    def adjust_gradients(self, batch: Batch) -> None:
        """2 lambda (theta - theta_start)."""
        if self.start:
            pull(trained(self.model), self.start, self.config.strength)
