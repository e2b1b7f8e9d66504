"""The loop: evaluate, then for each task learn and evaluate again on all tasks.

    row 0  = every test set before any training
    row k  = every test set after task k

One seed's pass is a function of (strategy, config, stream, seed, device type, threads). It can be stopped at any
moment and picked up from its last checkpoint with the same result, bit for bit on the CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base.errors import InvalidError, UsageError
from ..base.files import sha256
from ..strategies.config import flat
from ..strategies.context import Context
from ..strategies.core import Strategy
from ..strategies.parts.selection import reached
from ..streams.core import Stream
from .checkpoint import load_state, save_state
from .cost import ledger, peak_device_bytes, peak_host_bytes, pretrained
from .evaluator import Evaluator
from .films import Take, save_films
from .record import Evidence, Measured, SeedRun, Usage, pack_evidence


@dataclass(frozen=True)
class Progress:
    """Where a run is: learning `task` (0-based) of `tasks` at `step` of `total`."""

    task: int
    tasks: int
    step: int
    total: int

    @property
    def share(self) -> float:
        """Of the whole run, in [0, 1], taking tasks as equally long."""
        return (self.task + self.step / max(self.total, 1)) / self.tasks


Listener = Callable[[Progress], None]


def run_seed(
    strategy: Strategy,
    stream: Stream,
    seed: int,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    every: float = 30.0,
    listener: Listener | None = None,
    until: int | None = None,
    films: Path | None = None,
) -> tuple[SeedRun, bytes | None]:
    """One pass of a fresh strategy over the stream.

    Args:
        checkpoint: file to save to and, if it exists, to go on from; None keeps nothing.
        every: seconds between checkpoints inside a task; there is one after every task besides.
        listener: told about progress, at most ten times a second.
        until: stop after this many tasks; rows 0..until are those of the whole run.
        films: file for films of some attempts, where tests can be watched; None makes none.

    Returns:
        The seed's result, and its evidence (bit-packed correctness), None if the run diverged.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    context = Context(seed, device)
    evaluator = Evaluator(stream, device, together=strategy.test_batch, filming=films is not None)
    context.begin(-1)  # what a network's constructor draws from torch's own generator depends on the seed alone
    strategy.setup(stream.info, context)
    state = _Position(strategy, context, evaluator, stream)
    if checkpoint is not None and checkpoint.exists():
        state.restore(checkpoint)
    clock = _Clock(state, checkpoint, every, listener, len(stream))
    context.tick, context.point = clock.tick, clock.point

    if not state.rows:
        clock.timed("eval", state.measure)
    for index in range(len(state.rows) - 1, len(stream) if until is None else until):
        task = stream.shown(index)
        train = task.train.to(device)
        task = replace(task, train=train, val=None if task.val is None else task.val.to(device))
        if not state.inside:
            context.begin(index)
            train.drawn["samples"] = 0
        else:
            train.drawn["samples"] = state.drawn[index]
        clock.enter(index, train)
        try:
            clock.timed("train", strategy.learn, task)
        except torch.linalg.LinAlgError:  # a decomposition of what is no number any more
            if _finite(strategy):
                raise
        state.leave(index, train)
        if not _finite(strategy):
            state.diverged = True
            break
        clock.timed("eval", state.measure)
        clock.save()
    if len(state.rows) == len(stream) + 1:
        clock.timed("eval", evaluator.diagnose, strategy, context)
    if films is not None and evaluator.takes:
        save_films(films, stream, evaluator.takes)
    return state.result(seed), state.evidence()


class _Position:
    """How far a run has come, and everything needed to go on from there."""

    def __init__(self, strategy: Strategy, context: Context, evaluator: Evaluator, stream: Stream) -> None:
        self.strategy, self.context, self.evaluator, self.stream = strategy, context, evaluator, stream
        self.rows: list[np.ndarray] = []
        self.controls: list[list[int]] = []  # with each row, where the stream has any
        self.curves: list[list[int]] = []  # of each task, correct answers on its own test while it was learnt
        self.drawn: list[int] = []  # training samples drawn from each task so far
        self.inside = False  # in the middle of learning a task
        self.diverged = False
        self.resumed = 0
        self.spent = {"train": 0.0, "eval": 0.0, "train_cpu": 0.0, "eval_cpu": 0.0}  # seconds

    def measure(self) -> None:
        """Take the next row."""
        seen = len(self.rows)
        row = self.evaluator.row(self.strategy, self.context, seen)
        if self.stream.controls:
            self.controls.append(self.evaluator.outside(self.strategy, self.context, seen))
        self.rows.append(row)

    def due(self, step: int, total: int) -> int:
        """Points of the learning curve to be taken after a step of a task; several where a task ended early."""
        index = len(self.rows) - 1
        if len(self.curves) == index:  # its first point is in the row before
            ends = np.cumsum([0, *self.stream.test_sizes])
            self.curves.append([int(self.rows[index][ends[index] : ends[index + 1]].sum())])
        return reached(self.stream.points, step, total) + 1 - len(self.curves[index])

    def point(self, count: int) -> None:
        """Take one, for `count` points of the curve."""
        index = len(self.rows) - 1
        correct = self.evaluator.own(self.strategy, self.context, index)
        self.curves[index] += [correct] * count
        self.context.success = correct / self.stream.test_sizes[index]

    def leave(self, index: int, train: Any) -> None:
        """A task has been learnt."""
        self.note(index, train.drawn["samples"])
        self.inside = False

    def note(self, index: int, drawn: int) -> None:
        """Samples drawn from a task's data so far."""
        self.drawn[index:] = [drawn]

    def state_dict(self) -> dict[str, Any]:
        return {
            "run": self._run(),
            "strategy": self.strategy.state_dict(),
            "context": self.context.state_dict(),
            "rows": [torch.from_numpy(row) for row in self.rows],
            "controls": self.controls,
            "curves": self.curves,
            "drawn": self.drawn,
            "inside": self.inside,
            "task_id_reads": self.evaluator.task_id_reads,
            "films": [take.state_dict() for take in self.evaluator.takes],
            "resumed": self.resumed,
            "threads": torch.get_num_threads(),
            "spent": self.spent,
        }

    def _run(self) -> list[Any]:
        """What a checkpoint belongs to; the weights that a run started from, too, which it may not hold."""
        weights = pretrained(self.strategy)
        return [
            self.stream.fingerprint,
            self.context.seed,
            self.strategy.name,
            flat(self.strategy.config),
            None if weights is None else weights.sha256,
            dict(told_outside(self.strategy)),
        ]

    def restore(self, path: Path) -> None:
        state = load_state(path)
        try:
            if state["run"] != self._run():
                raise UsageError(
                    f"the checkpoint {path} belongs to another seed, stream or strategy. Choose another --out, or "
                    "remove it."
                )
            self.strategy.load_state_dict(state["strategy"])
            self.context.load_state_dict(state["context"])
            self.rows, self.controls = [row.numpy() for row in state["rows"]], state.get("controls", [])
            self.curves = state.get("curves", [])
            self.drawn, self.inside = list(state["drawn"]), state["inside"]
            self.evaluator.task_id_reads = state["task_id_reads"]
            self.evaluator.takes = [Take.of(film) for film in state.get("films", [])]
            self.resumed, self.spent = state["resumed"] + 1, self.spent | state["spent"]
            torch.set_num_threads(state["threads"])
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            raise InvalidError(
                f"the checkpoint {path} does not fit this run ({type(error).__name__}): it was made with another "
                "strategy, model or version. Choose another --out, or remove it."
            ) from error

    def result(self, seed: int) -> SeedRun:
        tasks = len(self.stream)
        rows: list[list[int | None]] = [self.evaluator.counts(row) for row in self.rows]
        rows += [[None] * tasks for _ in range(tasks + 1 - len(rows))]
        evidence = self.evidence()
        return SeedRun(
            seed=seed,
            status="diverged" if self.diverged else "complete" if len(self.rows) == tasks + 1 else "partial",
            correct=rows,
            controls=self.controls,
            curves=self.curves,
            evidence=None if evidence is None else Evidence(sha256=sha256(evidence), bytes=len(evidence)),
            diagnostics=self.context.diagnostics,
            cost=ledger(self.strategy, self.context),
            usage=Usage(
                drawn=self.drawn,
                task_id_reads=self.evaluator.task_id_reads,
                pretrained=pretrained(self.strategy),
                test_batch=self.strategy.test_batch,
                outside=dict(told_outside(self.strategy)),
                success_reads=self.context.success_reads,
            ),
            measured=Measured(
                train_ms=round(self.spent["train"] * 1000),
                train_cpu_ms=round(self.spent["train_cpu"] * 1000),
                eval_ms=round(self.spent["eval"] * 1000),
                peak_host_bytes=peak_host_bytes(),
                peak_device_bytes=peak_device_bytes(self.context.device),
                threads=torch.get_num_threads(),
                resumed=self.resumed,
            ),
        )

    def evidence(self) -> bytes | None:
        whole = len(self.rows) == len(self.stream) + 1
        return pack_evidence(self.rows) if whole else None


class _Clock:
    """Saves and reports now and then, from inside the training loop, without slowing it."""

    def __init__(
        self, state: _Position, path: Path | None, every: float, listener: Listener | None, tasks: int
    ) -> None:
        self.state, self.path, self.every, self.listener, self.tasks = state, path, every, listener, tasks
        self.saved = self.told = self.entered = time.monotonic()
        self.entered_cpu = time.process_time()
        self.index, self.train = 0, None

    def enter(self, index: int, train: Any) -> None:
        """Learning of a task begins or goes on."""
        self.index, self.train = index, train

    def timed(self, purpose: str, function: Callable, *args: Any) -> Any:
        """Call, and add the seconds to the ledger; on an accelerator, until its work is done."""
        self.entered, self.entered_cpu, self.purpose = time.monotonic(), time.process_time(), purpose
        value = function(*args)
        if self.state.context.device.type == "cuda":
            torch.cuda.synchronize(self.state.context.device)
        self._settle()
        return value

    def tick(self, step: int, total: int) -> None:
        """Called after every training step."""
        now = time.monotonic()
        if self.listener is not None and now - self.told >= 0.1:
            self.told = now
            self.listener(Progress(self.index, self.tasks, step, total))
        if self.path is not None and now - self.saved >= self.every:
            self.state.inside = True
            self.state.note(self.index, self.train.drawn["samples"])
            self._settle()
            self.save()

    def point(self, step: int, total: int) -> None:
        """Called after every training step, before `tick`."""
        if self.state.stream.points and (count := self.state.due(step, total)):
            self._settle()
            self.state.point(count)
            self._settle("eval")

    def save(self) -> None:
        """Write a checkpoint now."""
        if self.path is not None:
            save_state(self.path, self.state.state_dict())
            self.saved = time.monotonic()

    def _settle(self, purpose: str | None = None) -> None:
        now, cpu = time.monotonic(), time.process_time()
        self.state.spent[purpose or self.purpose] += now - self.entered
        self.state.spent[f"{purpose or self.purpose}_cpu"] += cpu - self.entered_cpu
        self.entered, self.entered_cpu = now, cpu


def told_outside(strategy: Strategy) -> Mapping[str, str]:
    """Digests of what a strategy, or the one that it is wrapped around, learns from beside the stream."""
    return strategy.outside if strategy.inner is None else told_outside(strategy.inner)


def _finite(strategy: Strategy) -> bool:
    """Whether every parameter is still a number; synchronises, once per task."""
    return all(bool(torch.isfinite(p).all()) for net in strategy.networks() for p in net.parameters())
