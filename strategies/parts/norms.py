"""Layer normalisation of one's own for each task: weights and biases, and keys at every norm to choose among them."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...base.errors import UsageError
from ..backbones.policies import Attentive
from ..backbones.vit import Plugs, ViT
from .keys import TaskKeys


class NormSets(nn.Module):
    """Weight and bias of all norms of a transformer, once for each task of a pool of fixed size.

    A task's set is a parameter of its own, [2 depth + 1, 2, D]: what trains one cannot move another. Rows of one
    tensor that are views of each other, as `expand` makes them, would be one set.
    """

    def __init__(self, vit: ViT | Attentive, pool: int) -> None:
        super().__init__()
        start = torch.stack([torch.stack([norm.weight, norm.bias]) for norm in vit.norms()]).detach()
        self.sets = nn.ParameterList(nn.Parameter(start.clone()) for _ in range(pool))

    @torch.no_grad()
    def begin(self, task: int, strategy: str) -> None:
        """The set of a task (0-based) starts as that of the task before; one too many for the pool is refused."""
        if task >= len(self.sets):
            raise UsageError(
                f"{strategy}: a pool of {len(self.sets)} tasks, and task {task + 1} begins. Set a larger pool."
            )
        if task:
            self.sets[task].copy_(self.sets[task - 1])

    def pair(self, number: int, chosen: int | Tensor) -> tuple[Tensor, Tensor]:
        """(weight, bias) of a norm for a task, each [D]; or for the task of each sample [B], each [B, D]."""
        if isinstance(chosen, int):
            return self.sets[chosen][number].unbind(0)
        return torch.stack([one[number] for one in self.sets])[chosen].unbind(1)

    def plugs(self, chosen: int | Tensor) -> Plugs:
        """The transformer with the set of one task, or of a task for each sample [B]."""
        return Plugs(norm=lambda number, x: self.pair(number, chosen))


class NormKeys(nn.Module):
    """A key k and a vector alpha for each task at every norm, [2 depth + 1, D] each, a parameter of its own per task.

    What is compared with k by cosine is alpha x the first token of the norm's input, elementwise: a picture's class
    token, or a robot's own.

    Args:
        attention: whether there is an alpha.
    """

    def __init__(self, norms: int, pool: int, width: int, attention: bool = True) -> None:
        super().__init__()

        def drawn() -> nn.ParameterList:  # at each norm, the tasks' vectors are orthogonal
            values = torch.stack([nn.init.orthogonal_(torch.empty(pool, width)) for _ in range(norms)], 1)
            return nn.ParameterList(nn.Parameter(one.clone()) for one in values)

        self.keys = drawn()
        self.alphas = drawn() if attention else None

    def of(self, task: int) -> list[nn.Parameter]:
        """The parameters of a task."""
        return [self.keys[task]] if self.alphas is None else [self.keys[task], self.alphas[task]]

    @torch.no_grad()
    def begin(self, task: int) -> None:
        """Those of a task (0-based) start as those of the task before."""
        if task:
            for own, before in zip(self.of(task), self.of(task - 1), strict=True):
                own.copy_(before)

    def cosine(self, number: int, x: Tensor, tasks: Iterable[int]) -> Tensor:
        """[B, tasks]: of the input [B, N, D] of a norm to the keys of some tasks."""
        tasks, read = list(tasks), x[:, :1]
        if self.alphas is not None:
            read = read * torch.stack([self.alphas[task][number] for task in tasks])
        return F.cosine_similarity(read, torch.stack([self.keys[task][number] for task in tasks]), dim=2)

    def choose(self, number: int, x: Tensor, tasks: int) -> Tensor:
        """[B] int64: which of the first `tasks` tasks has the nearest key at a norm; the first one of several."""
        return self.cosine(number, x, range(max(tasks, 1))).argmax(1)


class NormTuned(nn.Module):
    """A frozen transformer with norms and keys for each task, and heads.

    A classifier has one head, and one for the time of training. A policy's actions are the same in all tasks, and mean
    something else in each: there each task has a copy of the head beside its norms, and the one that came is frozen.

    Args:
        keys: at every norm, or those of the frozen network's features.
        detach: whether the comparison at a norm leaves what comes before it alone.
    """

    def __init__(self, vit: ViT | Attentive, sets: NormSets, keys: TaskKeys | NormKeys, detach: bool = False) -> None:
        super().__init__()
        self.vit, self.sets, self.keys, self.detach = vit, sets, keys, detach
        if isinstance(vit, Attentive):
            self.heads = nn.ModuleList(copy.deepcopy(vit.head) for _ in sets.sets)
            vit.head.requires_grad_(False)
        else:
            self.temporary = nn.ModuleDict({"head": copy.deepcopy(vit.head)}).requires_grad_(False)

    @property
    def head(self) -> nn.Module:
        """Of the network as it came, which says what outputs mean."""
        return self.vit.head

    def begin(self, task: int, strategy: str) -> None:
        """What a task (0-based) owns starts as that of the task before."""
        self.sets.begin(task, strategy)
        if isinstance(self.keys, NormKeys):
            self.keys.begin(task)
        if isinstance(self.vit, Attentive) and task:
            self.heads[task].load_state_dict(self.heads[task - 1].state_dict())

    def outputs(self, found: Tensor, chosen: Tensor) -> Tensor:
        """[B, P] of features [B, D], by the head, or by those of the tasks `chosen` [B]."""
        if not isinstance(self.vit, Attentive):
            return self.vit.head(found)
        out = found.new_empty(len(found), self.vit.head.out_features)
        for task in chosen.unique().tolist():
            out[chosen == task] = self.heads[task](found[chosen == task])
        return out

    @torch.no_grad()
    def still(self, x: Tensor, plugs: Plugs) -> Tensor:
        """Features [B, D] without a gradient, and with no part of the network dropped."""
        training = self.vit.training
        self.vit.eval()
        found = self.vit.features(x, plugs)
        self.vit.train(training)
        return found

    def matched(self, x: Tensor, task: int) -> tuple[Tensor, Tensor]:
        """(Features [B, D] through the norms of a task, cosine to its keys averaged over norms and samples)."""
        cosines = []

        def norm(number: int, x: Tensor) -> tuple[Tensor, Tensor]:
            cosines.append(self.keys.cosine(number, x.detach() if self.detach else x, [task]).mean())
            return self.sets.pair(number, task)

        return self.vit.features(x, Plugs(norm=norm)), torch.stack(cosines).mean()

    def by_norm(self, x: Tensor, tasks: int) -> tuple[Tensor, Tensor]:
        """(Features [B, D] where each norm chooses among the first `tasks` tasks, choices [B, 2 depth + 1])."""
        choices = []

        def norm(number: int, x: Tensor) -> tuple[Tensor, Tensor]:
            choices.append(self.keys.choose(number, x, tasks))
            return self.sets.pair(number, choices[-1])

        return self.still(x, Plugs(norm=norm)), torch.stack(choices, 1)
