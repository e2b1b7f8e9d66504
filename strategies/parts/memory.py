"""Replay memories: preallocated tensors of samples as the stream stores them, written without a Python loop."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor


class Memory:
    """What the ledger counts as replay. `samples` and `targets` are None until the first write shows their shape."""

    samples: Tensor | None = None
    targets: Tensor | None = None
    axes: ClassVar[int] = 1  # of both that number the slots; what comes behind is one sample, or one target

    def __len__(self) -> int:
        """Filled slots."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Bytes of the filled slots."""
        if not len(self):
            return 0
        slots = math.prod(self.targets.shape[: self.axes])
        return len(self) * (self.samples.nbytes + self.targets.nbytes) // slots


class ReservoirMemory(Memory):
    """A uniform sample of everything ever added (Vitter's algorithm R, 1985).

    The n-th sample is kept with probability capacity / n, and then replaces a slot chosen uniformly.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.added = 0

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, stored: Tensor, targets: Tensor, generator: torch.Generator) -> None:
        """Offer a batch [B, ...] in order."""
        if self.samples is None:
            self.samples = stored.new_zeros(self.capacity, *stored.shape[1:])
            self.targets = targets.new_zeros(self.capacity, *targets.shape[1:])
        places = self.places(len(targets), generator)
        # of several samples that fall on one slot the last one stays, as if they had come one by one
        kept = {slot: row for row, slot in enumerate(places) if slot < self.capacity}
        self.added += len(places)
        if kept:
            slots = torch.tensor(list(kept), device=stored.device)
            rows = torch.tensor(list(kept.values()), device=stored.device)
            self.samples[slots] = stored[rows]
            self.targets[slots] = targets[rows]

    def places(self, count: int, generator: torch.Generator) -> list[int]:
        """Slot of each of the next `count` samples; a slot of `capacity` or more means that it is not kept."""
        draws = torch.rand(count, generator=generator, dtype=torch.float64).tolist()
        return [
            n if n < self.capacity else int(draw * (n + 1))
            for n, draw in zip(range(self.added, self.added + count), draws, strict=True)
        ]

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` stored samples and targets, uniformly with replacement."""
        index = torch.randint(len(self), (count,), generator=generator).to(self.targets.device)
        return self.samples[index], self.targets[index]

    def state_dict(self) -> dict[str, Any]:
        """The filled memory."""
        return {"samples": self.samples, "targets": self.targets, "added": self.added}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.samples, self.targets, self.added = state["samples"], state["targets"], state["added"]


class Archive(Memory):
    """Everything ever added, for strategies that keep all data and say so."""

    def __len__(self) -> int:
        return 0 if self.targets is None else len(self.targets)

    def add(self, stored: Tensor, targets: Tensor) -> None:
        """Append [B, ...]."""
        self.samples = stored if self.samples is None else torch.cat([self.samples, stored])
        self.targets = targets if self.targets is None else torch.cat([self.targets, targets])

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {"samples": self.samples, "targets": self.targets}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.samples, self.targets = state["samples"], state["targets"]


class RingMemory(Memory):
    """The last `per_task` samples of each task, a cursor and a count for each task.

    The published GEM code carries one cursor over from task to task, drops what crosses the end of the ring, and
    trains on unwritten slots where a task has fewer samples than the ring. Here each task's ring starts at 0, wraps,
    and only filled slots are read.
    """

    axes = 2

    def __init__(self, per_task: int) -> None:
        self.per_task = per_task
        self.written: list[int] = []

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def counts(self) -> list[int]:
        """Filled slots of each task."""
        return [min(n, self.per_task) for n in self.written]

    def begin_task(self) -> None:
        """Open a new ring."""
        self.written.append(0)

    def add(self, stored: Tensor, targets: Tensor) -> None:
        """Write a batch [B, ...] into the current task's ring, over the oldest."""
        self._grow(stored, targets)
        stored, targets = stored[-self.per_task :], targets[-self.per_task :]
        first = self.written[-1] % self.per_task
        slots = (torch.arange(len(targets), device=targets.device) + first) % self.per_task
        self.samples[len(self.written) - 1, slots] = stored
        self.targets[len(self.written) - 1, slots] = targets
        self.written[-1] += len(targets)

    def draw(self, count: int, tasks: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` stored samples and targets of the first `tasks` tasks, uniformly with replacement."""
        filled = torch.tensor(self.counts[:tasks])
        flat = torch.randint(int(filled.sum()), (count,), generator=generator)
        task = torch.bucketize(flat, filled.cumsum(0), right=True)
        slot = flat - (filled.cumsum(0) - filled)[task]
        task, slot = task.to(self.targets.device), slot.to(self.targets.device)
        return self.samples[task, slot], self.targets[task, slot]

    def _grow(self, stored: Tensor, targets: Tensor) -> None:
        tasks = len(self.written)
        if self.samples is None:
            self.samples = stored.new_zeros(tasks, self.per_task, *stored.shape[1:])
            self.targets = targets.new_zeros(tasks, self.per_task, *targets.shape[1:])
        elif len(self.samples) < tasks:
            more = tasks - len(self.samples)
            self.samples = torch.cat([self.samples, self.samples.new_zeros(more, *self.samples.shape[1:])])
            self.targets = torch.cat([self.targets, self.targets.new_zeros(more, *self.targets.shape[1:])])

    def state_dict(self) -> dict[str, Any]:
        """All rings."""
        return {"samples": self.samples, "targets": self.targets, "written": self.written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.samples, self.targets, self.written = state["samples"], state["targets"], list(state["written"])
