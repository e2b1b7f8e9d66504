"""Class means of features, as a classifier and as the start of one."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .objective import Classification

UNIT = 2.0**-32  # in which sums are counted: finer than float32 from 1/512 upwards; a sum may reach 2^31


class Prototypes:
    """A running mean of features per class. Sums are whole numbers, so that the order of arrival leaves no trace.

    Args:
        classes: number of classes. width: of a feature.
    """

    def __init__(self, classes: int, width: int, device: torch.device) -> None:
        self.sums = torch.zeros(classes, width, dtype=torch.int64, device=device)
        self.counts = torch.zeros(classes, dtype=torch.int64, device=device)

    def add(self, features: Tensor, y: Tensor) -> None:
        """Take in features [N, D] of classes [N]."""
        self.sums.index_add_(0, y, (features.double() / UNIT).round().long())
        self.counts += torch.bincount(y, minlength=len(self.counts))

    def means(self) -> Tensor:
        """[C, D] float32; zero for a class that was never seen."""
        return (self.sums.double() * UNIT / self.counts.clamp(min=1)[:, None]).float()

    def cosine(self, features: Tensor) -> Tensor:
        """Similarities [B, C] in [-1, 1] of features [B, D] to the class means; -1 to a class that was never seen."""
        cosine = F.normalize(features, dim=1) @ F.normalize(self.means(), dim=1).T
        return cosine.masked_fill(self.counts == 0, -1.0)

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts."""
        return {"sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.sums, self.counts = state["sums"], state["counts"]


@torch.no_grad()
def start_rows(head: nn.Linear, features: Tensor, y: Tensor, objective: Classification, scale: float = 10.0) -> None:
    """Set the rows of the new classes in `y` [N] so that their logits are about `scale` x cosine to the class mean.

    A row trained from zero against the classes of its task alone says nothing of its size beside other tasks' rows;
    rows that start as prototypes are comparable from the start.

    Args:
        features: [N, D], of the network as it is when training begins.
        objective: tells which classes are new; rows that an earlier task has trained stay.
    """
    new = objective.is_new(y)
    features, y = features[new], y[new]
    length = features.norm(dim=1).mean()
    for c in y.unique().tolist():
        head.weight[c] = F.normalize(features[y == c].mean(0), dim=0) * scale / length
        head.bias[c] = 0
