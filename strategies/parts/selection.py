"""selection=...: which of the weights that training passes through a task ends with.

"validation"  those with the lowest loss on the task's validation data
"simulator"   those with the most successes in the task's own test, as LIBERO chooses (Liu et al., 2023). It is a look
              at the test: its scores are too good, and the record says so

At each point of a learning curve, or ten times where the stream has none; of equals, the first.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from .plateau import bring_back, kept

POINTS = 10


class Selection:
    """The best weights of a task so far; between tasks there are none.

    Args:
        rule: "last" chooses nothing. points: how many are compared.
    """

    def __init__(self, rule: str, points: int) -> None:
        self.choosing, self.points = rule != "last", points
        self.forget()

    def forget(self) -> None:
        """None seen yet."""
        self.taken = 0
        self.drop()

    def drop(self) -> None:
        """Those seen so far are not to be had any more."""
        self.best = -math.inf
        self.weights: dict[str, Tensor] = {}

    def due(self, step: int, total: int) -> bool:
        """Whether the weights after a step are among those that are compared."""
        reached = sum(round(k * total / self.points) <= step for k in range(1, self.points + 1))
        fresh = self.choosing and reached > self.taken
        self.taken = reached if fresh else self.taken
        return fresh

    def judge(self, merit: float, model: nn.Module) -> None:
        """Keep the weights if they are better than all before."""
        if merit > self.best:
            self.best = merit
            self.weights = kept(model)

    def settle(self, model: nn.Module) -> None:
        """The task is over: the best weights come back."""
        bring_back(model, self.weights)
        self.forget()

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {"best": self.best, "taken": self.taken, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.best, self.taken, self.weights = state["best"], state["taken"], dict(state["weights"])
