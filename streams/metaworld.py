"""Continual World: a robot's hand learns ten tasks of Meta-World one after another, in MuJoCo, from demonstrations.

Wolczyk et al., "Continual World: A Robotic Benchmark For Continual Reinforcement Learning" (NeurIPS 2021, arXiv
2105.10919): its tasks in its order, episodes of 200 steps, and the position in the sequence told one-hot. What differs:
tasks are Meta-World's version 3 in place of 1, whose observations have 39 numbers in place of 12; a policy is learnt by
imitation of the scripted experts, and not by reinforcement (soft actor-critic, a million steps a task), so that its
published numbers do not compare; and attempts start where the seed says, the same after every task.

A run with 10 attempts a task, after each of ten tasks, is 1,100 episodes: minutes of one core (see docs/metaworld.md).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from ..base.errors import UsageError
from .core import TIL, Data, Stream, Task
from .named import stream
from .sources import metaworld as source

CW10 = (
    "hammer", "push-wall", "faucet-close", "push-back", "stick-pull",
    "handle-press-side", "push", "shelf-place", "window-close", "peg-unplug-side",
)  # fmt: skip
WORLDS = 4  # that are stepped together; each takes 20 MB, for every task

# Of an observation: hand, fingers' opening, two things with place and quaternion (zeros if there is but one); all that
# once more as it was a step before; and the goal. Places come in metres and go in decimetres off the table's middle:
# a fixed scale, for statistics of demonstrations would tell of tasks to come.
MIDDLE, DECIMETRE = (0.0, 0.6, 0.2), 0.1
_PLACE = [(m, 1 / DECIMETRE) for m in MIDDLE]
_PLAIN = [(0.0, 1.0)]
_NOW = _PLACE + _PLAIN + 2 * (_PLACE + 4 * _PLAIN)
OFFSET, SCALE = torch.tensor(_NOW + _NOW + _PLACE).T.float()  # [39] each


class Options(TypedDict, total=False):
    """Of both sequences.

    n_tasks: the first so many. seed: draws demonstrations and initial states. demonstrations: of each task;
    val_fraction of them come from states of their own and are held out. attempts: of each task's test. horizon: steps
    of an episode at most.
    """

    n_tasks: int | None
    seed: int
    demonstrations: int
    attempts: int
    horizon: int
    val_fraction: float


@dataclass(frozen=True)
class Attempts:
    """Episodes of one task from the starts that `seeds` give, judged by the simulator. Its actions are a policy's.

    Attributes:
        said: [L] what is told of the task. versions: of the simulator.
    """

    task: str
    seeds: tuple[int, ...]
    said: Tensor
    horizon: int
    versions: str

    def __len__(self) -> int:
        return len(self.seeds)

    def score(self, predict: Callable[[Tensor], Tensor], batch_size: int = 1024) -> Tensor:
        """[N] bool: Meta-World's success at some step within the horizon. `predict` maps [B, 1, D] to actions [B, 4].

        As an attempt ends, the next begins in its world, so that a policy is asked about several at once.
        """
        success = torch.zeros(len(self), dtype=torch.bool)
        waiting = list(range(len(self)))[::-1]
        free = [source.world(self.task, k) for k in range(min(WORLDS, batch_size, len(self)))]
        busy: list[tuple[int, source.World]] = []
        while waiting or busy:
            while free and waiting:
                busy.append((waiting.pop(), free.pop()))
                busy[-1][1].start(self.seeds[busy[-1][0]])
            seen = torch.stack([torch.from_numpy(world.seen) for _, world in busy])
            actions = predict(inputs(seen.to(self.said.device), self.said)).cpu().numpy()
            for (_, world), action in zip(busy, actions, strict=True):
                world.step(action)
            over = [(i, world) for i, world in busy if world.success or world.steps == self.horizon]
            busy = [pair for pair in busy if pair not in over]
            for i, world in over:
                success[i] = world.success
                free.append(world)
        return success

    def to(self, device: torch.device | str) -> Attempts:
        """The same for a policy on a device; physics stays on the CPU."""
        return dataclasses.replace(self, said=self.said.to(device))

    def digest(self) -> str:
        """SHA-256 of the simulator's versions, the task, its starts, the horizon and what is told."""
        told = [self.versions, self.task, self.seeds, self.horizon, self.said.tolist(), OFFSET.tolist(), SCALE.tolist()]
        return hashlib.sha256(repr(told).encode()).hexdigest()


def inputs(seen: Tensor, said: Tensor) -> Tensor:
    """Observations [N, 39] and what is told [L] as a policy reads them, [N, 1, 39 + L] float32."""
    scaled = (seen.float() - OFFSET.to(seen.device)) * SCALE.to(seen.device)
    return torch.cat([scaled, said.expand(len(seen), -1)], 1)[:, None]


def _sequence(
    name: str,
    names: tuple[str, ...],
    data: str | Path | None,
    *,
    n_tasks: int | None = None,
    seed: int = 0,
    demonstrations: int = 50,
    attempts: int = 10,
    horizon: int = 200,
    val_fraction: float = 0.1,
) -> Stream:
    """The tasks in their order. One that comes again has the same demonstrations and starts, and another position."""
    if n_tasks is not None and not 1 <= n_tasks <= len(names):
        raise UsageError(f"n_tasks must be from 1 to {len(names)}; got {n_tasks}.")
    if not (1 <= attempts <= 1000 and 2 <= demonstrations <= 10_000 and 1 <= horizon <= 500):
        raise UsageError("attempts must be from 1 to 1000, demonstrations from 2, and horizon from 1 to 500.")
    held = round(val_fraction * demonstrations)
    if not 0 <= val_fraction < 1 or held == demonstrations:
        raise UsageError(f"val_fraction={val_fraction} must be at least 0 and leave a demonstration to learn from.")
    names, versions = names[:n_tasks], source.versions()
    every, said = list(range(source.ACTIONS)), torch.eye(len(names))
    learnt, tests, dropped = [], [], []
    for t, task in enumerate(names):
        counts = {"demonstrations": demonstrations - held, "validation": held}
        shown = [source.recorded(task, n, part, seed, horizon, data) for part, n in counts.items() if n]
        parts = [Data(inputs(one.observations, said[t]), one.actions) for one in shown]
        dropped.append(sum(one.dropped for one in shown))
        learnt.append(Task(t, task, tuple(every), parts[0], parts[1] if held else None, {"environment": f"{task}-v3"}))
        seeds = tuple(source.start_seed(task, "evaluation", seed, n) for n in range(attempts))
        tests.append(Attempts(task, seeds, said[t], horizon, repr(versions)))
    meta = {"simulator": versions, "demonstrations": demonstrations, "dropped": dropped, "horizon": horizon}
    layout = {"robot": (source.OBSERVED,), "task": (len(names),)}
    return Stream(name, 1, TIL, learnt, tests, len(every), seed, kind="policy", meta=meta, layout=layout)


@stream("metaworld-cw10", embedded=False, setting="til", needs="metaworld")
def metaworld_cw10(*, data: str | Path | None = None, **options: Unpack[Options]) -> Stream:
    """Ten tasks for a robot in MuJoCo, from experts' demonstrations, the task told; for `bc-mlp`.

    CW10 of Continual World: 50 demonstrations and 10 attempts a task. Needs `pip install "carryover[robot]"`; the
    demonstrations are recorded on first use.
    """
    return _sequence("metaworld-cw10", CW10, data, **options)


@stream("metaworld-cw20", embedded=False, setting="til", needs="metaworld")
def metaworld_cw20(*, data: str | Path | None = None, **options: Unpack[Options]) -> Stream:
    """The ten tasks of metaworld-cw10 twice in a row: what is known the second time; for `bc-mlp`.

    CW20 of Continual World. As there, a position of the sequence is told, so that a task that comes again is a new one.
    """
    return _sequence("metaworld-cw20", CW10 + CW10, data, **options)
