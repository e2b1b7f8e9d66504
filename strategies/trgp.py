"""Trust-region gradient projection: keep off earlier tasks' directions, but scale what related tasks made of them.

Lin, Yang, Fan and Zhang, "TRGP: Trust Region Gradient Projection for Continual Learning" (ICLR 2022). An earlier task
j is related, layer by layer, if much of the new task's gradient lies in its subspace B_j:
|G B_j| >= epsilon1 |G|. For the `most` related ones, the new task learns, besides the weights outside all subspaces, a
matrix Q_j that scales the weights' part in B_j for this task alone, W + W B_j (Q_j - I) B_j'. At test the task's own
matrices are used, so that its identity has to be known, even where all tasks share one head.

Where we differ: bases come from all training samples and from what the weights are multiplied with, which is the
*scaled* input (I + sum_j B_j (Q_j - I) B_j') x; the published code takes the unscaled one. `parity=True` restores that,
and other slips of the code: bases that stop short and leave out the strongest new direction, see `parts.subspaces`;
scalings only where the first layer has one. Two related tasks are taken wherever there are, where the code takes the
latest one alone on some streams. The gradient that finds related tasks is taken in evaluation mode.

Expected on Permuted MNIST (10 tasks, 5 epochs): ACC 0.963, BWT -0.008 (Table 1); on 8,000 training images 0.938,
-0.0005 (docs/strategies/cuber.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from ..base.errors import UsageError
from ..streams.core import Query, StreamInfo, Task
from .config import Amount, Share
from .context import Context
from .core import strategy
from .gpm import GPM, GPMConfig
from .parts.logistic import logistic
from .parts.survey import Loss, Survey, survey

TINY = 1e-300  # instead of dividing by zero, in float64


@dataclass(frozen=True)
class TRGPConfig(GPMConfig):
    """epsilon1: least share of the gradient's norm in a subspace for its task to be related. most: of them, per layer.

    regime_samples: training samples behind that gradient; 0 means all.
    regime_head: the head that it goes through: as it is ("current"), or with the rows of the task's classes solved for
        on the network's features first ("fitted"), lest new rows, which are random, point it anywhere.
    """

    epsilon1: Share = 0.5
    most: Amount = 2
    regime_samples: Amount = 300
    regime_head: Literal["current", "fitted"] = "current"


@strategy("trgp", needs=("boundaries", "task_id_at_test"))
class TRGP(GPM):
    """GPM that lets a task scale what related tasks use, for itself alone (trust-region gradient projection)."""

    Config = TRGPConfig
    choosing = True
    stateful = (*GPM.stateful, "scalings")

    def setup(self, info: StreamInfo, context: Context) -> None:
        """No task has scaled anything yet."""
        super().setup(info, context)
        if info.kind == "policy" and self.config.regime_head == "fitted":
            raise UsageError(f"regime_head=fitted solves for classes, and {info.name} has none. Leave it out.")
        # of each task so far, by layer: which earlier tasks' subspaces it scales, and by what, D_j = Q_j - I [r, r]
        self.scalings: list[dict[str, list[Any]]] = []
        self._ready: tuple[int, dict[str, Tensor]] | None = None

    def extra_passes(self) -> int:
        """For the bases, for the gradient that finds related tasks, and for its head."""
        return 2 + (self.config.regime_head == "fitted")

    def select(self, task: Task) -> dict[str, list[int]]:
        """By layer, the related tasks, most related first."""
        selected = {name: self.related(self.shares(name, G)) for name, G in self.gradients_now(task).items()}
        if self.config.parity and selected and not selected[self.guarded[0]]:
            selected = {name: [] for name in selected}
        for name, tasks in selected.items():
            self.context.report(f"regime2/{name}", len(tasks))
        return selected

    def gradients_now(self, task: Task) -> dict[str, Tensor]:
        """By layer, the task's gradient [out, d] before it has changed anything."""
        weights = self.fitted_head(task) if self.config.regime_head == "fitted" else {}
        return survey(
            self.model, self.guards, task.train, self.context, samples=self.config.regime_samples, weights=weights,
            loss=self.objective.loss, inputs=False, purpose="regimes",
        ).gradients  # fmt: skip

    def fitted_head(self, task: Task) -> dict[str, Tensor]:
        """The head's parameters with the rows of the task's classes solved for on features, by logistic regression."""
        head, seen = self.layers[self.head], []
        hook = head.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
        count = min(self.config.regime_samples or len(task.train), len(task.train))
        order = torch.randperm(len(task.train), generator=self.context.generator("head"))[:count]
        stored, y = task.train.rows(order.to(task.train.targets.device))
        self.context.meter.samples += count
        with torch.no_grad(), self.context.meter.work("train", self.context.task, "head"):
            training = self.model.training
            self.model.eval()(task.train.prepare(stored))
            self.model.train(training)
        hook.remove()
        solved = logistic(seen[0], y, self.info.classes, l2=1e-3, tolerance=1e-6, iterations=100)
        fitted = {}
        for (name, p), rows in zip(head.layer.named_parameters(), solved, strict=False):
            value = p.detach().clone()
            value[y.unique()] = rows[y.unique()].to(value)
            fitted[f"{self.head}.layer.{name}"] = value
        return fitted

    def shares(self, name: str, G: Tensor) -> Tensor:
        """[t], the share of the norm of a gradient [out, d] that lies in each earlier task's subspace."""
        pool, G = self.subspaces[name], G.double()
        energies = (G @ pool.basis).square().sum(0)  # [R], along each column
        return ((pool.masks * energies).sum(1) / G.square().sum().clamp(min=TINY)).sqrt()

    def related(self, shares: Tensor, score: Tensor | None = None) -> list[int]:
        """Of the tasks whose share reaches epsilon1, those with the largest scores, by default their shares."""
        score = shares if score is None else score
        order = score.argsort(descending=True, stable=True).tolist()
        return [j for j in order if shares[j] >= self.config.epsilon1][: self.config.most]

    def end_task(self, task: Task) -> None:
        """Keep the task's scalings, and whose subspaces they scale; then as GPM."""
        own = {
            name: [[j, D.detach().clone()] for j, D in zip(tasks, self.layers[name].scalings, strict=True)]
            for name, tasks in self.selected.items()
            if tasks
        }
        self.scalings.append(own)
        self._ready = None
        super().end_task(task)

    def look(self, task: Task, samples: int, loss: Loss | None = None, inputs: bool = True) -> Survey:
        """Of what the weights are multiplied with, the scaled inputs A x; and gradients of the weights alike."""
        if self.config.parity:
            return super().look(task, samples, loss, inputs)
        given = {"samples": samples, "weights": self.weights(len(self.scalings) - 1), "loss": loss, "inputs": inputs}
        found = survey(self.model, self.guards, task.train, self.context, **given)
        for name in self.scalings[-1]:
            A = self.scaling(name)
            if inputs:
                found.inputs[name] = found.inputs[name].mapped(A)
            if loss is not None:
                G = found.gradients[name]
                found.gradients[name] = (G.double() @ A.T).to(G)  # by the chain rule, from that of W A
        return found

    def scaling(self, name: str) -> Tensor:
        """A = I + sum_j B_j D_j B_j' [d, d] float64 of the latest task."""
        pool = self.subspaces[name]
        A = torch.eye(len(pool.basis), dtype=pool.basis.dtype, device=pool.basis.device)
        for j, D in self.scalings[-1][name]:
            B = pool.basis[:, pool.columns(j)]
            A += B @ D.double() @ B.T
        return A

    @torch.no_grad()
    def weights(self, task: int) -> dict[str, Tensor]:
        """The parameters that are not the network's own when a task is asked about: W + sum_j W B_j D_j B_j'."""
        if self._ready is None or self._ready[0] != task:
            made = {}
            with self.context.meter.work("eval", "weights", self.tasks_begun, task):
                for name, pairs in self.scalings[task].items():
                    pool, W = self.subspaces[name], self.layers[name].weight
                    total = W.flatten(1)
                    for j, D in pairs:
                        B = pool.basis[:, pool.columns(j)].to(W)
                        total = total + W.flatten(1) @ B @ D @ B.T
                    made[f"{name}.layer.weight"] = total.view_as(W)
            self._ready = task, made
        return self._ready[1]

    def predict(self, inputs: Tensor, query: Query) -> Tensor:
        """With the weights of the task that is asked about; of one still to come, the plain ones."""
        task = query.task
        weights = self.weights(task) if task < len(self.scalings) else {}
        return self.objective.decide(functional_call(self.model, weights, (inputs,)), query)
