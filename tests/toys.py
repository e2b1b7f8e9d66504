"""Small strategies at work, for tests that look inside."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from carryover.strategies import Context, registry
from carryover.strategies.core import Strategy, load_strategy
from carryover.streams.core import CIL, TIL, Control, Data, LabelledTest, Setting, Stream, StreamInfo, Task
from torch import Tensor

# those that train a network of their own from scratch, on inputs of any shape; the others stand on a pre-trained one
FROM_SCRATCH = [name for name in registry.entries if load_strategy(name).Config().model == "mlp"]


def granted(name: str, setting: Setting) -> Setting:
    """The setting, or one that tells the task id to a strategy that needs it."""
    return TIL if "task_id_at_test" in load_strategy(name).needs else setting


def info(setting: Setting = CIL, classes: int = 6, shape: tuple[int, ...] = (1, 4, 4)) -> StreamInfo:
    """Facts of a stream that need not exist."""
    return StreamInfo("toy", shape, classes, setting)


def started(strategy: str | type[Strategy], stream: Stream | StreamInfo, seed: int = 0, **settings: Any) -> Any:
    """A strategy after `setup`."""
    cls = load_strategy(strategy) if isinstance(strategy, str) else strategy
    made = cls(**settings)
    made.setup(stream if isinstance(stream, StreamInfo) else stream.info, Context(seed))
    return made


def learn(strategy: Strategy, stream: Stream, tasks: int | None = None, first: int = 0) -> Any:
    """The strategy after tasks `first` to `tasks`, as the evaluation loop would have it learn."""
    for index in range(first, len(stream) if tasks is None else tasks):
        strategy.context.begin(index)
        strategy.learn(stream.shown(index))
    return strategy


def parameters(strategy: Strategy) -> Tensor:
    """[P], a copy."""
    return torch.cat([p.detach().reshape(-1) for net in strategy.networks() for p in net.parameters()])


def pictures(
    setting: Setting = CIL, tasks: int = 3, train: int = 10, test: int = 6, noise: float = 0.4, augment: Any = None
) -> Stream:
    """Two classes [3, 24, 24] a task, noise around a picture each; the same two elsewhere where all classes compete."""
    draw = torch.Generator().manual_seed(0)
    shared = setting.label_space == "all"
    parts, tests = [], []
    for t in range(tasks):
        classes = (0, 1) if shared else (2 * t, 2 * t + 1)
        centres = torch.rand(2, 3, 24, 24, generator=draw)
        data = []
        for count in (train, test):
            y = torch.arange(count) % 2
            x = 0.6 * centres[y] + noise * torch.rand(count, 3, 24, 24, generator=draw)
            data.append(Data((255 * x).byte(), y + classes[0]))
        parts.append(Task(t, f"pictures {t}", classes, Data(data[0].samples, data[0].targets, augment=augment)))
        tests.append(LabelledTest(data[1]))
    return Stream("pictures", 1, setting, parts, tests, 2 if shared else 2 * tasks)


WORDS = ("red", "green", "blue", "yellow", "letter", "digit", "flower", "surface")


def captioned(tasks: int = 3, train: int = 16, test: int = 12, controls: bool = False) -> Stream:
    """The same pictures, their classes told in words of `clip-micro`, with two prompts each."""
    stream = pictures(TIL, tasks, train, test)
    texts = tuple((f"a picture of a {word} thing", f"the {word}") for word in WORDS[: 2 * tasks])
    beside = Control("control", LabelledTest(pictures(TIL, 1, train, test, noise=0.8).tests[0].data), texts[:2])
    return dataclasses.replace(stream, kind="image-text", texts=texts, controls=(beside,) if controls else ())
