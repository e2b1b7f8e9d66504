"""Gradients as flat vectors, and many of them in one vectorised pass."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.func import functional_call, grad, vmap

AT_ONCE = 2**20  # input entries per pass on a CPU, 4 MB: read from cache in the backward pass; bounds activations, too

# beside the linear layers, those without parameters that treat every sample alone
_CHAIN = (nn.Linear, nn.Flatten, nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh)


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


def grouped_gradients(model: nn.Module, loss: Callable[..., Tensor], *groups: Tensor, additive: bool = False) -> Tensor:
    """Gradients of several losses, many groups in one pass: [K, P].

    Args:
        loss: loss(logits [M, C], *one group's tensors after the first) -> scalar.
        groups: tensors with a leading dimension K; the first holds inputs [K, M, ...].
        additive: the loss is a sum over samples, so that it may be taken of several groups' samples at once.
    """
    x = groups[0]
    at_once = len(x)
    if x.device.type == "cpu":
        passes, hands = math.ceil(x.numel() / AT_ONCE), torch.get_num_threads()
        at_once = math.ceil(len(x) / passes / hands) * hands  # a batched product is shared out by groups
    into = x.new_empty(len(x), sum(p.numel() for p in model.parameters() if p.requires_grad))
    chain = _is_chain(model)
    for G, *part in zip(*(t.split(at_once) for t in (into, *groups)), strict=True):
        if chain:
            _chain_gradients(G, model, loss, additive, *part)
        else:
            _vectorised_gradients(G, model, loss, *part)
    return into


def _vectorised_gradients(G: Tensor, model: nn.Module, loss: Callable[..., Tensor], *groups: Tensor) -> None:
    """Into G [K, P], for any network that treats its samples alone."""
    params = trainable(model)
    fixed = dict(model.named_buffers()) | {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}

    def one(params: dict[str, Tensor], x: Tensor, *rest: Tensor) -> Tensor:
        return loss(functional_call(model, params | fixed, (x,)), *rest)

    grads = vmap(grad(one), in_dims=(None,) + (0,) * len(groups))(params, *groups)
    torch.cat([g.flatten(1) for g in grads.values()], dim=1, out=G)


def _is_chain(model: nn.Module) -> bool:
    """Whether a network is linear layers and activations in a row, with no parameter in two places."""
    if type(model) is not nn.Sequential or any(type(layer) not in _CHAIN for layer in model):
        return False
    params = [p for layer in model for p in layer.parameters()]
    return len({id(p) for p in params}) == len(params)


def _chain_gradients(
    G: Tensor, model: nn.Sequential, loss: Callable[..., Tensor], additive: bool, x: Tensor, *rest: Tensor
) -> None:
    """The same for a chain: a layer's gradient on group k is delta_k' a_k, of its inputs a and the loss's delta there.

    One plain backward through the activations gives every delta, and one batched product per layer writes all groups'
    gradients to where they belong: exact, and without the copies and the fixed cost of `vmap`.
    """
    taps, edges = [], []  # trainable layers with their inputs [K*M, ..., in]; their outputs' places in the graph
    h = x.flatten(0, 1)
    with torch.enable_grad():
        for layer in model:
            a, h = h, layer(h)
            own = [p for p in (layer.weight, layer.bias) if p is not None] if type(layer) is nn.Linear else []
            if any(p.requires_grad for p in own):
                taps.append((own, a.detach()))
                edges.append(get_gradient_edge(h))  # holds even if the activation then works in place
        if additive:
            total = loss(h, *(t.flatten(0, 1) for t in rest))
        else:
            total = sum(loss(*group) for group in zip(h.unflatten(0, x.shape[:2]), *rest, strict=True))
    start = 0
    for (own, a), delta in zip(taps, torch.autograd.grad(total, edges), strict=True):
        a, delta = (t.reshape(len(x), -1, t.shape[-1]) for t in (a, delta))  # [K, M, in], [K, M, out]
        for p in own:
            if p.requires_grad:
                part = G[:, start : start + p.numel()].unflatten(1, p.shape)
                part.copy_(torch.bmm(delta.mT, a) if p.ndim == 2 else delta.sum(1))
                start += p.numel()
