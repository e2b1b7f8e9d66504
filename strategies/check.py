"""`check_strategy`: does a strategy of your own keep the rules that every result rests on?

Each rule is tried on tiny streams of Gaussian blobs, treated as the evaluation loop treats a real stream. What a
strategy may not read is not looked for in its code: it is changed, and the strategy must not notice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..base.errors import InvalidError, MismatchError, UsageError
from ..base.seeds import torch_generator
from ..streams.check import global_seed
from ..streams.core import SETTINGS, Data, LabelledTest, Setting, Stream, Task
from .context import Context
from .core import Strategy, load_strategy
from .trial import SEED, Snapshot, Trial, difference, running


def check_strategy(
    strategy: str | type[Strategy], streams: Iterable[Stream] | None = None, **settings: Any
) -> list[str]:
    """Certify a strategy: its class, its name, or `path/to/file.py:Name`. Returns the settings it was certified under.

    Args:
        streams: small streams to try instead of the blobs [1, 4, 4], one per setting; for inputs of another kind.
        settings: of the strategy, such as `model="slim-resnet18"`.

    Raises:
        InvalidError, MismatchError: the first rule that is broken, where, and what would keep it.
        UsageError: no such strategy or setting, or every stream is refused.
    """
    cls = load_strategy(strategy) if isinstance(strategy, str) else strategy
    name = cls.name or cls.__name__
    make = lambda: cls(**settings)
    _constructor(name, make())
    certified = []
    for stream in blobs() if streams is None else streams:
        where = f"{name} on {stream.name}"
        if _accepts(where, make, stream):
            _rules(where, make, stream)
            certified.append(stream.setting.name)
    if not certified:
        raise UsageError(f"{name} refuses every stream it was tried on, so there is nothing to certify.")
    return certified


def blobs() -> list[Stream]:
    """A toy stream for each setting."""
    return [blob_stream(setting) for setting in SETTINGS.values()]


def blob_stream(
    setting: Setting, tasks: int = 3, train: int = 25, test: int = 12, noise: float = 0.5, honest: bool = False
) -> Stream:
    """Two Gaussian classes a task: new classes, or where all classes compete the same two elsewhere.

    Args:
        train, test: samples per task.
        noise: standard deviation around the centres, which are about 8 apart.
        honest: true test labels. By default they are random, so that to know one is to have read it.
    """
    shared = setting.label_space == "all"
    draw = torch_generator("blobs", shared)
    parts, tests = [], []
    for t in range(tasks):
        classes = (0, 1) if shared else (2 * t, 2 * t + 1)
        centres = 2 * torch.randn(2, 1, 4, 4, generator=draw)
        data = []
        for count in (train, test):
            which = torch.randint(2, (count,), generator=draw)
            samples = centres[which] + noise * torch.randn(count, 1, 4, 4, generator=draw)
            data.append(Data(samples, which + classes[0]))
        if not honest:
            data[1] = dataclasses.replace(data[1], targets=torch.randint(2, (test,), generator=draw) + classes[0])
        parts.append(Task(t, f"blobs {t}", classes, data[0]))
        tests.append(LabelledTest(data[1]))
    return Stream(f"blobs-{setting.name}", 1, setting, parts, tests, 2 if shared else 2 * tasks)


# -- the rules ------------------------------------------------------------------------------------------------------


def _constructor(name: str, strategy: Strategy) -> None:
    for attribute, value in vars(strategy).items():
        if isinstance(value, (Tensor, nn.Module)) or hasattr(value, "state_dict"):
            raise InvalidError(f"{name}: the constructor builds {attribute!r}; constructors only store, setup builds.")


def _accepts(where: str, make: Callable[[], Strategy], stream: Stream) -> bool:
    """Whether `setup` takes the stream; it must not where the setting withholds what the strategy says it needs."""
    strategy = make()
    try:
        with running(where, "setup"):
            strategy.setup(stream.info, Context(SEED))
    except UsageError:
        return False
    for need in strategy.needs:
        if not getattr(stream.setting, need, False):
            raise InvalidError(
                f"{where}: it names {need!r} among its needs but does not refuse the setting {stream.setting.name}, "
                "which withholds it; let setup begin with super().setup(info, context)."
            )
    return True


def _rules(where: str, make: Callable[[], Strategy], stream: Stream) -> None:
    probe, last = _probe(stream), len(stream)
    saved: list[Snapshot] = []
    outcomes = []  # after 1, 2, ... tasks
    with global_seed(1):
        trial = Trial(where, make, stream, saved=saved)
        trial.check_predictions(probe, 0)
        for known in range(1, last + 1):
            trial.learn(known)
            trial.check_predictions(probe, known)
            outcomes.append(trial.outcome(probe, known))

    def same(known: int, rule: str, snapshot: Snapshot | None = None) -> None:
        """Another trial must be after `known` tasks what the first one was then."""
        other = Trial(where, make, stream, snapshot)
        other.learn(known)
        place = difference(outcomes[known - 1], other.outcome(probe, known))
        if place:
            raise MismatchError(f"{where}: {rule} ({place} differs).")

    with global_seed(2):
        same(last, "the same seed gives another result when the global generators stood elsewhere; draw from "
             "context.generator(purpose)")  # fmt: skip
        with _altered(_test_data(stream)):
            same(last, "with other test data it learns something else, so it reads test data")
        if last > 1:
            with _altered([stream.tasks[last - 1].train]):
                same(last - 1, "what it has learnt depends on a task that is still to come")
        for snapshot in saved:
            same(last, f"saved {snapshot}, loaded and continued, it ends elsewhere than without a stop; state_dict "
                 "must carry all that learning changes", snapshot)  # fmt: skip


@contextmanager
def _altered(parts: list[Data]) -> Iterator[None]:
    """Other samples and labels in the same memory, so that whoever has found a way to it reads something else."""
    kept = [(d, d.samples.clone(), d.targets.clone()) for d in parts if isinstance(d.samples, Tensor)]
    for data, samples, targets in kept:
        data.samples.copy_(255 - samples if samples.dtype == torch.uint8 else -samples)
        classes = targets.unique()
        data.targets.copy_(classes[(torch.searchsorted(classes, targets) + 1) % len(classes)])
    try:
        yield
    finally:
        for data, samples, targets in kept:
            data.samples.copy_(samples)
            data.targets.copy_(targets)


def _test_data(stream: Stream) -> list[Data]:
    return [test.data for test in stream.tests if isinstance(test, LabelledTest)]


def _probe(stream: Stream) -> Tensor:
    """Inputs [B, ...] to compare predictions on: some test and training samples of each task."""
    parts = _test_data(stream) + [task.train for task in stream.tasks]
    return torch.cat([data.prepare(data.rows(torch.arange(min(len(data), 12)))[0]) for data in parts])
