"""The frozen image-text model: what every adaptation is measured against. It learns nothing and forgets nothing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..base.errors import UsageError
from ..base.seeds import derive
from ..streams.core import Query, StreamInfo, Task
from .backbones import build
from .context import Context
from .core import Strategy, strategy
from .parts.image_text import ImageText, reads_images_and_texts


@dataclass(frozen=True)
class ZeroShotConfig:
    """model: name of a backbone that reads images and texts; its own options are given as `model.weights=...`."""

    model: str = "clip-micro"
    model_options: dict[str, Any] = dataclasses.field(default_factory=dict)


@strategy("zero-shot")
class ZeroShot(Strategy):
    """Answer by the frozen image-text model."""

    Config = ZeroShotConfig

    def setup(self, info: StreamInfo, context: Context) -> None:
        """The model, as it comes."""
        super().setup(info, context)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive(context.seed, "initial weights"))
            self.model = build(self.config.model, info, **self.config.model_options).requires_grad_(False).eval()
        if info.kind != "image-text" or not reads_images_and_texts(self.model):
            raise UsageError(f"{self.name} needs a stream of images and texts and a model that reads both.")
        self.model.to(context.device)
        self.objective = ImageText(self.model, info, "setting", context, 0.0, rehearses=False)

    def learn(self, task: Task) -> None:
        """Nothing."""

    def predict(self, inputs: Tensor, query: Query) -> Tensor:
        """The candidate whose words are nearest."""
        return self.objective.decide(self.model(inputs), query)

    def networks(self) -> list[nn.Module]:
        """The frozen one."""
        return [self.model]
