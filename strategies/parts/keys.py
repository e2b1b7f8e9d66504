"""Which task's parameters answer for an input: keys of tasks, compared with a frozen network's features.

Wang et al., "Learning to Prompt for Continual Learning" (CVPR 2022) and "DualPrompt" (ECCV 2022): the query q is the
final class token of the unchanged network, and the task whose key is nearest by cosine is chosen, for each input alone.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...base.errors import UsageError

Kind = Literal["trained", "mean", "prototypes"]


class TaskKeys(nn.Module):
    """A key for each task of a pool of fixed size.

    Args:
        kind: "trained" by gradient on `pull`, as published; "mean", the direction that minimises `pull`, in closed form
            (published keys stop short of it); "prototypes", as many keys as the task has classes, their mean queries,
            of which the nearest counts.
        pool: the largest number of tasks. classes: of the stream. width: of a query.
    """

    def __init__(self, kind: Kind, pool: int, classes: int, width: int) -> None:
        super().__init__()
        self.kind, self.pool = kind, pool
        if kind == "prototypes":
            self.register_buffer("keys", torch.zeros(classes, width))
            self.register_buffer("owner", torch.full((classes,), -1))
        else:
            # nearly orthogonal from the start; all-positive keys, as in one of the published codes, start parallel
            self.keys = nn.Parameter(nn.init.orthogonal_(torch.empty(pool, width)), requires_grad=kind == "trained")

    def begin(self, task: int, strategy: str) -> None:
        """A task (0-based) begins; one too many for the pool is refused."""
        if task >= self.pool:
            raise UsageError(f"{strategy}: a pool of {self.pool} tasks, and task {task + 1} begins. Set a larger pool.")

    @torch.no_grad()
    def place(self, task: int, queries: Tensor, y: Tensor) -> None:
        """Set the keys of a task that are not trained, from its queries [N, D] and classes [N]."""
        if self.kind == "mean":
            self.keys[task] = F.normalize(F.normalize(queries, dim=1).mean(0), dim=0)
        elif self.kind == "prototypes":
            for c in y.unique().tolist():
                if self.owner[c] not in (-1, task):
                    raise UsageError(f"keys=prototypes: class {c} is of two tasks. Choose keys=mean or keys=trained.")
                self.keys[c], self.owner[c] = queries[y == c].mean(0), task

    def pull(self, task: int, queries: Tensor) -> Tensor:
        """The matching loss: minus the mean cosine of queries [B, D] to the task's key."""
        return -(F.normalize(queries, dim=1) @ F.normalize(self.keys[task], dim=0)).mean()

    def similarity(self, queries: Tensor, tasks: int) -> Tensor:
        """Cosine [B, tasks] of queries [B, D] to the nearest key of each of the first `tasks` tasks."""
        cosine = F.normalize(queries, dim=1) @ F.normalize(self.keys, dim=1).T
        if self.kind != "prototypes":
            return cosine[:, :tasks]
        nearest = cosine.new_full((len(queries), self.pool + 1), -2.0)  # the last column: classes that nobody owns
        owner = torch.where(self.owner < 0, self.pool, self.owner)
        return nearest.scatter_reduce(1, owner.expand(len(queries), -1), cosine, "amax")[:, :tasks]

    def choose(self, queries: Tensor, tasks: int) -> Tensor:
        """[B] int64: the task whose key is nearest to each query; the first one of several."""
        return self.similarity(queries, max(tasks, 1)).argmax(1)
