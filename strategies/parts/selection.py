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


def reached(points: int, step: int, total: int) -> int:
    """How many of so many evenly spaced points of a task lie at or before a step of it."""
    return sum(round(k * total / points) <= step for k in range(1, points + 1))


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
        if not self.choosing:
            return False
        before, self.taken = self.taken, reached(self.points, step, total)
        return self.taken > before

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
