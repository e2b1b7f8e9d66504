"""Heads of policies: how far outputs are from the action shown, and which action they stand for.

"plain"    one action through tanh, Huber's loss
"mixture"  five Gaussians with diagonal covariances, means through tanh, deviations by softplus and at least 1e-4, the
           negative log-likelihood; LIBERO's head (Liu et al., 2023), whose code draws an action from it at test. Here
           the mean of the likeliest is taken, so that an answer does not depend on what else is asked.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Head(nn.Linear):
    """One action. The last of an action's numbers, the grip, is a number like the others.

    Attributes:
        actions: how many numbers an action has.
    """

    def __init__(self, width: int, actions: int, outputs: int | None = None) -> None:
        super().__init__(width, outputs or actions)
        self.actions = actions

    def loss(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """[B] of outputs [B, P] against actions [B, A]."""
        return F.huber_loss(outputs.tanh(), actions, reduction="none").mean(1)

    def act(self, outputs: Tensor) -> Tensor:
        """[B, A]."""
        return outputs.tanh()


class Mixture(Head):
    """A distribution over actions."""

    MODES, LEAST = 5, 1e-4

    def __init__(self, width: int, actions: int) -> None:
        super().__init__(width, actions, self.MODES * (2 * actions + 1))

    def parts(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [B, M], means [B, M, A] and deviations [B, M, A]."""
        each = outputs.unflatten(1, (self.MODES, -1))
        means, spread = each[..., 1:].chunk(2, -1)
        return each[..., 0], means.tanh(), F.softplus(spread) + self.LEAST

    def loss(self, outputs: Tensor, actions: Tensor) -> Tensor:
        """[B] negative log-likelihood of actions [B, A]."""
        logits, means, spread = self.parts(outputs)
        each = torch.distributions.Normal(means, spread).log_prob(actions[:, None]).sum(2)
        return -torch.logsumexp(torch.log_softmax(logits, 1) + each, 1)

    def act(self, outputs: Tensor) -> Tensor:
        """[B, A] the mean of the likeliest."""
        logits, means, _ = self.parts(outputs)
        return means[torch.arange(len(means), device=means.device), logits.argmax(1)]


def head_of(kind: str, width: int, actions: int) -> Head:
    """By its name."""
    kinds = {"plain": Head, "mixture": Mixture}
    if kind not in kinds:
        raise ValueError(f"head={kind!r} must be one of {', '.join(kinds)}")
    return kinds[kind](width, actions)
