"""SimpleCIL: class means of a frozen network's features, compared by cosine. Nothing is trained.

Zhou et al., "Revisiting Class-Incremental Learning with Pre-Trained Models: Generalizability and Adaptivity are All
You Need" (IJCV 2024). The first sanity line for every backbone: a rehearsal-free method below it is broken.

Each sample is read once, with the test transform, so that it works online and without task boundaries, too. Sums are
kept as integers, so that neither the order of the tasks nor how the data are cut into tasks leaves a trace in them.

Differences: classes that were never seen are answered only where there is nothing else to answer.

Published (ViT-B/16, ImageNet-21k; CIFAR-100, 5 classes a task): 87.6 % averaged over the tasks, 81.3 % after the last.
"""

from __future__ import annotations

from torch import Tensor

from ..streams.core import StreamInfo
from .context import Context
from .core import strategy
from .parts.on_features import OnFeatures
from .parts.prototypes import Prototypes


@strategy("simplecil")
class SimpleCIL(OnFeatures):
    """Class means of frozen features, nearest by cosine (SimpleCIL); trains nothing."""

    stateful = ("prototypes",)

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
