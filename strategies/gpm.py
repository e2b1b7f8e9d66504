"""Gradient projection memory: learn only along directions that the inputs of earlier tasks did not use.

Saha, Garg and Roy, "Gradient Projection Memory for Continual Learning" (ICLR 2021), algorithm 1. After each task and
for each layer, a basis of what its inputs span up to `threshold` of their energy joins a pool; from then on the
gradient's part in the pool is taken away. No sample is kept, and the task need not be known at test.

Where we differ: bases come from all of a task's training samples, through Gram matrices, where the published code takes
singular values of 300 or fewer; directions reach the threshold, where the code's first task stops one short
(`parity=True` does). Biases, norms, embeddings and recurrent layers are learnt in the first task and stand still
afterwards; the published networks have no biases, and their batch normalisation, which depends on the test batch, is
refused. A head whose first task reveals every class of the stream, or that of a policy, is one more layer. Any other
head learns the rows of new classes freely, and those of earlier classes stand still.

Expected on Permuted MNIST (10 tasks, 5 epochs): ACC 0.939, BWT -0.03 (Lin et al. 2022, Table 1); on 8,000 training
images 0.905, -0.021 (docs/strategies/cuber.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..base.errors import UsageError
from ..streams.batches import Batch
from ..streams.core import Data, StreamInfo, Task
from .config import Amount, NonNegative, Positive, Share
from .context import Context
from .core import GradientStrategy, TrainConfig, strategy
from .parts.batch_norm import refuse_batch_norm
from .parts.rotated import Rotated, rotated, rotated_layers, turned_ahead
from .parts.subspaces import Inputs, Subspaces
from .parts.survey import Loss, Survey, survey


@dataclass(frozen=True)
class GPMConfig(TrainConfig):
    """threshold: share of the energy of a layer's inputs that its subspace spans; one, or one for each layer.

    threshold_growth: added for each task after the first. basis_samples: training samples behind a basis; 0 means all.
    parity: bases as the published code makes them; see `parts.subspaces`.
    """

    lr: Positive = 0.01
    threshold: Share | list[Share] = 0.97
    threshold_growth: NonNegative = 0.0
    basis_samples: Amount = 0
    parity: bool = False


@strategy("gpm", needs=("boundaries",))
class GPM(GradientStrategy):
    """Keep each gradient off the directions that the inputs of earlier tasks span (gradient projection memory)."""

    Config = GPMConfig
    kinds = ("classification", "policy")
    turning = ("guarded", "selected")  # what a checkpoint must give back before layers can be turned
    stateful = (*GradientStrategy.stateful, *turning, "closed")
    choosing = False  # whether a task's subspace is some of the pool's columns, or all

    def setup(self, info: StreamInfo, context: Context) -> None:
        """Nothing to protect yet."""
        super().setup(info, context)
        if self.config.weight_decay:
            raise UsageError(f"{self.name} holds weights that weight_decay would shrink. Leave it out.")
        refuse_batch_norm(self.model, f"{self.name} cannot hold the running statistics of batch normalisation.")
        self.layers = {name: layer for name, layer in rotated_layers(self.model).items() if layer.weight.requires_grad}
        self.thresholds(0)
        self.guarded: list[str] = []  # layers that have a pool: all, or all but the head
        self.selected: dict[str, list[int]] = {}  # earlier tasks whose subspaces the current task scales, by layer
        self.closed = torch.zeros(0, dtype=torch.long, device=context.device)  # the head's rows of earlier classes
        self.subspaces = {name: Subspaces(layer.width, context.device) for name, layer in self.layers.items()}

    def furnish(self, network: nn.Module) -> nn.Module:
        """Layers that can learn in coordinates."""
        return rotated(network)

    def extra_passes(self) -> int:
        """One for the bases."""
        return 1

    def begin_task(self, task: Task) -> None:
        """From the second task on, learn in the coordinates of the pools."""
        if self.tasks_begun == 1:
            whole = len(task.classes) == self.info.classes
            self.guarded = [name for name in self.layers if whole or name != self.head]
            if len(self.thresholds(0)) < len(self.guarded):
                raise UsageError(
                    f"{self.name}: threshold has no entry for the head, but every task of {self.info.name} has all "
                    f"classes, so that the head is held like any other layer; give {len(self.guarded)} entries."
                )
            return
        earlier = {c for group in self.objective.groups[:-1] for c in group}
        self.closed = torch.tensor(sorted(earlier), dtype=torch.long, device=self.context.device)
        self.selected = self.select(task)
        with self.context.meter.work("train", self.context.task, "turn"):
            self.turn()

    @property
    def head(self) -> str:
        """The last layer."""
        return list(self.layers)[-1]

    def select(self, task: Task) -> dict[str, list[int]]:
        """Earlier tasks whose subspaces the task may scale, by layer: none."""
        return {}

    def turn(self) -> None:
        """Only coordinates are learnt now, and the head where it has rows of its own for the new classes."""
        for name, p in self.model.named_parameters():
            p.requires_grad_(p.requires_grad and self.head not in self.guarded and name.startswith(f"{self.head}."))
        for name in self.guarded:
            pool = self.subspaces[name]
            self.layers[name].turn(pool.completed(), [pool.columns(j) for j in self.selected.get(name, [])])

    def training_data(self, task: Task) -> Data:
        """The task's data, in the first layer's coordinates where that saves work."""
        return turned_ahead(self.model, task.train, self.context.meter) if self.passes() > 1 else task.train

    def loss(self, batch: Batch) -> Tensor:
        """The loss; what was turned ahead is counted where it is used."""
        for layer in self.layers.values():
            if layer.ahead:  # of the weight, forth and back; of the inputs, forth
                rows = 2 * len(layer.weight) if layer.turns_weight(batch.x) else len(batch.x)
                with self.context.meter.standing_for("train", "turning", rows, 0):
                    pass
        return super().loss(batch)

    def adjust_gradients(self, batch: Batch) -> None:
        """Take away the part in the pool, and what would change the logits of earlier classes."""
        if self.tasks_begun == 1:
            return
        for name in self.guarded:
            self.hold(name)
        if self.head not in self.guarded:
            for p in self.layers[self.head].layer.parameters():
                p.grad.index_fill_(0, self.closed, 0)

    def hold(self, name: str) -> None:
        """Take a layer's gradient off the pool, which in its coordinates is the first columns."""
        self.layers[name].coordinates.grad[:, : self.subspaces[name].basis.shape[1]] = 0

    def end_task(self, task: Task) -> None:
        """Write back what was learnt, and grow the pools by the directions of the task's inputs."""
        with self.context.meter.work("train", self.context.task, "turn back"):
            for layer in self.layers.values():
                if layer.turned:
                    layer.turn_back()
        self.optimizer = self.new_optimizer()  # there are no coordinates any more
        inputs = self.inputs(task)
        for threshold, name in zip(self.thresholds(self.tasks_begun - 1), self.guarded, strict=False):
            pool = self.subspaces[name]
            with self.context.meter.work("train", self.context.task, "pool", name):
                pool.grow(inputs[name], threshold, choose=self.choosing, short=self.config.parity)
            self.context.report(f"used/{name}", pool.used)

    def inputs(self, task: Task) -> dict[str, Inputs]:
        """By layer, what is to be protected from now on."""
        return self.look(task, self.config.basis_samples).inputs

    def look(self, task: Task, samples: int, loss: Loss | None = None, inputs: bool = True) -> Survey:
        """What the task's data say of the layers, after it was learnt; with a loss, also its gradients."""
        return survey(self.model, self.guards, task.train, self.context, samples=samples, loss=loss, inputs=inputs)

    @property
    def guards(self) -> dict[str, Rotated]:
        """The guarded layers by name."""
        return {name: self.layers[name] for name in self.guarded}

    def thresholds(self, task: int) -> list[float]:
        """One for each layer, after task number `task`."""
        given = self.config.threshold
        each = given if isinstance(given, list) else [given] * len(self.layers)
        if len(each) not in (len(self.layers), len(self.layers) - 1):
            raise UsageError(
                f"{self.name}: threshold has {len(each)} entries, but {self.config.model} has {len(self.layers)} "
                "layers; give one for each (the head may be left out where it has rows of its own), or one for all."
            )
        return [min(1.0, share + task * self.config.threshold_growth) for share in each]

    def state_dict(self) -> dict[str, Any]:
        """With the pools, and whether the layers are turned."""
        pools = {name: pool.state_dict() for name, pool in self.subspaces.items()}
        turned = any(layer.turned for layer in self.layers.values())
        return {**super().state_dict(), "subspaces": pools, "turned": turned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore; in the middle of a task the layers are turned first, so that their coordinates have a place."""
        for name, pool in self.subspaces.items():
            kept = state["subspaces"][name]
            pool.load_state_dict({key: value.to(self.context.device) for key, value in kept.items()})
        for name in self.turning:
            self._restore(name, state[name])
        if state["turned"]:
            self.turn()
        super().load_state_dict(state)
