"""What surrounds a strategy while it learns: device, randomness, the meter of its operations, and the harness's ear."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from ..base.seeds import derive, torch_generator

_FREE = nullcontext()


class Meter:
    """Counts floating-point operations without slowing the run: each *kind* of step is counted once.

    Torch's counter intercepts every operator, which would double the time of small steps. A step's cost depends on
    the task, the batch size and what the strategy names beside it (`key`), so the first step of a kind runs under
    the counter and the others add its result. Counts are of matrix products, convolutions and attention, a
    multiply-add as two.
    """

    def __init__(self) -> None:
        self.flops = {"train": 0, "eval": 0}
        self.steps = 0
        self.samples = 0
        self.known: dict[str, int] = {}
        self._nested: list[int] = []  # operations of inner work, for each piece of outer work that is being counted

    def step(self, task: int, samples: int, *key: int) -> AbstractContextManager:
        """Surrounds one training step on `samples` samples."""
        self.steps += 1
        self.samples += samples
        return self.work("train", task, samples, *key)

    def work(self, purpose: str, *key: int | str) -> AbstractContextManager:
        """Surrounds any work whose cost is a function of (purpose, key).

        Work that is done in some steps only goes into a `work` of its own inside the step, whose cost then excludes it.
        """
        name = f"{purpose}:{key}"
        cost = self.known.get(name)
        if cost is None:
            return self._counted(purpose, name)
        self.flops[purpose] = self.flops.get(purpose, 0) + cost
        if self._nested:
            self._nested[-1] += cost  # the outer counter sees these operations, too
        return _FREE

    @contextmanager
    def standing_for(self, purpose: str, key: str, rows: int, done: int):
        """Surrounds work on `done` rows in place of `rows`, because the answers to the others are remembered.

        The ledger counts the plain way of computing, all `rows`, so that a cache that was lost in a stop, or that
        another strategy has not, does not change it. The work's cost must be proportional to its rows.
        """
        name = f"{purpose}:{key}:row"
        if name in self.known or not done:
            yield
            seen = done * self.known.get(name, 0)
        else:
            from .flops import FlopCount

            with FlopCount() as counter:
                yield
            seen, self.known[name] = counter.total, counter.total // done
        self.flops[purpose] = self.flops.get(purpose, 0) + rows * self.known.get(name, 0)
        if self._nested:
            self._nested[-1] += seen

    @contextmanager
    def _counted(self, purpose: str, name: str):
        from .flops import FlopCount

        self._nested.append(0)
        with FlopCount() as counter:
            yield
        self.known[name] = counter.total - self._nested.pop()
        self.flops[purpose] = self.flops.get(purpose, 0) + self.known[name]
        if self._nested:
            self._nested[-1] += counter.total

    @contextmanager
    def silent(self):
        """Surrounds work that no ledger counts, such as a diagnosis after the end."""
        before = self.flops, self.known
        self.flops, self.known = dict(self.flops), dict(self.known)
        yield
        self.flops, self.known = before

    def state_dict(self) -> dict[str, Any]:
        """Counts so far, and the known costs, so that a resumed run counts the same."""
        return {"flops": self.flops, "steps": self.steps, "samples": self.samples, "known": self.known}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.flops, self.steps, self.samples = dict(state["flops"]), state["steps"], state["samples"]
        self.known = dict(state["known"])


class Context:
    """Everything ambient, made explicit.

    Attributes:
        seed: of the run.
        device: where networks and data live.
        trial: nothing will be learnt; `setup` is only to say whether all fits together, and may leave long work out.
        task: number of the task that is being learnt, counted by the harness, for randomness and accounting alone.
        meter: operation counts.
        point: the harness's other ear, called before `tick` alike: it may take a point of a learning curve.
        tick: the harness's ear, called as tick(step, total) at the end of every step; a strategy may be saved here.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu", trial: bool = False) -> None:
        self.seed, self.trial = seed, trial
        self.device = torch.device(device)
        self.task = -1
        self.meter = Meter()
        self.tick: Callable[[int, int], None] = lambda step, total: None
        self.point: Callable[[int, int], None] = lambda step, total: None
        self.success_reads = 0
        self._success: float | None = None
        self.diagnostics: dict[str, list[float | None]] = {}
        self._generators: dict[str, torch.Generator] = {}

    def begin(self, task: int) -> None:
        """Called by the harness before each task: from here on, every draw is a function of (seed, task, purpose)."""
        self.task, self._success = task, None
        self._generators.clear()
        torch.manual_seed(derive(self.seed, task, "global"))

    def key(self, purpose: str) -> tuple[int | str, ...]:
        """What draws for a purpose in this task are derived from."""
        return (self.seed, self.task, purpose)

    def generator(self, purpose: str) -> torch.Generator:
        """The CPU generator of a purpose in this task. The same object until the task ends; saved in checkpoints."""
        if purpose not in self._generators:
            self._generators[purpose] = torch_generator(*self.key(purpose))
        return self._generators[purpose]

    @property
    def success(self) -> float | None:
        """Share of right answers on the task's own test at the latest point of its curve. Reading it is recorded."""
        self.success_reads += 1
        return self._success

    @success.setter
    def success(self, value: float) -> None:
        self._success = value

    def report(self, name: str, value: float) -> None:
        """Put a number about this task into the record: a share of projected steps, a task-selection accuracy."""
        values = self.diagnostics.setdefault(name, [])
        values.extend([None] * (self.task + 1 - len(values)))
        values[self.task] = float(value) if math.isfinite(value) else None

    def state_dict(self) -> dict[str, Any]:
        """Position of every generator, torch's own included."""
        state = {
            "task": self.task,
            "global": torch.get_rng_state(),
            "generators": {name: g.get_state() for name, g in self._generators.items()},
            "meter": self.meter.state_dict(),
            "diagnostics": self.diagnostics,
            "success": [self._success, self.success_reads],
        }
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        self.begin(state["task"])
        torch.set_rng_state(state["global"])
        if "cuda" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)
        for name, position in state["generators"].items():
            self.generator(name).set_state(position)
        self.meter.load_state_dict(state["meter"])
        self._success, self.success_reads = state["success"]
        self.diagnostics = {name: list(values) for name, values in state["diagnostics"].items()}
