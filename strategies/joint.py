"""Joint training: the reference that keeps everything.

After each task a fresh network is trained on the data of all tasks so far, for as many passes as the others make over
each task (where steps are told instead, for as many as they have made in all), so that every row of the matrix is a
reference of its own. With few passes it is no bound: a method that draws old samples many times, as GEM does on
`gem-mnist-rotations`, can come out higher. Row T costs as much as fine-tuning on the whole stream; all rows together
(T+1)/2 times as much, which the ledger shows. Elsewhere called "multitask".
"""

from __future__ import annotations

import dataclasses

import torch

from ..streams.core import Data, StreamInfo, Task
from .context import Context
from .core import GradientStrategy, strategy
from .parts.memory import Archive


@strategy("joint", needs=("boundaries",))
class Joint(GradientStrategy):
    """Train a fresh network on the data of all tasks so far, as many passes as over each task."""

    stateful = (*GradientStrategy.stateful, "memory")
    rehearses = True

    def setup(self, info: StreamInfo, context: Context) -> None:
        """With nothing kept yet."""
        super().setup(info, context)
        self.memory = Archive()
        self.held = None  # of validation data, where something goes by them
        if self.config.schedule == "plateau" or self.config.selection == "validation":
            self.held = Archive()
            self.stateful = (*self.stateful, "held")

    def training_data(self, task: Task) -> Data:
        """All data so far; when a task begins, its own is added, and its validation data."""
        if self.step == 0:
            self.memory.add(*task.train.rows(torch.arange(len(task.train), device=task.train.targets.device)))
            if self.held is not None:
                val = super().validation_data(task)
                self.held.add(*val.span(0, len(val)))
        return dataclasses.replace(
            task.train, samples=self.memory.samples, targets=self.memory.targets, drawn={"samples": 0}
        )

    def validation_data(self, task: Task) -> Data:
        """All validation data so far."""
        val = super().validation_data(task)
        return dataclasses.replace(val, samples=self.held.samples, targets=self.held.targets)

    def budget(self, per_epoch: int) -> int:
        """Where steps are told, as many as the others have made in all tasks so far."""
        return self.config.steps * self.tasks_begun or super().budget(per_epoch)

    def begin_task(self, task: Task) -> None:
        """Start afresh."""
        self.model.load_state_dict(self.new_model().state_dict())
