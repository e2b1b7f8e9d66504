"""The diagonal of the Fisher information, from the gradients of single samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...streams.core import Data
from ..context import Context
from .gradients import is_chain, taps, trainable, with_weights


def fisher_diagonal(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], batches: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """Mean over samples of the squared per-sample gradient, by parameter name.

    Squaring the gradient of a batch mean instead, as several published codes do, underestimates it by about the
    batch size (and lets opposite gradients cancel).

    Args:
        loss: negative log-likelihood of logits [B, C] and labels [B], mean over the batch.
        batches: (inputs [B, ...], labels [B]); true labels give the empirical Fisher, sampled ones the true Fisher.
    """
    squares = _chain_squares if is_chain(model) else _vectorised_squares
    total = {name: torch.zeros_like(p) for name, p in trainable(model).items()}
    for x, y in batches:
        for name, square in squares(model, loss, x, y).items():
            total[name] += square
    count = sum(len(y) for _, y in batches)
    return {name: value / count for name, value in total.items()}


def information(
    model: nn.Module,
    loss: Callable[..., Tensor],
    data: Data,
    context: Context,
    samples: int = 0,
    at_once: int = 64,
    labels: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """The same over a task's training data, or over some of it drawn at random, by parameter name.

    Args:
        samples: 0 means all. at_once: samples whose gradients are taken together.
        labels: gives labels [B] for inputs [B, ...] and their true labels, in place of these.
    """
    count = min(samples or len(data), len(data))
    order = torch.randperm(len(data), generator=context.generator("fisher"))[:count]
    total: dict[str, Tensor] = {}
    for index in order.to(data.targets.device).split(at_once):
        with context.meter.work("train", context.task, len(index), "fisher"):
            stored, y = data.rows(index)
            x = data.prepare(stored)
            part = fisher_diagonal(model, loss, [(x, y if labels is None else labels(x, y))])
        for name, square in part.items():
            weighted = square.mul_(len(index) / count)
            total[name] = total[name].add_(weighted) if name in total else weighted
    return total


def _chain_squares(model: nn.Sequential, loss: Callable[..., Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Sums over the batch; a sample's gradient is delta a', so its square is delta^2 (a^2)'."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for own, a, delta in taps(model, x, lambda outputs: loss(outputs, y) * len(y)):
        for p in own:
            if a.ndim > 2:  # several vectors to a sample, whose products add up before they are squared
                g = delta.flatten(1, -2).mT @ a.flatten(1, -2) if p.ndim == 2 else delta.flatten(1, -2).sum(1)
                found[names[id(p)]] = g.square().sum(0)
            else:
                square = delta.square()
                found[names[id(p)]] = square.T @ a.square() if p.ndim == 2 else square.sum(0)
    return found


def _vectorised_squares(model: nn.Module, loss: Callable[..., Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Sums over the batch, for any network that treats its samples alone."""
    fixed = dict(model.named_buffers()) | {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}

    def one(params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return with_weights(model, params | fixed, lambda x, y: loss(model(x), y), x[None], y[None])

    with sdpa_kernel(SDPBackend.MATH):  # the fused ones have no rule for many samples' gradients
        grads = vmap(grad(one), in_dims=(None, 0, 0))(trainable(model), x, y)
    return {name: g.square().sum(0) for name, g in grads.items()}
