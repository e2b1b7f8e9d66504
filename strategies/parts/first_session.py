"""Adapt on the first task, then freeze: a change to a pre-trained network is trained once, then features are read.

Panos et al., "First Session Adaptation" (ICCV 2023), and Zhou et al. (see `aper`): the first task tells how the stream
differs from what the network was trained on, and what is frozen afterwards cannot forget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ...base.errors import UsageError
from ...streams.core import Query, StreamInfo, Task
from ..backbones.vit import ViT
from ..config import Count, NonNegative, Positive, Schedule, TrainConfig
from ..context import Context
from ..core import GradientStrategy
from .adapters import Adapted, Adapters, Copy, Norms
from .features import Memo, features
from .on_features import headless


@dataclass(frozen=True)
class AdaptConfig(TrainConfig):
    """adapt: "adapter" (a bottleneck beside each block's MLP), "norms" (weights and biases of all norms), "full" (a
    whole network), or "none".

    adapter_width, adapter_scale: of the bottleneck, and of what it adds.
    """

    model: str = "vit-micro"
    lr: Positive = 0.05
    momentum: NonNegative = 0.9
    weight_decay: NonNegative = 0.005
    epochs: Count = 20
    batch_size: Count = 24
    schedule: Schedule = "cosine"
    compete: Literal["setting", "task", "seen", "all"] = "task"
    adapt: Literal["none", "adapter", "norms", "full"] = "none"
    adapter_width: Count = 64
    adapter_scale: Positive = 0.1


class FirstSession(GradientStrategy):
    """The training loop in the first task alone, and two places to fill: `absorb` and `scores`."""

    Config = AdaptConfig
    kinds = ("classification",)
    stateful = (*GradientStrategy.stateful, "adapting")
    both = False  # whether the unchanged features are read, too

    def setup(self, info: StreamInfo, context: Context) -> None:
        """A change that changes nothing yet; it and the head are a function of the run's seed."""
        self.adapting = self.config.adapt != "none"
        super().setup(info, context)
        self.memo = Memo(context.meter, "features")

    def furnish(self, network: nn.Module) -> nn.Module:
        """The frozen network, and beside it what is trained."""
        kind = self.config.adapt
        network = headless(network, self.config.model, self.name)
        if kind in ("adapter", "norms") and not isinstance(network, ViT):
            raise UsageError(
                f"{self.name}: adapt={kind} changes a vision transformer, which the model {self.config.model} is not. "
                "Choose adapt=full, or model=vit-micro."
            )
        change = {
            "none": lambda: None,
            "adapter": lambda: Adapters(network, self.config.adapter_width, self.config.adapter_scale),
            "norms": lambda: Norms(network),
            "full": lambda: Copy(network),
        }[kind]()
        return Adapted(network, change, self.info.classes, self.both)

    def passes(self) -> int:
        """Of the first task; none of the others."""
        return self.config.epochs if self.adapting else 0

    def extra_passes(self) -> int:
        """One for the features."""
        return 1

    def end_task(self, task: Task) -> None:
        """From the first end on, features stay as they are. They are read in one pass with the test transform."""
        self.adapting = False
        self.absorb(*features(self.model.features, task.train, self.context, "features"))

    def predict(self, inputs: Tensor, query: Query) -> Tensor:
        """The best of the query's classes for each input; before anything was absorbed, the first of them."""
        if self.adapting:
            scores = inputs.new_zeros(len(inputs), self.info.classes)
        else:
            with torch.no_grad():
                scores = self.scores(self.memo(self.model.features, inputs))
        return self.objective.decide(scores, query)

    # -- the places to fill -----------------------------------------------------------------------------------------

    def absorb(self, features: Tensor, y: Tensor) -> None:
        """Take in the features [N, D] of a task, of classes [N]."""
        raise NotImplementedError

    def scores(self, features: Tensor) -> Tensor:
        """[B, C], the larger the likelier, of features [B, D]."""
        raise NotImplementedError
