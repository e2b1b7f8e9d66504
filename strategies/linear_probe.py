"""A linear probe of all data so far: the reference for what a frozen network's features are worth.

After each task, multinomial logistic regression on the features of *all* tasks so far, over all classes seen, from
zero and solved, so that every row of the matrix is a reference of its own, as in `joint`. It keeps the features of
every sample, which the ledger shows as replay: it bounds what methods on frozen features reach, and is none of them.

The features are standardised and the loss is the mean cross-entropy plus l2/2 |weights|^2, the biases free. The
problem is convex, so that how it is solved leaves no trace beyond `tolerance`; each task reports the gradient that was
reached.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..streams.core import StreamInfo
from .config import Count, Positive
from .context import Context
from .core import strategy
from .parts.logistic import logistic
from .parts.memory import Archive
from .parts.on_features import OnFeatures, OnFeaturesConfig


@dataclass(frozen=True)
class LinearProbeConfig(OnFeaturesConfig):
    """l2: weight of the penalty; for N samples, scikit-learn calls 1 / (N l2) C.

    tolerance: on the largest entry of the gradient. iterations: of L-BFGS, at most.
    """

    l2: Positive = 1e-3
    tolerance: Positive = 1e-6
    iterations: Count = 1000


@strategy("linear-probe", needs=("boundaries",))
class LinearProbe(OnFeatures):
    """Logistic regression on frozen features of all data so far, after each task."""

    Config = LinearProbeConfig
    stateful = ("memory", "weight", "bias")

    def setup(self, info: StreamInfo, context: Context) -> None:
        """With nothing kept yet."""
        super().setup(info, context)
        self.memory = Archive()  # of features
        self.weight = torch.zeros(info.classes, self.model.width, device=context.device)
        self.bias = torch.zeros(info.classes, device=context.device)

    def absorb(self, features: Tensor, y: Tensor) -> None:
        """Keep the features, and solve anew for all that are kept."""
        self.memory.add(features, y)
        kept, labels, c = self.memory.samples, self.memory.targets, self.config
        with self.context.meter.work("train", self.context.task, "probe"):
            weight, bias, reached = logistic(kept, labels, self.info.classes, c.l2, c.tolerance, c.iterations)
        self.weight, self.bias = weight.float(), bias.float()
        self.context.report("probe_gradient", reached)

    def scores(self, features: Tensor) -> Tensor:
        """Log-odds; minus infinity for a class that was never seen."""
        return features @ self.weight.T + self.bias
