"""Features of each class as a Gaussian, from which they can be drawn again when the data are gone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Gaussians:
    """Mean [D] and Cholesky factor [D, D] of the covariance of each class's features, and which task it was.

    The covariance is the unbiased one plus `jitter` x its mean diagonal x I: a class of fewer samples than D has a
    singular one, and what is small beside features of one length is not beside others.
    """

    def __init__(self, jitter: float = 1e-4) -> None:
        self.jitter = jitter
        self.classes: list[int] = []  # in the order of the rows
        self.tasks: list[int] = []
        self.means: Tensor | None = None  # [n, D]
        self.factors: Tensor | None = None  # [n, D, D], lower triangular

    @torch.no_grad()
    def fit(self, features: Tensor, y: Tensor, task: int) -> None:
        """Take in the classes [N] of a task, features [N, D]. A class that was there before is replaced."""
        classes = y.unique().tolist()
        kept = [i for i, c in enumerate(self.classes) if c not in classes]
        fresh = [self._moments(features[y == c].double()) for c in classes]
        means, factors = (torch.stack(parts).float() for parts in zip(*fresh, strict=True))
        if kept:
            means, factors = torch.cat([self.means[kept], means]), torch.cat([self.factors[kept], factors])
        self.means, self.factors = means, factors
        self.classes = [self.classes[i] for i in kept] + classes
        self.tasks = [self.tasks[i] for i in kept] + [task] * len(classes)

    def draw(self, count: int, scale: Tensor, generator: torch.Generator) -> Tensor:
        """[n, count, D]: `count` features of each class, its mean multiplied by `scale` [n]. `generator` on the CPU."""
        n, width = self.means.shape
        noise = torch.randn(n, count, width, generator=generator).to(self.means.device)
        return torch.baddbmm((self.means * scale[:, None])[:, None], noise, self.factors.mT)

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(0)
        around = x - mean
        covariance = around.T @ around / max(len(x) - 1, 1)
        variance = covariance.diagonal()
        variance += self.jitter * variance.mean().clamp(min=1e-12)  # a single sample has none
        return mean, torch.linalg.cholesky(covariance)

    def state_dict(self) -> dict[str, Any]:
        """All classes."""
        return {"classes": self.classes, "tasks": self.tasks, "means": self.means, "factors": self.factors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.classes, self.tasks = list(state["classes"]), list(state["tasks"])
        self.means, self.factors = state["means"], state["factors"]
