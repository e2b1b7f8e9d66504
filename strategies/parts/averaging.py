"""Averages of weights, in place and a call per list: over the steps of a task, or between its start and its end.

"uniform"  the mean of the start and of the weights after steps 1, 1 + every, ...: weight ensembling as ZSCL does it
           (Zheng et al., ICCV 2023), after stochastic weight averaging (Izmailov et al., UAI 2018)
"ema"      mean <- decay mean + (1 - decay) weights, every so many steps: momentum interpolation
"wise"     (1 - share) start + share end (WiSE-FT; Wortsman et al., CVPR 2022)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Rule = Literal["uniform", "ema", "wise"]


class Average:
    """What becomes of the weights of a task.

    Args:
        every: steps from one set of weights that counts to the next.
        decay: of "ema". share: of the end in "wise".
    """

    def __init__(self, rule: Rule = "uniform", every: int = 100, decay: float = 0.99, share: float = 0.8) -> None:
        if rule not in get_args(Rule):
            raise ValueError(f"{rule!r} is not one of {get_args(Rule)}")
        self.rule, self.every, self.decay, self.share = rule, every, decay, share
        self.mean: list[Tensor] = []  # where "wise" starts from; the running average of the others
        self.count = 0  # sets of weights in it beside the start

    @torch.no_grad()
    def begin(self, params: Sequence[Tensor]) -> None:
        """A task begins at these weights."""
        self.mean, self.count = [p.detach().clone() for p in params], 0

    @torch.no_grad()
    def take(self, params: Sequence[Tensor], step: int) -> None:
        """After step number `step` of the task, from 0."""
        if self.rule == "wise" or step % self.every:
            return
        self.count += 1
        weight = 1 / (self.count + 1) if self.rule == "uniform" else 1 - self.decay
        torch._foreach_lerp_(self.mean, list(params), weight)

    @torch.no_grad()
    def settle(self, params: Sequence[Tensor]) -> None:
        """The task is over: write the average into the weights."""
        params = list(params)
        if self.rule == "wise":
            torch._foreach_lerp_(params, self.mean, 1 - self.share)
        else:
            torch._foreach_copy_(params, self.mean)
        self.mean = []

    def state_dict(self) -> dict[str, Any]:
        """The average so far."""
        return {"mean": self.mean, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.mean, self.count = list(state["mean"]), state["count"]
