"""Optimizers by name, their groups and schedules. Plain SGD is ours: on small nets torch's costs as much as a layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...base.errors import UsageError

if TYPE_CHECKING:
    from ..config import TrainConfig


class SGD:
    """Stochastic gradient descent, the update of torch.optim.SGD (no dampening, no Nesterov), a call per list.

    v <- momentum v + (g + weight_decay theta);  theta <- theta - lr v

    Args:
        params: tensors, or groups of them, {"params": [...], "lr": ...}, as torch's optimizers take them.
    """

    def __init__(self, params: list[Any], lr: float, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        params = list(params)
        groups = params if params and isinstance(params[0], dict) else [{"params": params}]
        self.param_groups = [{"lr": lr} | group for group in groups]
        self.momentum, self.weight_decay = momentum, weight_decay
        self.velocity: list[list[Tensor | None]] = [[None] * len(group["params"]) for group in self.param_groups]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One update. Parameters without a gradient stay untouched."""
        for group, velocity in zip(self.param_groups, self.velocity, strict=True):
            having = [i for i, p in enumerate(group["params"]) if p.grad is not None]
            if not having:
                continue
            params = [group["params"][i] for i in having]
            grads = [p.grad for p in params]
            if self.weight_decay:
                grads = torch._foreach_add(grads, params, alpha=self.weight_decay)
            if self.momentum:
                grads = self._accelerate(grads, velocity, having)
            torch._foreach_add_(params, grads, alpha=-group["lr"])

    def _accelerate(self, grads: list[Tensor], velocity: list[Tensor | None], having: list[int]) -> list[Tensor]:
        for i, g in zip(having, grads, strict=True):
            if velocity[i] is None:
                velocity[i] = torch.zeros_like(g)
        moving = [velocity[i] for i in having]
        torch._foreach_mul_(moving, self.momentum)
        torch._foreach_add_(moving, grads)
        return moving

    def state_dict(self) -> dict[str, Any]:
        """The velocities."""
        return {"velocity": self.velocity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.velocity = [
            [None if v is None else v.to(p.device) for v, p in zip(saved, group["params"], strict=True)]
            for saved, group in zip(state["velocity"], self.param_groups, strict=True)
        ]


def make_optimizer(config: TrainConfig, model: nn.Module) -> Any:
    """A fresh optimizer over the trainable parameters of a network, the head in a group of its own if it has its rate.

    Each group remembers its own rate as "base", for `set_rates`.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    head = [p for name, p in named if config.head_lr is not None and is_head(name)]
    if config.head_lr is not None and not any(is_head(name) for name, _ in model.named_parameters()):
        raise UsageError(f"head_lr={config.head_lr}: the model {config.model} has no part called head. Leave it out.")
    body = [p for name, p in named if config.head_lr is None or not is_head(name)]
    groups = [{"params": body, "lr": config.lr}, {"params": head, "lr": config.head_lr}]
    groups = [group for group in groups if group["params"]] or groups[:1]
    if config.momentum and config.optimizer != "sgd":
        raise UsageError(f"momentum={config.momentum} is of SGD; {config.optimizer} has its own. Leave it out.")
    if config.optimizer == "sgd":
        optimizer: Any = SGD(groups, config.lr, config.momentum, config.weight_decay)
    else:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
        optimizer = kind(groups, lr=config.lr, weight_decay=config.weight_decay)
    for group in optimizer.param_groups:
        group["base"] = group["lr"]
    return optimizer


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training may change."""
    return [p for p in model.parameters() if p.requires_grad]


def is_head(name: str) -> bool:
    """Whether a parameter's name is of the classifying layer, or of one of several, at whatever depth it stands."""
    return not {"head", "heads"}.isdisjoint(name.split(".")[:-1])


def set_rates(optimizer: Any, config: TrainConfig, step: int, total: int, reductions: int = 0) -> None:
    """Learning rates before step `step` of the `total` steps of a task, by the schedule.

    "cosine" falls from the base rate to the share `floor` of it; "step" takes a tenth from `drop_at` of the steps on;
    "plateau" has divided it `reductions` times. All of them begin after the share `warmup` of the steps, over which the
    rates rise linearly.
    """
    rising = round(config.warmup * total)
    if config.schedule == "constant" and not rising:
        return
    done = (step - rising) / max(total - rising, 1)
    if step < rising:
        factor = (step + 1) / rising
    elif config.schedule == "cosine":
        factor = config.floor + (1 - config.floor) * (1 + math.cos(math.pi * done)) / 2
    elif config.schedule == "plateau":
        factor = config.lr_factor**-reductions
    elif config.schedule == "step":
        factor = 0.1 if done >= config.drop_at else 1.0
    else:
        factor = 1.0
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * factor


def rates(optimizer: Any) -> dict[int, float]:
    """The current learning rate of each parameter, by `id`."""
    return {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}


def clip(optimizer: Any, most: float) -> None:
    """Scale all gradients together so that their norm is at most `most`; 0 leaves them."""
    if most:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], most)
