"""Optimizers by name. Plain SGD is ours: on small networks torch's own costs as much as a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...base.errors import UsageError

if TYPE_CHECKING:
    from ..config import TrainConfig


class SGD:
    """Stochastic gradient descent, the update of torch.optim.SGD (no dampening, no Nesterov), a call per list.

    v <- momentum v + (g + weight_decay theta);  theta <- theta - lr v
    """

    def __init__(self, params: list[Tensor], lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        self.params, self.lr, self.momentum, self.weight_decay = params, lr, momentum, weight_decay
        self.velocity: list[Tensor | None] = [None] * len(params)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.params:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One update. Parameters without a gradient stay untouched."""
        params = [p for p in self.params if p.grad is not None]
        grads = [p.grad for p in params]
        if self.weight_decay:
            grads = torch._foreach_add(grads, params, alpha=self.weight_decay)
        if self.momentum:
            grads = self._accelerate(grads)
        torch._foreach_add_(params, grads, alpha=-self.lr)

    def _accelerate(self, grads: list[Tensor]) -> list[Tensor]:
        having = [i for i, p in enumerate(self.params) if p.grad is not None]
        for i, g in zip(having, grads, strict=True):
            if self.velocity[i] is None:
                self.velocity[i] = torch.zeros_like(g)
        velocity = [self.velocity[i] for i in having]
        torch._foreach_mul_(velocity, self.momentum)
        torch._foreach_add_(velocity, grads)
        return velocity

    def state_dict(self) -> dict[str, Any]:
        """The velocities."""
        return {"velocity": self.velocity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.velocity = [
            None if v is None else v.to(p.device) for v, p in zip(state["velocity"], self.params, strict=True)
        ]


def make_optimizer(config: TrainConfig, model: nn.Module) -> Any:
    """A fresh optimizer over the trainable parameters of a network."""
    params = [p for p in model.parameters() if p.requires_grad]
    if config.momentum and config.optimizer != "sgd":
        raise UsageError(f"momentum={config.momentum} is of SGD; {config.optimizer} has its own. Leave it out.")
    if config.optimizer == "sgd":
        return SGD(params, config.lr, config.momentum, config.weight_decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(params, lr=config.lr, weight_decay=config.weight_decay)
