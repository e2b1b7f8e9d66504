"""L2P: a pool of prompts for a frozen transformer; each input takes the few whose keys match it best.

Wang et al., "Learning to Prompt for Continual Learning" (CVPR 2022). A prompt is `prompt_length` tokens. The `top`
prompts whose keys are nearest by cosine to the query q(x), what the network says of x without prompts, join the image's
tokens, and the head reads the mean of what comes out of theirs. Prompts, keys and head are trained by the cross-entropy
among the task's own classes minus `pull` x the sum of the chosen keys' cosines. No task owns a prompt.

Where we differ from the published code: each sample chooses for itself, in training and at test (`parity` restores the
choice by majority of a batch, which at test tells the task, because a batch holds one: such a run scores each test set
apart, and its record says so); keys start orthogonal. Prompt tokens stand at the end of the sequence; they have no
position there either, so that attention does not tell the difference.

Published (mean accuracy / forgetting, by majority): Split CIFAR-100 83.83 / 7.63, Split ImageNet-R 61.57 / 9.73.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..base.errors import UsageError
from ..streams.batches import Batch
from ..streams.core import Query, StreamInfo, Task
from .backbones.vit import Plugs, ViT
from .config import Count, NonNegative, Positive
from .context import Context
from .core import GradientStrategy, TrainConfig, strategy
from .parts.keys import TaskKeys
from .parts.prompts import Init, Queries, drawn, frozen_vit


@dataclass(frozen=True)
class L2PConfig(TrainConfig):
    """lr: as published on one device, 0.03 x 16 / 256.

    pool, prompt_length, top: prompts, tokens of each, prompts for an input. pull: weight of the matching loss.
    prompt_init: see `parts.prompts`.
    parity: with the published code: "batchwise", all samples of a batch take the prompts that most of them chose.
    test_batch: samples in one then; as published.
    """

    lr: Positive = 0.001875
    epochs: Count = 5
    batch_size: Count = 16
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    clip: NonNegative = 1.0
    model: str = "vit-micro"
    compete: Literal["setting", "task", "seen", "all"] = "task"
    pool: Count = 10
    prompt_length: Count = 5
    top: Count = 5
    pull: NonNegative = 1.0
    prompt_init: Init = "uniform"
    parity: Literal["none", "batchwise"] = "none"
    test_batch: Count = 16


class Pooled(nn.Module):
    """A frozen transformer with a pool of prompts [M, L, D], their keys, and its head."""

    def __init__(self, vit: ViT, config: L2PConfig, classes: int) -> None:
        super().__init__()
        self.vit, self.pretrained = vit, vit.pretrained
        self.prompts = drawn(config.prompt_init, config.pool, config.prompt_length, vit.width)
        self.keys = TaskKeys("trained", config.pool, classes, vit.width)

    def forward(self, x: Tensor, chosen: Tensor) -> Tensor:
        """Logits [B, C] with the prompts `chosen` [B, N], in any order."""
        prompts = self.prompts[chosen].flatten(1, 2)  # [B, N L, D]
        tokens = self.vit.tokens(x, Plugs(embed=lambda own: torch.cat([own, prompts], 1)))
        read = tokens[:, -prompts.shape[1] :].mean(1)
        return self.vit.head(self.vit.body.fc_norm(read))  # a norm in networks that norm after averaging


@strategy("l2p")
class L2P(GradientStrategy):
    """Prompt a frozen transformer with those of a pool whose keys match the input (learning to prompt)."""

    Config = L2PConfig
    kinds = ("classification",)

    @property
    def test_batch(self) -> int | None:
        """Only where parity with the published code is asked for."""
        return None if self.config.parity == "none" else self.config.test_batch

    def setup(self, info: StreamInfo, context: Context) -> None:
        """Nothing is asked yet."""
        super().setup(info, context)
        self.queries = Queries(self.model.vit, context.meter)

    def furnish(self, network: nn.Module) -> Pooled:
        """Prompts and keys around the frozen network."""
        if self.config.top > self.config.pool:
            raise UsageError(f"l2p: top={self.config.top} prompts of a pool of {self.config.pool}. Set a larger pool.")
        return Pooled(frozen_vit(network, self.name, self.config), self.config, self.info.classes)

    def learn(self, task: Task) -> None:
        """Train; each image's query is asked once where it comes in the same form in every pass."""
        self.queries.begin(task.train, self.passes())
        super().learn(task)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy among the competing classes, minus the sum of the chosen keys' cosines."""
        cosine, chosen = self._match(self.queries.in_training(batch.x))
        loss = self.objective.loss(self.model(batch.x, chosen), batch.y)
        return loss - self.config.pull * cosine.sum(1).mean()

    def validation_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Through the prompts that each input chooses."""
        _, chosen = self._match(self.queries.ask(x))
        return self.objective.loss(self.model(x, chosen), y)

    def predict(self, inputs: Tensor, query: Query) -> Tensor:
        """The best of the query's classes for each input."""
        _, chosen = self._match(self.queries.at_test(inputs))
        return self.objective.decide(self.model(inputs, chosen), query)

    def _match(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """(Cosines [B, N] of the chosen keys to the queries, which ones [B, N])."""
        cosine = self.model.keys.similarity(queries, self.config.pool)
        if self.config.parity == "none":
            return cosine.topk(self.config.top)
        votes = torch.bincount(cosine.topk(self.config.top).indices.flatten(), minlength=self.config.pool)
        most = votes.argsort(descending=True, stable=True)[: self.config.top]
        return cosine[:, most], most.expand(len(cosine), -1)
