"""Gradients as flat vectors, and many of them in one vectorised pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

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


@torch.no_grad()
def pull(params: list[Tensor], start: list[Tensor], strength: float) -> None:
    """Add the gradient of strength x |theta - start|^2; a parameter that got none has it alone."""
    for p in params:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    away = torch._foreach_sub(params, start)
    torch._foreach_add_([p.grad for p in params], away, alpha=2 * strength)


class _Function(nn.Module):
    """A network beside a function that uses it."""

    def __init__(self, model: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model = model
        self.function = lambda *args: function(*args)  # a network as function would be a part of it, too

    def forward(self, *args: Tensor) -> Tensor:
        return self.function(*args)


def with_weights(
    model: nn.Module, weights: Mapping[str, Tensor], function: Callable[..., Tensor], *args: Tensor
) -> Tensor:
    """function(*args) as if these were the parameters and buffers of `model`, whatever part of it the function asks.

    A loss may ask a network for more than its outputs, such as the embeddings of its classes' words.
    """
    return functional_call(_Function(model, function), {f"model.{name}": w for name, w in weights.items()}, args)


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
    chain = is_chain(model)
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
        return with_weights(model, params | fixed, lambda x, *rest: loss(model(x), *rest), x, *rest)

    many = vmap(grad(one), in_dims=(None,) + (0,) * len(groups), randomness="different")  # where there is dropout
    with sdpa_kernel(SDPBackend.MATH):  # the fused ones have no rule for many groups' gradients
        grads = many(params, *groups)
    torch.cat([g.flatten(1) for g in grads.values()], dim=1, out=G)


def is_chain(model: nn.Module) -> bool:
    """Whether a network is linear layers and activations in a row, with no parameter in two places."""
    if type(model) is not nn.Sequential or any(type(layer) not in _CHAIN for layer in model):
        return False
    params = [p for layer in model for p in layer.parameters()]
    return len({id(p) for p in params}) == len(params)


def taps(
    model: nn.Sequential, x: Tensor, loss: Callable[[Tensor], Tensor]
) -> Iterator[tuple[list[nn.Parameter], Tensor, Tensor]]:
    """For each trainable linear layer of a chain: parameters, inputs a [B, in], and the loss's delta there [B, out].

    One plain backward through the activations gives every delta. A sample's gradient of the weight is delta a', so
    that sums over groups of samples, or of squares, are products of these two: exact, and without the copies and the
    fixed cost of `vmap`.

    Args:
        loss: scalar of the outputs [B, C].
    """
    found, edges = [], []  # the outputs' places in the graph hold even if an activation then works in place
    h = x
    with torch.enable_grad():
        for layer in model:
            a, h = h, layer(h)
            own = [p for p in layer.parameters() if p.requires_grad] if type(layer) is nn.Linear else []
            if own:
                found.append((own, a.detach()))
                edges.append(get_gradient_edge(h))
        deltas = torch.autograd.grad(loss(h), edges)
    for (own, a), delta in zip(found, deltas, strict=True):
        yield own, a, delta


def _chain_gradients(
    G: Tensor, model: nn.Sequential, loss: Callable[..., Tensor], additive: bool, x: Tensor, *rest: Tensor
) -> None:
    """Into G [K, P], for a chain: one batched product per layer writes all groups' gradients to where they belong."""

    def total(outputs: Tensor) -> Tensor:
        if additive:
            return loss(outputs, *(t.flatten(0, 1) for t in rest))
        return sum(loss(*group) for group in zip(outputs.unflatten(0, x.shape[:2]), *rest, strict=True))

    start = 0
    for own, a, delta in taps(model, x.flatten(0, 1), total):
        a, delta = (t.reshape(len(x), -1, t.shape[-1]) for t in (a, delta))  # [K, M, in], [K, M, out]
        for p in own:
            part = G[:, start : start + p.numel()].unflatten(1, p.shape)
            part.copy_(torch.bmm(delta.mT, a) if p.ndim == 2 else delta.sum(1))
            start += p.numel()
