"""The diagonal of the Fisher information, from the gradients of single samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from .gradients import trainable


def fisher_diagonal(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], batches: list[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """Mean over samples of the squared per-sample gradient, by parameter name.

    Squaring the gradient of a batch mean instead, as several published codes do, underestimates it by about the
    batch size (and lets opposite gradients cancel).

    Args:
        loss: negative log-likelihood of logits [B, C] and labels [B], mean over the batch.
        batches: (inputs [B, ...], labels [B]); true labels give the empirical Fisher, sampled ones the true Fisher.
    """
    params, buffers = trainable(model), dict(model.named_buffers())
    fixed = buffers | {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}

    def one(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(model, params | fixed, (x[None],)), y[None])

    per_sample = vmap(grad(one), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(p) for name, p in params.items()}
    for x, y in batches:
        for name, g in per_sample(params, x, y).items():
            total[name] += g.square().sum(0)
    count = sum(len(y) for _, y in batches)
    return {name: value / count for name, value in total.items()}
