"""SLCA: fine-tune everything, the body slowly; then align the head on features drawn from a Gaussian per class.

Zhang et al., "SLCA: Slow Learner with Classifier Alignment for Continual Learning on a Pre-trained Model" (ICCV 2023).
The body learns at a hundredth of the head's rate, by the cross-entropy among the task's own classes. After each task
the features of each of its classes are kept as a mean and a full covariance; from the second task on, the head is then
trained on features drawn from those of all classes seen, so that the tasks' logits become comparable. The next task
goes on from the head as it was before. Statistics of earlier classes are not renewed as the body drifts.

`align=false` is the slow learner alone: fine-tuning, well tuned.

Where we differ from the published code: the ridge of the covariance is relative to its size. As there, rows of the
head that do not compete in a task keep still: weight decay does not touch them.

Published (ViT-B/16, ImageNet-21k; after the last task / averaged over tasks): Split CIFAR-100 91.53 / 94.09 %, Split
ImageNet-R 77.00 / 81.17 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.errors import UsageError
from ..base.seeds import torch_generator
from ..streams.batches import Batch
from ..streams.core import StreamInfo, Task
from .config import Count, NonNegative, Positive, Schedule, Share
from .context import Context
from .core import GradientStrategy, TrainConfig, strategy
from .parts.features import features
from .parts.gaussians import Gaussians
from .parts.optimizers import SGD


@dataclass(frozen=True)
class SLCAConfig(TrainConfig):
    """The published recipe for ImageNet-R; lr is of the body.

    align: whether the head is aligned after each task but the first.
    align_epochs, align_lr, align_samples: passes over newly drawn features, the rate at first, which falls by a cosine
        over the passes, and features drawn per class, which is the batch size as well. Momentum and weight decay are
        those of training.
    temperature: by which logits are divided once their norm, averaged over tasks, is 1; 0 leaves logits as they are.
    jitter: see `parts.gaussians`.
    """

    lr: Positive = 1e-4
    head_lr: Positive | None = 0.01
    momentum: NonNegative = 0.9
    weight_decay: NonNegative = 5e-4
    epochs: Count = 50
    batch_size: Count = 128
    schedule: Schedule = "step"
    drop_at: Share = 0.8
    model: str = "vit-micro"
    compete: Literal["setting", "task", "seen", "all"] = "task"
    align: bool = True
    align_epochs: Count = 5
    align_lr: Positive = 0.01
    align_samples: Count = 256
    temperature: NonNegative = 0.1
    jitter: Positive = 1e-4


@strategy("slca", needs=("boundaries",))
class SLCA(GradientStrategy):
    """Fine-tune the body slowly, and align the head on drawn features of all classes (SLCA)."""

    Config = SLCAConfig
    kinds = ("classification",)
    stateful = (*GradientStrategy.stateful, "gaussians", "unaligned")

    def setup(self, info: StreamInfo, context: Context) -> None:
        """No class seen yet."""
        super().setup(info, context)
        self.gaussians = Gaussians(self.config.jitter)
        self.unaligned: dict[str, Tensor] | None = None  # the head before it was aligned

    def furnish(self, network: nn.Module) -> nn.Module:
        """The network, if it tells features."""
        if not (hasattr(network, "features") and isinstance(getattr(network, "head", None), nn.Linear)):
            raise UsageError(
                f"{self.name} works on features, and the model {self.config.model} tells none: it has no features(x) "
                "-> [B, width]. Choose model=vit-micro, vit-b16 or timm."
            )
        return network

    def extra_passes(self) -> int:
        """One for the features of the classes."""
        return int(self.config.align)

    def begin_task(self, task: Task) -> None:
        """The head goes back to where it was before alignment."""
        if self.unaligned is not None:
            self.model.head.load_state_dict(self.unaligned)
            self.unaligned = None

    def learn(self, task: Task) -> None:
        """Train, with rows of the head that must keep still."""
        self._kept = None
        super().learn(task)

    def adjust_gradients(self, batch: Batch) -> None:
        """Note, once in a task, the head's rows that do not compete, which weight decay is about to move."""
        if self._kept is None and self.config.weight_decay and self.objective.space != "all":
            self._idle = self.objective.excluded[self.objective.groups[-1]].all(0).nonzero()[:, 0]
            self._kept = [p.detach()[self._idle] for p in self.model.head.parameters()]

    @torch.no_grad()
    def after_step(self, batch: Batch) -> None:
        """Put them back."""
        if self._kept is not None:
            for p, kept in zip(self.model.head.parameters(), self._kept, strict=True):
                p[self._idle] = kept

    def end_task(self, task: Task) -> None:
        """Keep the features of the task's classes as Gaussians, and align the head."""
        if not self.config.align:
            return
        found, y = features(self.model.features, task.train, self.context, "features")
        with self.context.meter.work("train", self.context.task, "gaussians", len(y)):
            self.gaussians.fit(found, y, self.tasks_begun - 1)
        if self.tasks_begun > 1:
            self.unaligned = {name: value.clone() for name, value in self.model.head.state_dict().items()}
            with self.context.meter.work("train", self.context.task, "alignment", len(self.gaussians.classes)):
                self._align()

    def _align(self) -> None:
        """Train the rows of all classes seen on features drawn anew in each pass."""
        config, head, t = self.config, self.model.head, self.tasks_begun - 1
        tasks = torch.tensor(self.gaussians.tasks, device=head.weight.device)
        classes = torch.tensor(self.gaussians.classes, device=head.weight.device)
        columns = [(tasks == task).nonzero()[:, 0] for task in tasks.unique().tolist()]
        scale = 0.9 + 0.1 * (tasks + 1) / (t + 1)  # means of earlier tasks are drawn nearer to 0
        rows = [p.detach()[classes].requires_grad_() for p in (head.weight, head.bias)]
        optimizer = SGD(rows, config.align_lr, config.momentum, config.weight_decay)
        for epoch in range(config.align_epochs):
            falling = (1 + math.cos(math.pi * epoch / config.align_epochs)) / 2
            optimizer.param_groups[0]["lr"] = config.align_lr * falling
            draw = torch_generator(*self.context.key("alignment"), epoch)
            x = self.gaussians.draw(config.align_samples, scale, draw).flatten(0, 1)  # class after class
            order = torch.randperm(len(x), generator=draw).to(x.device)
            for some in order.split(config.align_samples):
                logits = F.linear(x[some], *rows)
                if config.temperature:
                    logits = logits / (norm_by_task(logits, columns) * config.temperature)
                optimizer.zero_grad()
                F.cross_entropy(logits, some // config.align_samples).backward()
                optimizer.step()
        with torch.no_grad():
            for p, aligned in zip((head.weight, head.bias), rows, strict=True):
                p[classes] = aligned


def norm_by_task(logits: Tensor, columns: list[Tensor]) -> Tensor:
    """[B, 1]: the Euclidean norm of logits [B, C] over each task's columns, averaged over tasks."""
    return torch.stack([logits[:, own].norm(dim=1) for own in columns], 1).mean(1, keepdim=True) + 1e-7
