"""APER: adapt a pre-trained network on the first task, then class means of its features, before and after, by cosine.

Zhou et al., "Revisiting Class-Incremental Learning with Pre-Trained Models: Generalizability and Adaptivity are All
You Need" (IJCV 2024; called ADAM in its first version): the change is trained on the first task with
cross-entropy over its classes, and frozen; every task then adds class means of [unchanged, changed] features.

Differences: the head of the first task is linear, not a cosine classifier, and there is no dropout inside the adapter;
the learning rate falls step by step, not epoch by epoch. Prompts ("VPT") and scale-and-shift ("SSF") are left out;
"norms" trains the norms of a transformer, which the paper does with the batch norms of a ResNet.

Published (ViT-B/16, ImageNet-21k; CIFAR-100, 5 classes a task; adapters): 90.7 % averaged over the tasks, 85.2 % after
the last; SimpleCIL beside it 87.6 % and 81.3 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..streams.core import StreamInfo
from .context import Context
from .core import strategy
from .parts.first_session import AdaptConfig, FirstSession
from .parts.prototypes import Prototypes


@dataclass(frozen=True)
class APERConfig(AdaptConfig):
    """adapt: always something; what is left without it is simplecil."""

    adapt: Literal["adapter", "norms", "full"] = "adapter"


@strategy("aper", needs=("boundaries",))
class APER(FirstSession):
    """Adapt on the first task, freeze, then class means of old and adapted features (APER)."""

    Config = APERConfig
    stateful = (*FirstSession.stateful, "prototypes")
    both = True

    def setup(self, info: StreamInfo, context: Context) -> None:
        """With no class seen yet."""
        super().setup(info, context)
        self.prototypes = Prototypes(info.classes, self.model.width, context.device)

    def absorb(self, features: Tensor, y: Tensor) -> None:
        """Add to the class means."""
        self.prototypes.add(features, y)

    def scores(self, features: Tensor) -> Tensor:
        """Cosine to each class mean."""
        return self.prototypes.cosine(features)
