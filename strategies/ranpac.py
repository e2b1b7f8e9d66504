"""RanPAC: ridge regression on random features of a frozen network, from sums that forget nothing.

McDonnell et al., "RanPAC: Random Projections and Pre-trained Models for Continual Learning" (NeurIPS 2023): features
h = relu(f W_r), with W_r ~ N(0, 1) of width M = 10,000, go into two sums over all samples (see `parts/ridge`). After
each task the classes' weights are solved for, with the ridge that errs least on a fifth of the task's samples. Apart
from that choice the result does not depend on the order of the tasks. Before ("phase 1"), the network may be adapted on
the first task; its adapted features alone are then read.

Differences: all in float64, where the published code sums in float32; the 17 ridges share one eigendecomposition; a
ridge below the rounding of the sums is raised to it. Phase 1 is off by default, and its adapters are those of `aper`:
the paper's scale-and-shift, which it used for ImageNet-R, is left out. The sum G takes 8 M^2 bytes, 800 MB at
M = 10,000, as much again while it is solved, and is part of every checkpoint; for vit-micro width=2000 is enough.

Published (ViT-B/16, 10 tasks; with phase 1, and without): CIFAR-100 92.2 and 89.0 %, ImageNet-R 77.9 and 71.8 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..streams.core import StreamInfo
from .config import Amount, Count, NonNegative, Positive
from .context import Context
from .core import strategy
from .parts.first_session import AdaptConfig, FirstSession
from .parts.ridge import RandomFeatures, Ridge, choose_ridge


@dataclass(frozen=True)
class RanPACConfig(AdaptConfig):
    """width: M, of the random features; 0 takes the network's own. ridge: None chooses one after each task.

    adapt: on the first task; the training settings are of it alone.
    """

    width: Amount = 10_000
    ridge: Positive | None = None
    adapt: Literal["none", "adapter", "norms"] = "none"
    lr: Positive = 0.01
    weight_decay: NonNegative = 0.0005
    batch_size: Count = 48


@strategy("ranpac", needs=("boundaries",))
class RanPAC(FirstSession):
    """Ridge regression on random features of a frozen network, summed over all tasks (RanPAC)."""

    Config = RanPACConfig
    stateful = (*FirstSession.stateful, "sums", "weights")

    def setup(self, info: StreamInfo, context: Context) -> None:
        """With empty sums. The random features are a function of the run's seed; therefore no checkpoint holds them."""
        super().setup(info, context)
        width, D = self.config.width, self.model.width
        lift = RandomFeatures(D, width, context.seed, "random features") if width else nn.Identity()
        self.lift = lift.to(context.device)
        self.sums = Ridge(width or D, info.classes, context.device)
        self.weights: Tensor | None = None  # [M, C]

    def networks(self) -> list[nn.Module]:
        """The network and the random layer after it."""
        return [self.model, self.lift]

    @torch.no_grad()
    def absorb(self, features: Tensor, y: Tensor) -> None:
        """Add to the sums, and solve."""
        with self.context.meter.work("train", self.context.task, "ridge", len(y)):
            h = self.lift(features)
            self.sums.add(h, y)
            ridge = self.config.ridge or choose_ridge(h, y, self.context.generator("ridge"))
            ridge = max(ridge, self.sums.least())
            self.weights = self.sums.solve(ridge).float()
        self.context.report("ridge", ridge)

    def scores(self, features: Tensor) -> Tensor:
        """The regressed one-hot codes; minus infinity for a class that was never seen."""
        if self.weights is None:
            return features.new_zeros(len(features), self.info.classes)
        return (self.lift(features) @ self.weights).masked_fill((self.weights == 0).all(0), -torch.inf)
