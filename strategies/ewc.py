"""Elastic weight consolidation: a quadratic pull towards earlier weights, as strong as they were informative.

Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks" (PNAS 2017), equation 3: after each task
add  strength/2 sum_i F_i (theta_i - theta*_i)^2, with F the diagonal Fisher information at the task's solution. The
penalties of all tasks are kept as two sums, because their
gradient, sum_k F_k (theta - theta_k), is (sum_k F_k) theta - sum_k F_k theta_k.
`decay` below 1 gives the online variant (Schwarz et al., "Progress & Compress", 2018): F <- decay F + F_new with one
anchor, the latest weights.

Deviation: the penalty's step is implicit (see `adjust_gradients`), and so stable at any strength.

Expected: between fine-tuning and replay; with one shared head over all seen classes, close to fine-tuning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..base.errors import UsageError
from ..streams.batches import Batch
from ..streams.core import StreamInfo, Task
from .config import Amount, Count, NonNegative, Share
from .context import Context
from .core import GradientStrategy, TrainConfig, strategy
from .parts.fisher import information
from .parts.optimizers import rates, trained


@dataclass(frozen=True)
class EWCConfig(TrainConfig):
    """strength: lambda. decay: 1 keeps every task's own anchor, less is online EWC.

    fisher: with the data's labels ("empirical") or with labels drawn from the network ("true").
    fisher_samples: training samples behind F; 0 means all. fisher_batch: samples whose gradients are taken at once.
    """

    strength: NonNegative = 100.0
    decay: Share = 1.0
    fisher: Literal["empirical", "true"] = "empirical"
    fisher_samples: Amount = 0
    fisher_batch: Count = 64


@strategy("ewc", needs=("boundaries",))
class EWC(GradientStrategy):
    """Hold informative weights near their earlier values (elastic weight consolidation)."""

    Config = EWCConfig
    stateful = (*GradientStrategy.stateful, "information", "anchor")

    def setup(self, info: StreamInfo, context: Context) -> None:
        """Nothing to hold yet."""
        super().setup(info, context)
        if info.kind == "policy" and self.config.fisher == "true":
            raise UsageError(f"fisher=true draws classes, and {info.name} has none. Leave it out.")
        self.information: list[Tensor] = []  # sum of F, one tensor per parameter
        self.anchor: list[Tensor] = []  # sum of F theta*

    def extra_passes(self) -> int:
        """One for the Fisher information."""
        return 1

    def adjust_gradients(self, batch: Batch) -> None:
        """Add the penalty's gradient, strength (F theta - F theta*), without building its graph.

        Under SGD the penalty's part of the step is taken implicitly: theta <- (theta - lr g + c F theta*) / (1 + c F)
        with c = lr strength, which is the explicit step with its gradient divided by 1 + c F. An explicit step blows up
        where c F > 2, and strengths that hold anything have weights where it is.
        """
        if not self.information:
            return
        params = trained(self.model)
        pull = torch._foreach_mul(self.information, [p.detach() for p in params])
        torch._foreach_sub_(pull, self.anchor)
        rate = rates(self.optimizer) if self.config.optimizer == "sgd" else {}
        for p, force, f in zip(params, pull, self.information, strict=True):
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            p.grad.add_(force, alpha=self.config.strength)
            if rate:
                p.grad.div_(1 + rate[id(p)] * self.config.strength * f)

    def end_task(self, task: Task) -> None:
        """Take the Fisher information at the task's solution and make it an anchor."""
        fisher = self._fisher(task)
        theta = [p.detach().clone() for p in trained(self.model)]
        if not self.information:
            self.information = fisher
        elif self.config.decay == 1:
            self.information = torch._foreach_add(self.information, fisher)
            self.anchor = torch._foreach_add(self.anchor, torch._foreach_mul(fisher, theta))
            return
        else:
            self.information = torch._foreach_add(fisher, self.information, alpha=self.config.decay)
        self.anchor = torch._foreach_mul(self.information, theta)

    def _fisher(self, task: Task) -> list[Tensor]:
        samples, at_once = self.config.fisher_samples, self.config.fisher_batch
        labels = self._sampled if self.config.fisher == "true" else None
        loss = self.objective.nll
        return list(information(self.model, loss, task.train, self.context, samples, at_once, labels).values())

    @torch.no_grad()
    def _sampled(self, x: Tensor, y: Tensor) -> Tensor:
        chances = torch.softmax(self.objective.restrict(self.objective.logits(self.model(x)), y), dim=1).cpu()
        if not torch.isfinite(chances).all():
            return y  # the network has diverged, which the harness will find
        return torch.multinomial(chances, 1, generator=self.context.generator("labels"))[:, 0].to(y.device)
