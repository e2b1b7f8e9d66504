"""PackNet: each task trains the weights that are free, keeps the largest, and gives the rest back to those to come.

Mallya and Lazebnik, "PackNet: Adding Multiple Tasks to a Single Network by Iterative Pruning" (CVPR 2018). A task
trains all weights that no earlier task owns; of these, the smallest share `prune` of each layer is set to zero and free
again, and those that are left are retrained. Asked about task j, the network consists of what tasks 0 to j own: it
answers as it did when task j ended, bit for bit. A byte beside each weight says whose it is.

Biases, norms and embeddings are those of the first task. A head whose first task reveals every class of the stream, or
that of a policy, is one more layer; of any other, a task owns the rows of its new classes, which are not pruned.

Where we differ: the network need not be pre-trained. What is free begins a task as in a new network, at random; the
published code, which starts from pre-trained weights, leaves it at zero (`fresh=False`), where units that are dead stay
so. One learning-rate schedule runs over training and retraining together, and so do learning curves (LIBERO retrains as
long as it trains, `retrain=1`, apart from its curves). Batch normalisation, whose statistics move, is refused.

Expected: no forgetting at all, and less and less room. On `libero-goal-mini` (`bc-transformer`, 400 steps a task, AdamW
at 2e-3, one seed) ACC 0.98, BWT 0; with `bc-mlp` at 1e-3 0.58, where free weights left at zero give 0.12 and networks
of each task's own 0.61.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..base.errors import UsageError
from ..streams.batches import Batch
from ..streams.core import Query, StreamInfo, Task
from .config import NonNegative, Share
from .context import Context
from .core import GradientStrategy, TrainConfig, strategy
from .parts.batch_norm import refuse_batch_norm
from .parts.gradients import with_weights

FREE = 255  # owner of a weight that no task has kept


@dataclass(frozen=True)
class PackNetConfig(TrainConfig):
    """prune: share of a task's weights that each layer gives back. retrain: steps after it, as a share of those before.

    A task takes (1 + retrain) times the steps or epochs that are told.
    fresh: whether what is free is drawn anew for the next task, or stays zero.
    """

    prune: Share = 0.75
    retrain: NonNegative = 0.5
    fresh: bool = True


@strategy("packnet", needs=("boundaries", "task_id_at_test"))
class PackNet(GradientStrategy):
    """Give every task weights of its own, by pruning what it has trained; needs the task id at test."""

    Config = PackNetConfig
    kinds = ("classification", "policy")
    stateful = (*GradientStrategy.stateful, "owner")

    def setup(self, info: StreamInfo, context: Context) -> None:
        """All is the first task's."""
        super().setup(info, context)
        if self.config.schedule == "plateau":
            raise UsageError("packnet prunes after so many steps, and schedule=plateau tells none. Choose another.")
        refuse_batch_norm(self.model, f"{self.name} cannot hold the running statistics of batch normalisation.")
        learnt = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.owner = {name: torch.zeros(p.shape, dtype=torch.uint8, device=p.device) for name, p in learnt.items()}
        self.shared, self.head = matrices(self.model)
        self.own: dict[str, Tensor] = {}  # bool, during a task: what it trains
        self.held: dict[str, Tensor] = {}  # what all else has to be

    def extra_passes(self) -> int:
        """Those of the retraining."""
        return math.ceil(self.config.retrain * self.passes())

    def budget(self, per_epoch: int) -> int:
        """Training and retraining."""
        self.prune_at = super().budget(per_epoch)
        return self.prune_at + round(self.config.retrain * self.prune_at)

    @torch.no_grad()
    def begin_task(self, task: Task) -> None:
        """What is free is the task's, and so are its rows of the head."""
        if self.tasks_begun > FREE:
            raise UsageError(f"packnet numbers at most {FREE} tasks, and {self.info.name} has more.")
        now, earlier = self.tasks_begun - 1, {c for group in self.objective.groups[:-1] for c in group}
        params = dict(self.model.named_parameters())
        drawn = dict(self.new_model(f"initial weights {now}").named_parameters()) if self.config.fresh else params
        for name in self.divided():
            free = self.owner[name] == FREE
            self.owner[name][free] = now
            params[name].copy_(torch.where(free, drawn[name], params[name]))
        for name in self.head if self.sliced else ():
            rows = self.owner[name] if now else self.owner[name].fill_(FREE)
            rows[[c for c in task.classes if c not in earlier]] = now
        self._lay_out()

    @property
    def sliced(self) -> bool:
        """Whether a task has rows of the head for itself."""
        return len(self.objective.groups[0]) < self.info.classes

    def divided(self) -> list[str]:
        """The weights that tasks divide among themselves."""
        return [name for name in self.shared if name in self.owner and not (self.sliced and name in self.head)]

    def adjust_gradients(self, batch: Batch) -> None:
        """Only what is the task's counts towards a gradient's norm."""
        for name, p in self.model.named_parameters():
            if p.grad is not None:
                p.grad.mul_(self.own[name])

    def after_step(self, batch: Batch) -> None:
        """Momentum and decay do not move what is not the task's; after the last step of its training, prune."""
        self._hold()
        if self.step + 1 == self.prune_at:
            self.prune()

    @torch.no_grad()
    def prune(self) -> None:
        """Each layer's smallest weights of the task become zero, and free."""
        params, now = dict(self.model.named_parameters()), self.tasks_begun - 1
        for name in self.divided():
            owner = self.owner[name].view(-1)
            mine = (owner == now).nonzero()[:, 0]
            order = params[name].flatten()[mine].abs().argsort(stable=True)
            owner[mine[order[: round(self.config.prune * len(mine))]]] = FREE
            params[name].masked_fill_(self.owner[name] == FREE, 0)
        self._lay_out()
        self.selection.drop()  # what was better had weights that are gone

    def end_task(self, task: Task) -> None:
        """Whoever chose or averaged weights has not moved what is not the task's; report what is left."""
        self._hold()
        self.own, self.held = {}, {}
        names = self.divided()
        free = sum(int((self.owner[name] == FREE).sum()) for name in names)
        self.context.report("free", free / sum(self.owner[name].numel() for name in names))

    def predict(self, inputs: Tensor, query: Query) -> Tensor:
        """By what the task and those before it own; of a task still to come, by all that is owned."""
        task = query.task
        weights = {n: p.where(self.owner[n] <= task, 0) for n, p in self.model.named_parameters() if n in self.owner}
        return with_weights(self.model, weights, lambda x: self.objective.decide(self.model(x), query), inputs)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore; what is held are the weights as they are."""
        super().load_state_dict(state)
        self._lay_out()

    def _lay_out(self) -> None:
        now = self.tasks_begun - 1
        self.own = {name: owner == now for name, owner in self.owner.items()}
        self.held = {n: p.detach().clone() for n, p in self.model.named_parameters() if n in self.owner}

    @torch.no_grad()
    def _hold(self) -> None:
        for name, p in self.model.named_parameters():
            if name in self.owner:
                p.copy_(torch.where(self.own[name], p, self.held[name]))


def matrices(network: nn.Module) -> tuple[list[str], list[str]]:
    """Names of all weights of two and more dimensions, embeddings apart; and of the last linear layer's parameters."""
    weights, last = [], []
    for prefix, module in network.named_modules():
        names = {f"{prefix}.{name}".lstrip("."): p for name, p in module.named_parameters(recurse=False)}
        last = list(names) if isinstance(module, nn.Linear) else last
        if not isinstance(module, nn.Embedding):
            weights += [name for name, p in names.items() if p.ndim > 1 and "weight" in name.rpartition(".")[2]]
    return weights, last
