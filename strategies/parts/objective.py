"""What is learnt and how an answer is read off the network: cross-entropy over the classes that compete.

Which classes share a softmax is what separates the settings. The network always has a column for every class of the
stream; columns that do not compete get -inf, so that their probability, and their gradient, is exactly zero.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...streams.core import Query, StreamInfo, Task


class Classification:
    """Cross-entropy with label spaces.

    Args:
        compete: "setting" (as at test), or "task" (each sample against the classes of its own task), "seen" (all
            classes revealed so far), "all".
        smoothing: share of a label that is spread evenly over the classes that compete.
    """

    def __init__(self, info: StreamInfo, compete: str, device: torch.device, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing
        self.space = info.setting.label_space if compete == "setting" else compete
        self.groups: list[list[int]] = []  # classes revealed by each task, in order
        # excluded[c] is the row of classes that a sample of class c does not compete with
        self.excluded = torch.ones(info.classes, info.classes, dtype=torch.bool, device=device)

    def reveal(self, task: Task) -> None:
        """Take in the classes of a new task."""
        self.groups.append(list(task.classes))
        if self.space == "seen":
            seen = sorted({c for group in self.groups for c in group})
            self.excluded[:, seen] = False
        elif self.space == "task":
            for c in task.classes:
                self.excluded[c, list(task.classes)] = False

    def logits(self, outputs: Tensor) -> Tensor:
        """[B, C] of what the network gives; here these already."""
        return outputs

    def restrict(self, logits: Tensor, y: Tensor) -> Tensor:
        """Logits [B, C] with -inf where a class does not compete with the sample's own class."""
        return logits if self.space == "all" else logits.masked_fill(self.excluded[y], -torch.inf)

    def loss(self, logits: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy of logits [B, C] against class ids [B]; scalar, or [B] with reduction="none"."""
        logits = self.restrict(logits, y)
        loss = F.cross_entropy(logits, y, reduction=reduction)
        if self.smoothing:  # torch's own has no place for classes that do not compete
            log = torch.log_softmax(logits, 1)
            there = torch.isfinite(log)
            even = -log.where(there, 0.0).sum(1) / there.sum(1)
            loss = torch.lerp(loss, even if reduction == "none" else even.mean(), self.smoothing)
        return loss

    def nll(self, logits: Tensor, y: Tensor) -> Tensor:
        """Negative log-likelihood, mean over [B]: the loss without smoothing, of which information is taken."""
        smoothing, self.smoothing = self.smoothing, 0.0
        try:
            return self.loss(logits, y)
        finally:
            self.smoothing = smoothing

    def decide(self, logits: Tensor, query: Query) -> Tensor:
        """Class ids [B]: the largest logit among the query's classes. With no class to choose from, -1."""
        if query.open:
            return logits.argmax(1)
        if not query.classes:
            return torch.full((len(logits),), -1, device=logits.device)
        columns = query.column_index(logits.device)
        return columns[logits[:, columns].argmax(1)]

    def is_new(self, y: Tensor) -> Tensor:
        """[N] bool: whether the class of each label was revealed by the latest task and by none before."""
        earlier = [c for group in self.groups[:-1] for c in group]
        return ~torch.isin(y, torch.tensor(earlier, dtype=y.dtype, device=y.device))

    def old_heads(self) -> list[list[int]]:
        """The softmax groups of earlier tasks: one per task, or one of all earlier classes, as the space has it."""
        earlier = self.groups[:-1]
        if self.space == "task" or not earlier:
            return earlier
        return [sorted({c for group in earlier for c in group})]

    def state_dict(self) -> dict[str, Any]:
        """The classes revealed so far."""
        return {"groups": self.groups, "excluded": self.excluded}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.groups = [list(group) for group in state["groups"]]
        self.excluded = state["excluded"].to(self.excluded.device)
