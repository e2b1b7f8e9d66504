"""Averages of weights, in place and a call per list: over the steps of a task, or over the tasks.

"uniform"  the mean of the start and of the weights after steps 1, 1 + every, ...: weight ensembling as ZSCL does it
           (Zheng et al., ICCV 2023), after stochastic weight averaging (Izmailov et al., UAI 2018)
"ema"      mean <- decay mean + (1 - decay) weights, every so many steps: momentum interpolation
"wise"     (1 - share) start + share end (WiSE-FT; Wortsman et al., CVPR 2022)
"fisher"   start and end, each weight by its Fisher information, of all earlier tasks and of this one (Matena and
           Raffel, "Merging Models with Fisher-Weighted Averaging", NeurIPS 2022)
"ties"     the first weights, and from there what the tasks changed most, where they agree on its sign (Yadav et al.,
           "TIES-Merging: Resolving Interference When Merging Models", NeurIPS 2023)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

Rule = Literal["uniform", "ema", "wise", "fisher", "ties"]
OVER_STEPS = ("uniform", "ema")  # the rules that average what training passes through
Params = Sequence[Tensor]


class Average:
    """What becomes of the weights of a task: `begin`, `take` after every step, `settle`. As it stands, "uniform".

    Args:
        every: steps from one set of weights that counts to the next.
    """

    stateful: ClassVar[tuple[str, ...]] = ("mean", "count")

    def __init__(self, every: int = 100) -> None:
        self.every = every
        self.mean: list[Tensor] = []
        self.count = 0  # sets of weights in it beside the start

    @torch.no_grad()
    def begin(self, params: Params) -> None:
        """A task begins at these weights."""
        self.mean, self.count = [p.detach().clone() for p in params], 0

    @torch.no_grad()
    def take(self, params: Params, step: int) -> None:
        """After step number `step` of the task, from 0."""
        if step % self.every == 0:
            self.count += 1
            torch._foreach_lerp_(self.mean, list(params), self.weight())

    def weight(self) -> float:
        """Of the newest weights."""
        return 1 / (self.count + 1)

    @torch.no_grad()
    def settle(self, params: Params, information: Callable[[], Params] | None = None) -> None:
        """The task is over: write the average into the weights.

        Args:
            information: tells the Fisher information of this task at these weights, a tensor for each.
        """
        torch._foreach_copy_(list(params), self.mean)
        self.mean = []

    def state_dict(self) -> dict[str, Any]:
        """The average so far."""
        return {name: getattr(self, name) for name in self.stateful}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        for name in self.stateful:
            setattr(self, name, state[name])


class Moving(Average):
    """ "ema". decay: of the average, at every set of weights that counts."""

    def __init__(self, every: int = 1, decay: float = 0.99) -> None:
        super().__init__(every)
        self.decay = decay

    def weight(self) -> float:
        """Of the newest weights."""
        return 1 - self.decay


class Interpolation(Average):
    """ "wise". share: of the end of the task."""

    def __init__(self, share: float = 0.8) -> None:
        super().__init__()
        self.share = share

    def take(self, params: Params, step: int) -> None:
        """Only start and end count."""

    @torch.no_grad()
    def settle(self, params: Params, information: Callable[[], Params] | None = None) -> None:
        """Back towards the start."""
        torch._foreach_lerp_(list(params), self.mean, 1 - self.share)
        self.mean = []


class FisherWeighted(Interpolation):
    """ "fisher". A weight that says nothing to either side comes to lie in the middle."""

    stateful = (*Interpolation.stateful, "information")

    def __init__(self) -> None:
        super().__init__()
        self.information: list[Tensor] = []  # the sum over tasks so far

    def settle(self, params: Params, information: Callable[[], Params] | None = None) -> None:
        """start + (end - start) F_end / (F_start + F_end)."""
        new = list(information())  # needs gradients
        with torch.no_grad():
            self.information = self.information or [torch.zeros_like(f) for f in new]
            tiny = 1e-6 * sum(f.sum() for f in new) / sum(f.numel() for f in new) + torch.finfo(new[0].dtype).tiny
            share = torch._foreach_add(new, tiny)
            torch._foreach_add_(self.information, new)
            torch._foreach_div_(share, torch._foreach_add(self.information, 2 * tiny))
            params = list(params)
            torch._foreach_sub_(params, self.mean)
            torch._foreach_mul_(params, share)
            torch._foreach_add_(params, self.mean)
            self.mean = []


class Ties(Interpolation):
    """ "ties", over any number of tasks with the memory of five: sums and counts of rises and falls are enough.

    The change of a task is taken from the first weights, though training goes on from the merged ones.

    Args:
        density: share of a task's change that is kept, the largest.
    """

    stateful = (*Interpolation.stateful, "first", "up", "down", "ups", "downs")

    def __init__(self, density: float = 0.2) -> None:
        super().__init__()
        self.density = density
        self.first: list[Tensor] = []
        self.up, self.down, self.ups, self.downs = ([] for _ in range(4))  # sums of rises and of falls; their numbers

    def begin(self, params: Params) -> None:
        """Keep the first weights of all."""
        if not self.first:
            self.first = [p.detach().clone() for p in params]
            self.up, self.down, self.ups, self.downs = ([torch.zeros_like(p) for p in self.first] for _ in range(4))

    @torch.no_grad()
    def settle(self, params: Params, information: Callable[[], Params] | None = None) -> None:
        """Trim, elect a sign for each weight by the larger sum, and take the mean of those that have it."""
        params = list(params)
        change = torch._foreach_sub(params, self.first)
        keep_largest(change, self.density)
        for sums, counts, part in (
            (self.up, self.ups, torch._foreach_clamp_min(change, 0.0)),
            (self.down, self.downs, torch._foreach_clamp_max(change, 0.0)),
        ):
            torch._foreach_add_(sums, part)
            torch._foreach_add_(counts, torch._foreach_abs(torch._foreach_sign(part)))
        for p, first, up, down, ups, downs in zip(
            params, self.first, self.up, self.down, self.ups, self.downs, strict=True
        ):
            mean = torch.where(up >= -down, up / ups.clamp_min(1), down / downs.clamp_min(1))
            p.copy_(first + mean)


@torch.no_grad()
def keep_largest(change: Params, density: float) -> None:
    """Zero all but this share of the entries, the largest of all tensors together, and what is as large as the last."""
    sizes = torch.cat([c.abs().flatten() for c in change])
    out = len(sizes) - max(1, round(density * len(sizes)))
    limit = sizes.kthvalue(out + 1).values
    for c in change:
        c.masked_fill_(c.abs() < limit, 0.0)


def averaging(rule: Rule, every: int, decay: float, share: float, density: float) -> Average:
    """The average of a rule, by its name."""
    made = {
        "uniform": lambda: Average(every),
        "ema": lambda: Moving(every, decay),
        "wise": lambda: Interpolation(share),
        "fisher": FisherWeighted,
        "ties": lambda: Ties(density),
    }
    if rule not in made:
        raise ValueError(f"{rule!r} is not one of {get_args(Rule)}")
    return made[rule]()
