"""CUBER: where a new task's gradient agrees with an old task's, let it change the old task's weights, and improve both.

Lin, Yang, Fan and Zhang, "Beyond Not-Forgetting: Continual Learning with Backward Knowledge Transfer" (NeurIPS 2022).
At the start of a task, each layer sorts each earlier task j by the gradient G of the new one, the subspace B_j, and
the gradient Gamma_j that task j had at its end:

    regime 1   |G B_j| < epsilon1 |G|                                    hold B_j
    regime 2   above, and <Gamma_j, G> < epsilon2 |Gamma_j| |G|          hold B_j, and scale it as TRGP does
    regime 3   above, and not below                                      learn in B_j, and scale it

At most `most` tasks of a layer are in regimes 2 and 3, those with the largest |G B_j|. In every step, a task of regime
3 whose Gamma_j no longer agrees with the gradient is demoted to regime 2. In regime 3, strength x |(W - W_before) B_j|
is added to the loss.

The paper leaves open, and our defaults come from the ablations in docs/strategies/cuber.md: the strength of the
regulariser (and its norm, unsquared in the paper, is close to a hard freeze: 0 here); over which gradients agreement is
judged in a step (a mini-batch's is noise about zero, which demotes everything within a few steps: smoothed here); how
many samples make Gamma_j (all); the head that the sorting gradient goes through (as it is). Directions that a held
task shares with one of regime 3 are held.

Expected on Permuted MNIST (10 tasks, 5 epochs): ACC 0.973, BWT -0.0002 (Table 1), which has not been reproduced: on
8,000 training images CUBER, like TRGP, has 0.938, -0.001. Backward transfer is real where tasks are alike and data
are few: see docs/strategies/cuber.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..streams.batches import Batch
from ..streams.core import StreamInfo, Task
from .config import Amount, NonNegative, Share
from .context import Context
from .core import strategy
from .parts.rotated import Rotated
from .parts.subspaces import Inputs
from .trgp import TINY, TRGP, TRGPConfig

TINY32 = 1e-30  # instead of dividing by zero, in float32


@dataclass(frozen=True)
class CUBERConfig(TRGPConfig):
    """epsilon2: least cosine between Gamma_j and the gradient for regime 3.

    rank_by: which of the sufficient tasks are taken: those with the largest "projection", as in the paper, or cosine
        ("correlation").
    strength, squared: of the regulariser, and whether its norm is squared.
    demotion: "smoothed", for good, once the running mean of the cosine falls below epsilon2; "batch", for good, at the
        first mini-batch where it does (the paper); "step", for that step alone; "never".
    smoothing, grace: decay of the running mean, and the steps before it is judged.
    gradient_samples: training samples behind Gamma_j; 0 means all.
    """

    epsilon2: Share = 0.0
    rank_by: Literal["projection", "correlation"] = "projection"
    strength: NonNegative = 0.0
    squared: bool = False
    demotion: Literal["smoothed", "batch", "step", "never"] = "smoothed"
    smoothing: Share = 0.99
    grace: Amount = 50
    gradient_samples: Amount = 0


@dataclass(frozen=True)
class Watch:
    """What the n tasks of regime 3 say of a layer of width d, in its coordinates.

    directions: [n, out d], their stored gradients, of length one. columns: [n, d] bool, their subspaces.
    held: [d] bool, the columns of all other tasks, which nothing frees.
    """

    directions: Tensor
    columns: Tensor
    held: Tensor


@strategy("cuber", needs=("boundaries", "task_id_at_test"))
class CUBER(TRGP):
    """TRGP that also changes the weights of earlier tasks where gradients agree (backward knowledge transfer)."""

    Config = CUBERConfig
    turning = (*TRGP.turning, "freed", "memories")
    stateful = (*TRGP.stateful, "freed", "memories", "verdicts")

    def setup(self, info: StreamInfo, context: Context) -> None:
        """No gradients are kept yet."""
        super().setup(info, context)
        self.memories: list[dict[str, Tensor]] = []  # Gamma_j [out, d] of each task so far, by layer
        self.freed: dict[str, list[int]] = {}  # tasks in regime 3 when the current task began, by layer
        # on each of them so far, [n]: whether still in regime 3, the running mean of its cosine, the step of demotion
        self.verdicts: dict[str, dict[str, Tensor]] = {}
        self.watched: dict[str, Watch] = {}
        self.still: dict[str, tuple[Tensor, Tensor]] = {}  # of layers in a step: columns that are held, what they were

    def extra_passes(self) -> int:
        """One more for Gamma_j, where it is of other samples than the bases."""
        return super().extra_passes() + (self.config.gradient_samples != self.config.basis_samples)

    def select(self, task: Task) -> dict[str, list[int]]:
        """By layer, the tasks of regimes 2 and 3; those of regime 3 are noted in `freed`."""
        selected = {}
        for name, G in self.gradients_now(task).items():
            shares, cosines = self.shares(name, G), self.cosines(name, G)
            selected[name] = self.related(shares, shares if self.config.rank_by == "projection" else cosines)
            self.freed[name] = [j for j in selected[name] if cosines[j] >= self.config.epsilon2]
            zeros = torch.zeros(len(self.freed[name]), device=G.device)
            self.verdicts[name] = {"free": zeros == 0, "mean": zeros.clone(), "step": zeros.long() - 1}
            self.context.report(f"regime2/{name}", len(selected[name]) - len(self.freed[name]))
            self.context.report(f"regime3/{name}", len(self.freed[name]))
        return selected

    def cosines(self, name: str, G: Tensor) -> Tensor:
        """[t], between a gradient [out, d] and the one that each earlier task had at its end."""
        kept, G = torch.stack([memory[name] for memory in self.memories]).double().flatten(1), G.double().flatten()
        return kept @ G / (kept.norm(dim=1) * G.norm()).clamp(min=TINY)

    def turn(self) -> None:
        """As TRGP, and for each layer what its tasks of regime 3 say."""
        super().turn()
        self.watched = {name: self.watch(name) for name, freed in self.freed.items() if freed}
        self.still = {}

    def watch(self, name: str) -> Watch:
        """What the tasks of regime 3 say of a layer."""
        layer, masks, freed = self.layers[name], self.subspaces[name].masks, self.freed[name]
        others = [j for j in range(len(masks)) if j not in freed]
        columns = F.pad(masks, (0, layer.width - masks.shape[1]))
        gammas = torch.stack([self.memories[j][name].double() @ layer.basis for j in freed]).flatten(1)
        directions = F.normalize(gammas, dim=1).to(layer.coordinates)
        return Watch(directions, columns[freed], columns[others].any(0))

    def hold(self, name: str) -> None:
        """Judge regime 3 by the raw gradient, add the regulariser, take the gradient off what is held."""
        if name not in self.watched:
            super().hold(name)
            return
        watch, g = self.watched[name], self.layers[name].coordinates.grad
        free = self.judge(self.verdicts[name], watch.directions @ g.flatten() / g.norm().clamp(min=TINY32))
        if self.config.strength:
            g.add_(self.regulariser(self.layers[name], watch.columns & free[:, None]))
        held = watch.held | (watch.columns & ~free[:, None]).any(0)
        g.mul_(~held)
        if self.config.momentum or self.config.optimizer != "sgd":
            self.still[name] = held, self.layers[name].coordinates.detach().clone()

    def after_step(self, batch: Batch) -> None:
        """Momentum, of whichever optimizer, does not go on in columns that were demoted."""
        with torch.no_grad():
            for name, (held, before) in self.still.items():
                coordinates = self.layers[name].coordinates
                coordinates.copy_(torch.where(held, before, coordinates))

    def judge(self, verdict: dict[str, Tensor], cosines: Tensor) -> Tensor:
        """[n] bool, which tasks are in regime 3 in this step, by their cosines to its gradient; without a look at them.

        The device decides by itself: a value that the program waited for would cost more than the step.
        """
        how, epsilon2 = self.config.demotion, self.config.epsilon2
        if how == "never":
            return verdict["free"]
        if how == "smoothed":
            verdict["mean"].lerp_(cosines, 1 - self.config.smoothing)
            if self.step < self.config.grace:
                return verdict["free"]
            cosines = verdict["mean"] / (1 - self.config.smoothing ** (self.step + 1))
        falls = cosines < epsilon2
        verdict["step"].copy_(torch.where(falls & (verdict["step"] < 0), self.step, verdict["step"]))
        if how == "step":
            return ~falls
        verdict["free"].logical_and_(~falls)
        return verdict["free"]

    def regulariser(self, layer: Rotated, columns: Tensor) -> Tensor:
        """Gradient [out, d] of strength x sum_j |(W - W_before) B_j|, or of the squares; `columns` [n, d] bool."""
        change = (layer.coordinates - layer.start).detach()
        energies = change.square().sum(0)  # [d]
        if self.config.squared:
            factors = columns.to(change) * 2
        else:  # at zero, where the norm has no gradient, zero
            norms = (columns * energies).sum(1, keepdim=True).sqrt()
            factors = columns / norms.clamp(min=TINY32)
        return self.config.strength * change * factors.sum(0)

    def end_task(self, task: Task) -> None:
        """Report what became of regime 3; then as TRGP."""
        for name, verdict in self.verdicts.items():
            steps = [step / self.step for step in verdict["step"].tolist() if step >= 0]
            self.context.report(f"demoted/{name}", len(steps))
            for number, share in enumerate(steps, 1):
                self.context.report(f"demoted_at/{name}/{number}", share)
        super().end_task(task)

    def inputs(self, task: Task) -> dict[str, Inputs]:
        """As TRGP; and the gradient of the task at its end is kept for those to come."""
        samples, loss = self.config.basis_samples, self.objective.loss
        together = self.config.gradient_samples == samples
        found = self.look(task, samples, loss if together else None)
        own = found if together else self.look(task, self.config.gradient_samples, loss, inputs=False)
        self.memories.append(own.gradients)
        return found.inputs
