"""Strategies that train no network: a frozen one tells features, and a classifier is worked out from them.

One counted pass over each task's data, with the test transform; features of test inputs are remembered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...base.errors import UsageError
from ...base.seeds import drawing
from ...streams.core import Query, StreamInfo, Task
from ..backbones import build
from ..context import Context
from ..core import Strategy
from .features import Memo, features
from .objective import Classification


@dataclass(frozen=True)
class OnFeaturesConfig:
    """model: name of a backbone that tells features; its own options are given as `model.weights=...`."""

    model: str = "vit-micro"
    model_options: dict[str, Any] = field(default_factory=dict)


class OnFeatures(Strategy):
    """A frozen network, and two places to fill: `absorb` what a task's features say, and `scores` of features."""

    Config = OnFeaturesConfig

    def setup(self, info: StreamInfo, context: Context) -> None:
        """The network is a function of its weights, or of the run's seed; therefore no checkpoint holds it."""
        super().setup(info, context)
        with drawing(context.seed, "initial weights"):
            network = build(self.config.model, info, **self.config.model_options)
        self.model = headless(network, self.config.model, self.name).requires_grad_(False).eval().to(context.device)
        self.objective = Classification(info, "setting", context.device)
        self.memo = Memo(context.meter, "features")

    def learn(self, task: Task) -> None:
        """One pass, without a gradient."""
        self.absorb(*features(self.model.features, task.train, self.context, "features"))

    @torch.no_grad()
    def predict(self, inputs: Tensor, query: Query) -> Tensor:
        """The best of the query's classes for each input."""
        return self.objective.decide(self.scores(self.memo(self.model.features, inputs)), query)

    def networks(self) -> list[nn.Module]:
        """The frozen network."""
        return [self.model]

    def absorb(self, features: Tensor, y: Tensor) -> None:
        """Take in the features [N, D] of a task, of classes [N]."""
        raise NotImplementedError

    def scores(self, features: Tensor) -> Tensor:
        """[B, C], the larger the likelier, of features [B, D]."""
        raise NotImplementedError


def headless(network: nn.Module, model: str, strategy: str) -> nn.Module:
    """The network without its classifying layer, which takes no part; one that tells no features is refused."""
    if not (hasattr(network, "features") and hasattr(network, "width")):
        raise UsageError(
            f"{strategy} works on features, and the model {model} tells none: it has no features(x) -> [B, width]. "
            "Choose model=vit-micro, vit-b16 or timm."
        )
    network.head = nn.Identity()
    return network
