"""Updates of low rank: a frozen weight W read as W + sum_i w_i b_i a_i', and how many of the components are in use.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022), with an importance w_i for each component.
An update is a parametrisation of the weight, so that whoever reads the weight reads it updated: a layer, attention that
takes its projections as plain matrices, a tower that is called by another name than `forward`.

Where a weight holds queries, keys and values one below the other, each has an update of its own: `in_proj_weight` of
`nn.MultiheadAttention`, and linear layers called `qkv` or `attend`. A convolution is [out, in x height x width].
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, register_parametrization

from ...base.errors import UsageError

FUSED = ("qkv", "attend")


class LowRank(nn.Module):
    """The update of one weight; zero until `begin`.

    Args:
        rank: components; no more than the rows or columns that they are to change.
        parts: equal blocks of rows with an update each.
    """

    def __init__(self, weight: Tensor, rank: int, parts: int = 1) -> None:
        super().__init__()
        rows, columns = len(weight) // parts, weight[0].numel()
        r = min(rank, rows, columns)
        self.A = nn.Parameter(weight.new_zeros(parts, r, columns))
        self.B = nn.Parameter(weight.new_zeros(parts, rows, r))
        self.w = nn.Parameter(weight.new_zeros(parts, 1, r))

    def forward(self, W: Tensor) -> Tensor:
        """The weight with its update."""
        if not self.training and not self.w.any():  # merged, or not begun: an answer costs what it did without
            return W
        return W + ((self.B * self.w) @ self.A).reshape(W.shape)


def attach(network: nn.Module, rank: int, words: str = "", spared: nn.Module | None = None) -> None:
    """Freeze a network, and give its weight matrices updates, which are trained in their place.

    Those of linear layers, of attention, and of convolutions other than the one that cuts an image into patches, which
    is an embedding.

    Args:
        words: separated by commas, one of which must be in a layer's name; "" takes all.
        spared: a layer that stays as it is and is trained whole: a fresh head.

    Raises:
        UsageError: nothing is left to update.
    """
    network.requires_grad_(False)
    if spared is not None:
        spared.requires_grad_(True)
    found = [layer for layer in _weights(network) if layer[1] is not spared]
    chosen = [layer for layer in found if any(word in layer[0] for word in words.split(","))]
    if not chosen:
        names = ", ".join(path for path, *_ in found) or "none"
        raise UsageError(f"modules={words!r}: no layer's name has any of this in it. There are: {names}.")
    for _, module, name, parts in chosen:
        register_parametrization(module, name, LowRank(getattr(module, name), rank, parts))


def _weights(network: nn.Module) -> Iterator[tuple[str, nn.Module, str, int]]:
    """(name of the layer, layer, name of its weight, parts) of all that can be updated."""
    for path, module in network.named_modules():
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            yield path, module, "in_proj_weight", 3
        elif isinstance(module, nn.Linear):
            yield path, module, "weight", 3 if path.rpartition(".")[2] in FUSED else 1
        elif isinstance(module, nn.Conv2d) and not (module.stride == module.kernel_size > (1, 1)):
            yield path, module, "weight", 1


def updates(network: nn.Module) -> list[tuple[nn.Parameter, LowRank]]:
    """Each weight that has an update, as it is without, and the update."""
    lists = [module for module in network.modules() if isinstance(module, ParametrizationList)]
    return [(found.original, found[0]) for found in lists if isinstance(found[0], LowRank)]


@torch.no_grad()
def begin(network: nn.Module, draw: torch.Generator) -> None:
    """Fresh updates: a_i uniform within 1 / sqrt(columns), w_i standard normal, b_i zero, so that nothing changes."""
    for _, update in updates(network):
        bound = update.A.shape[2] ** -0.5
        update.A.copy_(torch.empty(update.A.shape).uniform_(-bound, bound, generator=draw))
        update.w.copy_(torch.randn(update.w.shape, generator=draw))
        update.B.zero_()


@torch.no_grad()
def shrink(network: nn.Module, threshold: float) -> None:
    """The proximal step of threshold x |w|_1: every importance goes by `threshold` towards 0, and no further."""
    for _, update in updates(network):
        update.w.copy_(F.softshrink(update.w, threshold))


def ranks(network: nn.Module) -> Tensor:
    """[number of updates] int64: components whose importance is not 0."""
    return torch.cat([(update.w != 0).sum((1, 2)) for _, update in updates(network)])


@torch.no_grad()
def merge(network: nn.Module) -> None:
    """Write the updates into the weights and forget them; outputs stay, bit for bit. What has w_i = 0 is dropped."""
    for W, update in updates(network):
        W.copy_(update(W))
        for p in update.parameters():
            p.zero_()
