"""Gradients as flat vectors, and many of them in one vectorised pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters by name, detached from any graph."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def flat_gradient(model: nn.Module) -> Tensor:
    """[P], the gradient that `backward` left; zeros where a parameter got none."""
    return torch.cat(
        [
            (p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1)
            for p in model.parameters()
            if p.requires_grad
        ]
    )


def set_gradient(model: nn.Module, flat: Tensor) -> None:
    """Write a flat vector [P] back into the parameters' gradients."""
    start = 0
    for p in model.parameters():
        if p.requires_grad:
            p.grad = flat[start : start + p.numel()].view_as(p)
            start += p.numel()


def grouped_gradients(model: nn.Module, loss: Callable[[Tensor, Tensor, Tensor], Tensor], *groups: Tensor) -> Tensor:
    """Gradients of several losses in one pass over all their samples: [K, P].

    Args:
        loss: loss(logits [M, C], *one group's tensors after the first) -> scalar.
        groups: tensors with a leading dimension K; the first holds inputs [K, M, ...].
    """
    params = trainable(model)
    fixed = dict(model.named_buffers()) | {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}

    def one(params: dict[str, Tensor], x: Tensor, *rest: Tensor) -> Tensor:
        return loss(functional_call(model, params | fixed, (x,)), *rest)

    grads = vmap(grad(one), in_dims=(None,) + (0,) * len(groups))(params, *groups)
    return torch.cat([g.flatten(1) for g in grads.values()], dim=1)
