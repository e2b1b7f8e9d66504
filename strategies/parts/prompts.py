"""Prompts for a frozen vision transformer, and the queries by which they are chosen.

Wang et al., "Learning to Prompt for Continual Learning" (CVPR 2022) and "DualPrompt" (ECCV 2022). A prompt is either
a prefix, keys and values that every token of some blocks can attend to besides the tokens' own (Li and Liang, 2021),
or tokens beside the image's (Lester et al., 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ...base.errors import UsageError
from ...streams.core import Data
from ..backbones.policies import Attentive
from ..backbones.vit import Plugs, ViT
from ..config import TrainConfig
from ..context import Meter
from .features import Memo

Init = Literal["uniform", "small"]


def frozen_vit(network: nn.Module, strategy: str, config: TrainConfig) -> ViT:
    """The network, if it is a vision transformer, with nothing but its head left to train.

    Raises:
        UsageError: another network; weight decay, which would move what earlier tasks have learnt.
    """
    if not isinstance(network, ViT):
        raise UsageError(f"{strategy} works in a vision transformer, which the model {config.model} is not.")
    refuse_decay(strategy, config)
    network.freeze()
    return network


def refuse_decay(strategy: str, config: TrainConfig) -> None:
    """For parameters of several tasks in one tensor."""
    if config.weight_decay:
        raise UsageError(
            f"{strategy}: weight_decay={config.weight_decay} would move what earlier tasks have learnt. Leave it out."
        )


def drawn(init: Init, *shape: int) -> nn.Parameter:
    """A prompt as the published codes start it: "uniform" in [-1, 1) (PyTorch), "small" in [0, 0.01) (JAX)."""
    low, high = (-1.0, 1.0) if init == "uniform" else (0.0, 0.01)
    return nn.Parameter(torch.empty(shape).uniform_(low, high))


class Prefixes(nn.Module):
    """Keys and values that are prepended in the attention of some blocks: values [pool, blocks, 2, H, L, d].

    They stand in the heads' space, as they are: no projection, no position, no norm. Queries and tokens stay.

    Args:
        pool: of how many prefixes one is chosen, for each sample alone.
        scrambled: mix up keys, values and samples as the published PyTorch code does.
    """

    def __init__(
        self, vit: ViT, blocks: Sequence[int], length: int, pool: int, init: Init, scrambled: bool = False
    ) -> None:
        super().__init__()
        if len(set(blocks)) < len(blocks) or not all(0 <= i < vit.depth for i in blocks):
            raise UsageError(f"prompts in the blocks {list(blocks)}: name each once, from 0 to {vit.depth - 1}.")
        self.blocks, self.scrambled = tuple(blocks), scrambled
        self.values = drawn(init, pool, len(blocks), 2, vit.heads, length, vit.width // vit.heads)

    def before(self, block: int, k: Tensor, v: Tensor, chosen: int | Tensor) -> tuple[Tensor, Tensor]:
        """k, v [B, H, N, d] with the prefix in front, [B, H, L + N, d], where the block has one.

        Args:
            chosen: of the pool, one for all samples or [B].
        """
        if block not in self.blocks:
            return k, v
        pairs = self.values[chosen, self.blocks.index(block)]
        pairs = pairs.expand(len(k), *pairs.shape[-4:])  # [B, 2, H, L, d]
        if self.scrambled:
            # gathered as [2, B, ...] and read as [B, 2, ...]: the first half of a batch gets keys of two samples for
            # key and value, the second half values
            pairs = pairs.transpose(0, 1).reshape(pairs.shape)
        return torch.cat([pairs[:, 0], k], 2), torch.cat([pairs[:, 1], v], 2)

    @torch.no_grad()
    def start_at(self, means: dict[int, Tensor], generator: torch.Generator, spread: float = 0.02) -> None:
        """Start at a key and value [2, H, d] for each block, with Gaussian noise around them."""
        noise = torch.randn(self.values.shape, generator=generator).to(self.values.device)
        for i, block in enumerate(self.blocks):
            self.values[:, i] = means[block][None, :, :, None] + spread * noise[:, i]


def token_means(vit: ViT, x: Tensor, blocks: Sequence[int]) -> Tensor:
    """[B, blocks, 2, H, d]: key and value in some blocks, averaged over a sample's tokens, with nothing plugged in."""
    seen: dict[int, Tensor] = {}

    def watch(block: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if block in blocks:
            seen[block] = torch.stack([k.mean(2), v.mean(2)], 1)
        return k, v

    vit.features(x, Plugs(attend=watch))
    return torch.stack([seen[block] for block in blocks], 1)


class Queries:
    """What the network says of inputs with nothing plugged in, [B, D], by which prompts are chosen.

    It never changes, so each test image is asked about once in a run, and each training image once in a task, where
    it comes in the same form in every pass. The ledger counts as if all were asked.

    Args:
        remember: False asks about every test input anew: what a robot sees once, it hardly sees again.
    """

    def __init__(self, vit: ViT | Attentive, meter: Meter, remember: bool = True) -> None:
        self.vit, self.meter, self.remember = vit, meter, remember
        self._at_test, self._in_training = Memo(meter, "query"), None

    def begin(self, data: Data, passes: int) -> None:
        """Training on this data begins, or goes on after a stop."""
        self._in_training = None
        if data.augment is None and passes > 1:
            self._in_training = Memo(self.meter, "query")
            self._in_training.foresee(self.ask, data, "train")

    @torch.no_grad()
    def ask(self, x: Tensor) -> Tensor:
        """Computed anew."""
        training = self.vit.training
        self.vit.eval()  # no part of it is dropped
        answer = self.vit.query(x)
        self.vit.train(training)
        return answer

    def at_test(self, x: Tensor) -> Tensor:
        """Of test images."""
        return self._at_test(self.ask, x) if self.remember else self.ask(x)

    def in_training(self, x: Tensor) -> Tensor:
        """Of a training batch."""
        return self.ask(x) if self._in_training is None else self._in_training(self.ask, x, "train")
