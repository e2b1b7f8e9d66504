"""Behaviour cloning: what is learnt is to do what the demonstrations do, and an answer is an action.

The network has a `head` that says how far its outputs are from the actions shown, and which action they stand for; see
`backbones.policies`. Tasks are told apart by what the inputs hold, such as an instruction.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...base.errors import UsageError
from ...streams.core import Query, Task


class Imitation:
    """The loss of the network's head. There are no classes: `groups` holds the numbers of an action, once per task.

    Raises:
        UsageError: a network that gives no actions.
    """

    space = "all"

    def __init__(self, model: nn.Module) -> None:
        head = getattr(model, "head", None)
        self.head = getattr(head, "layer", head)  # which may learn in coordinates
        if not hasattr(self.head, "act"):
            raise UsageError("the stream asks for actions, and the network gives none. Set model=bc-mlp.")
        self.groups: list[list[int]] = []

    def reveal(self, task: Task) -> None:
        """A task begins."""
        self.groups.append(list(task.classes))

    def logits(self, outputs: Tensor) -> Tensor:
        """What the network gives, as it is."""
        return outputs

    def restrict(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Nothing competes."""
        return outputs

    def loss(self, outputs: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        """Of outputs [B, P] against targets [B, A] or [B, A + 1]; scalar, or [B] with reduction="none".

        A number behind the action says how much the sample counts.
        """
        actions = self.head.actions
        loss = self.head.loss(outputs, y[:, :actions])
        if y.shape[1] > actions:
            loss = loss * y[:, actions]
        return loss if reduction == "none" else loss.mean()

    def nll(self, outputs: Tensor, y: Tensor) -> Tensor:
        """As the loss: that of a mixture is one, Huber's is one of a kind."""
        return self.loss(outputs, y)

    def decide(self, outputs: Tensor, query: Query) -> Tensor:
        """Actions [B, A]."""
        return self.head.act(outputs)

    def old_heads(self) -> list[list[int]]:
        """All tasks share one."""
        return self.groups[:1] if len(self.groups) > 1 else []

    def state_dict(self) -> dict[str, Any]:
        """The tasks so far."""
        return {"groups": self.groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.groups = [list(group) for group in state["groups"]]
