"""What a task's data says of each layer, in one pass: which inputs it has, and the gradient of its weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...streams.core import Data
from ..context import Context
from .rotated import Rotated
from .subspaces import Inputs

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Survey:
    """By layer: the vectors that its weight is multiplied with; and its mean gradient [out, d]."""

    inputs: dict[str, Inputs] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)


def survey(
    model: nn.Module,
    layers: Mapping[str, Rotated],
    data: Data,
    context: Context,
    *,
    samples: int = 0,
    weights: Mapping[str, Tensor] | None = None,
    loss: Loss | None = None,
    inputs: bool = True,
    purpose: str = "survey",
    batch_size: int = 256,
) -> Survey:
    """Go through a task's data with the network in evaluation mode, without augmentation; counted as drawn.

    Args:
        layers: those of interest, by name, none of them turned.
        samples: so many random ones; 0 or more than there are means all.
        weights: parameters by name to be used in place of the network's own.
        loss: mean loss of outputs [B, C] and targets [B]; with it, the gradients at the weights in use are taken.
        inputs: whether they are taken.
        purpose: of the draw, and of the work for the ledger.
    """
    if not layers:
        return Survey()
    count = min(samples or len(data), len(data))
    order = torch.randperm(len(data), generator=context.generator(purpose))[:count].sort().values
    named = dict(model.named_parameters())
    weights = weights or {}
    at = {name: weights.get(f"{name}.layer.weight", layer.weight).detach() for name, layer in layers.items()}
    found = Survey()
    if inputs:
        found.inputs = {name: Inputs(layer.width, context.device) for name, layer in layers.items()}
    if loss is not None:
        found.gradients = {name: torch.zeros_like(w).flatten(1) for name, w in at.items()}
        at = {name: w.clone().requires_grad_() for name, w in at.items()}
    used = {**named, **weights, **{f"{name}.layer.weight": w for name, w in at.items()}}
    hooks = [layers[name].register_forward_pre_hook(_listen(own)) for name, own in found.inputs.items()]
    training = model.training
    model.eval()
    try:
        for rows in order.to(data.targets.device).split(batch_size):
            stored, y = data.rows(rows)
            x = data.prepare(stored)
            context.meter.samples += len(rows)
            learning = torch.set_grad_enabled(loss is not None)
            kind = (loss is not None, *(own.kept for own in found.inputs.values()))  # what the cost depends on
            with learning, context.meter.work("train", context.task, purpose, len(rows), *kind):
                outputs = functional_call(model, used, (x,))
                if loss is not None:
                    parts = torch.autograd.grad(loss(outputs, y), list(at.values()))
                    for total, part in zip(found.gradients.values(), parts, strict=True):
                        total.add_(part.flatten(1), alpha=len(rows) / count)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return found


def _listen(inputs: Inputs) -> Callable[[Rotated, tuple[Tensor]], None]:
    """A hook that adds a layer's input vectors."""

    def add(layer: Rotated, args: tuple[Tensor]) -> None:
        with torch.autocast(args[0].device.type, enabled=False):
            inputs.add(layer.vectors(args[0].detach()))

    return add
