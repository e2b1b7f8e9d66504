"""The frozen image-text model: what every adaptation is measured against. It learns nothing and forgets nothing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..base.seeds import drawing
from ..streams.core import Query, StreamInfo, Task
from .backbones import build
from .context import Context
from .core import Strategy, strategy
from .parts.image_text import ImageText


@dataclass(frozen=True)
class ZeroShotConfig:
    """model: name of a backbone that reads images and texts; its own options are given as `model.weights=...`."""

    model: str = "clip-micro"
    model_options: dict[str, Any] = dataclasses.field(default_factory=dict)


@strategy("zero-shot")
class ZeroShot(Strategy):
    """Answer by the frozen image-text model."""

    Config = ZeroShotConfig
    kinds = ("image-text",)

    def setup(self, info: StreamInfo, context: Context) -> None:
        """The model, as it comes."""
        super().setup(info, context)
        with drawing(context.seed, "initial weights"):
            network = build(self.config.model, info, **self.config.model_options)
        self.model = network.requires_grad_(False).eval().to(context.device)
        self.objective = ImageText(self.model, info, "setting", context, 0.0, rehearses=False)

    def learn(self, task: Task) -> None:
        """Nothing."""

    def predict(self, inputs: Tensor, query: Query) -> Tensor:
        """The candidate whose words are nearest."""
        return self.objective.decide(self.model(inputs), query)

    def networks(self) -> list[nn.Module]:
        """The frozen one."""
        return [self.model]
