"""Small changes to a frozen network that are trained in its place, each a module that tells the changed features."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.vit import Plugs, ViT
from .norms import NormSets


class Adapters(nn.Module):
    """A bottleneck beside the MLP half of every block (Chen et al., "AdaptFormer", NeurIPS 2022); silent at first.

    Args:
        hidden: width of the bottleneck. scale: of what is added to a block's output.
    """

    def __init__(self, network: ViT, hidden: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.ModuleList(nn.Linear(network.width, hidden) for _ in range(network.depth))
        self.up = nn.ModuleList(nn.Linear(hidden, network.width) for _ in range(network.depth))
        for layer in self.up:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def beside(self, block: int, x: Tensor) -> Tensor:
        """What is added to the output of a block, for the input [B, N, D] of its MLP half."""
        return self.scale * self.up[block](F.relu(self.down[block](x)))

    def features(self, network: ViT, x: Tensor) -> Tensor:
        """Images [B, C, H, W] to [B, D]."""
        return network.features(x, Plugs(beside=self.beside))


class Norms(nn.Module):
    """Weights and biases of its own for every norm, at first those of the network."""

    def __init__(self, network: ViT) -> None:
        super().__init__()
        self.own = NormSets(network, 1)

    def features(self, network: ViT, x: Tensor) -> Tensor:
        """Images [B, C, H, W] to [B, D]."""
        return network.features(x, self.own.plugs(0))


class Copy(nn.Module):
    """A whole network of its own, at first the same."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)

    def features(self, network: nn.Module, x: Tensor) -> Tensor:
        """Inputs [B, ...] to [B, D]."""
        return self.network.features(x)


class Adapted(nn.Module):
    """A frozen network, a change to it that is trained, and a head to train the change with.

    Args:
        network: without a head.
        change: one of the above; None leaves the network as it is, and there is nothing to train.
        both: `features` gives those of the unchanged network, too, before the changed ones.

    Attributes:
        width: of `features`.
    """

    def __init__(self, network: nn.Module, change: nn.Module | None, classes: int, both: bool) -> None:
        super().__init__()
        self.network, self.change, self.both = network.requires_grad_(False), change, both
        self.head = nn.Identity() if change is None else nn.Linear(network.width, classes)
        self.width = network.width * (2 if both else 1)
        self.pretrained = getattr(network, "pretrained", None)

    def changed(self, x: Tensor) -> Tensor:
        """Inputs [B, ...] to [B, D] of the changed network."""
        return self.network.features(x) if self.change is None else self.change.features(self.network, x)

    def features(self, x: Tensor) -> Tensor:
        """Inputs [B, ...] to [B, width], as a classifier reads them."""
        return torch.cat([self.network.features(x), self.changed(x)], 1) if self.both else self.changed(x)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs [B, ...] to logits [B, classes], as the change is trained."""
        return self.head(self.changed(x))
